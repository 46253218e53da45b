//! The head of a distribution, tokens of notable mass, in narrow bins.

use crate::support_points::{SupportPoint, SupportPoints};

/// Bins per nat. Within one, the fourth power of half a width is what [`SupportPoint`]'s three moments miss: 6e-7 at most.
const PER_NAT: f64 = 8.0;
/// Nats on either side of the origin that have bins; further out, each token is a point of its own.
pub(crate) const RANGE: f64 = 128.0;
const BINS: usize = 2048;

/// Mass and its first three moments about the middle, by bin.
#[derive(Clone, Debug)]
pub(crate) struct Bins {
    cells: Vec<[f64; 4]>,
    /// One bit a bin: those that hold something.
    used: [u64; BINS / 64],
}

impl Bins {
    pub(crate) fn new() -> Self {
        Self { cells: vec![[0.0; 4]; BINS], used: [0; BINS / 64] }
    }

    /// Adds a token with `|y| < RANGE`.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and BINS, by the caller's word"
    )]
    pub(crate) fn add(&mut self, mass: f64, y: f64) {
        let place = (y + RANGE) * PER_NAT;
        let bin = place as usize % BINS;
        let from_middle = y - middle(bin);
        let cell = &mut self.cells[bin];
        let mut term = mass;
        for moment in cell {
            *moment += term;
            term *= from_middle;
        }
        self.used[bin / 64] |= 1 << (bin % 64);
    }

    /// Turns the bins into points, in order, and empties them.
    pub(crate) fn drain_into(&mut self, points: &mut SupportPoints) {
        for (number, word) in self.used.iter_mut().enumerate() {
            while *word != 0 {
                let bin = number * 64 + word.trailing_zeros() as usize;
                *word &= *word - 1;
                let [mass, first, second, third] = std::mem::replace(&mut self.cells[bin], [0.0; 4]);
                if mass < f64::MIN_POSITIVE {
                    continue;
                }
                let [mean, second, third] = [first / mass, second / mass, third / mass];
                let spread = (second - mean * mean).max(0.0);
                // The power of two in the mass goes to the exponent, where it helps to find the heaviest point.
                let exponent = (mass.to_bits() >> 52) as i32 - 1023;
                points.push(SupportPoint {
                    mass: f64::from_bits((mass.to_bits() & !(0x7ff << 52)) | (1023 << 52)),
                    log_scale: f64::from(exponent) * std::f64::consts::LN_2,
                    y: middle(bin) + mean,
                    spread,
                    skew: third - mean * (3.0 * spread + mean * mean),
                });
            }
        }
    }
}

fn middle(bin: usize) -> f64 {
    (bin as f64 + 0.5) / PER_NAT - RANGE
}
