//! A row along a direction, summarised as a few hundred points.

use logitfuse_core::numerics::lanes::{BLOCK, Chunks, LANES, clamp_to_f32, exp_f64, fast_exp};
use pulp::NullaryFnOnce;

use crate::{
    LIMIT,
    bins::{Bins, RANGE},
    dispatch::dispatch,
    support_points::{Moments, SupportPoint, SupportPoints},
    tail_moments::{HALF_WIDTH, TailMoments},
};

/// The largest mass of the tail, as a part of the whole, for which its moments are accurate enough.
const MAX_TAIL_MASS: f64 = 0.25;
/// The logarithm of 2^96, by which masses are multiplied while they are added up in f32. Small masses times high powers of
/// small numbers would otherwise leave f32's normal range, below which some processors take a hundred times as long.
pub(crate) const F32_LOG_SCALE: f64 = 96.0 * std::f64::consts::LN_2;
/// The smallest logarithm of a mass that goes to bins; below it, and far from the origin, each token is a point of its own.
/// Both happen in rows of absurd scale only.
const MIN_BINNED_LOG_MASS: f64 = -600.0;
/// The smallest log-normaliser between the strengths looked at; below it the base's top token is tilted so far down that sums
/// underflow.
const UNDERFLOW_LOG_Z: f64 = -40.0;

/// A row `P` along a direction `d`. The direction is measured in nats of the largest tilt, `y = reach · (d − origin)`, so
/// that a share from 0 to 1 of the reach tilts by `share · y`.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    tail: TailMoments,
    bins: Bins,
    points: SupportPoints,
    /// The moments at strength 0, in the middle and at the full reach, which solvers ask for first.
    cached: [(f64, Moments); 3],
}

impl Summary {
    pub(crate) fn new() -> Self {
        let cached = [0.0, 0.5, 1.0].map(|share| (share, Moments::default()));
        Self { tail: TailMoments::new(), bins: Bins::new(), points: SupportPoints::default(), cached }
    }

    /// Summarises a row; returns the origin of `y` in the direction, which is in the middle of the tail.
    pub(crate) fn fill(&mut self, base: &[f32], log_normaliser: f64, direction: &[f32], reach: f64) -> f64 {
        let scale = Scale::new(base, log_normaliser, direction, reach);
        self.pass(base, direction, &scale);
        // Undoes the scale, and corrects for the normaliser's rounding to f32.
        let unscale = (f64::from(scale.scaled_normaliser) - scale.log_normaliser).exp();
        let tail = self.tail.points(unscale, &mut self.points);
        self.evaluate_cached();
        // A row without a head, or one whose head loses its mass by the tilt, puts too much mass in the tail. Negated, so that a
        // NaN from such moments counts as too much.
        let accurate = self.cached.iter().all(|(_, moments)| tail <= MAX_TAIL_MASS * moments.log_sum.exp());
        let representable = self.cached.windows(2).all(|pair| lower_bound(pair[0], pair[1]) >= UNDERFLOW_LOG_Z);
        if !(accurate && representable) {
            // Only masked tokens are left in the tail then.
            self.pass(base, direction, &Scale { threshold: f32::NEG_INFINITY, ..scale });
            self.evaluate_cached();
        }
        f64::from(scale.origin)
    }

    fn evaluate_cached(&mut self) {
        for (share, moments) in &mut self.cached {
            *moments = self.points.at(*share);
        }
    }

    /// The moments where every token is tilted by `share · y`.
    pub(crate) fn at(&self, share: f64) -> Moments {
        let cached = self.cached.iter().find(|(cached, _)| *cached == share);
        cached.map_or_else(|| self.points.at(share), |(_, moments)| *moments)
    }

    /// One pass over the rows: the head goes to the points, the rest to the tail.
    fn pass(&mut self, base: &[f32], direction: &[f32], scale: &Scale) {
        self.tail.clear();
        self.points.clear();
        let Self { tail, bins, points, .. } = self;
        dispatch(Pass { base, direction, scale, tail, bins, points });
        self.bins.drain_into(&mut self.points);
    }
}

/// A lower bound of the log-normaliser between two shares: it is convex, so above its tangents.
fn lower_bound((left, of_left): (f64, Moments), (right, of_right): (f64, Moments)) -> f64 {
    let from_left = |share: f64| of_left.log_sum + of_left.mean * (share - left);
    let bend = of_right.mean - of_left.mean;
    let crossing = left + (from_left(right) - of_right.log_sum + bend * (right - left)) / bend;
    if crossing > left && crossing < right {
        from_left(crossing).min(of_left.log_sum).min(of_right.log_sum)
    } else {
        of_left.log_sum.min(of_right.log_sum)
    }
}

/// From entries of rows to `log P` and `y`.
#[derive(Clone, Copy)]
struct Scale {
    log_normaliser: f64,
    /// The log-normaliser less [`F32_LOG_SCALE`].
    scaled_normaliser: f32,
    reach: f64,
    origin: f32,
    /// The largest logarithm of a mass in the tail, scaled, and tilted by half of the reach: that of an average token.
    threshold: f32,
}

impl Scale {
    #[expect(clippy::cast_possible_truncation, reason = "what the tail is worked out with is f32")]
    fn new(base: &[f32], log_normaliser: f64, direction: &[f32], reach: f64) -> Self {
        Self {
            log_normaliser,
            scaled_normaliser: (log_normaliser - F32_LOG_SCALE) as f32,
            reach,
            origin: middle_of_sample(base, direction) as f32,
            threshold: (F32_LOG_SCALE - (base.len() as f64).ln()) as f32,
        }
    }

    #[inline(always)]
    fn y(&self, direction: f32) -> f64 {
        let limit = f64::from(LIMIT);
        let y = (f64::from(direction) - f64::from(self.origin)) * self.reach;
        if y > limit {
            limit
        } else if y < -limit {
            -limit
        } else {
            y
        }
    }
}

/// The mean entry of some unmasked tokens, evenly spread over the vocabulary: mostly those of the tail, and without outliers.
fn middle_of_sample(base: &[f32], direction: &[f32]) -> f64 {
    const NEAR: f32 = 16.0;
    let mean = |about: f32, within: f32, otherwise: f64| {
        let [sum, count] = dispatch(Sample { base, direction, about, within });
        if count == 0.0 { otherwise } else { sum / count }
    };
    let rough = mean(0.0, f32::INFINITY, 0.0);
    mean(clamp_to_f32(rough), NEAR, rough)
}

/// Sum and count of some unmasked entries of a direction, those that are near.
struct Sample<'a> {
    base: &'a [f32],
    direction: &'a [f32],
    about: f32,
    within: f32,
}

impl NullaryFnOnce for Sample<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn call(self) -> [f64; 2] {
        const CHUNKS: usize = 32;
        let Self { base, direction, about, within } = self;
        let chunks = Chunks::<2, LANES>::new([base, direction]);
        let (mut sums, mut counts) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for number in (0..chunks.count()).step_by(chunks.count().div_ceil(CHUNKS).max(1)) {
            let [base, direction] = chunks.get(number);
            for lane in 0..LANES {
                let near = base[lane] > f32::NEG_INFINITY && (direction[lane] - about).abs() < within;
                sums[lane] += if near { f64::from(direction[lane]) } else { 0.0 };
                counts[lane] += if near { 1.0 } else { 0.0 };
            }
        }
        [sums, counts].map(|lanes| lanes.iter().sum())
    }
}

struct Pass<'a> {
    base: &'a [f32],
    direction: &'a [f32],
    scale: &'a Scale,
    tail: &'a mut TailMoments,
    bins: &'a mut Bins,
    points: &'a mut SupportPoints,
}

impl NullaryFnOnce for Pass<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "what the tail is worked out with is f32")]
    fn call(mut self) {
        let Scale { scaled_normaliser, origin, threshold, .. } = *self.scale;
        let per_entry = (self.scale.reach / HALF_WIDTH) as f32;
        let half_tilt = (0.5 * HALF_WIDTH) as f32;
        let mut mass = [0.0_f32; BLOCK];
        let mut t = [0.0_f32; BLOCK];
        let mut head_flags = [0_u8; BLOCK];
        let mut head = HeadTokens { log_p: [0.0; BLOCK], y: [0.0; BLOCK], mass: [0.0; BLOCK] };
        let blocks = Chunks::<2, BLOCK>::new([self.base, self.direction]);
        for number in 0..blocks.count() {
            let [base, direction] = blocks.get(number);
            for id in 0..BLOCK {
                let place = (direction[id] - origin) * per_entry;
                let log_mass = (base[id] - scaled_normaliser) + half_tilt * place;
                let is_head = log_mass > threshold || place.abs() > 1.0;
                mass[id] = if is_head { 0.0 } else { fast_exp(log_mass) };
                t[id] = if is_head { 0.0 } else { place };
                head_flags[id] = u8::from(is_head);
            }
            self.tail.add(&mass, &t);
            self.gather(base, direction, &head_flags, &mut head);
        }
    }
}

/// The head tokens of a block, gathered next to each other.
struct HeadTokens {
    log_p: [f64; BLOCK],
    y: [f64; BLOCK],
    mass: [f64; BLOCK],
}

impl Pass<'_> {
    /// Puts the head tokens of a block into bins.
    #[inline(always)]
    fn gather(
        &mut self,
        base: &[f32; BLOCK],
        direction: &[f32; BLOCK],
        head_flags: &[u8; BLOCK],
        HeadTokens { log_p, y, mass }: &mut HeadTokens,
    ) {
        // Sixteen flags at a time; and first the groups with a flag set, without a branch, since a misprediction costs more than
        // all the rest.
        let flags = head_flags.as_chunks::<16>().0;
        let mut groups = [0; BLOCK / 16];
        let mut hits = 0;
        for (group, flags) in flags.iter().enumerate() {
            groups[hits] = group;
            hits += usize::from(u128::from_le_bytes(*flags) != 0);
        }
        let mut found = 0;
        for &group in &groups[..hits] {
            let mut flags = u128::from_le_bytes(flags[group]);
            while flags != 0 {
                let id = group * 16 + flags.trailing_zeros() as usize / 8;
                flags &= flags - 1;
                log_p[found] = f64::from(base[id]) - self.scale.log_normaliser;
                y[found] = self.scale.y(direction[id]);
                found += 1;
            }
        }
        for (mass, log_p) in mass[..found].iter_mut().zip(&*log_p) {
            *mass = exp_f64(*log_p);
        }
        for ((&mass, &log_p), &y) in mass[..found].iter().zip(&*log_p).zip(&*y) {
            if y.abs() < RANGE && log_p > MIN_BINNED_LOG_MASS {
                self.bins.add(mass, y);
            } else if log_p > f64::NEG_INFINITY {
                self.points.push(SupportPoint { mass: 1.0, log_scale: log_p, y, spread: 0.0, skew: 0.0 });
            }
        }
    }
}
