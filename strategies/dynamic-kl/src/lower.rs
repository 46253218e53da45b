//! The strategy as operations of a graph.

use logitfuse_core::{Error, ErrorKind, FusionGraph, ProxyRows, Result, SessionInfo, fusion_graph::Value};
use logitfuse_numerics::Grid;
use logitfuse_numerics::lowered::{LoweredSolution, direction, solve, solve_budget, solve_grid, targets};

use crate::{Experts, Goal, Params, Pool, Solver, Weights};

/// The graph, if the parameters are those of a rule without memory.
pub(crate) fn lower(params: &Params, session: &SessionInfo) -> Result<FusionGraph> {
    remembers_nothing(params)?;
    let rows = ProxyRows::of(session, "dynamic-kl")?;
    let mut graph = FusionGraph::new();
    let base = graph.row(rows.base);
    let (expert, anti) = pooled(&mut graph, params, &rows)?;
    let direction = direction(&mut graph, expert, anti);

    let [log_base, log_anti, compared] = if is_plain(params.kl_temperature) {
        let [base, anti] = [base, anti].map(|row| graph.log_softmax(row));
        [base, anti, direction]
    } else {
        let temperature = graph.parameter("kl_temperature", params.kl_temperature);
        let [base, anti, expert] = [base, anti, expert].map(|row| graph.divide(row, temperature));
        let compared = logitfuse_numerics::lowered::direction(&mut graph, expert, anti);
        let [base, anti] = [base, anti].map(|row| graph.log_softmax(row));
        [base, anti, compared]
    };
    let targets = targets(&mut graph, log_anti, compared);
    let tilts = graph.tilts(log_base, compared);
    let [low, high] = params.bounds;
    let solution = match (params.objective.objective(), params.solver) {
        (None, _) => {
            let nats = graph.parameter("budget_nats", params.budget());
            let high = graph.parameter("bounds.1", high);
            solve_budget(&mut graph, &tilts, nats, high)
        }
        (Some(objective), Solver::Exact) => {
            let bounds = [graph.parameter("bounds.0", low), graph.parameter("bounds.1", high)];
            solve(&mut graph, &tilts, objective, &targets, bounds)
        }
        (Some(_), Solver::Grid) if params.objective == Goal::VarianceRatio => {
            return Err(unsupported(
                "/solver: a grid beside variance_ratio, which is a closed form",
                "use solver exact",
            ));
        }
        (Some(objective), Solver::Grid) => {
            let grid = Grid { low, high, step: params.grid_step.unwrap_or(0.1) };
            solve_grid(&mut graph, &tilts, objective, &targets, grid)
        }
    };
    let LoweredSolution { alpha, loss, kl_tilted_base, kl_base_tilted, saturated, inactive, .. } = solution;
    let fused = graph.linear_combination(base, None, &[(alpha, direction)]);
    graph.set_fused(fused);
    graph.add_trace("alpha", alpha);
    graph.add_trace("kl_fused_base", kl_tilted_base);
    graph.add_trace("kl_base_fused", kl_base_tilted);
    graph.add_trace("kl_expert_anti", targets.forward);
    graph.add_trace("kl_anti_expert", targets.reverse);
    if !matches!(params.objective, Goal::VarianceRatio | Goal::Budget) {
        graph.add_trace("loss", loss);
    }
    graph.add_trace("saturated", saturated);
    graph.add_trace("inactive", inactive);
    Ok(graph)
}

/// A step of a graph sees its own rows only.
fn remembers_nothing(params: &Params) -> Result<()> {
    if params.ema > 0.0 {
        return Err(unsupported("/ema: smoothing remembers the strength of the last token", "set ema to 0"));
    }
    if params.sequence_budget_nats.is_some() {
        let what = "/sequence_budget_nats: a text's budget remembers what was spent";
        return Err(unsupported(what, "use budget_nats, which every token may spend"));
    }
    Ok(())
}

/// The expert and the anti: the only pair, or the geometric mean with weights that depend on nothing.
fn pooled(graph: &mut FusionGraph, params: &Params, rows: &ProxyRows) -> Result<(Value, Value)> {
    let pools = params.experts == Experts::Pool;
    let weights = params.weights(false);
    if let [(expert, anti)] = rows.pairs[..] {
        let sees_the_prompt = weights == Weights::Fingerprint;
        let may_drop_it = params.posterior.as_ref().is_some_and(|posterior| posterior.no_expert_prior > 0.0);
        if pools && sees_the_prompt {
            let what = "/weights: fingerprint looks at the prompt, and a graph sees the present position only";
            return Err(unsupported(what, "use weights uniform"));
        }
        if pools && may_drop_it {
            let what = "/posterior/no_expert_prior: the probability of no expert remembers the text";
            return Err(unsupported(what, "set no_expert_prior to 0"));
        }
        return Ok((graph.row(expert), graph.row(anti)));
    }
    let shared_anti = rows.pairs.iter().all(|pair| pair.1 == rows.pairs[0].1);
    let share = 1.0 / rows.pairs.len() as f64;
    let weights = match (&params.fixed_weights, weights) {
        (Some(fixed), Weights::Fixed) if fixed.len() == rows.pairs.len() => fixed.clone(),
        (_, Weights::Uniform) => vec![share; rows.pairs.len()],
        _ => {
            let what = "/weights: of several experts, these weights depend on the text or the position";
            return Err(unsupported(what, "use weights uniform or fixed"));
        }
    };
    if !pools || !shared_anti || params.pool.unwrap_or_default() != Pool::Geometric {
        let what = "several experts are pooled in a graph by their geometric mean, about one anti";
        return Err(unsupported(what, "use experts pool, pool geometric, and one source of role anti"));
    }
    let anti = graph.row(rows.pairs[0].1);
    let mut terms = Vec::new();
    for (index, ((expert, _), weight)) in rows.pairs.iter().zip(weights).enumerate() {
        let weight = graph.parameter(format!("fixed_weights.{index}"), weight);
        let expert = graph.row(*expert);
        terms.push((weight, graph.contrast(expert, anti)));
    }
    let expert = graph.linear_combination(anti, None, &terms);
    Ok((expert, anti))
}

#[expect(clippy::float_cmp, reason = "the one temperature that changes nothing")]
fn is_plain(temperature: f64) -> bool {
    temperature == 1.0
}

fn unsupported(what: &str, help: &str) -> Error {
    Error::new(ErrorKind::Unsupported, what).with_help(help)
}
