//! The state of one sequence.

use std::sync::Arc;

use logitfuse_core::{Error, ErrorKind, FusedRow, FusionState, FusionStep, PromptScore, Result, TokenId};

use crate::{
    Experts, Goal, Params, Selector, StepRows, decide::Decider, memory::Memory, roles::Roles, select, strength::Limits,
};

/// Indices into a token's record.
const SMOOTHED: usize = 0;
const SPENT: usize = 1;

pub(crate) struct State {
    params: Arc<Params>,
    roles: Arc<Roles>,
    selector: Box<dyn Selector>,
    /// After every token: the smoothed strength (NaN before the first), and the nats spent so far.
    memory: Memory,
    decider: Decider,
    weights: Vec<f64>,
    /// What the weights need of the prompt before they can be computed.
    awaits: Awaits,
}

/// What the state still needs before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Nothing,
    /// The rows at the prompt's end.
    Prompt,
    /// And how probable the prompt was.
    PromptScores,
}

impl State {
    pub(crate) fn new(params: Arc<Params>, roles: Arc<Roles>, selector: Box<dyn Selector>, awaits: Awaits) -> Self {
        let (decider, weights) = (Decider::new(&params), vec![0.0; roles.experts()]);
        Self { params, roles, selector, memory: Memory::new(vec![f64::NAN, 0.0]), decider, weights, awaits }
    }

    /// The limits that the tokens so far set for this one.
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
            return Err(missing_prompt("how probable the prompt was"));
        }
        self.awaits = Awaits::Nothing;
        self.selector.begin(&StepRows::after_prompt(step, &self.roles, prompt));
        Ok(())
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        if self.awaits != Awaits::Nothing {
            return Err(missing_prompt("the prompt"));
        }
        let limits = self.limits();
        let rows = StepRows::new(step, &self.roles);
        let decision = if self.params.experts == Experts::Pool || rows.experts() == 1 {
            let no_expert = if self.params.experts == Experts::Pool {
                let no_expert = self.selector.weigh(&rows, &mut self.weights);
                select::check(&self.weights, no_expert)?;
                no_expert
            } else {
                self.weights.fill(1.0);
                0.0
            };
            self.decider.pooled(rows, &self.weights, no_expert, limits, out.logits)
        } else {
            self.decider.unweighted(rows, limits, out.logits)
        };
        let strength = decision.strength;
        self.memory.propose(|record| {
            record[SPENT] += strength.kl_fused_base;
            // Where nothing can be fused, the strength is not meaningful.
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
            roles: Arc::clone(&self.roles),
            selector: self.selector.fork(),
            memory: self.memory.clone(),
            decider: Decider::new(&self.params),
            weights: self.weights.clone(),
            awaits: self.awaits,
        }))
    }
}

fn missing_prompt(what: &str) -> Error {
    Error::new(
        ErrorKind::Incompatible,
        format!("dynamic-kl: its weights depend on the prompt, and it was not given {what}"),
    )
    .with_help("call begin before the first fuse, or choose other weights")
}
