use std::ops::Range;

use pulp::NullaryFnOnce;

use super::{
    dispatch::dispatch,
    lanes::{clamp_to_f32, larger, max},
};
use crate::RoleRow;

/// One weighted difference of two rows, `weight · (towards − away)`: a tuned model less an
/// untuned one, a prompt with a passage less the same prompt without it.
#[derive(Clone, Copy, Debug)]
pub struct Contrast<'a> {
    /// The factor; 0 switches the contrast off, whatever its rows hold.
    pub weight: f64,
    /// The row to move towards: expert, prompt with context.
    pub towards: &'a [f32],
    /// The row to move away from: anti-expert, prompt without context.
    pub away: &'a [f32],
    /// The value of the difference where either row is masked. The difference of the two log-normalisers makes it the
    /// zero of the log-probabilities, so that the base decides; see [`Contrast::between`].
    pub where_masked: f64,
}

impl<'a> Contrast<'a> {
    /// The contrast of two rows with the right value for masked ids: there, the *log-probabilities* are taken to differ
    /// by 0. A plain 0 would depend on constants that a model may add to all its logits.
    pub fn between(weight: f64, towards: &RoleRow<'a>, away: &RoleRow<'a>) -> Self {
        Self {
            weight,
            towards: towards.logits(),
            away: away.logits(),
            where_masked: towards.log_normaliser - away.log_normaliser,
        }
    }
}

/// Writes `base_weight · base + Σ weight · (towards − away)`, the form of every linear fusion: proxy tuning,
/// context-aware decoding, classifier-free guidance, task arithmetic on logits.
///
/// * Where the base is masked, so is the result. Where only a contrast's row is masked, that contrast is
///   [`where_masked`](Contrast::where_masked).
/// * Where the contrasts add up to 0, the result is `base_weight · base` to the last bit; with `base_weight` 1, the base.
/// * Entries that would leave f32's range stop at its ends, so the result is finite wherever the base is.
///
/// ```
/// use logitfuse_core::numerics::{Contrast, linear_combination};
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let (base, expert, anti) = ([1.0, 2.0, MASKED, 4.0], [3.0, 1.0, 9.0, MASKED], [1.0, 1.5, 0.0, 7.0]);
/// let contrast = Contrast { weight: 2.0, towards: &expert, away: &anti, where_masked: 0.0 };
/// let mut out = [0.0; 4];
/// linear_combination(&base, 1.0, &[contrast], &mut out);
/// assert_eq!(out, [5.0, 1.0, MASKED, 4.0]);
/// ```
pub fn linear_combination(base: &[f32], base_weight: f64, contrasts: &[Contrast<'_>], out: &mut [f32]) {
    dispatch(LinearCombination { base, base_weight: clamp_to_f32(base_weight), contrasts, out });
}

/// Writes `towards − away`, and `where_masked` where either is masked: a direction for
/// `logitfuse_numerics::exponential_tilt` that is finite everywhere.
///
/// ```
/// use logitfuse_core::numerics::masked_difference;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let mut out = [9.0; 4];
/// masked_difference(&[3.0, MASKED, 1.0, MASKED], &[1.0, 1.0, MASKED, MASKED], 0.0, &mut out);
/// assert_eq!(out, [2.0, 0.0, 0.0, 0.0]);
/// ```
pub fn masked_difference(towards: &[f32], away: &[f32], where_masked: f64, out: &mut [f32]) {
    dispatch(MaskedDifference(Term { weight: 1.0, towards, away, where_masked: clamp_to_f32(where_masked) }, out));
}

/// Masks, in `out`, the ids to which `base` gives less than `plausibility` times the probability of its most probable
/// token: the plausibility constraint of contrastive decoding, which keeps a contrast from promoting improbable tokens.
///
/// `plausibility` is in (0, 1]; the most probable token always stays.
///
/// ```
/// use logitfuse_core::numerics::mask_implausible;
///
/// let mut out = [1.0, 2.0, 3.0];
/// mask_implausible(&[0.0, -1.0, -5.0], 0.1, &mut out);
/// assert_eq!(out, [1.0, 2.0, f32::NEG_INFINITY]);
/// ```
pub fn mask_implausible(base: &[f32], plausibility: f64, out: &mut [f32]) {
    dispatch(MaskImplausible { base, log_plausibility: plausibility.ln(), out });
}

/// `x` within f32's finite range; NaN becomes its lower end.
#[inline(always)]
fn finite(x: f32) -> f32 {
    let x = larger(x, f32::MIN);
    if x < f32::MAX { x } else { f32::MAX }
}

/// A [`Contrast`] in f32.
struct Term<'a> {
    weight: f32,
    towards: &'a [f32],
    away: &'a [f32],
    where_masked: f32,
}

impl<'a> Term<'a> {
    /// The part of a contrast that concerns some ids.
    fn new(contrast: &Contrast<'a>, ids: Range<usize>) -> Self {
        Self {
            weight: clamp_to_f32(contrast.weight),
            towards: &contrast.towards[ids.clone()],
            away: &contrast.away[ids],
            where_masked: clamp_to_f32(contrast.where_masked),
        }
    }

    #[inline(always)]
    fn at(&self, towards: f32, away: f32) -> f32 {
        finite(self.difference(towards, away))
    }

    #[inline(always)]
    fn weighted(&self, towards: f32, away: f32) -> f32 {
        // Stopped at the ends once: the weight is not 0, so no end of the difference makes a NaN of the product.
        finite(self.weight * self.difference(towards, away))
    }

    #[inline(always)]
    fn difference(&self, towards: f32, away: f32) -> f32 {
        let masked = towards == f32::NEG_INFINITY || away == f32::NEG_INFINITY;
        if masked { self.where_masked } else { towards - away }
    }
}

struct MaskedDifference<'a>(Term<'a>, &'a mut [f32]);

impl NullaryFnOnce for MaskedDifference<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(term, out) = self;
        assert!(term.towards.len() == out.len() && term.away.len() == out.len(), "rows of different lengths");
        for ((out, &towards), &away) in out.iter_mut().zip(term.towards).zip(term.away) {
            *out = term.at(towards, away);
        }
    }
}

struct LinearCombination<'a> {
    base: &'a [f32],
    base_weight: f32,
    contrasts: &'a [Contrast<'a>],
    out: &'a mut [f32],
}

impl NullaryFnOnce for LinearCombination<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        /// Entries that stay in the first-level cache while the contrasts are added one after the other.
        const BLOCK: usize = 1024;
        let Self { base, base_weight, contrasts, out } = self;
        assert_eq!(base.len(), out.len(), "rows of different lengths");
        let active = || contrasts.iter().filter(|contrast| contrast.weight != 0.0);
        assert!(
            active().all(|c| c.towards.len() == out.len() && c.away.len() == out.len()),
            "rows of different lengths"
        );

        // One contrast is the common case, and needs no intermediate sum.
        let mut only = active();
        if let (Some(contrast), None) = (only.next(), only.next()) {
            let term = Term::new(contrast, 0..base.len());
            let contrasts = term.towards.iter().zip(term.away);
            for ((out, &base), (&towards, &away)) in out.iter_mut().zip(base).zip(contrasts) {
                *out = combined(base, base_weight, term.weighted(towards, away));
            }
            return;
        }
        for start in (0..base.len()).step_by(BLOCK) {
            let ids = start..base.len().min(start + BLOCK);
            let out = &mut out[ids.clone()];
            out.fill(0.0);
            for contrast in active() {
                let term = Term::new(contrast, ids.clone());
                for ((out, &towards), &away) in out.iter_mut().zip(term.towards).zip(term.away) {
                    *out += term.weighted(towards, away);
                }
            }
            for (out, &base) in out.iter_mut().zip(&base[ids]) {
                *out = combined(base, base_weight, *out);
            }
        }
    }
}

/// `base_weight · base + contrasts`, masked where the base is.
#[inline(always)]
fn combined(base: f32, base_weight: f32, contrasts: f32) -> f32 {
    let weighted = base_weight * base;
    // Not `weighted + 0`: that would turn -0 into +0.
    let sum = finite(if contrasts == 0.0 { weighted } else { weighted + contrasts });
    if base == f32::NEG_INFINITY { base } else { sum }
}

struct MaskImplausible<'a> {
    base: &'a [f32],
    log_plausibility: f64,
    out: &'a mut [f32],
}

impl NullaryFnOnce for MaskImplausible<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { base, log_plausibility, out } = self;
        assert_eq!(base.len(), out.len(), "rows of different lengths");
        let max = max([base], |[x]| x);
        let least = clamp_to_f32(f64::from(max) + log_plausibility);
        for (out, &base) in out.iter_mut().zip(base) {
            *out = if base < least { f32::NEG_INFINITY } else { *out };
        }
    }
}
