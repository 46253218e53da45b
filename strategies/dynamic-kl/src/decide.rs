//! One step of fusion, in each of the three modes.

use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{Contrast, linear_combination};
use logitfuse_numerics::Targets;

use crate::{
    Experts, Params, Pool, StepRows,
    joint::Joint,
    pool::Pooler,
    strength::{Limits, Strength, StrengthSolver},
};

/// The outcome of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    pub(crate) strength: Strength,
    /// The divergences to be matched.
    targets: Targets,
    loss: f64,
    no_expert: f64,
    top_expert: usize,
    top_weight: f64,
}

impl Decision {
    /// The values of the trace's columns.
    pub(crate) fn trace(&self) -> [f64; 11] {
        let flag = |set: bool| if set { 1.0 } else { 0.0 };
        let Strength { alpha, kl_fused_base, kl_base_fused, saturated, inactive, .. } = self.strength;
        [
            alpha,
            kl_fused_base,
            kl_base_fused,
            self.targets.forward,
            self.targets.reverse,
            self.loss,
            flag(saturated),
            flag(inactive),
            self.no_expert,
            self.top_expert as f64,
            self.top_weight,
        ]
    }
}

/// Computes steps. Its buffers are reused between steps; it has no other state.
#[derive(Debug)]
pub(crate) struct Decider {
    mode: Experts,
    pool: Pool,
    bounds: [f64; 2],
    solver: StrengthSolver,
    pooler: Pooler,
    joint: Joint,
    /// Of each expert.
    targets: Vec<Targets>,
}

impl Decider {
    pub(crate) fn new(params: &Params) -> Self {
        Self {
            mode: params.experts,
            pool: params.pool.unwrap_or_default(),
            bounds: params.bounds,
            solver: StrengthSolver::new(params),
            pooler: Pooler::default(),
            joint: Joint::default(),
            targets: Vec::new(),
        }
    }

    /// Fuses the pool that these weights make.
    pub(crate) fn pooled(
        &mut self,
        rows: StepRows<'_>,
        weights: &[f64],
        no_expert: f64,
        limits: Limits,
        out: &mut [f32],
    ) -> Decision {
        let (expert, anti) = self.pooler.pool(self.pool, rows, weights, no_expert);
        let targets = self.solver.set_direction(rows.base(), &expert, &anti, out);
        let strength = self.solver.solve(&targets, limits);
        self.solver.fuse(rows.base(), &expert, &anti, strength.alpha, out);
        let mut top_expert = 0;
        for (index, weight) in weights.iter().enumerate() {
            if *weight > weights[top_expert] {
                top_expert = index;
            }
        }
        let loss = self.solver.loss(&strength, &targets);
        Decision { strength, targets, loss, no_expert, top_expert, top_weight: weights[top_expert] }
    }

    /// Fuses several experts without weights: the published search, or the experiment.
    pub(crate) fn unweighted(&mut self, rows: StepRows<'_>, limits: Limits, out: &mut [f32]) -> Decision {
        self.targets.clear();
        for index in 0..rows.experts() {
            self.targets.push(self.solver.targets(rows.expert(index), rows.anti(index)));
        }
        let centre = self.solver.centre(&self.targets);
        let (strength, top_expert, top_weight) = match self.mode {
            Experts::JointMinnorm => self.jointly(rows, &centre, limits, out),
            Experts::OneExpert | Experts::Pool => self.best_alone(rows, &centre, limits, out),
        };
        let loss = self.targets.iter().map(|targets| self.solver.loss(&strength, targets)).sum();
        Decision { strength, targets: centre, loss, no_expert: 0.0, top_expert, top_weight }
    }

    /// The best expert alone. The sum of the losses against all experts' targets is the loss against their centre and a
    /// constant, so experts are compared by the loss against the centre.
    fn best_alone(
        &mut self,
        rows: StepRows<'_>,
        centre: &Targets,
        limits: Limits,
        out: &mut [f32],
    ) -> (Strength, usize, f64) {
        let mut best = (0, f64::INFINITY);
        let mut strength = Strength::NONE;
        for index in 0..rows.experts() {
            self.solver.set_direction(rows.base(), rows.expert(index), rows.anti(index), out);
            let alone = self.solver.solve(centre, limits.unsmoothed());
            let loss = self.solver.loss(&alone, centre);
            if loss < best.1 {
                best = (index, loss);
                strength = alone;
            }
        }
        let (expert, anti) = (rows.expert(best.0), rows.anti(best.0));
        if limits.smooths() {
            self.solver.set_direction(rows.base(), expert, anti, out);
            strength = self.solver.solve(centre, limits);
        }
        tilt(rows.base(), expert, anti, strength.alpha, out);
        (strength, best.0, 1.0)
    }

    /// A strength for each expert, started at that of a uniform pool.
    fn jointly(
        &mut self,
        rows: StepRows<'_>,
        centre: &Targets,
        limits: Limits,
        out: &mut [f32],
    ) -> (Strength, usize, f64) {
        let share = 1.0 / rows.experts() as f64;
        let uniform = &mut self.joint.alphas;
        uniform.clear();
        uniform.resize(rows.experts(), share);
        let (expert, anti) = self.pooler.pool(Pool::Geometric, rows, uniform, 0.0);
        self.solver.set_direction(rows.base(), &expert, &anti, out);
        let start = self.solver.solve(centre, limits);
        if start.inactive {
            tilt(rows.base(), &expert, &anti, 0.0, out);
            return (start, 0, share);
        }
        let targets = [centre.forward, centre.reverse];
        let [kl_fused_base, kl_base_fused] = self.joint.solve(rows, targets, self.bounds, start.alpha * share, out);
        let alphas = &self.joint.alphas;
        let alpha: f64 = alphas.iter().sum();
        let mut top = 0;
        for (index, strength) in alphas.iter().enumerate() {
            if *strength > alphas[top] {
                top = index;
            }
        }
        let saturated = alphas.contains(&self.bounds[1]);
        let top_weight = if alpha > 0.0 { alphas[top] / alpha } else { share };
        (Strength { alpha, kl_fused_base, kl_base_fused, saturated, inactive: false }, top, top_weight)
    }
}

/// Writes `base + alpha · (expert − anti)`.
fn tilt(base: &RoleRow<'_>, expert: &RoleRow<'_>, anti: &RoleRow<'_>, alpha: f64, out: &mut [f32]) {
    linear_combination(base.logits(), 1.0, &[Contrast::between(alpha, expert, anti)], out);
}
