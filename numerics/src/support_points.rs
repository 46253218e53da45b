//! The support of an exponential family: a few hundred weighted points.

use logitfuse_core::numerics::lanes::exp_f64;
use pulp::NullaryFnOnce;

use crate::dispatch::dispatch;

/// Points worked on together: one AVX-512 register of f64.
const LANES: usize = 8;
/// Points whose terms stay in the first-level cache between computing and adding them.
const BLOCK: usize = 8 * LANES;

/// A weighted point that stands for one token, or for several with nearly the same `y`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SupportPoint {
    /// Mass divided by `exp(log_scale)`; may be negative.
    pub(crate) mass: f64,
    pub(crate) log_scale: f64,
    /// The position: the centroid of the tokens.
    pub(crate) y: f64,
    /// The variance of the tokens about it.
    pub(crate) spread: f64,
    /// Its third central moment.
    pub(crate) skew: f64,
}

/// Points in blocks, field by field, so that their terms are computed side by side.
#[derive(Clone, Debug, Default)]
pub(crate) struct SupportPoints {
    blocks: Vec<Block>,
    filled: usize,
}

#[derive(Clone, Debug)]
struct Block {
    mass: [f64; BLOCK],
    log_scale: [f64; BLOCK],
    y: [f64; BLOCK],
    spread: [f64; BLOCK],
    skew: [f64; BLOCK],
}

impl Block {
    /// Points without mass, whose exponents are never the largest.
    const EMPTY: Self = Self {
        mass: [0.0; BLOCK],
        log_scale: [f64::MIN; BLOCK],
        y: [0.0; BLOCK],
        spread: [0.0; BLOCK],
        skew: [0.0; BLOCK],
    };

    /// The terms of one point in `Σ`, `Σ y` and `Σ y²`.
    #[inline(always)]
    fn term(&self, point: usize, share: f64, shift: f64) -> [f64; 3] {
        let (y, spread, skew) = (self.y[point], self.spread[point], self.skew[point]);
        let weight = self.mass[point] * exp_f64(self.log_scale[point] + share * y - shift);
        // exp(share · (y' − y)) averaged over the tokens of the point, and its derivatives by the share.
        let second = spread + share * skew;
        let first = share * (spread + 0.5 * share * skew);
        let zeroth = 1.0 + share * share * (0.5 * spread + share * skew * (1.0 / 6.0));
        [weight * zeroth, weight * (y * zeroth + first), weight * (y * (y * zeroth + 2.0 * first) + second)]
    }
}

/// The sum over all points at one tilt, as logarithm, and mean and variance of `y`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) log_sum: f64,
    pub(crate) mean: f64,
    pub(crate) variance: f64,
}

impl SupportPoints {
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.filled = 0;
    }

    pub(crate) fn push(&mut self, point: SupportPoint) {
        let place = self.filled % BLOCK;
        if place == 0 {
            self.blocks.push(Block::EMPTY);
        }
        self.filled += 1;
        if let Some(block) = self.blocks.last_mut() {
            block.mass[place] = point.mass;
            block.log_scale[place] = point.log_scale;
            block.y[place] = point.y;
            block.spread[place] = point.spread;
            block.skew[place] = point.skew;
        }
    }

    /// The moments where every point weighs `mass · exp(log_scale + share · y)`.
    pub(crate) fn at(&self, share: f64) -> Moments {
        let (shift, [sum, first, second]) = dispatch(Tilted { blocks: &self.blocks, share });
        let mean = first / sum;
        Moments { log_sum: shift + sum.ln(), mean, variance: (second / sum - mean * mean).max(0.0) }
    }
}

/// The largest exponent, and `Σ`, `Σ y` and `Σ y²` of the weights divided by its exponential.
struct Tilted<'a> {
    blocks: &'a [Block],
    share: f64,
}

impl NullaryFnOnce for Tilted<'_> {
    type Output = (f64, [f64; 3]);

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { blocks, share } = self;
        let mut largest = [f64::MIN; LANES];
        for block in blocks {
            for (scales, ys) in block.log_scale.as_chunks::<LANES>().0.iter().zip(block.y.as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    let exponent = scales[lane] + share * ys[lane];
                    largest[lane] = if exponent > largest[lane] { exponent } else { largest[lane] };
                }
            }
        }
        let shift = largest.into_iter().fold(f64::MIN, f64::max);
        let mut totals = [[0.0_f64; LANES]; 3];
        let mut terms = [[0.0_f64; BLOCK]; 3];
        for block in blocks {
            for point in 0..BLOCK {
                let term = block.term(point, share, shift);
                for (terms, term) in terms.iter_mut().zip(term) {
                    terms[point] = term;
                }
            }
            for (total, terms) in totals.iter_mut().zip(&terms) {
                let mut block = [0.0; LANES];
                for chunk in terms.as_chunks::<LANES>().0 {
                    for lane in 0..LANES {
                        block[lane] += chunk[lane];
                    }
                }
                for lane in 0..LANES {
                    total[lane] += block[lane];
                }
            }
        }
        (shift, totals.map(|lanes| lanes.iter().sum()))
    }
}
