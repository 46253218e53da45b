//! Task arithmetic: Ilharco and others, *Editing models with task arithmetic*, arXiv 2212.04089.

use super::rounded;

/// Sums of weights below this are no divisor; mergekit's bound.
const NO_SUM: f64 = 1e-8;

/// `base + factor · Σ wₜ · deltaₜ`.
///
/// ```
/// use logitfuse_merge::arithmetic::task_arithmetic;
///
/// let mut merged = [0.0];
/// task_arithmetic::add(&[1.0], &[&[0.5], &[-2.0]], &[1.0, 0.25], 2.0, &mut merged);
/// assert_eq!(merged, [1.0 + 2.0 * (0.5 - 0.5)]);
/// ```
pub fn add(base: &[f32], deltas: &[&[f32]], weights: &[f64], factor: f64, out: &mut [f32]) {
    for (i, (out, &base)) in out.iter_mut().zip(base).enumerate() {
        let terms = deltas.iter().zip(weights).map(|(delta, weight)| f64::from(delta[i]) * weight);
        let mixed: f64 = terms.sum();
        *out = rounded(f64::from(base) + factor * mixed);
    }
}

/// What the sum of deltas is multiplied with: `lambda`, divided by the sum of the weights where those are to be normalised.
/// Weights that sum to nothing are left as they are.
pub fn factor(weights: &[f64], lambda: f64, normalize: bool) -> f64 {
    let sum: f64 = weights.iter().sum();
    if normalize && sum.abs() >= NO_SUM { lambda / sum } else { lambda }
}
