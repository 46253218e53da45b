//! TIES: Yadav and others, *TIES-Merging: resolving interference when merging models*, arXiv 2306.01708.
//!
//! 1. **Trim**: of every delta, the share `density` with the largest magnitudes stays, the rest is zero.
//! 2. **Elect**: every element has a sign, that of the sum of the weighted deltas; a sum of zero counts as positive.
//! 3. **Merge**: the weighted mean of those deltas that have this sign.
//!
//! The paper trims a whole model's vector, of which it keeps 20 %. Here, as in mergekit, every tensor is trimmed by itself:
//! `max(1, ⌊density · n⌋)` of its `n` elements stay. Among equal magnitudes the first ones stay; mergekit leaves to the sort
//! which ones do.

use logitfuse_core::Result;

use super::rounded;

/// Which elements of a tensor's delta stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The bits of the smallest magnitude that stays.
    threshold: u32,
    /// The last element of just that magnitude that stays.
    last: usize,
}

/// Gives the pieces of a delta to what it is handed, in order; may be called several times.
pub type Pieces<'a> = dyn FnMut(&mut dyn FnMut(&[f32])) -> Result<()> + 'a;

impl Trim {
    /// Nothing is taken away.
    pub const NOTHING: Self = Self { threshold: 0, last: usize::MAX };
    /// Everything is.
    pub const EVERYTHING: Self = Self { threshold: u32::MAX, last: 0 };

    /// The largest `density · n` of `n` elements stay: at least one, unless the density is zero. Three passes over the
    /// delta and 256 KiB, whatever its size: magnitudes order as their bits do, so that the upper and the lower half of the
    /// threshold's bits are found by counting.
    ///
    /// ```
    /// use logitfuse_merge::arithmetic::ties::Trim;
    ///
    /// let mut delta = [0.1, -4.0, 0.2, 3.0];
    /// let trim = Trim::of(4, 0.5, &mut |take| { take(&delta); Ok(()) })?;
    /// trim.apply(0, &mut delta);
    /// assert_eq!(delta, [0.0, -4.0, 0.0, 3.0]);
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of reading a piece.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of n is between 0 and n")]
    pub fn of(n: usize, density: f64, pieces: &mut Pieces<'_>) -> Result<Self> {
        if density >= 1.0 || n == 0 {
            return Ok(Self::NOTHING);
        }
        if density <= 0.0 {
            return Ok(Self::EVERYTHING);
        }
        let keep = ((density * n as f64) as usize).max(1);
        let (upper, above) = select(keep, pieces, |bits| Some(bits >> 16))?;
        let (lower, above_too) = select(keep - above, pieces, |bits| (bits >> 16 == upper).then_some(bits & 0xffff))?;
        let threshold = upper << 16 | lower;
        let mut equal = keep - above - above_too;
        let (mut last, mut at) = (0, 0);
        pieces(&mut |piece| {
            for (i, value) in piece.iter().enumerate() {
                if equal > 0 && magnitude(*value) == threshold {
                    equal -= 1;
                    last = at + i;
                }
            }
            at += piece.len();
        })?;
        Ok(Self { threshold, last })
    }

    /// Trims the piece of a delta that begins at element `start`.
    pub fn apply(self, start: usize, delta: &mut [f32]) {
        for (i, value) in delta.iter_mut().enumerate() {
            let bits = magnitude(*value);
            if bits < self.threshold || (bits == self.threshold && start + i > self.last) {
                *value = 0.0;
            }
        }
    }
}

fn magnitude(value: f32) -> u32 {
    value.abs().to_bits()
}

/// The key of the `keep`-th largest of those magnitudes that have one, and how many have a larger one.
fn select(keep: usize, pieces: &mut Pieces<'_>, key: impl Fn(u32) -> Option<u32>) -> Result<(u32, usize)> {
    let mut counts = vec![0_usize; 1 << 16];
    pieces(&mut |piece| {
        for key in piece.iter().filter_map(|&value| key(magnitude(value))) {
            counts[key as usize] += 1;
        }
    })?;
    let mut above = 0;
    for key in (0..1_u32 << 16).rev() {
        let count = counts[key as usize];
        if above + count >= keep {
            return Ok((key, above));
        }
        above += count;
    }
    Ok((0, above))
}

/// `base + lambda · Σ wₜ deltaₜ / Σ wₜ` over the deltas that agree with the elected sign, or without the divisor if not
/// `normalize`. Where none agrees, or their weights cancel, the divisor is one.
///
/// ```
/// use logitfuse_merge::arithmetic::ties;
///
/// let mut merged = [0.0; 2];
/// ties::elect(&[1.0, 1.0], &[&[0.5, 0.1], &[-0.2, 0.3]], &[1.0, 1.0], 1.0, true, &mut merged);
/// assert_eq!(merged, [1.5, 1.2]);
/// ```
pub fn elect(base: &[f32], deltas: &[&[f32]], weights: &[f64], lambda: f64, normalize: bool, out: &mut [f32]) {
    for (i, (out, &base)) in out.iter_mut().zip(base).enumerate() {
        let weighted = || deltas.iter().zip(weights).map(|(delta, &weight)| (f64::from(delta[i]) * weight, weight));
        let total: f64 = weighted().map(|(term, _)| term).sum();
        let agrees = |term: f64| if total >= 0.0 { term > 0.0 } else { term < 0.0 };
        let (mut mixed, mut divisor) = (0.0, 0.0);
        for (term, weight) in weighted().filter(|&(term, _)| agrees(term)) {
            mixed += term;
            divisor += weight;
        }
        if normalize && divisor != 0.0 {
            mixed /= divisor;
        }
        *out = rounded(f64::from(base) + lambda * mixed);
    }
}
