//! Weighted means of models: Wortsman and others, *Model soups*, arXiv 2203.05482.

use super::rounded;

/// `Σ wₘ · modelₘ`. For a mean, the weights have to sum to one: see [`normalized`].
///
/// ```
/// use logitfuse_merge::arithmetic::linear;
///
/// let mut merged = [0.0; 2];
/// linear::sum(&[&[1.0, 2.0], &[3.0, 6.0]], &[0.5, 0.5], &mut merged);
/// assert_eq!(merged, [2.0, 4.0]);
/// ```
pub fn sum(models: &[&[f32]], weights: &[f64], out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let terms = models.iter().zip(weights).map(|(model, weight)| f64::from(model[i]) * weight);
        *out = rounded(terms.sum());
    }
}

/// The weights divided by their sum.
pub fn normalized(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}
