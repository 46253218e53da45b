//! Selectors without memory: weights from the present rows alone.

use logitfuse_core::numerics::entropy;
use logitfuse_numerics::Targets;

use super::{Selector, softmax};
use crate::StepRows;

/// The same weights at every step.
#[derive(Clone)]
pub(crate) struct Fixed(pub(crate) Vec<f64>);

impl Selector for Fixed {
    fn weigh(&mut self, _scene: &StepRows<'_>, weights: &mut [f64]) -> f64 {
        weights.copy_from_slice(&self.0);
        0.0
    }

    fn fork(&self) -> Box<dyn Selector> {
        Box::new(self.clone())
    }
}

/// Weights in proportion to KL(expert‖anti).
#[derive(Clone)]
pub(crate) struct Kl;

impl Selector for Kl {
    fn weigh(&mut self, rows: &StepRows<'_>, weights: &mut [f64]) -> f64 {
        for (index, weight) in weights.iter_mut().enumerate() {
            *weight = Targets::between(rows.expert(index), rows.anti(index)).forward;
        }
        let (sum, count) = (weights.iter().sum::<f64>(), weights.len() as f64);
        for weight in weights {
            // Where every expert equals its anti, the weights are uniform.
            *weight = if sum > 0.0 { *weight / sum } else { 1.0 / count };
        }
        0.0
    }

    fn fork(&self) -> Box<dyn Selector> {
        Box::new(self.clone())
    }
}

/// Weights by certainty: `softmax(−entropy / temperature)`.
#[derive(Clone)]
pub(crate) struct Entropy {
    /// Nats that make a factor of e.
    pub(crate) temperature: f64,
}

impl Selector for Entropy {
    fn weigh(&mut self, rows: &StepRows<'_>, weights: &mut [f64]) -> f64 {
        for (index, weight) in weights.iter_mut().enumerate() {
            let expert = rows.expert(index);
            // The smallest temperature there is makes a large quotient, not an infinite one.
            *weight = (-entropy(expert.logits(), expert.log_normaliser) / self.temperature).max(f64::MIN);
        }
        softmax(weights);
        0.0
    }

    fn fork(&self) -> Box<dyn Selector> {
        Box::new(self.clone())
    }
}
