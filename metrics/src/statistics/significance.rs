use logitfuse_core::{Error, ErrorKind, Result};

/// `McNemar`'s exact test: whether two systems differ, from the items that only one of them got right.
///
/// ```
/// use logitfuse_metrics::statistics::McNemar;
///
/// let test = McNemar::of_counts(9, 1);
/// assert_eq!(test.p_value, 22.0 / 1024.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Items that only the first system got right.
    pub only_a: usize,
    /// Items that only the second system got right.
    pub only_b: usize,
    /// Two-sided: how likely a split at least as uneven is if both are equally good; 1 if they never differ.
    pub p_value: f64,
}

impl McNemar {
    /// The test on paired answers, right or wrong.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] unless both are of the same number of items.
    pub fn new(a: &[bool], b: &[bool]) -> Result<Self> {
        super::same_items(a.len(), b.len())?;
        let only = |x: bool, y: bool| a.iter().zip(b).filter(|(a, b)| (**a, **b) == (x, y)).count();
        Ok(Self::of_counts(only(true, false), only(false, true)))
    }

    /// The test on the counts of items that only one system got right.
    pub fn of_counts(only_a: usize, only_b: usize) -> Self {
        let p_value = if only_a == only_b { 1.0 } else { 2.0 * fair_tail(only_a.min(only_b), only_a + only_b) };
        Self { only_a, only_b, p_value: p_value.min(1.0) }
    }
}

/// P(X ≤ k) for X binomial with n fair coins, k < n/2: C(n, k) / 2ⁿ times a sum of falling ratios. The halvings are spread
/// between the factors, so that nothing overflows or vanishes before the result does.
fn fair_tail(k: usize, n: usize) -> f64 {
    let (mut term, mut halvings) = (1.0_f64, n);
    for i in 1..=k {
        term *= (n - k + i) as f64 / i as f64;
        while term > 1.0 && halvings > 0 {
            term *= 0.5;
            halvings -= 1;
        }
    }
    let (mut sum, mut ratio) = (1.0, 1.0);
    for i in (1..=k).rev() {
        ratio *= i as f64 / (n - i + 1) as f64;
        sum += ratio;
    }
    // In steps: a single power of two would vanish where the product need not.
    let mut tail = term * sum;
    while halvings > 0 {
        let step = halvings.min(1000);
        tail *= 0.5_f64.powi(i32::try_from(step).unwrap_or(1000));
        halvings -= step;
    }
    tail
}

/// Holm's step-down correction: p-values that may all be compared with the same level, whatever the tests share.
/// In the order of the input.
///
/// ```
/// use logitfuse_metrics::statistics::holm;
///
/// assert_eq!(holm(&[0.01, 0.04, 0.03])?, [0.03, 0.06, 0.06]);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Numeric`] for what is not between 0 and 1.
///
/// S. Holm, Scand. J. Stat. 6 (1979), 65–70.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(p) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Error::new(ErrorKind::Numeric, format!("p-value: {p} is not between 0 and 1")));
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut floor = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        floor = floor.max((p_values.len() - rank) as f64 * p_values[index]).min(1.0);
        adjusted[index] = floor;
    }
    Ok(adjusted)
}
