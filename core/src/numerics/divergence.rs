use pulp::NullaryFnOnce;

use super::{
    dispatch::dispatch,
    lanes::{Split, exp, larger, sums},
    logarithm::ln,
};

/// The Kullback–Leibler divergence `KL(p‖q)` in nats: the mean of `log p − log q` under `p`.
///
/// Never negative, exactly 0 for equal rows, `+inf` when `p` allows an id that `q` forbids. Ids that `p` forbids do not
/// count. The absolute error is about 1e-6, and one f32 rounding of the largest difference of two logits (1e-5 where
/// they differ by a hundred). Log-normalisers are what [`log_sum_exp`](super::log_sum_exp) gives for each row.
///
/// ```
/// use logitfuse_core::numerics::{kl_divergence, log_sum_exp};
///
/// let (p, q) = ([0.0, 0.0], [3f32.ln(), 0.0]);
/// let kl = kl_divergence(&p, log_sum_exp(&p), &q, log_sum_exp(&q));
/// assert!((kl - 0.5 * (4f64 / 3.0).ln()).abs() < 1e-6);
/// ```
pub fn kl_divergence(p: &[f32], p_log_normaliser: f64, q: &[f32], q_log_normaliser: f64) -> f64 {
    dispatch(Kl(Pair::new(p, p_log_normaliser, q, q_log_normaliser)))
}

/// `(KL(p‖q), KL(q‖p))` in nats, in one pass over the rows; the first is bit-equal to [`kl_divergence`]'s.
///
/// ```
/// use logitfuse_core::numerics::{kl_both, log_sum_exp};
///
/// let (p, q) = ([0.0, 1.0], [0.0, f32::NEG_INFINITY]);
/// let (forward, reverse) = kl_both(&p, log_sum_exp(&p), &q, log_sum_exp(&q));
/// assert_eq!(forward, f64::INFINITY);
/// assert!((reverse - (1.0 + 1f64.exp()).ln()).abs() < 1e-6);
/// ```
pub fn kl_both(p: &[f32], p_log_normaliser: f64, q: &[f32], q_log_normaliser: f64) -> (f64, f64) {
    dispatch(KlBoth(Pair::new(p, p_log_normaliser, q, q_log_normaliser)))
}

struct Pair<'a> {
    p: &'a [f32],
    q: &'a [f32],
    p_normaliser: Split,
    q_normaliser: Split,
    difference: Split,
}

impl<'a> Pair<'a> {
    fn new(p: &'a [f32], p_log_normaliser: f64, q: &'a [f32], q_log_normaliser: f64) -> Self {
        Self {
            p,
            q,
            p_normaliser: Split::new(p_log_normaliser),
            q_normaliser: Split::new(q_log_normaliser),
            difference: Split::new(p_log_normaliser - q_log_normaliser),
        }
    }

    /// `log p - log q` of one id. Logits first: they are close where it matters, so their difference is nearly exact,
    /// which that of two rounded log-probabilities would not be.
    #[inline(always)]
    fn log_ratio(&self, p: f32, q: f32) -> f32 {
        self.difference.subtract_from(p - q)
    }

    #[inline(always)]
    fn p_term(&self, p: f32, log_ratio: f32) -> f32 {
        expected(exp(self.p_normaliser.subtract_from(p)), log_ratio)
    }

    #[inline(always)]
    fn q_term(&self, q: f32, log_ratio: f32) -> f32 {
        expected(exp(self.q_normaliser.subtract_from(q)), -log_ratio)
    }
}

/// `probability * log_ratio`: 0 for what cannot happen, whatever its ratio, which may be NaN; `+inf` for what can happen
/// and was excluded, however small its probability, which may be 0 in f32.
#[inline(always)]
fn expected(probability: f32, log_ratio: f32) -> f32 {
    if log_ratio == f32::INFINITY { log_ratio } else { probability * larger(log_ratio, f32::MIN) }
}

struct Kl<'a>(Pair<'a>);

impl NullaryFnOnce for Kl<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let pair = &self.0;
        let [kl] = sums([pair.p, pair.q], |[p, q]| [pair.p_term(p, pair.log_ratio(p, q))]);
        // Equal distributions sum to 0 within rounding, which may be on the wrong side.
        kl.max(0.0)
    }
}

struct KlBoth<'a>(Pair<'a>);

impl NullaryFnOnce for KlBoth<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn call(self) -> (f64, f64) {
        let pair = &self.0;
        let kls = sums([pair.p, pair.q], |[p, q]| {
            let log_ratio = pair.log_ratio(p, q);
            [pair.p_term(p, log_ratio), pair.q_term(q, log_ratio)]
        });
        let [forward, reverse] = kls.map(|kl| kl.max(0.0));
        (forward, reverse)
    }
}

/// The Jensen–Shannon divergence of two distributions in nats: `½ KL(p ‖ m) + ½ KL(q ‖ m)` with `m = ½ (p + q)`.
///
/// Symmetric, finite whatever is masked, exactly 0 for equal rows and `ln 2` for rows that share no id. The absolute error
/// is about 1e-6. Log-normalisers are what [`log_sum_exp`](super::log_sum_exp) gives for each row.
///
/// ```
/// use logitfuse_core::numerics::{jensen_shannon, log_sum_exp};
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let (p, q) = ([1.0, MASKED, MASKED], [MASKED, 0.0, 2.0]);
/// let [zp, zq] = [log_sum_exp(&p), log_sum_exp(&q)];
/// assert_eq!(jensen_shannon(&q, zq, &q, zq), 0.0);
/// assert!((jensen_shannon(&p, zp, &q, zq) - 2_f64.ln()).abs() < 1e-6);
/// ```
pub fn jensen_shannon(p: &[f32], p_log_normaliser: f64, q: &[f32], q_log_normaliser: f64) -> f64 {
    dispatch(JensenShannon(Pair::new(p, p_log_normaliser, q, q_log_normaliser)))
}

struct JensenShannon<'a>(Pair<'a>);

impl NullaryFnOnce for JensenShannon<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let pair = &self.0;
        let [sum] = sums([pair.p, pair.q], |[p, q]| {
            // By the ratio of the two, which is 1 to the last bit where they agree: the logarithms then are 0. A ratio that
            // is 0, infinite or NaN belongs to probabilities of which one is 0, or both, and `exp` and `ln` keep it finite.
            let ratio = exp(pair.log_ratio(p, q));
            let of_p = exp(pair.p_normaliser.subtract_from(p)) * ln(0.5 + 0.5 / larger(ratio, f32::MIN_POSITIVE));
            let of_q = exp(pair.q_normaliser.subtract_from(q)) * ln(0.5 + 0.5 * ratio);
            [-0.5 * (of_p + of_q)]
        });
        sum.clamp(0.0, std::f64::consts::LN_2)
    }
}
