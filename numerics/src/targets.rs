use logitfuse_core::RoleRow;
use logitfuse_core::numerics::lanes::{BLOCK, Chunks, LANES, Split, clamp_to_f32, fast_exp, larger, sums};
use pulp::NullaryFnOnce;

use crate::{LIMIT, dispatch::dispatch};

/// The divergences between an expert and its anti-expert, in both directions: the distances that dynamic fusion wants the
/// fused row to have from the base.
///
/// The move is seen as the direction `d = log expert − log anti` sees it, which is what the fused row will use: the
/// expert is `anti · exp(d)`, normalised. Without masks that is the expert itself. An id that only one of the two masks
/// has `d = 0`, as with [`masked_difference`](logitfuse_core::numerics::masked_difference), so the divergences are finite for all rows.
///
/// ```
/// use logitfuse_core::RoleRow;
/// use logitfuse_core::numerics::log_sum_exp;
/// use logitfuse_numerics::Targets;
///
/// let (expert, anti) = ([2.0, 0.0], [5.0, 5.0]);
/// let row = |logits| RoleRow::new(logits, log_sum_exp(logits), 0.0);
/// let targets = Targets::between(&row(&expert), &row(&anti));
/// // Two tokens that differ by two nats: the divergences are sums of hyperbolic functions.
/// assert!((targets.reverse - (1f64.cosh()).ln()).abs() < 1e-6);
/// assert!((targets.forward - (1f64.tanh() - 1f64.cosh().ln())).abs() < 1e-6);
/// assert!((targets.anti_variance - 1.0).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Targets {
    /// KL(expert‖anti) in nats, to be matched by KL(fused‖base).
    pub forward: f64,
    /// KL(anti‖expert) in nats, to be matched by KL(base‖fused).
    pub reverse: f64,
    /// The variance of the direction under the anti-expert, nats squared.
    pub anti_variance: f64,
}

impl Targets {
    /// The targets that two rows set, in one pass over them.
    pub fn between(expert: &RoleRow<'_>, anti: &RoleRow<'_>) -> Self {
        Pair::new(expert, anti).targets(&mut [])
    }

    /// [`between`](Self::between), and writes the direction `log expert − log anti`, in the same pass: what
    /// [`masked_difference`](logitfuse_core::numerics::masked_difference) writes, less the difference of the normalisers. It is 0 for ids that
    /// either row masks, and stops at a million nats.
    ///
    /// # Panics
    /// If the rows are of different lengths.
    ///
    /// ```
    /// use logitfuse_core::RoleRow;
    /// use logitfuse_core::numerics::log_sum_exp;
    /// use logitfuse_numerics::Targets;
    ///
    /// let (expert, anti) = ([2.0, 0.0], [5.0, 5.0]);
    /// let row = |logits| RoleRow::new(logits, log_sum_exp(logits), 0.0);
    /// let mut direction = [0.0; 2];
    /// let targets = Targets::with_direction(&row(&expert), &row(&anti), &mut direction);
    /// assert_eq!(direction[0] - direction[1], 2.0);
    /// assert_eq!(targets, Targets::between(&row(&expert), &row(&anti)));
    /// ```
    pub fn with_direction(expert: &RoleRow<'_>, anti: &RoleRow<'_>, direction: &mut [f32]) -> Self {
        assert_eq!(expert.logits().len(), direction.len(), "rows of different lengths");
        Pair::new(expert, anti).targets(direction)
    }
}

struct Pair<'a> {
    expert: &'a [f32],
    anti: &'a [f32],
    expert_normaliser: f32,
    anti_normaliser: f32,
    /// The errors of the normalisers rounded to f32.
    expert_rounding: f64,
    anti_rounding: f64,
    difference: Split,
}

impl<'a> Pair<'a> {
    fn new(expert: &RoleRow<'a>, anti: &RoleRow<'a>) -> Self {
        let [of_expert, of_anti] = [expert, anti].map(|row| clamp_to_f32(row.log_normaliser));
        Self {
            expert: expert.logits(),
            anti: anti.logits(),
            expert_normaliser: of_expert,
            anti_normaliser: of_anti,
            expert_rounding: f64::from(of_expert) - expert.log_normaliser,
            anti_rounding: f64::from(of_anti) - anti.log_normaliser,
            difference: Split::new(expert.log_normaliser - anti.log_normaliser),
        }
    }

    /// Writes the direction, unless there is no place for it.
    fn targets(&self, direction: &mut [f32]) -> Targets {
        let (sums, masks_differ) = dispatch(Sums { pair: self, direction });
        // The log of the mass of anti · exp(d), which is that of the expert, but for ids that only one of the two masks.
        let log_mass = if masks_differ { dispatch(Mass(self)).max(f64::MIN_POSITIVE).ln() } else { 0.0 };
        let corrections = [self.expert_rounding, self.anti_rounding, self.anti_rounding].map(f64::exp);
        let [forward, reverse, square] = [0, 1, 2].map(|i| sums[i] * corrections[i]);
        Targets {
            forward: (forward / log_mass.exp() - log_mass).max(0.0),
            reverse: (log_mass - reverse).max(0.0),
            anti_variance: (square - reverse * reverse).max(0.0),
        }
    }

    /// Probabilities under both, but for the rounding of the normalisers to f32.
    #[inline(always)]
    fn probabilities(&self, expert: f32, anti: f32) -> [f32; 2] {
        [fast_exp(expert - self.expert_normaliser), fast_exp(anti - self.anti_normaliser)]
    }
}

/// `E_expert[d]`, `E_anti[d]` and `E_anti[d²]`, and whether there is an id that only one of the rows masks.
struct Sums<'a> {
    pair: &'a Pair<'a>,
    /// Where the direction goes; empty if nowhere.
    direction: &'a mut [f32],
}

impl NullaryFnOnce for Sums<'_> {
    type Output = ([f64; 3], bool);

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { pair, direction } = self;
        let mut totals = [[0.0_f64; LANES]; 3];
        let mut ratios = [0.0_f32; BLOCK];
        let mut masks_differ = [0_u32; LANES];
        let mut places = direction.chunks_mut(BLOCK);
        let blocks = Chunks::<2, BLOCK>::new([pair.expert, pair.anti]);
        for number in 0..blocks.count() {
            let [expert, anti] = blocks.get(number).map(|row| row.as_chunks::<LANES>().0);
            let mut block = [[0.0_f32; LANES]; 3];
            for ((expert, anti), ratios) in expert.iter().zip(anti).zip(ratios.as_chunks_mut::<LANES>().0) {
                for lane in 0..LANES {
                    let (e, a) = (expert[lane], anti[lane]);
                    let masked = e == f32::NEG_INFINITY || a == f32::NEG_INFINITY;
                    masks_differ[lane] |= u32::from(masked && e != a);
                    let ratio = larger(-LIMIT, pair.difference.subtract_from(e - a));
                    let ratio = if ratio < LIMIT { ratio } else { LIMIT };
                    let ratio = if masked { 0.0 } else { ratio };
                    let [p, q] = pair.probabilities(e, a);
                    ratios[lane] = ratio;
                    block[0][lane] += p * ratio;
                    block[1][lane] += q * ratio;
                    block[2][lane] += q * ratio * ratio;
                }
            }
            if let Some(place) = places.next() {
                place.copy_from_slice(&ratios[..place.len()]);
            }
            for (total, block) in totals.as_flattened_mut().iter_mut().zip(block.as_flattened()) {
                *total += f64::from(*block);
            }
        }
        let masks_differ: u32 = masks_differ.iter().sum();
        (totals.map(|lanes| lanes.iter().sum()), masks_differ != 0)
    }
}

/// The mass of `anti · exp(d)`, as a sum of what is there.
struct Mass<'a>(&'a Pair<'a>);

impl NullaryFnOnce for Mass<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let [mass] = sums([self.0.expert, self.0.anti], |[e, a]| {
            let [p, q] = self.0.probabilities(e, a);
            // An id that only the anti masks has no mass to be tilted.
            [if e == f32::NEG_INFINITY {
                q
            } else if a == f32::NEG_INFINITY {
                0.0
            } else {
                p
            }]
        });
        mass
    }
}
