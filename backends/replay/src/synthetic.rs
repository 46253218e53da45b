use logitfuse_core::{Result, TokenId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{PrefixModel, PrefixSource};

/// A deterministic toy language model: every row is a pure function of the seed, the settings and the tokens so far.
///
/// Rows have the shape that matters to fusion: a Zipfian background over the ids, noise that changes with every token,
/// and a few *peaks*: ids that stand out and compete. Two sources with one seed are the same model. A source
/// that is [`related_to`](Self::related_to) another agrees with it in part, like a small model with a large one, or a
/// tuned model with the untuned.
///
/// ```
/// use logitfuse_core::numerics::{kl_divergence, log_sum_exp};
/// use logitfuse_core::{LogitSource, Rows, Step};
/// use logitfuse_replay::SyntheticSource;
///
/// let row = |mut source: SyntheticSource| {
///     let (sequence, mut rows) = (source.open().unwrap(), Rows::new());
///     source.forward(&[Step { sequence, tokens: &[7, 1, 3], rows: 1 }], &mut rows).unwrap();
///     rows.row(0).to_vec()
/// };
/// let large = row(SyntheticSource::new("large", 1000, 1));
/// let small = row(SyntheticSource::new("small", 1000, 2).related_to(1, 0.8));
/// let unrelated = row(SyntheticSource::new("unrelated", 1000, 3));
///
/// let divergence = |q: &[f32]| kl_divergence(&large, log_sum_exp(&large), q, log_sum_exp(q));
/// assert!(divergence(&small) < 0.5 * divergence(&unrelated));
/// ```
pub type SyntheticSource = PrefixSource<ToyModel>;

/// The [`PrefixModel`] of a [`SyntheticSource`].
#[derive(Clone, Copy, Debug)]
pub struct ToyModel {
    seed: u64,
    relative: Option<(u64, f32)>,
    sharpness: f32,
}

impl SyntheticSource {
    /// A toy model over `width` token ids.
    pub fn new(name: &str, width: usize, seed: u64) -> Self {
        Self::with_model(name, width, ToyModel { seed, relative: None, sharpness: 1.0 })
    }

    /// Takes the part `share` (0 to 1) of every row's token-dependent logits from the model with `seed`, and the rest from
    /// its own: 0 is an unrelated model, 1 the same one.
    #[must_use]
    pub fn related_to(mut self, seed: u64, share: f32) -> Self {
        self.model.relative = Some((seed, share));
        self
    }

    /// Scales the logits: an inverse temperature. At 1 most rows have several probable tokens, at 3 one.
    #[must_use]
    pub fn sharpness(mut self, sharpness: f32) -> Self {
        self.model.sharpness = sharpness;
        self
    }
}

impl PrefixModel for ToyModel {
    fn row(&mut self, prefix: &[TokenId], out: &mut [f32]) -> Result<()> {
        for (rank, x) in (1_u16..=u16::MAX).chain(std::iter::repeat(u16::MAX)).zip(out.iter_mut()) {
            *x = -f32::from(rank).ln();
        }
        let context = hash(prefix);
        let (relative, share) = self.relative.unwrap_or((self.seed, 0.0));
        for (seed, weight) in [(self.seed, 1.0 - share), (relative, share)] {
            if weight != 0.0 {
                add_logits(seed, context, weight, out);
            }
        }
        for x in out {
            *x *= self.sharpness;
        }
        Ok(())
    }
}

/// Adds the logits of the model of this seed in this context: noise of unit variance on every id, and six peaks.
fn add_logits(seed: u64, context: u64, weight: f32, out: &mut [f32]) {
    const PEAKS: u32 = 6;
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&context.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    for x in out.iter_mut() {
        *x += weight * approximate_normal(random.next_u32());
    }
    for _ in 0..PEAKS {
        let (place, strength) = (random.next_u32(), random.next_u32());
        // The product of the two is uniform on the ids.
        let id = (u64::from(place) * out.len() as u64) >> 32;
        if let Some(x) = out.get_mut(id as usize) {
            // A peak can compete with the most frequent ids from wherever it is on the Zipfian slope.
            *x += weight * (9.0 + 1.5 * approximate_normal(strength));
        }
    }
}

/// Roughly a standard normal variable, from 32 random bits: the sum of four uniform bytes, centred and scaled.
fn approximate_normal(bits: u32) -> f32 {
    let sum: u16 = bits.to_le_bytes().into_iter().map(u16::from).sum();
    (f32::from(sum) - 510.0) / 147.8
}

/// A hash of the tokens that depends on their order and number: multiply and mix, one round a token.
fn hash(tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(0x9e37_79b9_7f4a_7c15, |state, &token| {
        let mixed = (state ^ u64::from(token)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    })
}
