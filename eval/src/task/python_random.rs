//! Python's `random.Random`, as far as lm-eval draws demonstrations with it.
//!
//! Why: a few-shot result is only comparable with a published one if the same items were shown, and which ones those are is
//! decided by this generator and by how `sample` uses it.

use std::collections::BTreeSet;

use rand_mt::Mt;

/// `random.Random(seed)`.
pub(crate) struct PythonRandom(Mt);

impl PythonRandom {
    /// Seeds with a whole number that is not negative.
    pub(crate) fn new(seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the seed")]
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        Self(Mt::new_with_key(key.iter().copied()))
    }

    /// `random.sample(range(n), k)`; `k` is at most `n`.
    pub(crate) fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        debug_assert!(k <= n, "{k} of {n}");
        // Python compares the sizes of a list and of a set.
        let mut set_size = 21;
        if k > 5 {
            let mut power = 1;
            while power < 3 * k {
                power *= 4;
            }
            set_size += power;
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|i| {
                    let drawn = self.below(n - i);
                    let item = pool[drawn];
                    pool[drawn] = pool[n - i - 1];
                    item
                })
                .collect();
        }
        let mut selected = BTreeSet::new();
        let mut draw = || loop {
            let drawn = self.below(n);
            if selected.insert(drawn) {
                return drawn;
            }
        };
        (0..k).map(|_| draw()).collect()
    }

    /// `_randbelow_with_getrandbits`; `n` is below 2³².
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = (self.0.next_u32() >> (32 - bits.clamp(1, 32))) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PythonRandom;

    /// What Python 3.11 gives for `r = random.Random(seed); [r.sample(range(n), k), r.sample(range(n), k)]`.
    #[test]
    fn draws_are_pythons() {
        let cases: &[(u64, usize, usize, [&[usize]; 2])] = &VECTORS;
        for (seed, n, k, expected) in cases {
            let mut random = PythonRandom::new(*seed);
            for expected in expected {
                assert_eq!(random.sample(*n, *k), *expected, "seed {seed}, {k} of {n}");
            }
        }
    }

    const VECTORS: [(u64, usize, usize, [&[usize]; 2]); 6] = [
        (1_234, 100, 3, [&[99, 56, 14], &[0, 11, 74]]),
        (0, 5, 5, [&[3, 4, 0, 1, 2], &[3, 2, 1, 4, 0]]),
        (1_234, 21, 4, [&[14, 3, 0, 2], &[18, 1, 2, 3]]),
        (42, 1000, 7, [&[654, 114, 25, 759, 281, 250, 228], &[142, 754, 104, 692, 758, 913, 558]]),
        (1_099_511_627_779, 90, 6, [&[28, 7, 70, 12, 72, 38], &[89, 54, 29, 60, 71, 42]]),
        (7, 1, 1, [&[0], &[0]]),
    ];
}
