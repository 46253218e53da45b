//! The strategy as operations of a graph.

use logitfuse_core::{FusionGraph, fusion_graph::Value};
use logitfuse_numerics::lowered::{LoweredSolution, direction, solve, targets};

use crate::{Params, Strength, merge::Merge};

pub(crate) fn lower(params: &Params, merge: &Merge) -> FusionGraph {
    let mut graph = FusionGraph::new();
    let base = graph.row(merge.base_row());
    let changes: Vec<(Value, Value)> = merge
        .tasks()
        .enumerate()
        .map(|(index, (lambda, expert, anti))| {
            let lambda = graph.parameter(format!("lambda.{index}"), lambda);
            let [expert, anti] = [expert, anti].map(|row| graph.row(row));
            (lambda, graph.contrast(expert, anti))
        })
        .collect();
    match params.strength {
        Strength::Fixed => {
            let alpha = graph.parameter("alpha", params.alpha());
            let changes: Vec<(Value, Value)> =
                changes.into_iter().map(|(lambda, change)| (graph.multiply(alpha, lambda), change)).collect();
            let fused = graph.linear_combination(base, None, &changes);
            graph.set_fused(fused);
            graph.add_trace("alpha", alpha);
            graph.add_divergences(fused, base);
        }
        Strength::Dynamic => {
            let (_, _, anti) = merge.tasks().next().expect("a merge has one task at least");
            let anti = graph.row(anti);
            let merged = graph.linear_combination(anti, None, &changes);
            let direction = direction(&mut graph, merged, anti);
            let [low, high] = params.bounds();
            let bounds = [graph.parameter("bounds.0", low), graph.parameter("bounds.1", high)];
            let [log_base, log_anti] = [base, anti].map(|row| graph.log_softmax(row));
            let targets = targets(&mut graph, log_anti, direction);
            let tilts = graph.tilts(log_base, direction);
            let solution = solve(&mut graph, &tilts, params.objective.unwrap_or_default(), &targets, bounds);
            let contrast = graph.contrast(merged, anti);
            let fused = graph.linear_combination(base, None, &[(solution.alpha, contrast)]);
            graph.set_fused(fused);
            let LoweredSolution { alpha, kl_tilted_base, kl_base_tilted, saturated, inactive, .. } = solution;
            graph.add_trace("alpha", alpha);
            graph.add_trace("kl_fused_base", kl_tilted_base);
            graph.add_trace("kl_base_fused", kl_base_tilted);
            graph.add_trace("kl_expert_anti", targets.forward);
            graph.add_trace("kl_anti_expert", targets.reverse);
            graph.add_trace("saturated", saturated);
            graph.add_trace("inactive", inactive);
        }
    }
    graph
}
