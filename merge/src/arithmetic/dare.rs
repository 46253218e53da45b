//! DARE, drop and rescale: Yu and others, *Language models are super Mario*, arXiv 2311.03099.
//!
//! Every element of a delta stays with probability `density`, by itself; what stays is multiplied so that the delta is the
//! same on average. The paper multiplies with `1 / density`; mergekit 0.1.5 with what restores the sum of magnitudes.
//! The deltas are then added as in [task arithmetic](super::task_arithmetic) (`dare_linear`) or by elected signs as in
//! [TIES](super::ties) (`dare_ties`).

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

/// Which elements of one parent's delta of one tensor stay: a stream of its own, given by seed, parent and tensor, so that
/// neither the order of tensors and parents nor what else is drawn changes it.
#[derive(Clone, Debug)]
pub struct Mask {
    stream: ChaCha8Rng,
    /// Numbers below this, of 2³², stay.
    bound: u64,
}

impl Mask {
    /// The mask of a parent's tensor.
    ///
    /// ```
    /// use logitfuse_merge::arithmetic::dare::Mask;
    ///
    /// let (mut whole, mut piece) = ([false; 100], [false; 10]);
    /// let mut mask = Mask::new(7, "expert", "layers.0.weight", 0.3);
    /// mask.draw(0, &mut whole);
    /// mask.draw(90, &mut piece);
    /// assert_eq!(whole[90..], piece);
    /// ```
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2³² fits")]
    pub fn new(seed: u64, parent: &str, tensor: &str, density: f64) -> Self {
        let mut key = Sha256::new();
        key.update(b"logitfuse dare 1");
        key.update(seed.to_le_bytes());
        for name in [parent, tensor] {
            key.update((name.len() as u64).to_le_bytes());
            key.update(name);
        }
        let bound = (density.clamp(0.0, 1.0) * (1_u64 << 32) as f64).round() as u64;
        Self { stream: ChaCha8Rng::from_seed(key.finalize().into()), bound }
    }

    /// Whether the elements from `start` on stay.
    pub fn draw(&mut self, start: usize, out: &mut [bool]) {
        self.stream.set_word_pos(start as u128);
        for keep in out {
            *keep = u64::from(self.stream.next_u32()) < self.bound;
        }
    }
}

/// Makes zero what does not stay.
pub fn drop_out(delta: &mut [f32], mask: &[bool]) {
    for (value, _) in delta.iter_mut().zip(mask).filter(|(_, keep)| !**keep) {
        *value = 0.0;
    }
}
