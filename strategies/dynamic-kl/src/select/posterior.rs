use logitfuse_core::{Result, TokenId};

use super::{Selector, softmax};
use crate::{Evidence, PosteriorParams, StepRows, Tempering, memory::Memory};

/// The largest evidence of one token, in nats: f32 rows hold probabilities down to about e^-87, so more is a masked id, which must
/// exclude an expert for a while and not for ever.
const MOST_NATS: f64 = 100.0;
/// Cumulated evidence stays a number, so that differences of it do.
const LIMIT: f64 = 1e9;

/// Bayes' rule over the text, be that the prompt or what is generated: `prior · exp(eta · Σ gamma^age · log(expert/anti))`, tempered.
///
/// "No expert" is the hypothesis that the untuned small model predicts the text as well: its evidence is 0.
#[derive(Clone)]
pub(crate) struct Posterior {
    evidence: Evidence,
    eta: f64,
    gamma: f64,
    tempering: Tempering,
    /// Of the prompt: its evidence for every expert, and how many tokens it is.
    prompt: Vec<f64>,
    prompt_tokens: usize,
    /// Natural logarithms, the last one of "no expert".
    log_priors: Vec<f64>,
    /// Weights while they are computed, laid out like the priors.
    weights: Vec<f64>,
    top1: bool,
    /// Of every position: its number, the cumulated evidence of every expert as the rows gave it, and as it counts.
    memory: Memory,
}

impl Posterior {
    pub(crate) fn new(params: &PosteriorParams, experts: usize) -> Self {
        let mut log_priors = vec![((1.0 - params.no_expert_prior) / experts as f64).ln(); experts];
        log_priors.push(params.no_expert_prior.ln());
        Self {
            evidence: params.evidence,
            prompt: vec![0.0; experts],
            prompt_tokens: 0,
            eta: params.eta,
            gamma: params.gamma,
            tempering: params.tempering,
            weights: log_priors.clone(),
            log_priors,
            top1: false,
            memory: Memory::new(vec![0.0; 1 + 2 * experts]),
        }
    }

    /// All weight to the most probable expert; the first one of several.
    pub(crate) fn top1(self) -> Self {
        Self { top1: true, ..self }
    }

    fn observe(&mut self, rows: &StepRows<'_>) {
        let (position, gamma) = (self.memory.tokens() as f64, self.gamma);
        self.memory.propose(|record| {
            let Some((last, evidence)) = record.split_first_mut() else { return };
            let kept = gamma.powf(position - *last);
            *last = position;
            let (seen, counted) = evidence.split_at_mut(rows.experts());
            for (index, (seen, counted)) in seen.iter_mut().zip(counted).enumerate() {
                let now = rows.evidence(index).clamp(-LIMIT, LIMIT);
                *counted = kept * *counted + (now - *seen).clamp(-MOST_NATS, MOST_NATS);
                *seen = now;
            }
        });
    }
}

impl Selector for Posterior {
    fn begin(&mut self, rows: &StepRows<'_>) {
        if self.evidence == Evidence::Generated {
            return;
        }
        self.prompt_tokens = 0;
        for (index, evidence) in self.prompt.iter_mut().enumerate() {
            let (nats, tokens) = rows.prompt_evidence(index);
            let most = (MOST_NATS * tokens as f64).min(LIMIT);
            *evidence = nats.clamp(-most, most);
            self.prompt_tokens = self.prompt_tokens.max(tokens);
        }
        if self.evidence == Evidence::Both {
            let seen = vec![0.0; 1 + self.prompt.len()];
            self.memory = Memory::new([seen, self.prompt.clone()].concat());
        }
    }

    fn weigh(&mut self, rows: &StepRows<'_>, weights: &mut [f64]) -> f64 {
        self.observe(rows);
        let generated = if self.evidence == Evidence::Prompt { 0 } else { self.memory.tokens() };
        let tokens = (self.prompt_tokens + generated).max(1) as f64;
        let factor = match self.tempering {
            Tempering::SqrtTokens => self.eta / tokens.sqrt(),
            Tempering::None => self.eta,
        };
        let counted = match self.evidence {
            Evidence::Prompt => &self.prompt[..],
            Evidence::Generated | Evidence::Both => &self.memory.proposed()[1 + rows.experts()..],
        };
        self.weights.copy_from_slice(&self.log_priors);
        for (weight, evidence) in self.weights.iter_mut().zip(counted) {
            *weight += (factor * evidence).clamp(f64::MIN / 4.0, f64::MAX / 4.0);
        }
        softmax(&mut self.weights);
        if self.top1 {
            let best = self.weights.iter().copied().fold(0.0, f64::max);
            let top = self.weights.iter().position(|&weight| weight >= best).unwrap_or(0);
            self.weights.fill(0.0);
            self.weights[top] = 1.0;
        }
        let (experts, no_expert) = self.weights.split_at(rows.experts());
        weights.copy_from_slice(experts);
        no_expert[0]
    }

    fn commit(&mut self, tokens: &[TokenId]) {
        self.memory.commit(tokens.len());
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.memory.rollback(n)
    }

    fn fork(&self) -> Box<dyn Selector> {
        Box::new(self.clone())
    }
}
