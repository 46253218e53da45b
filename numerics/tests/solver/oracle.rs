//! What the solver computes, token by token in f64.

use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{log_sum_exp, masked_difference};
use logitfuse_numerics::{Objective, Targets};

use crate::rows::{MASKED, Step};

pub(crate) fn role(logits: &[f32]) -> RoleRow<'_> {
    RoleRow::new(logits, log_sum_exp(logits), 0.0)
}

fn log_sum(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    most + logs.map(|x| (x - most).exp()).sum::<f64>().ln()
}

/// The direction as strategies make it.
pub(crate) fn direction(step: &Step) -> Vec<f32> {
    let mut direction = vec![0.0; step.base.len()];
    let where_masked = log_sum_exp(&step.expert) - log_sum_exp(&step.anti);
    masked_difference(&step.expert, &step.anti, where_masked, &mut direction);
    direction
}

/// Every unmasked token's log-probability and direction.
pub(crate) struct Family {
    tokens: Vec<[f64; 2]>,
    resting_mean: f64,
}

impl Family {
    pub(crate) fn new(base: &[f32], direction: &[f32]) -> Self {
        let z = log_sum(base.iter().map(|x| f64::from(*x)));
        let tokens: Vec<[f64; 2]> = base
            .iter()
            .zip(direction)
            .filter(|(x, _)| **x > MASKED)
            .map(|(x, d)| [f64::from(*x) - z, f64::from(*d)])
            .collect();
        // Constants in the direction mean nothing and cost digits.
        let mean = tokens.iter().map(|[p, d]| p.exp() * d).sum::<f64>();
        let tokens: Vec<_> = tokens.into_iter().map(|[p, d]| [p, d - mean]).collect();
        let resting_mean = tokens.iter().map(|[p, d]| p.exp() * d).sum();
        Self { tokens, resting_mean }
    }

    /// KL(tilted‖base) and KL(base‖tilted).
    pub(crate) fn at(&self, alpha: f64) -> [f64; 2] {
        let log_partition = log_sum(self.tokens.iter().map(|[p, d]| p + alpha * d));
        let forward = self
            .tokens
            .iter()
            .map(|[p, d]| {
                let log_ratio = alpha * d - log_partition;
                (p + log_ratio).exp() * log_ratio
            })
            .sum();
        [forward, log_partition - alpha * self.resting_mean]
    }

    pub(crate) fn loss(&self, objective: Objective, targets: &Targets, alpha: f64) -> f64 {
        let [forward, reverse] = self.at(alpha).map(|kl| kl.max(0.0));
        objective.loss(forward, reverse, targets)
    }

    /// The least loss over equally spaced strengths, and where it is first reached.
    pub(crate) fn least(&self, objective: Objective, targets: &Targets, points: impl Iterator<Item = f64>) -> [f64; 2] {
        points.fold([f64::NAN, f64::INFINITY], |[best, least], alpha| {
            let loss = self.loss(objective, targets, alpha);
            if loss < least { [alpha, loss] } else { [best, least] }
        })
    }
}

/// [`Targets`] from their definition: the anti-expert, tilted once along the direction of log-probabilities.
pub(crate) fn targets(step: &Step) -> [f64; 3] {
    let [ze, za] = [&step.expert, &step.anti].map(|row| log_sum(row.iter().map(|x| f64::from(*x))));
    let of_id = |(e, a): (&f32, &f32)| {
        let masked = *e == MASKED || *a == MASKED;
        let ratio = if masked { 0.0 } else { f64::from(*e) - ze - (f64::from(*a) - za) };
        (*a > MASKED).then(|| [f64::from(*a) - za, ratio])
    };
    let tokens: Vec<[f64; 2]> = step.expert.iter().zip(&step.anti).filter_map(of_id).collect();
    let z = log_sum(tokens.iter().map(|[q, d]| q + d));
    let moved = |f: &dyn Fn(f64, f64) -> f64| tokens.iter().map(|[q, d]| f(*q, d - z)).sum::<f64>();
    let mean = moved(&|q, d| q.exp() * d);
    [moved(&|q, d| (q + d).exp() * d), -mean, moved(&|q, d| q.exp() * (d - mean).powi(2))]
}
