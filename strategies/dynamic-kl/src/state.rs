//! One sequence: what its tokens leave behind.

use std::sync::Arc;

use logitfuse_core::{Error, ErrorKind, FusedRow, FusionState, FusionStep, PromptScore, Result, TokenId};

use crate::{
    Experts, Goal, Params, Scene, Selector, cast::Cast, decide::Decider, memory::Memory, select, transfer::Limits,
};

/// Places in a token's record.
const SMOOTHED: usize = 0;
const SPENT: usize = 1;

pub(crate) struct State {
    params: Arc<Params>,
    cast: Arc<Cast>,
    selector: Box<dyn Selector>,
    /// After every token: the smoothed strength (NaN before the first), and the nats spent so far.
    memory: Memory,
    decider: Decider,
    weights: Vec<f64>,
    /// What the weights have to be told of the prompt before they can be computed.
    awaits: Awaits,
}

/// What is still to come before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Nothing,
    /// The rows at the prompt's end.
    Prompt,
    /// And how probable the prompt was.
    PromptScores,
}

impl State {
    pub(crate) fn new(params: Arc<Params>, cast: Arc<Cast>, selector: Box<dyn Selector>, awaits: Awaits) -> Self {
        let (decider, weights) = (Decider::new(&params), vec![0.0; cast.experts()]);
        Self { params, cast, selector, memory: Memory::new(vec![f64::NAN, 0.0]), decider, weights, awaits }
    }

    /// What the tokens so far leave to this one.
    fn limits(&self) -> Limits {
        let last = self.memory.last();
        let nats = match (self.params.objective, self.params.sequence_budget_nats) {
            (Goal::Budget, Some(whole)) => {
                // Every token earns its budget, spent or not, and the text's budget is the end of all.
                let earned = self.params.budget() * (self.memory.tokens() + 1) as f64;
                (earned.min(whole) - last[SPENT]).max(0.0)
            }
            (Goal::Budget, None) => self.params.budget(),
            _ => f64::INFINITY,
        };
        Limits { nats, previous: last[SMOOTHED], ema: self.params.ema }
    }
}

impl FusionState for State {
    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        if self.awaits == Awaits::PromptScores && prompt.len() != step.rows().len() {
            return Err(untold("how probable the prompt was"));
        }
        self.awaits = Awaits::Nothing;
        self.selector.begin(&Scene::behind(step, &self.cast, prompt));
        Ok(())
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        if self.awaits != Awaits::Nothing {
            return Err(untold("of the prompt"));
        }
        let limits = self.limits();
        let scene = Scene::new(step, &self.cast);
        let decision = if self.params.experts == Experts::Pool || scene.experts() == 1 {
            let no_expert = if self.params.experts == Experts::Pool {
                let no_expert = self.selector.weigh(&scene, &mut self.weights);
                select::check(&self.weights, no_expert)?;
                no_expert
            } else {
                self.weights.fill(1.0);
                0.0
            };
            self.decider.pooled(scene, &self.weights, no_expert, limits, out.logits)
        } else {
            self.decider.unweighted(scene, limits, out.logits)
        };
        let strength = decision.strength;
        self.memory.propose(|record| {
            record[SPENT] += strength.kl_fused_base;
            // Where nothing can be fused, the strength says nothing.
            if !strength.inactive {
                record[SMOOTHED] = strength.alpha;
            }
        });
        let values = decision.trace();
        let (own, of_selector) = out.trace.split_at_mut(values.len().min(out.trace.len()));
        for (column, value) in own.iter_mut().zip(values) {
            *column = value;
        }
        self.selector.trace(of_selector);
        Ok(())
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.selector.commit(tokens);
        self.memory.commit(tokens.len());
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.memory.rollback(n)?;
        self.selector.rollback(n)
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Self {
            params: Arc::clone(&self.params),
            cast: Arc::clone(&self.cast),
            selector: self.selector.fork(),
            memory: self.memory.clone(),
            decider: Decider::new(&self.params),
            weights: self.weights.clone(),
            awaits: self.awaits,
        }))
    }
}

fn untold(what: &str) -> Error {
    Error::new(
        ErrorKind::Incompatible,
        format!("dynamic-kl: its weights depend on the prompt, and nobody told it {what}"),
    )
    .with_help("what drives the strategy knows no prompts, as that of plugins; use the built-in one, or other weights")
}
