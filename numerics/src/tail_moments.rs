//! The tail of a distribution, tokens of little mass, as moments.

use logitfuse_core::numerics::lanes::{BLOCK, LANES};

use crate::support_points::{SupportPoint, SupportPoints};

/// Half the width, in nats, of the window around the centre within which the moments are accurate.
pub(crate) const HALF_WIDTH: f64 = 6.0;
/// Moments, 0 to 12. Interpolation of degree 12 misses `exp(share · y)` within the window by 4e-6 of the mass at most.
pub(crate) const MOMENTS: usize = 13;

/// Close to the zeros of Chebyshev's polynomial of degree 13; as literals they are the same everywhere, and any thirteen
/// distinct numbers would be exact for moments up to the twelfth.
const NODES: [f64; MOMENTS] =
    [-0.9927, -0.935, -0.823, -0.6631, -0.4647, -0.2393, 0.0, 0.2393, 0.4647, 0.6631, 0.823, 0.935, 0.9927];

/// Moments of `t = y / HALF_WIDTH`, of mass tilted by half the reach: `exp(share · y)` then varies by half as
/// many nats on either side.
#[derive(Clone, Debug)]
pub(crate) struct TailMoments {
    lanes: [[f64; LANES]; MOMENTS],
    /// `weights[node][k]` is what moment `k` adds to the mass at a node: the coefficients of Lagrange's polynomials.
    weights: [[f64; MOMENTS]; MOMENTS],
}

impl TailMoments {
    pub(crate) fn new() -> Self {
        let weights = std::array::from_fn(|node| {
            let mut polynomial = [0.0; MOMENTS];
            polynomial[0] = 1.0;
            for (degree, other) in (0..MOMENTS).filter(|other| *other != node).enumerate() {
                // Times (t − other) / (node − other).
                let scale = NODES[node] - NODES[other];
                for k in (0..=degree + 1).rev() {
                    let lower = if k > 0 { polynomial[k - 1] } else { 0.0 };
                    polynomial[k] = (lower - NODES[other] * polynomial[k]) / scale;
                }
            }
            polynomial
        });
        Self { lanes: [[0.0; LANES]; MOMENTS], weights }
    }

    pub(crate) fn clear(&mut self) {
        self.lanes = [[0.0; LANES]; MOMENTS];
    }

    /// Adds a block of tokens: their masses, and their `t` between -1 and 1.
    #[inline(always)]
    pub(crate) fn add(&mut self, mass: &[f32; BLOCK], t: &[f32; BLOCK]) {
        let mut block = [[0.0_f32; LANES]; MOMENTS];
        for (mass, t) in mass.as_chunks::<LANES>().0.iter().zip(t.as_chunks::<LANES>().0) {
            let mut term = *mass;
            for moment in &mut block {
                for lane in 0..LANES {
                    moment[lane] += term[lane];
                    term[lane] *= t[lane];
                }
            }
        }
        for (total, block) in self.lanes.as_flattened_mut().iter_mut().zip(block.as_flattened()) {
            *total += f64::from(*block);
        }
    }

    /// Hands over the moments, times `scale`, as thirteen points around 0, some of negative mass; returns the mass of the tail.
    pub(crate) fn points(&self, scale: f64, points: &mut SupportPoints) -> f64 {
        let moments = self.lanes.map(|lanes| scale * lanes.iter().sum::<f64>());
        if moments[0] > 0.0 {
            for (node, weights) in NODES.iter().zip(&self.weights) {
                let offset = HALF_WIDTH * node;
                points.push(SupportPoint {
                    mass: weights.iter().zip(&moments).map(|(weight, moment)| weight * moment).sum(),
                    log_scale: -0.5 * offset,
                    y: offset,
                    spread: 0.0,
                    skew: 0.0,
                });
            }
        }
        moments[0]
    }
}
