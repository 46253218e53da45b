//! All strengths of a grid in one pass: `exp(α d)` on equally spaced strengths is a geometric sequence.

use logitfuse_core::numerics::argmax;
use logitfuse_core::numerics::lanes::{BLOCK, Chunks, LANES, fast_exp, first, larger, max};
use pulp::NullaryFnOnce;

use crate::{
    LIMIT,
    dispatch::dispatch,
    grid::{Grid, Search, floor_to_u32},
    summary::F32_LOG_SCALE,
    tilt_moments,
};

/// Strengths that one pass computes.
const GROUP: usize = 24;
/// Nats by which a group may spread the tokens: e^-60 of the heaviest is negligible, and still a normal f32.
const SPREAD: f64 = 60.0;
/// Nats relative to the heaviest token below which a token stays negligible within one group.
const NEGLIGIBLE: f32 = -100.0;

/// The rows of the search. Logits and directions are measured from those of the base's top token, where nothing that matters
/// is rounded away.
#[derive(Clone, Copy)]
pub(crate) struct TiltedRows<'a> {
    base: &'a [f32],
    direction: &'a [f32],
    /// Logit and direction of the base's top token.
    origin: [f32; 2],
    log_normaliser: f64,
    /// The smallest and the largest direction of an unmasked token.
    extremes: [f32; 2],
}

impl<'a> TiltedRows<'a> {
    pub(crate) fn new(base: &'a [f32], log_normaliser: f64, direction: &'a [f32]) -> Self {
        let top = argmax(base);
        let origin = [base[top], direction[top]];
        let rows = Self { base, direction, origin, log_normaliser, extremes: [0.0; 2] };
        Self { extremes: dispatch(Extremes(&rows)), ..rows }
    }

    /// Between the smallest and the largest direction.
    pub(crate) fn spread(&self) -> f64 {
        f64::from(self.extremes[1]) - f64::from(self.extremes[0])
    }

    /// Visits every strength of a grid.
    pub(crate) fn visit(&self, grid: Grid, search: &mut Search<'_>) {
        let mut base_mean = None;
        let (mut next, end) = (0, grid.intervals() + 1);
        while next < end {
            next += self.visit_group(grid.point(next), grid.step, end - next, &mut base_mean, search);
        }
    }

    /// Visits up to `points` strengths, as many as one pass can tell apart, and returns how many.
    #[expect(clippy::cast_possible_truncation, reason = "exponents are f32, as all of the rows")]
    fn visit_group(
        &self,
        from: f64,
        step: f64,
        points: u32,
        base_mean: &mut Option<f64>,
        search: &mut Search<'_>,
    ) -> u32 {
        let alpha = from as f32;
        let peak = dispatch(Peak { rows: self, alpha });
        let mode = f64::from(self.direction(peak.direction));
        let max_direction = f64::from(self.extremes[1]);
        let above_mode = max_direction - mode;
        let count = floor_to_u32(SPREAD / (step * above_mode)).max(1).min(points).min(GROUP as u32);
        let sums = dispatch(Group {
            rows: self,
            alpha,
            step: step as f32,
            mode: mode as f32,
            above_mode: above_mode as f32,
            peak: peak.score,
            count: count as usize,
        });
        for (point, [mass, first]) in (0..count).zip(sums) {
            let distance = step * f64::from(point);
            let alpha = from + distance;
            let mean = mode + first / mass;
            if alpha == 0.0 {
                *base_mean = Some(mean);
                search.visit(0.0, 0.0, 0.0);
                continue;
            }
            let base_mean = *base_mean.get_or_insert_with(|| {
                tilt_moments(self.base, self.log_normaliser, self.direction, 0.0).mean - f64::from(self.origin[1])
            });
            let log_sum = f64::from(peak.score) + distance * max_direction + mass.ln();
            let log_partition = log_sum + f64::from(self.origin[0]) - self.log_normaliser;
            search.visit(alpha, (alpha * mean - log_partition).max(0.0), (log_partition - alpha * base_mean).max(0.0));
        }
        count
    }

    #[inline(always)]
    fn direction(&self, direction: f32) -> f32 {
        let d = larger(-LIMIT, direction - self.origin[1]);
        if d < LIMIT { d } else { LIMIT }
    }

    /// The logit tilted by a strength.
    #[inline(always)]
    fn score(&self, [base, direction]: [f32; 2], alpha: f32) -> f32 {
        (base - self.origin[0]) + alpha * self.direction(direction)
    }
}

struct Extremes<'a>(&'a TiltedRows<'a>);

impl NullaryFnOnce for Extremes<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn call(self) -> [f32; 2] {
        let of = |sign: f32| {
            max([self.0.base, self.0.direction], |[base, d]| {
                if base == f32::NEG_INFINITY { base } else { sign * self.0.direction(d) }
            })
        };
        [-of(-1.0), of(1.0)]
    }
}

/// The token with the largest score.
struct Peak<'a> {
    rows: &'a TiltedRows<'a>,
    alpha: f32,
}

struct PeakFound {
    score: f32,
    direction: f32,
}

impl NullaryFnOnce for Peak<'_> {
    type Output = PeakFound;

    #[inline(always)]
    fn call(self) -> PeakFound {
        let Self { rows, alpha } = self;
        let score = |entries| rows.score(entries, alpha);
        let largest = max([rows.base, rows.direction], score);
        let at = first([rows.base, rows.direction], score, largest);
        PeakFound { score: largest, direction: rows.direction[at] }
    }
}

/// `Σ w` and `Σ w (d − mode)` at equally spaced strengths, with the weights divided by the weight of a token with the
/// peak's score and the largest direction: none exceeds 1.
struct Group<'a> {
    rows: &'a TiltedRows<'a>,
    alpha: f32,
    step: f32,
    mode: f32,
    above_mode: f32,
    peak: f32,
    count: usize,
}

impl NullaryFnOnce for Group<'_> {
    type Output = [[f64; 2]; GROUP];

    #[inline(always)]
    fn call(self) -> Self::Output {
        /// Two sums of each kind at a time, so that no addition waits for the one before.
        const WIDE: usize = 2 * LANES;
        #[expect(clippy::cast_possible_truncation, reason = "a small number")]
        let log_scale = F32_LOG_SCALE as f32;
        let mut totals = [[[0.0_f64; LANES]; 2]; GROUP];
        let (mut weights, mut ratios, mut offsets) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK], [0.0_f32; BLOCK]);
        let blocks = Chunks::<2, BLOCK>::new([self.rows.base, self.rows.direction]);
        for number in 0..blocks.count() {
            let [base, direction] = blocks.get(number);
            for id in 0..BLOCK {
                let offset = self.rows.direction(direction[id]) - self.mode;
                let relative = self.rows.score([base[id], direction[id]], self.alpha) - self.peak;
                weights[id] = if relative < NEGLIGIBLE { 0.0 } else { fast_exp(relative + log_scale) };
                ratios[id] = fast_exp(self.step * (offset - self.above_mode));
                offsets[id] = offset;
            }
            for total in &mut totals[..self.count] {
                let mut block = [[0.0_f32; WIDE]; 2];
                let chunks = weights.as_chunks_mut::<WIDE>().0.iter_mut();
                for ((weights, ratios), offsets) in
                    chunks.zip(ratios.as_chunks::<WIDE>().0).zip(offsets.as_chunks::<WIDE>().0)
                {
                    for lane in 0..WIDE {
                        block[0][lane] += weights[lane];
                        block[1][lane] += weights[lane] * offsets[lane];
                        weights[lane] *= ratios[lane];
                    }
                }
                for (total, block) in total.iter_mut().zip(&block) {
                    for lane in 0..LANES {
                        total[lane] += f64::from(block[lane] + block[lane + LANES]);
                    }
                }
            }
        }
        totals.map(|point| point.map(|lanes| lanes.iter().sum::<f64>() * (-F32_LOG_SCALE).exp()))
    }
}
