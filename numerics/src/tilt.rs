use logitfuse_core::numerics::lanes::{exp, first, max, round_to_f32, sums};
use pulp::NullaryFnOnce;

use crate::dispatch::dispatch;

/// Writes `base + alpha * direction`: the logits of `P · exp(alpha · direction)`, unnormalised.
///
/// Every fusion of the proxy kind is such a tilt of the base distribution `P`; `alpha` runs along a curve from `P`
/// (`alpha` 0) towards the ids that `direction` prefers. The direction is finite, as
/// [`masked_difference`](logitfuse_core::numerics::masked_difference) writes it; masked ids of the base stay masked.
///
/// ```
/// use logitfuse_numerics::exponential_tilt;
///
/// let mut out = [0.0; 3];
/// exponential_tilt(&[1.0, f32::NEG_INFINITY, 3.0], &[0.5, 0.5, -1.0], 2.0, &mut out);
/// assert_eq!(out, [2.0, f32::NEG_INFINITY, 1.0]);
/// ```
pub fn exponential_tilt(base: &[f32], direction: &[f32], alpha: f64, out: &mut [f32]) {
    dispatch(Tilt { base, direction, alpha: round_to_f32(alpha), out });
}

/// [`exponential_tilt`] where the direction stands: bit-equal to it, and one row less to fetch, which is what a wide
/// vocabulary costs.
///
/// ```
/// use logitfuse_numerics::exponential_tilt_in_place;
///
/// let mut direction = [0.5, 0.5, -1.0];
/// exponential_tilt_in_place(&[1.0, f32::NEG_INFINITY, 3.0], &mut direction, 2.0);
/// assert_eq!(direction, [2.0, f32::NEG_INFINITY, 1.0]);
/// ```
pub fn exponential_tilt_in_place(base: &[f32], direction: &mut [f32], alpha: f64) {
    dispatch(TiltInPlace { base, direction, alpha: round_to_f32(alpha) });
}

#[inline(always)]
fn tilted(base: f32, direction: f32, alpha: f32) -> f32 {
    // Not the plain sum: where both are masked, and in the filling of a last block, it may be -inf + inf.
    if base == f32::NEG_INFINITY { base } else { base + alpha * direction }
}

struct Tilt<'a> {
    base: &'a [f32],
    direction: &'a [f32],
    alpha: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Tilt<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        assert!(
            self.base.len() == self.out.len() && self.direction.len() == self.out.len(),
            "rows of different lengths"
        );
        for ((out, &base), &direction) in self.out.iter_mut().zip(self.base).zip(self.direction) {
            *out = tilted(base, direction, self.alpha);
        }
    }
}

struct TiltInPlace<'a> {
    base: &'a [f32],
    direction: &'a mut [f32],
    alpha: f32,
}

impl NullaryFnOnce for TiltInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        assert!(self.base.len() == self.direction.len(), "rows of different lengths");
        for (direction, &base) in self.direction.iter_mut().zip(self.base) {
            *direction = tilted(base, *direction, self.alpha);
        }
    }
}

/// The first moments of a direction `d` under the tilted distribution `P_α ∝ P · exp(α d)`: all that a solver for
/// `alpha` needs, because `KL(P_α‖P) = α · mean − log_partition`, `KL(P‖P_α) = log_partition − α · E_P[d]`, and their
/// derivatives are products of these numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TiltMoments {
    /// `log E_P[exp(α d)]`, nats.
    pub log_partition: f64,
    /// `E_α[d]`, nats: the derivative of `log_partition` by `alpha`.
    pub mean: f64,
    /// `Var_α[d]`, nats squared: the derivative of `mean` by `alpha`.
    pub variance: f64,
}

/// The [`TiltMoments`] of `base` tilted by `alpha` along `direction`, without writing the tilted row.
///
/// ```
/// use logitfuse_core::numerics::log_sum_exp;
/// use logitfuse_numerics::tilt_moments;
///
/// let base = [0.0, 0.0];
/// let m = tilt_moments(&base, log_sum_exp(&base), &[1.0, -1.0], 2.0);
/// assert!((m.log_partition - 2f64.cosh().ln()).abs() < 1e-6);
/// assert!((m.mean - 2f64.tanh()).abs() < 1e-6);
/// assert!((m.variance - (1.0 - 2f64.tanh().powi(2))).abs() < 1e-6);
/// ```
pub fn tilt_moments(base: &[f32], log_normaliser: f64, direction: &[f32], alpha: f64) -> TiltMoments {
    dispatch(Moments { base, log_normaliser, direction, alpha: round_to_f32(alpha) })
}

struct Moments<'a> {
    base: &'a [f32],
    log_normaliser: f64,
    direction: &'a [f32],
    alpha: f32,
}

impl NullaryFnOnce for Moments<'_> {
    type Output = TiltMoments;

    #[inline(always)]
    fn call(self) -> TiltMoments {
        let Self { base, log_normaliser, direction, alpha } = self;
        let score = |[b, d]: [f32; 2]| tilted(b, d, alpha);
        let max = max([base, direction], score);
        let mode = first([base, direction], score, max);
        // Moments about the mode's direction: where the tilt is sharp they are small, and nothing cancels.
        let centre = direction[mode];
        let [mass, first, second] = sums([base, direction], |[b, d]| {
            let weight = exp(score([b, d]) - max);
            let d = if weight > 0.0 { d - centre } else { 0.0 };
            [weight, weight * d, weight * d * d]
        });
        let offset = first / mass;
        TiltMoments {
            log_partition: f64::from(max) + mass.ln() - log_normaliser,
            mean: f64::from(centre) + offset,
            variance: (second / mass - offset * offset).max(0.0),
        }
    }
}
