use crate::{Objective, Solution, Targets, geometric::TiltedRows, tilt_moments};

/// Nats of tilt up to which directions are the same: less moves no probability by more than f32 rounds it.
const EQUAL: f64 = 6e-6;

/// The strengths of the published search: `low`, `low + step`, … up to `high`; both finite and not negative, `step` above 0.
///
/// ```
/// use logitfuse_numerics::Grid;
///
/// assert_eq!(Grid::default().points().count(), 21);
/// assert_eq!(Grid { low: 0.5, high: 1.2, step: 0.25 }.points().collect::<Vec<_>>(), [0.5, 0.75, 1.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// The first strength.
    pub low: f64,
    /// No strength is above.
    pub high: f64,
    /// From one strength to the next.
    pub step: f64,
}

impl Default for Grid {
    /// 0 to 2 by 0.1, as published.
    fn default() -> Self {
        Self { low: 0.0, high: 2.0, step: 0.1 }
    }
}

impl Grid {
    /// The strengths, ascending.
    pub fn points(self) -> impl Iterator<Item = f64> + Clone {
        (0..=self.intervals()).map(move |point| self.point(point))
    }

    /// The strength with the least loss, the smallest of equally good ones: the published search, over the whole
    /// vocabulary.
    ///
    /// On an equally spaced grid `exp(α d)` is a geometric sequence for every token, so two exponentials a token serve
    /// all strengths. [`TiltFamily::solve_grid`](crate::TiltFamily::solve_grid) finds the same on a summary.
    ///
    /// Saturated means that the loss still fell at the last strength, inactive that all unmasked tokens have the same
    /// `d`. The strength of [`Objective::VarianceRatio`] is the one nearest to the closed form.
    ///
    /// ```
    /// use logitfuse_core::numerics::log_sum_exp;
    /// use logitfuse_numerics::{Grid, Objective, Targets};
    ///
    /// let base = [0.0, 1.0, 2.0];
    /// let targets = Targets { forward: 0.5, reverse: 0.5, anti_variance: 1.0 };
    /// let solution = Grid::default().solve(&base, log_sum_exp(&base), &[1.0, 0.0, -1.0], Objective::BothDivergences, &targets);
    /// assert!((solution.alpha - 1.3).abs() < 1e-9);
    /// ```
    pub fn solve(
        self,
        base: &[f32],
        log_normaliser: f64,
        direction: &[f32],
        objective: Objective,
        targets: &Targets,
    ) -> Solution {
        let rows = TiltedRows::new(base, log_normaliser, direction);
        let mut search = Search::new(objective, targets);
        if rows.spread() * self.high <= EQUAL {
            search.visit(self.low, 0.0, 0.0);
            return Solution { inactive: true, ..search.best };
        }
        if objective == Objective::VarianceRatio {
            let variance = tilt_moments(base, log_normaliser, direction, 0.0).variance;
            let ratio = (targets.anti_variance / variance.max(f64::MIN_POSITIVE)).sqrt();
            let alpha = self.nearest(ratio.clamp(self.low, self.high));
            rows.visit(Grid { low: alpha, high: alpha, step: self.step }, &mut search);
            return Solution { saturated: ratio < self.low || ratio > self.high, ..search.best };
        }
        rows.visit(self, &mut search);
        search.best
    }

    pub(crate) fn nearest(self, alpha: f64) -> f64 {
        self.point(floor_to_u32((alpha - self.low) / self.step + 0.5).min(self.intervals()))
    }

    pub(crate) fn point(self, number: u32) -> f64 {
        self.low + self.step * f64::from(number)
    }

    /// Steps that fit in, where a last one that ends above `high` by rounding does.
    pub(crate) fn intervals(self) -> u32 {
        floor_to_u32((self.high - self.low) / self.step + 1e-9)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast stops at the ends of u32")]
pub(crate) fn floor_to_u32(x: f64) -> u32 {
    x as u32
}

/// A grid search: the smallest loss so far. Strengths come in ascending order, so of equal ones the smallest stays.
pub(crate) struct Search<'a> {
    objective: Objective,
    targets: &'a Targets,
    pub(crate) best: Solution,
    visited: usize,
}

impl<'a> Search<'a> {
    pub(crate) fn new(objective: Objective, targets: &'a Targets) -> Self {
        let best = Solution {
            alpha: 0.0,
            loss: f64::INFINITY,
            kl_tilted_base: 0.0,
            kl_base_tilted: 0.0,
            saturated: false,
            inactive: false,
        };
        Self { objective, targets, best, visited: 0 }
    }

    pub(crate) fn visit(&mut self, alpha: f64, kl_tilted_base: f64, kl_base_tilted: f64) {
        let loss = self.objective.loss(kl_tilted_base, kl_base_tilted, self.targets);
        let better = loss < self.best.loss;
        if better {
            self.best = Solution { alpha, loss, kl_tilted_base, kl_base_tilted, ..self.best };
        }
        // True of the last strength visited, which is the only one that can stop a fall.
        self.best.saturated = better && self.visited > 0;
        self.visited += 1;
    }
}
