//! Solvers: the strength of a family that minimises an objective, or spends a budget.

use std::cell::Cell;

use crate::{Grid, Objective, Targets, TiltFamily, TiltPoint, grid::Search};

/// The strengths that a solver may choose: 0 ≤ `low` ≤ `high`, both finite.
///
/// ```
/// # use logitfuse_numerics::Bounds;
/// assert_eq!(Bounds::default(), Bounds { low: 0.0, high: 2.0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least strength; with a negative one the fused row would move away from the expert.
    pub low: f64,
    /// The largest strength; with 1, the expert's move is damped and never amplified.
    pub high: f64,
}

impl Default for Bounds {
    /// 0 to 2, as published.
    fn default() -> Self {
        Self { low: 0.0, high: 2.0 }
    }
}

/// The strength that a solver chose.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Solution {
    /// The strength.
    pub alpha: f64,
    /// The objective's loss there, see [`Objective::loss`]. For budgets, the square of the nats left unspent.
    pub loss: f64,
    /// KL(fused‖base) in nats.
    pub kl_tilted_base: f64,
    /// KL(base‖fused) in nats.
    pub kl_base_tilted: f64,
    /// Whether a bound stopped the solver: beyond it the loss still falls, or the budget is not spent. Such a strength is
    /// no measure of how much the expert matters.
    pub saturated: bool,
    /// Whether the direction is constant where the base has mass, so that no strength moves anything (by more than
    /// 1e-11 nats). The strength is the lower bound then.
    pub inactive: bool,
}

/// Nats of symmetric divergence from the base that a family has to reach to be worth a search.
const INACTIVE: f64 = 1e-11;
/// Symmetric divergence between the ends of an interval above which it is cut in two: nats, and where the targets are
/// below a nat, in units of them.
const RESOLVED: f64 = 0.05;
/// Part of the bounds that an interval is at most: a loss may also turn while the distribution hardly moves.
const FINEST: f64 = 1.0 / 32.0;
/// Halvings of an interval at most: a transition that is narrower than this moves within f64's rounding.
const DEPTH: u32 = 40;
/// Halvings of all intervals together at most; rows of a model need less than three hundred. Where expert and anti agree to
/// 1e-30 nats while the base is moved by thousands, a search as fine as the targets would take hours.
const MOST_HALVINGS: u32 = 1 << 14;
/// Relative width of a bracket that is narrow enough: 1e-9 of the strength moves no digit of a row.
const TOLERANCE: f64 = 1e-9;

/// A member of the family with its loss and half the slope of the loss.
#[derive(Clone, Copy)]
struct Probe {
    point: TiltPoint,
    loss: f64,
    slope: f64,
    /// Whether all divergences that count are still below their targets, or all above. They only grow with the strength, so
    /// up to a point that is below the loss falls, and from one that is above it rises.
    below: bool,
    above: bool,
}

impl Probe {
    fn alpha(&self) -> f64 {
        self.point.alpha
    }

    fn solution(&self, saturated: bool) -> Solution {
        Solution {
            alpha: self.point.alpha,
            loss: self.loss,
            kl_tilted_base: self.point.kl_tilted_base,
            kl_base_tilted: self.point.kl_base_tilted,
            saturated,
            inactive: false,
        }
    }

    /// Whether even here, at the largest strength, nothing has moved.
    fn is_inactive(&self) -> bool {
        self.point.kl_tilted_base + self.point.kl_base_tilted <= INACTIVE
    }
}

impl TiltFamily {
    /// The strength within the bounds that minimises the objective; the smallest of equally good ones.
    ///
    /// All strengths are looked at, not only those near a start: the loss may have several minima. Bounds beyond the
    /// family's reach are cut there.
    pub fn solve(&self, objective: Objective, targets: &Targets, bounds: Bounds) -> Solution {
        let bounds = self.within_reach(bounds);
        let probe = |alpha| self.probe(objective, targets, alpha);
        let (bottom, top) = (probe(bounds.low), probe(bounds.high));
        if top.is_inactive() {
            return Solution { inactive: true, ..bottom.solution(false) };
        }
        if objective == Objective::VarianceRatio {
            let (alpha, saturated) = self.variance_ratio(targets, bounds);
            return probe(alpha).solution(saturated);
        }
        let mut best = bottom;
        let mut saturated = bounds.low > 0.0 && bottom.slope > 0.0;
        let resolved = Resolved {
            width: FINEST * (bounds.high - bounds.low),
            divergence: RESOLVED * (targets.forward + targets.reverse).min(1.0),
        };
        let halvings = Cell::new(MOST_HALVINGS);
        find_minima(bottom, top, resolved, (DEPTH, &halvings), &probe, &mut |[falling, rising]| {
            let minimum = minimum_between(falling, rising, probe);
            if minimum.loss < best.loss {
                best = minimum;
                saturated = false;
            }
        });
        if top.slope < 0.0 && top.loss < best.loss {
            best = top;
            saturated = true;
        }
        best.solution(saturated)
    }

    /// The best strength of a grid, the smallest of equally good ones: [`Grid::solve`] from the summary, at next to no
    /// cost. Points beyond the reach are cut there.
    pub fn solve_grid(&self, objective: Objective, targets: &Targets, grid: Grid) -> Solution {
        let bounds = self.within_reach(Bounds { low: grid.low, high: grid.high });
        let probe = |alpha| self.probe(objective, targets, alpha);
        if probe(bounds.high).is_inactive() {
            return Solution { inactive: true, ..probe(bounds.low).solution(false) };
        }
        if objective == Objective::VarianceRatio {
            let (alpha, saturated) = self.variance_ratio(targets, bounds);
            return probe(grid.nearest(alpha)).solution(saturated);
        }
        let mut search = Search::new(objective, targets);
        for alpha in grid.points() {
            let point = self.at(alpha);
            search.visit(alpha, point.kl_tilted_base, point.kl_base_tilted);
        }
        search.best
    }

    /// The largest strength, up to the upper bound, with `KL(fused‖base) ≤ nats`: a trust region around the base.
    ///
    /// The budget is a promise and the lower bound a preference: where they exclude each other, the strength falls below
    /// the bound.
    pub fn budget(&self, nats: f64, bounds: Bounds) -> Solution {
        self.solve_budget(nats, bounds, |point| point.kl_tilted_base)
    }

    /// As [`budget`](Self::budget), for `KL(base‖fused) ≤ nats`: the surprise in nats of a reader who expects the base.
    pub fn reverse_budget(&self, nats: f64, bounds: Bounds) -> Solution {
        self.solve_budget(nats, bounds, |point| point.kl_base_tilted)
    }

    fn solve_budget(&self, nats: f64, bounds: Bounds, spent: impl Fn(&TiltPoint) -> f64) -> Solution {
        let bounds = self.within_reach(bounds);
        let probe = |alpha| {
            let point = self.at(alpha);
            let beyond = spent(&point) - nats;
            Probe { point, loss: beyond * beyond, slope: beyond, below: beyond <= 0.0, above: beyond >= 0.0 }
        };
        let (zero, top) = (probe(0.0), probe(bounds.high));
        if top.is_inactive() {
            Solution { inactive: true, ..probe(bounds.low).solution(false) }
        } else if top.slope <= 0.0 {
            top.solution(true)
        } else if zero.slope >= 0.0 {
            zero.solution(false)
        } else {
            // The end of the bracket where the budget is kept.
            let [kept, _] = bracket(zero, top, probe);
            kept.solution(false)
        }
    }

    fn within_reach(&self, bounds: Bounds) -> Bounds {
        let high = bounds.high.clamp(0.0, self.reach());
        Bounds { low: bounds.low.clamp(0.0, high), high }
    }

    /// The closed form, and whether a bound cut it off.
    fn variance_ratio(&self, targets: &Targets, bounds: Bounds) -> (f64, bool) {
        // No variance under the base: the direction is rare there, and no strength is too large.
        let ratio = (targets.anti_variance / self.at(0.0).variance.max(f64::MIN_POSITIVE)).sqrt();
        (ratio.clamp(bounds.low, bounds.high), ratio < bounds.low || ratio > bounds.high)
    }

    fn probe(&self, objective: Objective, targets: &Targets, alpha: f64) -> Probe {
        let point = self.at(alpha);
        let divergences = [point.kl_tilted_base, point.kl_base_tilted];
        let derivatives = [alpha * point.variance, point.mean - self.base_mean()];
        let residuals = objective.residuals(divergences, targets);
        let slope = if alpha == 0.0 {
            // Every derivative is 0 here, and a little further on both divergences are below their targets.
            -(targets.forward + targets.reverse)
        } else {
            objective.half_slope(divergences, derivatives, targets)
        };
        Probe {
            point,
            loss: residuals.iter().map(|residual| residual * residual).sum(),
            slope,
            below: residuals.iter().all(|residual| *residual <= 0.0),
            above: residuals.iter().all(|residual| *residual >= 0.0),
        }
    }
}

/// What needs no closer look: an interval of this width, between whose ends this symmetric divergence lies.
#[derive(Clone, Copy)]
struct Resolved {
    width: f64,
    divergence: f64,
}

/// Brackets the minima between two strengths, each by a falling and a rising slope, in ascending order.
///
/// Where the distribution changes much it is looked at closely: a confident base gives way within a narrow interval, and
/// the loss may fall and rise in there. `(β − α) · (E_β[d] − E_α[d])` is the symmetric divergence of the two ends.
fn find_minima(
    left: Probe,
    right: Probe,
    resolved: Resolved,
    (depth, halvings): (u32, &Cell<u32>),
    probe: &impl Fn(f64) -> Probe,
    found: &mut impl FnMut([Probe; 2]),
) {
    if left.above || (right.below && right.slope < 0.0) {
        return;
    }
    let width = right.alpha() - left.alpha();
    let divergence = width * (right.point.mean - left.point.mean);
    if depth > 0 && halvings.get() > 0 && (width > resolved.width || divergence > resolved.divergence) {
        halvings.set(halvings.get() - 1);
        let middle = probe(left.alpha() + 0.5 * width);
        find_minima(left, middle, resolved, (depth - 1, halvings), probe, found);
        find_minima(middle, right, resolved, (depth - 1, halvings), probe, found);
    } else if left.slope < 0.0 && right.slope >= 0.0 {
        found([left, right]);
    }
}

/// The minimum between a falling and a rising slope; the better end of what the search leaves of the bracket.
fn minimum_between(falling: Probe, rising: Probe, probe: impl Fn(f64) -> Probe) -> Probe {
    let [left, right] = bracket(falling, rising, probe);
    if right.loss < left.loss { right } else { left }
}

/// Narrows a change of sign by Chandrupatla's method: inverse quadratic interpolation where three points allow it, and
/// bisection elsewhere. No step is shorter than half the tolerance, so that once the root is known, one step
/// beyond it closes the bracket.
fn bracket(left: Probe, right: Probe, probe: impl Fn(f64) -> Probe) -> [Probe; 2] {
    // The last point, and the closest one across the root from it; how far the root is from the first to the second.
    let (mut last, mut across) = (left, right);
    let mut fraction = left.slope / (left.slope - right.slope);
    for _ in 0..200 {
        let span = across.alpha() - last.alpha();
        let tolerance = TOLERANCE * last.alpha().max(across.alpha());
        if span.abs() <= tolerance {
            break;
        }
        let least = 0.5 * tolerance / span.abs();
        let step = if fraction.is_nan() { 0.5 } else { fraction.clamp(least, 1.0 - least) };
        let middle = probe(last.alpha() + step * span);
        let same_side = (middle.slope < 0.0) == (last.slope < 0.0);
        let before_last = if same_side { last } else { std::mem::replace(&mut across, last) };
        last = middle;
        fraction = interpolated(&last, &across, &before_last);
    }
    if last.slope < 0.0 { [last, across] } else { [across, last] }
}

/// The root of the slope between two points, as a fraction of the interval, by the quadratic through three; the middle where
/// that is not sure to be monotone.
fn interpolated(last: &Probe, across: &Probe, before_last: &Probe) -> f64 {
    let [a, b, c] = [last, across, before_last].map(Probe::alpha);
    let [fa, fb, fc] = [last, across, before_last].map(|probe| probe.slope);
    let place = (a - b) / (c - b);
    let height = (fa - fb) / (fc - fb);
    if height * height < place && (1.0 - height).powi(2) < 1.0 - place {
        fa / (fb - fa) * (fc / (fb - fc)) + (c - a) / (b - a) * (fa / (fc - fa)) * (fb / (fc - fb))
    } else {
        0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every interval asks for another look, down to the last depth; the search ends all the same, and still finds.
    #[test]
    fn the_halvings_of_a_search_are_bounded() {
        let probed = Cell::new(0);
        let probe = |alpha: f64| {
            probed.set(probed.get() + 1);
            let point = TiltPoint {
                alpha,
                kl_tilted_base: 0.0,
                kl_base_tilted: 0.0,
                mean: 1e4 * alpha,
                variance: 1.0,
                log_partition: 0.0,
            };
            Probe { point, loss: 0.0, slope: alpha - 1.7, below: false, above: false }
        };
        let resolved = Resolved { width: 1.0, divergence: 1e-30 };
        let halvings = Cell::new(1000);
        let mut found = Vec::new();
        find_minima(probe(0.0), probe(2.0), resolved, (DEPTH, &halvings), &probe, &mut |bracket| found.push(bracket));
        assert_eq!(probed.get(), 1002);
        let [[falling, rising]] = found[..] else { panic!("{} minima", found.len()) };
        assert!(falling.alpha() < 1.7 && rising.alpha() >= 1.7);
    }
}
