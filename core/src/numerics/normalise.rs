use pulp::NullaryFnOnce;

use super::{
    dispatch::dispatch,
    lanes::{Split, exp, larger, max, sums},
};

/// The log-normaliser `log Σ exp(row)`, in nats: a row less this number holds log-probabilities.
///
/// Exact to about 1e-7 for rows of any scale; `-inf` if every entry is masked. NaN if a single entry is NaN or `+inf`,
/// wherever it stands: a finite log-normaliser proves that the row is a distribution, and costs no pass of its own.
/// [`check_row`](super::check_row) then says which entry it is.
///
/// ```
/// use logitfuse_core::numerics::log_sum_exp;
///
/// assert!((log_sum_exp(&[0.0; 1000]) - 1000f64.ln()).abs() < 1e-6);
/// assert_eq!(log_sum_exp(&[10_000.0, f32::NEG_INFINITY]), 10_000.0);
/// assert_eq!(log_sum_exp(&[f32::NEG_INFINITY; 2]), f64::NEG_INFINITY);
/// assert!(log_sum_exp(&[0.0, f32::NAN, 1.0]).is_nan());
/// ```
pub fn log_sum_exp(row: &[f32]) -> f64 {
    dispatch(LogSumExp(row))
}

struct LogSumExp<'a>(&'a [f32]);

impl NullaryFnOnce for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        // No term of a row of numbers is above 1, and no row has so many entries. The maximum passes a NaN over, but `exp`
        // makes e^88 of it, and of what the maximum +inf leaves of itself.
        const BEYOND: f64 = 1e30;
        let max = max([self.0], |[x]| x);
        if max == f32::NEG_INFINITY {
            return if self.0.iter().any(|x| x.is_nan()) { f64::NAN } else { f64::NEG_INFINITY };
        }
        let [sum] = sums([self.0], |[x]| [exp(x - max)]);
        if sum > BEYOND { f64::NAN } else { f64::from(max) + sum.ln() }
    }
}

/// Writes the log-probabilities of a row, in nats.
///
/// ```
/// use logitfuse_core::numerics::{log_softmax, log_sum_exp};
///
/// let row = [1.0, f32::NEG_INFINITY, 1.0];
/// let mut out = [0.0; 3];
/// log_softmax(&row, log_sum_exp(&row), &mut out);
/// assert!((out[0] + std::f32::consts::LN_2).abs() < 1e-6);
/// assert_eq!(out[1], f32::NEG_INFINITY);
/// ```
pub fn log_softmax(row: &[f32], log_normaliser: f64, out: &mut [f32]) {
    let normaliser = Split::new(log_normaliser);
    dispatch(Map { row, out, f: |x| normaliser.subtract_from(x) });
}

/// Writes the probabilities of a row.
///
/// ```
/// use logitfuse_core::numerics::{log_sum_exp, softmax};
///
/// let row = [0.0, f32::NEG_INFINITY, 3f32.ln()];
/// let mut out = [0.0; 3];
/// softmax(&row, log_sum_exp(&row), &mut out);
/// assert!((out[0] - 0.25).abs() < 1e-6 && out[1] == 0.0 && (out[2] - 0.75).abs() < 1e-6);
/// ```
pub fn softmax(row: &[f32], log_normaliser: f64, out: &mut [f32]) {
    let normaliser = Split::new(log_normaliser);
    dispatch(Map { row, out, f: |x| exp(normaliser.subtract_from(x)) });
}

struct Map<'a, F> {
    row: &'a [f32],
    out: &'a mut [f32],
    f: F,
}

impl<F: Fn(f32) -> f32> NullaryFnOnce for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        assert_eq!(self.row.len(), self.out.len(), "rows of different lengths");
        for (out, &x) in self.out.iter_mut().zip(self.row) {
            *out = (self.f)(x);
        }
    }
}

/// The entropy of a row's distribution, in nats: 0 when one token is certain, `log n` when `n` are equally likely.
///
/// ```
/// use logitfuse_core::numerics::{entropy, log_sum_exp};
///
/// let row = [5.0, 5.0, f32::NEG_INFINITY, 5.0, 5.0];
/// assert!((entropy(&row, log_sum_exp(&row)) - 4f64.ln()).abs() < 1e-6);
/// ```
pub fn entropy(row: &[f32], log_normaliser: f64) -> f64 {
    dispatch(Entropy { row, normaliser: Split::new(log_normaliser) })
}

struct Entropy<'a> {
    row: &'a [f32],
    normaliser: Split,
}

impl NullaryFnOnce for Entropy<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let [sum] = sums([self.row], |[x]| {
            let log_p = self.normaliser.subtract_from(x);
            // 0 * -inf is NaN, 0 * f32::MIN is 0.
            [exp(log_p) * larger(log_p, f32::MIN)]
        });
        // A certain token can come out as -0 or, by rounding, a little below.
        (-sum).max(0.0)
    }
}
