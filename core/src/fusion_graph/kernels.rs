//! What the kernels of [`numerics`](crate::numerics) compute, as operations of a graph.

use super::{Comparison, FusionGraph, Value};

/// The tilts `P · exp(strength · direction)` of one row `P`: the part that no strength changes.
#[derive(Clone, Copy, Debug)]
pub struct Tilts {
    log_row: Value,
    row: Value,
    direction: Value,
}

/// One row tilted along a direction, as [`FusionGraph::tilt`] computes it: all that a solver for the strength needs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Tilt {
    /// `KL(tilted‖row) + KL(row‖tilted)` in nats.
    pub symmetric: Value,
    /// `KL(tilted‖row)`.
    pub forward: Value,
    /// `KL(row‖tilted)`.
    pub reverse: Value,
    /// The difference of the direction's means under the tilted row and the row, nats: the derivative of `reverse` by the
    /// strength.
    pub mean: Value,
    /// The variance of the direction under the tilted row, nats squared; the derivative of `forward` is the strength times it.
    pub variance: Value,
}

impl FusionGraph {
    /// Whether each id of a row is masked.
    pub fn is_masked(&mut self, row: Value) -> Value {
        let masked = self.constant(f32::NEG_INFINITY);
        self.compare(Comparison::Equal, row, masked)
    }

    /// `x` within f32's finite range.
    pub fn finite(&mut self, x: Value) -> Value {
        let (low, high) = (self.constant(f32::MIN), self.constant(f32::MAX));
        let x = self.max(x, low);
        self.min(x, high)
    }

    /// As [`numerics::log_sum_exp`](crate::numerics::log_sum_exp).
    pub fn log_sum_exp(&mut self, row: Value) -> Value {
        let top = self.reduce_max(row);
        let below = self.subtract(row, top);
        let ratios = self.exp(below);
        let sum = self.reduce_sum(ratios);
        let log = self.log(sum);
        self.add(top, log)
    }

    /// As [`numerics::log_softmax`](crate::numerics::log_softmax).
    pub fn log_softmax(&mut self, row: Value) -> Value {
        let normaliser = self.log_sum_exp(row);
        self.subtract(row, normaliser)
    }

    /// The difference of two rows' logits, and where either is masked the difference of their normalisers, which is the zero
    /// of the log-probabilities: as [`Contrast::between`](crate::numerics::Contrast::between).
    pub fn contrast(&mut self, towards: Value, away: Value) -> Value {
        let (difference, shift) = self.difference(towards, away);
        let difference = self.unless_masked([towards, away], shift, difference);
        self.finite(difference)
    }

    /// The difference of two rows' log-probabilities, 0 where either is masked: the direction of a fusion.
    pub fn direction(&mut self, towards: Value, away: Value) -> Value {
        let (difference, shift) = self.difference(towards, away);
        let direction = self.subtract(difference, shift);
        let zero = self.constant(0.0);
        let direction = self.unless_masked([towards, away], zero, direction);
        self.finite(direction)
    }

    /// The differences of logits, and of normalisers. Logits first: they are close where it matters, so that their difference
    /// is nearly exact.
    fn difference(&mut self, towards: Value, away: Value) -> (Value, Value) {
        let [towards_normaliser, away_normaliser] = [towards, away].map(|row| self.log_sum_exp(row));
        (self.subtract(towards, away), self.subtract(towards_normaliser, away_normaliser))
    }

    fn unless_masked(&mut self, rows: [Value; 2], masked: Value, value: Value) -> Value {
        let mut value = value;
        for row in rows {
            let is_masked = self.is_masked(row);
            value = self.select(is_masked, masked, value);
        }
        value
    }

    /// `base_weight · base + Σ weight · contrast`, masked where the base is: as
    /// [`numerics::linear_combination`](crate::numerics::linear_combination). A contrast of weight 0 changes nothing, whatever it
    /// holds.
    pub fn linear_combination(&mut self, base: Value, base_weight: Option<Value>, terms: &[(Value, Value)]) -> Value {
        let weighted = base_weight.map_or(base, |weight| self.multiply(weight, base));
        let mut sum = None;
        for &(weight, contrast) in terms {
            let term = self.multiply(weight, contrast);
            let term = self.finite(term);
            sum = Some(sum.map_or(term, |sum| self.add(sum, term)));
        }
        let fused = sum.map_or(weighted, |sum| self.add(weighted, sum));
        let fused = self.finite(fused);
        let masked = self.is_masked(base);
        self.select(masked, base, fused)
    }

    /// As [`numerics::mask_implausible`](crate::numerics::mask_implausible).
    pub fn mask_implausible(&mut self, base: Value, plausibility: Value, row: Value) -> Value {
        let top = self.reduce_max(base);
        let log_plausibility = self.log(plausibility);
        let least = self.add(top, log_plausibility);
        let implausible = self.compare(Comparison::Less, base, least);
        let masked = self.constant(f32::NEG_INFINITY);
        self.select(implausible, masked, row)
    }

    /// [`mask_implausible`](Self::mask_implausible) with a parameter `plausibility`, where there is one.
    pub fn keep_plausible(&mut self, base: Value, plausibility: Option<f64>, row: Value) -> Value {
        match plausibility {
            None => row,
            Some(plausibility) => {
                let plausibility = self.parameter("plausibility", plausibility);
                self.mask_implausible(base, plausibility, row)
            }
        }
    }

    /// As [`numerics::kl_both`](crate::numerics::kl_both): `KL(p‖q)` and `KL(q‖p)` in nats, infinite where one allows what the
    /// other masks.
    pub fn kl_both(&mut self, p: Value, q: Value) -> [Value; 2] {
        let [p, q] = [p, q].map(|row| self.log_softmax(row));
        [self.kl_of_log_softmax(p, q), self.kl_of_log_softmax(q, p)]
    }

    /// As [`numerics::kl_divergence`](crate::numerics::kl_divergence).
    pub fn kl_divergence(&mut self, p: Value, q: Value) -> Value {
        let [p, q] = [p, q].map(|row| self.log_softmax(row));
        self.kl_of_log_softmax(p, q)
    }

    fn kl_of_log_softmax(&mut self, p: Value, q: Value) -> Value {
        let [p_masked, q_masked] = [p, q].map(|row| self.is_masked(row));
        let ratio = self.subtract(p, q);
        let probability = self.exp(p);
        let term = self.multiply(probability, ratio);
        let [zero, infinite] = [0.0, f32::INFINITY].map(|number| self.constant(number));
        let term = self.select(q_masked, infinite, term);
        let term = self.select(p_masked, zero, term);
        let sum = self.reduce_sum(term);
        self.max(sum, zero)
    }

    /// As [`numerics::jensen_shannon`](crate::numerics::jensen_shannon): `m/2 · ((1+u) ln(1+u) + (1−u) ln(1−u))` summed, where `m`
    /// is the mean of two probabilities and `1 ± u` are their ratios to it.
    pub fn jensen_shannon(&mut self, p: Value, q: Value) -> Value {
        let [p, q] = [p, q].map(|row| {
            let log = self.log_softmax(row);
            self.exp(log)
        });
        let [one, quarter, least] = [1.0, 0.25, f32::MIN_POSITIVE].map(|number| self.constant(number));
        let sum = self.add(p, q);
        let sum = self.max(sum, least);
        let difference = self.subtract(p, q);
        let u = self.divide(difference, sum);
        let [above, below] = [self.add(one, u), self.subtract(one, u)].map(|ratio| {
            let above_zero = self.max(ratio, least);
            let log = self.log(above_zero);
            self.multiply(ratio, log)
        });
        let shares = self.add(above, below);
        let shares = self.multiply(sum, shares);
        let total = self.reduce_sum(shares);
        let zero = self.constant(0.0);
        let total = self.max(total, zero);
        self.multiply(quarter, total)
    }

    /// Adds `kl_fused_base` and `kl_base_fused` to the trace, which most strategies report.
    pub fn add_divergences(&mut self, fused: Value, base: Value) {
        let [fused_base, base_fused] = self.kl_both(fused, base);
        self.add_trace("kl_fused_base", fused_base);
        self.add_trace("kl_base_fused", base_fused);
    }

    /// The tilts of a row, whose log-probabilities are `log_row`, along a finite direction.
    pub fn tilts(&mut self, log_row: Value, direction: Value) -> Tilts {
        let row = self.exp(log_row);
        // Measured from its mean, so that what is left of large entries is exact.
        let mean = self.multiply(row, direction);
        let mean = self.reduce_sum(mean);
        let direction = self.subtract(direction, mean);
        Tilts { log_row, row, direction }
    }

    /// The tilt `Q` of a row `P` at a strength, normalised. The two divergences come as half the sum and half the difference
    /// of
    ///
    /// ```text
    /// KL(Q‖P) + KL(P‖Q) = Σ (q − p) · u              with u = log q − log p
    /// KL(Q‖P) − KL(P‖Q) = Σ (q + p) · u − 2 (q − p)
    /// ```
    ///
    /// No term of the first is negative, so that f32 resolves divergences of 1e-10 nats, where the textbook formula, a mean
    /// less a log-partition, has lost every digit. The second is small where the divergences are; it is exact to about
    /// 1e-7 nats, so that a divergence may come out as less than 0 by that much. Both are written such that an error of the
    /// normaliser counts in the second order only.
    pub fn tilt(&mut self, tilts: &Tilts, strength: Value) -> Tilt {
        let Tilts { log_row, row: p, direction } = *tilts;
        let tilt = self.multiply(strength, direction);
        let tilted = self.add(log_row, tilt);
        let normaliser = self.log_sum_exp(tilted);
        let log_ratio = self.subtract(tilt, normaliser);
        let log_tilted = self.add(log_row, log_ratio);
        let q = self.exp(log_tilted);
        let difference = self.subtract(q, p);
        let symmetric = self.multiply(difference, log_ratio);
        let symmetric = self.reduce_sum(symmetric);
        let both = self.add(q, p);
        let weighted = self.multiply(both, log_ratio);
        let doubled = self.add(difference, difference);
        let skew = self.subtract(weighted, doubled);
        let skew = self.reduce_sum(skew);
        let half = self.constant(0.5);
        let [sum, less] = [self.add(symmetric, skew), self.subtract(symmetric, skew)];
        let [forward, reverse] = [sum, less].map(|twice| self.multiply(half, twice));

        let moved = self.multiply(difference, direction);
        let mean = self.reduce_sum(moved);
        let squares = self.multiply(direction, direction);
        let squares = self.multiply(q, squares);
        let squares = self.reduce_sum(squares);
        let squared_mean = self.multiply(mean, mean);
        let variance = self.subtract(squares, squared_mean);
        Tilt { symmetric, forward, reverse, mean, variance }
    }
}
