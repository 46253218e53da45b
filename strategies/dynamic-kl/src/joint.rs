//! The experiment `joint_minnorm`: one strength for each expert.

use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{Contrast, kl_both, log_sum_exp, masked_difference, softmax};

use crate::{StepRows, pool::sum};

/// What the squared misses of the two divergences weigh against the squared norm of the strengths.
const PENALTY: f64 = 1e4;
/// Gauss–Newton steps; most rows need fewer than ten.
const MOST_STEPS: usize = 30;
const MOST_HALVINGS: usize = 20;

/// Finds the strengths that minimise `½‖α‖² + ½ · 10⁴ · ((F − a)² + (R − b)²)` within the bounds.
///
/// Two numbers are to be met by T strengths, so for T > 2 most of them are free; the norm makes the answer unique
/// nearby. Steps are Gauss–Newton ones, halved until they descend, so that a poor start ends at a poor minimum and never diverges.
#[derive(Debug, Default)]
pub(crate) struct Joint {
    directions: Vec<Vec<f32>>,
    tilted: Vec<f32>,
    probabilities: Vec<f32>,
    scratch: Vec<f32>,
    /// Means of the directions under the base.
    resting: Vec<f64>,
    pub(crate) alphas: Vec<f64>,
    trial: Vec<f64>,
    step: Vec<f64>,
    /// Of KL(fused‖base) and of KL(base‖fused), by the strengths.
    gradients: [Vec<f64>; 2],
}

impl Joint {
    /// Writes the fused row, leaves the strengths in `alphas` and returns `KL(fused‖base)` and `KL(base‖fused)`. Every
    /// strength starts at `start`; `targets` are what the two divergences are to become.
    pub(crate) fn solve(
        &mut self,
        rows: StepRows<'_>,
        targets: [f64; 2],
        bounds: [f64; 2],
        start: f64,
        out: &mut [f32],
    ) -> [f64; 2] {
        let [low, high] = bounds;
        self.prepare(rows, start.clamp(low, high));
        let mut reached = self.divergences(rows);
        let mut value = penalised(&self.alphas, reached, targets);
        for _ in 0..MOST_STEPS {
            self.differentiate(rows);
            self.gauss_newton([0, 1].map(|i| reached[i] - targets[i]));
            self.trial.clone_from(&self.alphas);
            let mut length = 1.0;
            let mut descended = None;
            for _ in 0..MOST_HALVINGS {
                for ((alpha, from), step) in self.alphas.iter_mut().zip(&self.trial).zip(&self.step) {
                    *alpha = (from + length * step).clamp(low, high);
                }
                let reached = self.divergences(rows);
                let now = penalised(&self.alphas, reached, targets);
                if now < value {
                    descended = Some((reached, now));
                    break;
                }
                length *= 0.5;
            }
            let Some((nearer, now)) = descended else {
                self.alphas.clone_from(&self.trial);
                break;
            };
            let gained = value - now;
            (reached, value) = (nearer, now);
            if gained <= 1e-9 * value {
                break;
            }
        }
        let reached = self.divergences(rows);
        out.copy_from_slice(&self.tilted);
        reached
    }

    fn prepare(&mut self, rows: StepRows<'_>, start: f64) {
        let (base, experts) = (rows.base(), rows.experts());
        let width = base.logits().len();
        self.directions.resize_with(experts, Vec::new);
        for (index, direction) in self.directions.iter_mut().enumerate() {
            let (expert, anti) = (rows.expert(index), rows.anti(index));
            direction.resize(width, 0.0);
            let where_masked = expert.log_normaliser - anti.log_normaliser;
            masked_difference(expert.logits(), anti.logits(), where_masked, direction);
        }
        self.probabilities.resize(width, 0.0);
        softmax(base.logits(), base.log_normaliser, &mut self.probabilities);
        let means = self.directions.iter().map(|d| expectation(&self.probabilities, d.iter().map(|&d| f64::from(d))));
        self.resting.clear();
        self.resting.extend(means);
        for numbers in [&mut self.alphas, &mut self.trial, &mut self.step] {
            numbers.clear();
            numbers.resize(experts, start);
        }
        self.gradients.iter_mut().for_each(|gradient| gradient.resize(experts, 0.0));
    }

    fn divergences(&mut self, rows: StepRows<'_>) -> [f64; 2] {
        let base = rows.base();
        let contrasts = (0..rows.experts())
            .map(|index| Contrast::between(self.alphas[index], rows.expert(index), rows.anti(index)));
        sum(base.logits(), contrasts, &mut self.tilted, &mut self.scratch);
        let tilted = RoleRow::new(&self.tilted, log_sum_exp(&self.tilted), 0.0);
        let (forward, reverse) = kl_both(tilted.logits(), tilted.log_normaliser, base.logits(), base.log_normaliser);
        [forward, reverse]
    }

    /// `∂F/∂α_t = Cov(d_t, Σ α_s d_s)` and `∂R/∂α_t = E[d_t] − E_base[d_t]`, expectations under the tilted row.
    fn differentiate(&mut self, rows: StepRows<'_>) {
        let p = &mut self.probabilities;
        softmax(&self.tilted, log_sum_exp(&self.tilted), p);
        let shift = |id: usize| f64::from(self.tilted[id]) - f64::from(rows.base().logits()[id]);
        let mean_shift = expectation(p, (0..p.len()).map(shift));
        for (index, direction) in self.directions.iter().enumerate() {
            let about = |(id, &d): (usize, &f32)| f64::from(d) * (shift(id) - mean_shift);
            self.gradients[0][index] = expectation(p, direction.iter().enumerate().map(about));
            self.gradients[1][index] = expectation(p, direction.iter().map(|&d| f64::from(d))) - self.resting[index];
        }
    }

    /// `−(1 + ρ GᵀG)⁻¹ (α + ρ Gᵀ r)` by Woodbury's identity: two rows of `G` make it a system of two equations.
    fn gauss_newton(&mut self, misses: [f64; 2]) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let [f, r] = &self.gradients;
        for (index, step) in self.step.iter_mut().enumerate() {
            *step = -(self.alphas[index] + PENALTY * (f[index] * misses[0] + r[index] * misses[1]));
        }
        let (ff, fr, rr) = (1.0 / PENALTY + dot(f, f), dot(f, r), 1.0 / PENALTY + dot(r, r));
        let (along_f, along_r) = (dot(f, &self.step), dot(r, &self.step));
        let determinant = ff * rr - fr * fr;
        let in_f = (rr * along_f - fr * along_r) / determinant;
        let in_r = (ff * along_r - fr * along_f) / determinant;
        for (index, step) in self.step.iter_mut().enumerate() {
            *step -= f[index] * in_f + r[index] * in_r;
            // Rows of absurd scale: no step rather than a step to infinity.
            if !step.is_finite() {
                *step = 0.0;
            }
        }
    }
}

fn penalised(alphas: &[f64], reached: [f64; 2], targets: [f64; 2]) -> f64 {
    let norm = alphas.iter().map(|alpha| alpha * alpha).sum::<f64>();
    let missed = [0, 1].map(|i| (reached[i] - targets[i]).powi(2)).iter().sum::<f64>();
    0.5 * norm + 0.5 * PENALTY * missed
}

/// The mean of values; ids of probability 0 do not count, whatever their value.
fn expectation(p: &[f32], values: impl Iterator<Item = f64>) -> f64 {
    p.iter().zip(values).filter(|(p, _)| **p > 0.0).map(|(&p, value)| f64::from(p) * value).sum()
}
