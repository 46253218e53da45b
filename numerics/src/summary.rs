//! A row along a direction, as a few hundred points.

use logitfuse_core::numerics::lanes::{BLOCK, Chunks, LANES, brief_exp, clamp_to_f32, exp_f64};
use pulp::NullaryFnOnce;

use crate::{
    LIMIT,
    atoms::{Atom, Atoms, Moments},
    bins::{Bins, RANGE},
    bulk::{Bulk, HALF_WIDTH},
    dispatch::dispatch,
};

/// The mass of the bulk, relative to everything, up to which its moments are accurate enough.
const MOST_BULK: f64 = 0.25;
/// What the bulk is multiplied by while it is added up, 2^96. Small masses times high powers of small numbers would
/// otherwise leave f32's normal range, below which some processors take a hundred times as long.
pub(crate) const LIFT: f64 = 96.0 * std::f64::consts::LN_2;
/// The least logarithm of a mass that goes to bins; below, and far from the origin, tokens stand alone. Both happen in rows
/// of absurd scale only.
const LEAST: f64 = -600.0;
/// A normaliser, as a logarithm, that says that the favourite has been left far behind by its own direction.
const SUNK: f64 = -40.0;

/// A row `P` along a direction `d`. The direction is measured in nats of the largest tilt, `y = reach · (d − origin)`, so
/// that a share from 0 to 1 of the reach tilts by `share · y`.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    bulk: Bulk,
    bins: Bins,
    atoms: Atoms,
    /// The moments at rest, in the middle and at the full reach: where solvers look first.
    known: [(f64, Moments); 3],
}

impl Summary {
    pub(crate) fn new() -> Self {
        let known = [0.0, 0.5, 1.0].map(|share| (share, Moments::default()));
        Self { bulk: Bulk::new(), bins: Bins::new(), atoms: Atoms::default(), known }
    }

    /// Summarises a row; returns the origin of `y` in the direction, which is in the middle of the bulk.
    pub(crate) fn fill(&mut self, base: &[f32], log_normaliser: f64, direction: &[f32], reach: f64) -> f64 {
        let scale = Scale::new(base, log_normaliser, direction, reach);
        self.pass(base, direction, &scale);
        // The lift, and what the pass left out of the normaliser in f32.
        let unlifted = (f64::from(scale.lifted) - scale.log_normaliser).exp();
        let bulk = self.bulk.atoms(unlifted, &mut self.atoms);
        self.look();
        // A row without a head, or one whose head gives way: then the moments would have to carry too much. Negated, so that
        // moments that have carried too much already, and made a NaN, are no exception.
        let carried = self.known.iter().all(|(_, moments)| bulk <= MOST_BULK * moments.log_sum.exp());
        let afloat = self.known.windows(2).all(|pair| lower_bound(pair[0], pair[1]) >= SUNK);
        if !(carried && afloat) {
            // What is masked is all that is left in the bulk then.
            self.pass(base, direction, &Scale { threshold: f32::NEG_INFINITY, ..scale });
            self.look();
        }
        f64::from(scale.origin)
    }

    fn look(&mut self) {
        for (share, moments) in &mut self.known {
            *moments = self.atoms.at(*share);
        }
    }

    /// The moments where every token is tilted by `share · y`.
    pub(crate) fn at(&self, share: f64) -> Moments {
        let known = self.known.iter().find(|(known, _)| *known == share);
        known.map_or_else(|| self.atoms.at(share), |(_, moments)| *moments)
    }

    /// One pass over the rows. Leaves the tokens that matter in the atoms, and the others in the bulk.
    fn pass(&mut self, base: &[f32], direction: &[f32], scale: &Scale) {
        self.bulk.clear();
        self.atoms.clear();
        let Self { bulk, bins, atoms, .. } = self;
        dispatch(Pass { base, direction, scale, bulk, bins, atoms });
        self.bins.drain_into(&mut self.atoms);
    }
}

/// What the logarithm of the normaliser does not fall below between two shares: it is convex, so above its tangents.
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
    /// The log-normaliser less [`LIFT`].
    lifted: f32,
    reach: f64,
    origin: f32,
    /// The largest logarithm of a mass in the bulk, lifted, and tilted by half of the reach: that of an average token.
    threshold: f32,
}

impl Scale {
    #[expect(clippy::cast_possible_truncation, reason = "what the bulk is worked out with is f32")]
    fn new(base: &[f32], log_normaliser: f64, direction: &[f32], reach: f64) -> Self {
        Self {
            log_normaliser,
            lifted: (log_normaliser - LIFT) as f32,
            reach,
            origin: middle_of_sample(base, direction) as f32,
            threshold: (LIFT - (base.len() as f64).ln()) as f32,
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

/// The mean entry of some unmasked tokens, evenly spread over the vocabulary: mostly those of the bulk. Where a few are
/// far from all others, they do not pull it away.
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
    bulk: &'a mut Bulk,
    bins: &'a mut Bins,
    atoms: &'a mut Atoms,
}

impl NullaryFnOnce for Pass<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "what the bulk is worked out with is f32")]
    fn call(mut self) {
        let Scale { lifted, origin, threshold, .. } = *self.scale;
        let per_entry = (self.scale.reach / HALF_WIDTH) as f32;
        let half_tilt = (0.5 * HALF_WIDTH) as f32;
        let mut mass = [0.0_f32; BLOCK];
        let mut t = [0.0_f32; BLOCK];
        let mut apart = [0_u8; BLOCK];
        let mut found = Found { log_p: [0.0; BLOCK], y: [0.0; BLOCK], mass: [0.0; BLOCK] };
        let blocks = Chunks::<2, BLOCK>::new([self.base, self.direction]);
        for number in 0..blocks.count() {
            let [base, direction] = blocks.get(number);
            for id in 0..BLOCK {
                let place = (direction[id] - origin) * per_entry;
                let log_mass = (base[id] - lifted) + half_tilt * place;
                let is_apart = log_mass > threshold || place.abs() > 1.0;
                mass[id] = if is_apart { 0.0 } else { brief_exp(log_mass) };
                t[id] = if is_apart { 0.0 } else { place };
                apart[id] = u8::from(is_apart);
            }
            self.bulk.add(&mass, &t);
            self.gather(base, direction, &apart, &mut found);
        }
    }
}

/// The marked tokens of a block, next to each other.
struct Found {
    log_p: [f64; BLOCK],
    y: [f64; BLOCK],
    mass: [f64; BLOCK],
}

impl Pass<'_> {
    /// Puts the marked tokens of a block into bins.
    #[inline(always)]
    fn gather(
        &mut self,
        base: &[f32; BLOCK],
        direction: &[f32; BLOCK],
        apart: &[u8; BLOCK],
        Found { log_p, y, mass }: &mut Found,
    ) {
        // Sixteen flags at a look; and first those looks that find something, without a branch, since a wrong guess costs
        // more than all the rest.
        let flags = apart.as_chunks::<16>().0;
        let mut looks = [0; BLOCK / 16];
        let mut hits = 0;
        for (look, flags) in flags.iter().enumerate() {
            looks[hits] = look;
            hits += usize::from(u128::from_le_bytes(*flags) != 0);
        }
        let mut found = 0;
        for &look in &looks[..hits] {
            let mut flags = u128::from_le_bytes(flags[look]);
            while flags != 0 {
                let id = look * 16 + flags.trailing_zeros() as usize / 8;
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
            if y.abs() < RANGE && log_p > LEAST {
                self.bins.add(mass, y);
            } else if log_p > f64::NEG_INFINITY {
                self.atoms.push(Atom { mass: 1.0, log_scale: log_p, y, spread: 0.0, skew: 0.0 });
            }
        }
    }
}
