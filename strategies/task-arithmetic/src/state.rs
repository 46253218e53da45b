use logitfuse_core::numerics::{Contrast, kl_both, linear_combination, log_sum_exp};
use logitfuse_core::{FusedRow, FusionStep, Memoryless, Result, RoleRow};
use logitfuse_numerics::{Bounds, Objective, Targets, TiltFamily};

use crate::{Params, Strength, merge::Merge};

/// The state of one sequence: buffers of a step, nothing that a later step depends on.
pub(crate) struct State {
    merge: Merge,
    /// `None` is a fixed strength.
    solver: Option<Solver>,
    alpha: f64,
    merged: Vec<f32>,
    scratch: Vec<f32>,
}

#[derive(Clone)]
struct Solver {
    objective: Objective,
    bounds: Bounds,
    family: TiltFamily,
}

/// The values of the trace's columns.
struct Trace {
    alpha: f64,
    divergences: [f64; 2],
    targets: Targets,
    saturated: bool,
    inactive: bool,
}

impl State {
    pub(crate) fn new(params: &Params, merge: Merge) -> Self {
        let [low, high] = params.bounds();
        let solver = (params.strength == Strength::Dynamic).then(|| Solver {
            objective: params.objective.unwrap_or_default(),
            bounds: Bounds { low, high },
            family: TiltFamily::new(high),
        });
        Self { merge, solver, alpha: params.alpha(), merged: Vec::new(), scratch: Vec::new() }
    }

    /// The merged expert. A single one that is taken as it is keeps its bits.
    fn merged<'a>(&'a mut self, step: &FusionStep<'a>) -> RoleRow<'a> {
        if let Some(expert) = self.merge.sole_expert(step) {
            return *expert;
        }
        let anti = self.merge.anti(step).logits();
        self.merged.resize(anti.len(), 0.0);
        self.merge.apply(step, anti, 1.0, &mut self.merged, &mut self.scratch);
        RoleRow::new(&self.merged, log_sum_exp(&self.merged), 0.0)
    }

    fn fixed(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Option<Trace> {
        let (base, alpha) = (self.merge.base(step), self.alpha);
        self.merge.apply(step, base.logits(), alpha, out.logits, &mut self.scratch);
        if out.trace.is_empty() {
            return None;
        }
        let (forward, reverse) = kl_both(out.logits, log_sum_exp(out.logits), base.logits(), base.log_normaliser);
        let anti = *self.merge.anti(step);
        let targets = Targets::between(&self.merged(step), &anti);
        let divergences = [forward, reverse];
        Some(Trace { alpha, divergences, targets, saturated: false, inactive: false })
    }
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let trace = match self.solver.take() {
            None => self.fixed(step, out),
            Some(mut solver) => {
                let (base, anti) = (*self.merge.base(step), *self.merge.anti(step));
                let trace = solver.fuse(&base, &self.merged(step), &anti, out.logits);
                self.solver = Some(solver);
                Some(trace)
            }
        };
        if let Some(trace) = trace {
            let flag = |set: bool| if set { 1.0 } else { 0.0 };
            let [kl_fused_base, kl_base_fused] = trace.divergences;
            let Targets { forward: kl_expert_anti, reverse: kl_anti_expert, .. } = trace.targets;
            let values = [
                trace.alpha,
                kl_fused_base,
                kl_base_fused,
                kl_expert_anti,
                kl_anti_expert,
                flag(trace.saturated),
                flag(trace.inactive),
            ];
            out.trace.iter_mut().zip(values).for_each(|(column, value)| *column = value);
        }
        Ok(())
    }
}

impl Clone for State {
    /// Without the contents of the buffers, which a step fills anew.
    fn clone(&self) -> Self {
        let (merge, solver) = (self.merge.clone(), self.solver.clone());
        Self { merge, solver, alpha: self.alpha, merged: Vec::new(), scratch: Vec::new() }
    }
}

impl Solver {
    fn fuse(&mut self, base: &RoleRow<'_>, expert: &RoleRow<'_>, anti: &RoleRow<'_>, out: &mut [f32]) -> Trace {
        // The direction stands where the fused row will, which is in the cache then.
        let targets = Targets::with_direction(expert, anti, out);
        self.family.summarise(base.logits(), base.log_normaliser, out);
        let solution = self.family.solve(self.objective, &targets, self.bounds);
        // Where no strength changes anything, the base is to keep its bits.
        let alpha = if solution.inactive { 0.0 } else { solution.alpha };
        linear_combination(base.logits(), 1.0, &[Contrast::between(alpha, expert, anti)], out);
        Trace {
            alpha,
            divergences: [solution.kl_tilted_base, solution.kl_base_tilted],
            targets,
            saturated: solution.saturated,
            inactive: solution.inactive,
        }
    }
}
