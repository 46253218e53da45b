use logitfuse_core::{Error, ErrorKind, Result};

/// Two ends, `low` ≤ `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies in the interval.
    pub fn contains(self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Wilson's score interval for an accuracy: unlike the mean ± 1.96 standard errors, it stays within 0 and 1 and says
/// something sensible of 0 out of 10. `None` of no items.
///
/// ```
/// use logitfuse_metrics::statistics::wilson;
///
/// let none_of_ten = wilson(0, 10, 0.95)?.unwrap();
/// assert_eq!(none_of_ten.low, 0.0);
/// assert!((none_of_ten.high - 0.2775).abs() < 1e-4);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] if the confidence is not between 0 and 1, or there are more successes than items.
///
/// E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209–212.
pub fn wilson(successes: usize, n: usize, confidence: f64) -> Result<Option<Interval>> {
    checked(confidence)?;
    if successes > n {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("successes: {successes} of {n} items")));
    }
    if n == 0 {
        return Ok(None);
    }
    let all = successes == n;
    let (z, n, p) = (two_sided_normal(confidence), n as f64, successes as f64 / n as f64);
    let centre = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // At the ends the two terms are equal but for rounding.
    let low = if successes == 0 { 0.0 } else { (centre - spread) / scale };
    let high = if all { 1.0 } else { (centre + spread) / scale };
    Ok(Some(Interval { low, high }))
}

pub(super) fn checked(confidence: f64) -> Result<f64> {
    if confidence > 0.0 && confidence < 1.0 {
        return Ok(confidence);
    }
    Err(Error::new(ErrorKind::InvalidConfig, format!("confidence: {confidence} is not between 0 and 1"))
        .with_help("0.95 is usual"))
}

/// The z with P(|Z| ≤ z) = confidence for a standard normal Z, by bisection: exact to the last bits of `erfc`.
fn two_sided_normal(confidence: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..70 {
        let z = 0.5 * (low + high);
        if libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2) > 1.0 - confidence { low = z } else { high = z }
    }
    0.5 * (low + high)
}

/// The quantile of sorted values, between two of them in proportion (`NumPy`'s default).
pub(super) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let position = q * sorted.len().checked_sub(1)? as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let below = position as usize;
    let (a, b) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let t = position - below as f64;
    // Equal ends, which may be infinite, need no arithmetic.
    Some(if a.total_cmp(&b).is_eq() || t == 0.0 { a } else { a + (b - a) * t })
}
