//! The solvers as operations of a graph, for files that other runtimes serve.

use logitfuse_core::FusionGraph;
use logitfuse_core::fusion_graph::{Comparison, Tilt, Tilts, Unary, Value};

use crate::{Grid, LIMIT, Objective};

/// Intervals of the bounds that [`solve`] looks at.
pub const INTERVALS: usize = 16;

/// Halvings of the interval that it chooses, before the last step, which is a linear interpolation.
pub const HALVINGS: usize = 12;

/// Halvings of the bounds that [`solve_budget`] makes.
pub const BUDGET_HALVINGS: usize = 20;

/// Nats of symmetric divergence that the largest strength has to reach, as in [`TiltFamily`](crate::TiltFamily).
const INACTIVE: f32 = 1e-11;

/// The divergences that an objective matches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LoweredTargets {
    /// KL(expert‖anti) in nats.
    pub forward: Value,
    /// KL(anti‖expert) in nats.
    pub reverse: Value,
    /// The variance of the direction under the anti-expert, nats squared.
    pub anti_variance: Value,
}

/// What a solver chose; the fields are those of [`Solution`](crate::Solution), truth values as 0 and 1.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "as in `Solution`")]
#[non_exhaustive]
pub struct LoweredSolution {
    pub alpha: Value,
    pub loss: Value,
    pub kl_tilted_base: Value,
    pub kl_base_tilted: Value,
    pub saturated: Value,
    pub inactive: Value,
}

/// The direction of a fusion, as [`Targets::with_direction`](crate::Targets::with_direction) writes it: the difference of two rows'
/// log-probabilities, 0 where either is masked, a million nats at most.
pub fn direction(graph: &mut FusionGraph, towards: Value, away: Value) -> Value {
    let direction = graph.direction(towards, away);
    let [low, high] = [-LIMIT, LIMIT].map(|limit| graph.constant(limit));
    let direction = graph.max(direction, low);
    graph.min(direction, high)
}

/// As [`Targets::between`](crate::Targets::between): the anti-expert's log-probabilities, and the direction from it to the
/// expert.
pub fn targets(graph: &mut FusionGraph, log_anti: Value, direction: Value) -> LoweredTargets {
    let tilts = graph.tilts(log_anti, direction);
    let [zero, one] = [0.0, 1.0].map(|strength| graph.constant(strength));
    let expert = graph.tilt(&tilts, one);
    let anti_variance = graph.tilt(&tilts, zero).variance;
    LoweredTargets { forward: expert.forward, reverse: expert.reverse, anti_variance }
}

/// As [`TiltFamily::solve`](crate::TiltFamily::solve), with a fixed number of steps: the slope of the loss is computed at the ends of
/// [`INTERVALS`] equal intervals of the bounds; where it changes from falling to rising, the interval with the lower loss
/// is halved [`HALVINGS`] times and the root interpolated. The strength is exact to about 1e-6 of the bounds, f32 allowing; the
/// row to that times the largest difference of logits. Of several
/// minima within one interval, one is found.
pub fn solve(
    graph: &mut FusionGraph,
    tilts: &Tilts,
    objective: Objective,
    targets: &LoweredTargets,
    bounds: [Value; 2],
) -> LoweredSolution {
    let problem = Problem { tilts, objective, targets };
    let [low, high] = bounds;
    let bottom = problem.probe(graph, low);
    let top = problem.probe(graph, high);
    let best = if objective == Objective::VarianceRatio {
        problem.variance_ratio(graph, bounds)
    } else {
        let bracket = problem.scan(graph, bounds, &bottom);
        problem.choose(graph, bounds, bottom, top, &bracket)
    };
    best.unless_inactive(graph, top.symmetric)
}

/// As [`TiltFamily::solve_grid`](crate::TiltFamily::solve_grid): the best of a grid's strengths. Not for
/// [`Objective::VarianceRatio`], whose strength is not the one with the least loss.
pub fn solve_grid(
    graph: &mut FusionGraph,
    tilts: &Tilts,
    objective: Objective,
    targets: &LoweredTargets,
    grid: Grid,
) -> LoweredSolution {
    let problem = Problem { tilts, objective, targets };
    let intervals = grid.points().count() - 1;
    let last = grid.points().last().unwrap_or(grid.low);
    let [low, high] = [grid.low, last].map(|bound| graph.constant(narrow(bound)));
    let step = graph.constant(narrow(grid.step));
    let one = graph.constant(1.0);
    let first = problem.probe(graph, low);
    let top = problem.probe(graph, high);
    let [_, alpha, loss, forward, reverse] = graph.repeat(
        intervals,
        [one, low, first.loss, first.forward, first.reverse],
        |graph, [index, best_alpha, best_loss, forward, reverse]| {
            let distance = graph.multiply(index, step);
            let alpha = graph.add(low, distance);
            let alpha = graph.min(alpha, high);
            let here = problem.probe(graph, alpha);
            let better = graph.compare(Comparison::Less, here.loss, best_loss);
            let index = graph.add(index, one);
            [
                index,
                graph.select(better, alpha, best_alpha),
                graph.select(better, here.loss, best_loss),
                graph.select(better, here.forward, forward),
                graph.select(better, here.reverse, reverse),
            ]
        },
    );
    let at_top = graph.compare(Comparison::Equal, alpha, high);
    let falling = is_falling(graph, top.slope);
    let saturated = graph.both(at_top, falling);
    let best = Best { alpha, loss, forward, reverse, saturated };
    best.unless_inactive(graph, top.symmetric)
}

/// As [`TiltFamily::budget`](crate::TiltFamily::budget): the largest strength up to `high` with KL(fused‖base) of `nats` at most, by
/// [`BUDGET_HALVINGS`] halvings of the bounds.
pub fn solve_budget(graph: &mut FusionGraph, tilts: &Tilts, nats: Value, high: Value) -> LoweredSolution {
    let [zero, half] = [0.0, 0.5].map(|number| graph.constant(number));
    let top = graph.tilt(tilts, high);
    let [kept, _] = graph.repeat(BUDGET_HALVINGS, [zero, high], |graph, [kept, beyond]| {
        let sum = graph.add(kept, beyond);
        let middle = graph.multiply(half, sum);
        let spent = graph.tilt(tilts, middle).forward;
        let keeps = graph.compare(Comparison::LessOrEqual, spent, nats);
        [graph.select(keeps, middle, kept), graph.select(keeps, beyond, middle)]
    });
    let below = graph.compare(Comparison::LessOrEqual, top.forward, nats);
    let spends = graph.compare(Comparison::Less, zero, nats);
    let saturated = graph.both(below, spends);
    let alpha = graph.select(saturated, high, kept);
    // Not left to the search: where the direction moves no probability, any strength is free.
    let alpha = graph.select(spends, alpha, zero);
    let at = graph.tilt(tilts, alpha);
    let unspent = graph.subtract(at.forward, nats);
    let loss = graph.multiply(unspent, unspent);
    let best = Best { alpha, loss, forward: at.forward, reverse: at.reverse, saturated };
    best.unless_inactive(graph, top.symmetric)
}

/// A member of the family with its loss and half the slope of the loss.
#[derive(Clone, Copy)]
struct LoweredProbe {
    symmetric: Value,
    forward: Value,
    reverse: Value,
    loss: Value,
    slope: Value,
}

/// The interval that is looked into.
struct Bracket {
    found: Value,
    left: Value,
    right: Value,
    slopes: [Value; 2],
}

/// What was chosen, before it is known whether there was anything to choose; `saturated` is a truth value.
struct Best {
    alpha: Value,
    loss: Value,
    forward: Value,
    reverse: Value,
    saturated: Value,
}

struct Problem<'a> {
    tilts: &'a Tilts,
    objective: Objective,
    targets: &'a LoweredTargets,
}

impl Problem<'_> {
    fn probe(&self, graph: &mut FusionGraph, alpha: Value) -> LoweredProbe {
        let tilt = graph.tilt(self.tilts, alpha);
        let derivatives = [graph.multiply(alpha, tilt.variance), tilt.mean];
        let residuals = self.residuals(graph, &tilt);
        let squares = residuals.map(|residual| graph.multiply(residual, residual));
        let loss = graph.add(squares[0], squares[1]);
        let slope = self.half_slope(graph, &tilt, derivatives, residuals);
        // At 0 every derivative is 0, and a little further on both divergences are below their targets.
        let zero = graph.constant(0.0);
        let at_zero = graph.compare(Comparison::LessOrEqual, alpha, zero);
        let sum = graph.add(self.targets.forward, self.targets.reverse);
        let falling = graph.unary(Unary::Negate, sum);
        let slope = graph.select(at_zero, falling, slope);
        LoweredProbe { symmetric: tilt.symmetric, forward: tilt.forward, reverse: tilt.reverse, loss, slope }
    }

    fn residuals(&self, graph: &mut FusionGraph, tilt: &Tilt) -> [Value; 2] {
        let LoweredTargets { forward: a, reverse: b, .. } = *self.targets;
        let zero = graph.constant(0.0);
        match self.objective {
            Objective::Crossed => [graph.subtract(tilt.forward, b), graph.subtract(tilt.reverse, a)],
            Objective::Forward => [graph.subtract(tilt.forward, a), zero],
            Objective::Reverse => [zero, graph.subtract(tilt.reverse, b)],
            Objective::Jeffreys => {
                let sum = graph.add(a, b);
                [graph.subtract(tilt.symmetric, sum), zero]
            }
            Objective::Sqrt => {
                let [forward, reverse, a, b] = [tilt.forward, tilt.reverse, a, b].map(|kl| root(graph, kl));
                [graph.subtract(forward, a), graph.subtract(reverse, b)]
            }
            _ => [graph.subtract(tilt.forward, a), graph.subtract(tilt.reverse, b)],
        }
    }

    fn half_slope(
        &self,
        graph: &mut FusionGraph,
        tilt: &Tilt,
        [forward, reverse]: [Value; 2],
        [first, second]: [Value; 2],
    ) -> Value {
        let derivatives = match self.objective {
            Objective::Jeffreys => {
                let sum = graph.add(forward, reverse);
                return graph.multiply(first, sum);
            }
            Objective::Sqrt => [(tilt.forward, forward), (tilt.reverse, reverse)].map(|(kl, derivative)| {
                let half = graph.constant(0.5);
                let least = graph.constant(f32::MIN_POSITIVE);
                let kl = graph.max(kl, least);
                let root = graph.unary(Unary::Sqrt, kl);
                let half = graph.divide(half, root);
                graph.multiply(half, derivative)
            }),
            _ => [forward, reverse],
        };
        let [first, second] = [graph.multiply(first, derivatives[0]), graph.multiply(second, derivatives[1])];
        graph.add(first, second)
    }

    fn scan(&self, graph: &mut FusionGraph, [low, high]: [Value; 2], bottom: &LoweredProbe) -> Bracket {
        let one = graph.constant(1.0);
        let endless = graph.constant(f32::INFINITY);
        let minus_one = graph.constant(-1.0);
        let intervals = graph.constant(INTERVALS as f32);
        let width = graph.subtract(high, low);
        let width = graph.divide(width, intervals);
        let initial = [one, low, bottom.slope, bottom.loss, endless, low, low, minus_one, one];
        let [_, _, _, _, best, left, right, left_slope, right_slope] = graph.repeat(
            INTERVALS,
            initial,
            |graph, [index, before, slope_before, loss_before, best, left, right, left_slope, right_slope]| {
                let distance = graph.multiply(index, width);
                let alpha = graph.add(low, distance);
                let here = self.probe(graph, alpha);
                let falls = is_falling(graph, slope_before);
                let zero = graph.constant(0.0);
                let rises = graph.compare(Comparison::LessOrEqual, zero, here.slope);
                let turns = graph.both(falls, rises);
                let lower = graph.min(loss_before, here.loss);
                let better = graph.compare(Comparison::Less, lower, best);
                let better = graph.both(turns, better);
                let index = graph.add(index, one);
                [
                    index,
                    alpha,
                    here.slope,
                    here.loss,
                    graph.select(better, lower, best),
                    graph.select(better, before, left),
                    graph.select(better, alpha, right),
                    graph.select(better, slope_before, left_slope),
                    graph.select(better, here.slope, right_slope),
                ]
            },
        );
        let found = graph.compare(Comparison::Less, best, endless);
        Bracket { found, left, right, slopes: [left_slope, right_slope] }
    }

    /// The root of the slope in an interval.
    fn narrow(&self, graph: &mut FusionGraph, bracket: &Bracket) -> Value {
        let half = graph.constant(0.5);
        let initial = [bracket.left, bracket.right, bracket.slopes[0], bracket.slopes[1]];
        let [left, right, left_slope, right_slope] =
            graph.repeat(HALVINGS, initial, |graph, [left, right, left_slope, right_slope]| {
                let sum = graph.add(left, right);
                let middle = graph.multiply(half, sum);
                let slope = self.probe(graph, middle).slope;
                let falls = is_falling(graph, slope);
                [
                    graph.select(falls, middle, left),
                    graph.select(falls, right, middle),
                    graph.select(falls, slope, left_slope),
                    graph.select(falls, right_slope, slope),
                ]
            });
        let rise = graph.subtract(right_slope, left_slope);
        let below = graph.unary(Unary::Negate, left_slope);
        let share = graph.divide(below, rise);
        let width = graph.subtract(right, left);
        let from_left = graph.multiply(share, width);
        graph.add(left, from_left)
    }

    fn choose(
        &self,
        graph: &mut FusionGraph,
        [low, high]: [Value; 2],
        bottom: LoweredProbe,
        top: LoweredProbe,
        bracket: &Bracket,
    ) -> Best {
        let root = self.narrow(graph, bracket);
        let minimum = self.probe(graph, root);
        let better = graph.compare(Comparison::Less, minimum.loss, bottom.loss);
        let inside = graph.both(bracket.found, better);
        let alpha = graph.select(inside, root, low);
        let [loss, forward, reverse] =
            [(minimum.loss, bottom.loss), (minimum.forward, bottom.forward), (minimum.reverse, bottom.reverse)]
                .map(|(inside_value, at_bottom)| graph.select(inside, inside_value, at_bottom));

        let falls = is_falling(graph, top.slope);
        let better = graph.compare(Comparison::Less, top.loss, loss);
        let at_top = graph.both(falls, better);
        let zero = graph.constant(0.0);
        let above_zero = graph.compare(Comparison::Less, zero, low);
        let rises = graph.compare(Comparison::Less, zero, bottom.slope);
        let stopped_below = graph.both(above_zero, rises);
        let is_low = graph.compare(Comparison::Equal, alpha, low);
        let stopped_below = graph.both(stopped_below, is_low);
        Best {
            alpha: graph.select(at_top, high, alpha),
            loss: graph.select(at_top, top.loss, loss),
            forward: graph.select(at_top, top.forward, forward),
            reverse: graph.select(at_top, top.reverse, reverse),
            saturated: graph.either(at_top, stopped_below),
        }
    }

    /// The closed form.
    fn variance_ratio(&self, graph: &mut FusionGraph, [low, high]: [Value; 2]) -> Best {
        let zero = graph.constant(0.0);
        let least = graph.constant(f32::MIN_POSITIVE);
        let base_variance = graph.tilt(self.tilts, zero).variance;
        let base_variance = graph.max(base_variance, least);
        let ratio = graph.divide(self.targets.anti_variance, base_variance);
        let ratio = root(graph, ratio);
        let alpha = graph.max(ratio, low);
        let alpha = graph.min(alpha, high);
        let here = self.probe(graph, alpha);
        let below = graph.compare(Comparison::Less, ratio, low);
        let above = graph.compare(Comparison::Less, high, ratio);
        let saturated = graph.either(below, above);
        Best { alpha, loss: here.loss, forward: here.forward, reverse: here.reverse, saturated }
    }
}

impl Best {
    /// Where even the largest strength moves nothing, none is chosen.
    fn unless_inactive(self, graph: &mut FusionGraph, most: Value) -> LoweredSolution {
        let [zero, one, least] = [0.0, 1.0, INACTIVE].map(|number| graph.constant(number));
        let is_inactive = graph.compare(Comparison::LessOrEqual, most, least);
        let saturated = graph.select(self.saturated, one, zero);
        let inactive = graph.select(is_inactive, one, zero);
        let [forward, reverse] = [self.forward, self.reverse].map(|kl| graph.max(kl, zero));
        let [alpha, kl_tilted_base, kl_base_tilted, saturated] =
            [self.alpha, forward, reverse, saturated].map(|value| graph.select(is_inactive, zero, value));
        LoweredSolution { alpha, loss: self.loss, kl_tilted_base, kl_base_tilted, saturated, inactive }
    }
}

fn is_falling(graph: &mut FusionGraph, slope: Value) -> Value {
    let zero = graph.constant(0.0);
    graph.compare(Comparison::Less, slope, zero)
}

fn root(graph: &mut FusionGraph, x: Value) -> Value {
    let zero = graph.constant(0.0);
    let x = graph.max(x, zero);
    graph.unary(Unary::Sqrt, x)
}

fn narrow(number: f64) -> f32 {
    logitfuse_core::numerics::lanes::round_to_f32(number)
}
