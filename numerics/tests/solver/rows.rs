//! Rows that are hard on a solver, from a seed.

pub(crate) const MASKED: f32 = f32::NEG_INFINITY;

/// Base, expert and anti-expert of one step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) base: Vec<f32>,
    pub(crate) expert: Vec<f32>,
    pub(crate) anti: Vec<f32>,
}

/// A small generator of its own: the rows of a seed must stay what they are, whatever a library changes.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits (the step and the finaliser of `SplitMix64`).
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 40) as f32 / (1_u64 << 24) as f32;
        low + (high - low) * unit
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }

    /// Nearly normal: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.between(0.0, 1.0)).sum::<f32>() - 6.0
    }

    fn row(&mut self, width: usize, mut entry: impl FnMut(&mut Self) -> f32) -> Vec<f32> {
        (0..width).map(|_| entry(self)).collect()
    }
}

/// What a step looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RowKind {
    /// A steep head over a long flat tail, an expert that moves most tokens a little and some a lot.
    LanguageModel,
    /// Logits of up to ±20 in base and anti, independent of each other, an expert ±12 away.
    Stress,
    /// Few tokens, all of them contested: the kind of several minima.
    Contested,
    /// All tokens equally likely but for a little noise: no head at all.
    Flat,
    /// The expert promotes tokens that the base finds next to impossible.
    Novel,
    /// The base has made up its mind, and the expert agrees.
    Agreed,
    /// As `Stress`, with masked ids, each row its own.
    Masked,
    /// Base and anti are one model.
    SameModel,
    /// Logits of thousands.
    Huge,
}

impl RowKind {
    pub(crate) const ALL: [Self; 9] = [
        Self::LanguageModel,
        Self::Stress,
        Self::Contested,
        Self::Flat,
        Self::Novel,
        Self::Agreed,
        Self::Masked,
        Self::SameModel,
        Self::Huge,
    ];

    pub(crate) fn step(self, width: usize, random: &mut Random) -> Step {
        let r = random;
        match self {
            Self::LanguageModel => {
                let anti = language_model(width, r);
                let base = moved(&anti, r, Random::normal);
                let expert = moved(&anti, r, |r| r.normal() * if r.below(20) == 0 { 4.0 } else { 0.7 });
                Step { base, expert, anti }
            }
            Self::Stress | Self::Masked | Self::Contested => {
                let width = if self == Self::Contested { 2 + width % 7 } else { width };
                let scale = r.between(0.5, 20.0);
                let shift = r.between(0.2, 12.0);
                let base = r.row(width, |r| r.between(-scale, scale));
                let anti = r.row(width, |r| r.between(-scale, scale));
                let expert = moved(&anti, r, |r| r.between(-shift, shift));
                let mut step = Step { base, expert, anti };
                if self == Self::Masked {
                    let keep = r.below(width);
                    for row in [&mut step.base, &mut step.expert, &mut step.anti] {
                        for (id, x) in row.iter_mut().enumerate() {
                            if id != keep && r.below(5) == 0 {
                                *x = MASKED;
                            }
                        }
                    }
                }
                step
            }
            Self::Flat => {
                let base = r.row(width, |r| 0.1 * r.normal());
                let anti = r.row(width, |r| 0.1 * r.normal());
                let expert = moved(&anti, r, Random::normal);
                Step { base, expert, anti }
            }
            Self::Novel => {
                let mut base = language_model(width, r);
                let mut anti = moved(&base, r, Random::normal);
                let mut expert = moved(&anti, r, |r| 0.3 * r.normal());
                for _ in 0..=r.below(4) {
                    let id = r.below(width);
                    base[id] = -r.between(8.0, 20.0);
                    anti[id] = -r.between(8.0, 20.0);
                    expert[id] = r.between(0.0, 12.0);
                }
                Step { base, expert, anti }
            }
            Self::Agreed => {
                let anti = language_model(width, r);
                let mut base = moved(&anti, r, |r| 0.5 * r.normal());
                let mut expert = moved(&anti, r, Random::normal);
                let id = r.below(width);
                base[id] = 40.0;
                expert[id] = 30.0;
                Step { base, expert, anti }
            }
            Self::SameModel => {
                let anti = r.row(width, |r| 3.0 * r.normal());
                let expert = moved(&anti, r, |r| 1.5 * r.normal());
                Step { base: anti.clone(), expert, anti }
            }
            Self::Huge => {
                let scale = 10_f32.powf(r.between(2.0, 4.0));
                let base = r.row(width, |r| r.between(-scale, scale));
                let anti = r.row(width, |r| r.between(-scale, scale));
                let expert = moved(&anti, r, |r| r.between(-scale, scale));
                Step { base, expert, anti }
            }
        }
    }
}

fn moved(row: &[f32], r: &mut Random, mut by: impl FnMut(&mut Random) -> f32) -> Vec<f32> {
    row.iter().map(|x| x + by(r)).collect()
}

/// Logits that fall as the logarithm of the rank, some contested top tokens, ids in no order.
fn language_model(width: usize, r: &mut Random) -> Vec<f32> {
    let mut row: Vec<f32> = (0..width).map(|rank| -1.3 * (rank as f32 + 3.0).ln() + 0.8 * r.normal()).collect();
    for _ in 0..=r.below(5) {
        row[r.below(width)] = r.between(0.0, 9.0);
    }
    for id in (1..width).rev() {
        row.swap(id, r.below(id + 1));
    }
    row
}
