//! Strategies as each other's oracles.
//!
//! Rules of fusion contain one another: proxy tuning of strength 0 is the base, one task vector is proxy tuning, a contrast
//! of two prompts is a task vector. Two implementations that were written apart and agree on thousands of odd rows are
//! better evidence than either one's own tests.
//!
//! ```
//! use logitfuse_core::FusionStrategy;
//! use logitfuse_conformance::{generators, oracles};
//! use proptest::prelude::*;
//! # use logitfuse_core::*;
//! # struct Copy(StrategyInfo);
//! # #[derive(Clone)] struct State(usize);
//! # impl FusionStrategy for Copy {
//! #     fn info(&self) -> &StrategyInfo { &self.0 }
//! #     fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
//! #         Ok(Box::new(State(session.row_of(&self.0.roles[0].name).unwrap())))
//! #     }
//! # }
//! # impl Memoryless for State {
//! #     fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
//! #         out.logits.copy_from_slice(step.row(self.0).logits());
//! #         Ok(())
//! #     }
//! # }
//! # let copies = |role: &str| Copy(StrategyInfo::new("copy", [RoleSpec::one(role)]));
//!
//! // `copies("anti")` answers as its role `anti` does, so on a case where `anti` equals `base` it is `copies("base")`.
//! proptest!(|(case in generators::case(&[("base", 1)]))| {
//!     let renamed = case.with_roles(&[("anti", "base")]);
//!     oracles::same_bits((&copies("base"), &case), (&copies("anti"), &renamed))?;
//! });
//! ```

use logitfuse_core::FusionStrategy;

use crate::{
    Case, Violation,
    case::Output,
    strategy_laws::{close, run},
};

/// A strategy and the case that it is to fuse; [`Case::with_roles`] gives one case the roles of several strategies.
pub type Side<'a> = (&'a dyn FusionStrategy, &'a Case);

/// Both write the same bits. Their traces may differ.
pub fn same_bits(a: Side<'_>, b: Side<'_>) -> Result<(), Violation> {
    const ORACLE: &str = "same-bits";
    for (step, (a, b)) in run(ORACLE, a.0, a.1)?.iter().zip(&run(ORACLE, b.0, b.1)?).enumerate() {
        if let Some(id) = a.logits.iter().zip(&b.logits).position(|(a, b)| a.to_bits() != b.to_bits()) {
            let detail = format!("position {step}: id {id} is {} here and {} there", a.logits[id], b.logits[id]);
            return Err(Violation::new(ORACLE, detail));
        }
    }
    Ok(())
}

/// Both give the same probabilities within `1e-4` of total variation, or logits that agree to the last digits that f32
/// can hold of the case's largest: logits of size 1e30 cannot agree in probability after two different computations.
pub fn same_distribution(a: Side<'_>, b: Side<'_>) -> Result<(), Violation> {
    const ORACLE: &str = "same-distribution";
    let (of_a, of_b) = (run(ORACLE, a.0, a.1)?, run(ORACLE, b.0, b.1)?);
    for (step, (of_a, of_b)) in of_a.iter().zip(&of_b).enumerate() {
        let rows = a.1.steps[step].iter().chain(&b.1.steps[step]);
        let largest = rows.flatten().filter(|x| x.is_finite()).fold(0.0, |a: f32, x| a.max(x.abs()));
        let margin = 32.0 * f64::from(f32::EPSILON) * f64::from(largest);
        // The constant that either may add to all logits.
        let lowered = |output: &Output| {
            let top = output.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            Output { logits: output.logits.iter().map(|x| x - top).collect(), trace: Vec::new() }
        };
        close(ORACLE, margin, &[lowered(of_a)], &[lowered(of_b)])
            .map_err(|v| Violation { detail: v.detail.replacen("position 0", &format!("position {step}"), 1), ..v })?;
    }
    Ok(())
}

/// The strategy gives the role's own distribution: `expert` for rules that reduce to it.
pub fn is_role(strategy: &dyn FusionStrategy, case: &Case, role: &str) -> Result<(), Violation> {
    const ORACLE: &str = "is-role";
    let row =
        case.session.row_of(role).ok_or_else(|| Violation::new(ORACLE, format!("the case has no role {role}")))?;
    let row_of = |rows: &Vec<Vec<f32>>| Output { logits: rows[row].clone(), trace: Vec::new() };
    let expected: Vec<Output> = case.steps.iter().map(row_of).collect();
    close(ORACLE, 0.0, &expected, &run(ORACLE, strategy, case)?)
}
