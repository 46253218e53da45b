use crate::summary::Summary;

/// The exponential tilts `P_α ∝ P · exp(α d)` of one row `P`, summarised so that evaluating any strength costs next to nothing.
///
/// # Why
///
/// The divergences between a fused row and its base need all of the vocabulary, and a solver wants them at a hundred
/// strengths. But along one direction `d` a token matters only by its `d`: tokens with nearly equal ones can be treated as
/// one. One pass puts the head of the distribution into narrow bins and its tail into thirteen moments; what is left is an
/// exponential family on a few hundred points.
///
/// ```
/// use logitfuse_core::numerics::log_sum_exp;
/// use logitfuse_numerics::{Bounds, Objective, Targets, TiltFamily};
///
/// // The base is the anti-expert: then the whole difference is right, and the fused row is the expert.
/// let (base, direction) = ([0.0, 1.0, 2.0], [1.5, 0.0, -1.0]);
/// let expert = [1.5, 1.0, 1.0];
/// let targets = {
///     use logitfuse_core::RoleRow;
///     let row = |logits| RoleRow::new(logits, log_sum_exp(logits), 0.0);
///     Targets::between(&row(&expert), &row(&base))
/// };
/// let mut family = TiltFamily::new(2.0);
/// family.summarise(&base, log_sum_exp(&base), &direction);
/// let solution = family.solve(Objective::BothDivergences, &targets, Bounds::default());
/// assert!((solution.alpha - 1.0).abs() < 1e-6 && solution.loss < 1e-12);
/// ```
///
/// # Accuracy
///
/// Divergences are those of the rows to about 1e-6 nats (and 1e-6 of their size), for strengths from 0 to the reach.
/// Between each other they are consistent to f64's rounding: divergences grow with the strength, and derivatives are
/// theirs. Nothing is allocated once a family has seen rows of the kind it works on. Direction entries beyond a million
/// nats count as a million.
#[derive(Clone, Debug)]
pub struct TiltFamily {
    reach: f64,
    summary: Summary,
    /// `log Σ` and mean at strength 0, of what the summary stands for.
    at_zero: [f64; 2],
    /// The direction's entry that the summary measures from.
    origin: f64,
}

/// One member of a [`TiltFamily`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TiltPoint {
    /// The strength that it is at.
    pub alpha: f64,
    /// `KL(P_α‖P)` in nats.
    pub kl_tilted_base: f64,
    /// `KL(P‖P_α)` in nats.
    pub kl_base_tilted: f64,
    /// `E_α[d]`, nats.
    pub mean: f64,
    /// `Var_α[d]`, nats squared.
    pub variance: f64,
    /// `log E_P[exp(α d)]`, nats.
    pub log_partition: f64,
}

impl TiltFamily {
    /// A family for strengths from 0 to `reach`. A larger reach costs: bins are as much narrower.
    ///
    /// # Panics
    /// If the reach is not above 0 and finite.
    pub fn new(reach: f64) -> Self {
        assert!(reach > 0.0 && reach.is_finite(), "a reach of {reach}");
        Self { reach, summary: Summary::new(), at_zero: [0.0; 2], origin: 0.0 }
    }

    /// The largest strength that it knows.
    pub fn reach(&self) -> f64 {
        self.reach
    }

    /// Takes in a row and a direction, which is finite, as [`masked_difference`](logitfuse_core::numerics::masked_difference) writes it.
    /// Masked ids of the row have no mass and do not count.
    ///
    /// # Panics
    /// If the rows are of different lengths.
    pub fn summarise(&mut self, base: &[f32], log_normaliser: f64, direction: &[f32]) {
        assert_eq!(base.len(), direction.len(), "rows of different lengths");
        self.origin = self.summary.fill(base, log_normaliser, direction, self.reach);
        let base = self.summary.at(0.0);
        self.at_zero = [base.log_sum, base.mean];
    }

    /// The member at a strength; strengths outside 0 to the reach are cut there.
    pub fn at(&self, alpha: f64) -> TiltPoint {
        let alpha = alpha.clamp(0.0, self.reach);
        let share = alpha / self.reach;
        let moments = self.summary.at(share);
        let [log_sum, mean] = self.at_zero;
        let log_partition = moments.log_sum - log_sum;
        TiltPoint {
            alpha,
            kl_tilted_base: (share * moments.mean - log_partition).max(0.0),
            kl_base_tilted: (log_partition - share * mean).max(0.0),
            mean: self.origin + moments.mean / self.reach,
            variance: moments.variance / (self.reach * self.reach),
            log_partition: log_partition + alpha * self.origin,
        }
    }

    /// `E_P[d]`.
    pub(crate) fn base_mean(&self) -> f64 {
        self.origin + self.at_zero[1] / self.reach
    }
}
