use logitfuse_core::numerics::{Contrast, linear_combination};
use logitfuse_core::{Error, ErrorKind, FusionStep, ProxyRows, Result, RoleRow, SessionInfo, params::invalid};

use crate::{Params, Strength};

/// Which rows are summed, and with which factors.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    base: usize,
    tasks: Vec<Task>,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    lambda: f64,
    expert: usize,
    anti: usize,
}

impl Merge {
    pub(crate) fn new(params: &Params, session: &SessionInfo) -> Result<Self> {
        let ProxyRows { base, pairs, .. } = ProxyRows::of(session, "task-arithmetic")?;
        let antis = session.rows_of("anti").count();
        if params.strength == Strength::Dynamic && antis > 1 {
            let what = format!("anti: one source takes this role with strength dynamic, not {antis}");
            return Err(misfit(what));
        }
        let lambdas = params.lambda.clone().unwrap_or_else(|| vec![1.0 / pairs.len() as f64; pairs.len()]);
        if lambdas.len() != pairs.len() {
            let what = format_args!("{} factors for {} experts", lambdas.len(), pairs.len());
            return Err(invalid("/lambda", what)
                .with_help("give one factor for each source of role expert, or leave lambda out"));
        }
        let tasks = pairs.into_iter().zip(lambdas);
        let tasks = tasks.map(|((expert, anti), lambda)| Task { lambda, expert, anti }).collect();
        Ok(Self { base, tasks })
    }

    /// The place of the base's row.
    pub(crate) fn base_row(&self) -> usize {
        self.base
    }

    /// Each task's factor, and the places of its expert's and its anti's rows.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (f64, usize, usize)> {
        self.tasks.iter().map(|task| (task.lambda, task.expert, task.anti))
    }

    pub(crate) fn base<'a>(&self, step: &FusionStep<'a>) -> &'a RoleRow<'a> {
        &step.rows()[self.base]
    }

    /// The anti, the first one if there are several.
    pub(crate) fn anti<'a>(&self, step: &FusionStep<'a>) -> &'a RoleRow<'a> {
        &step.rows()[self.tasks[0].anti]
    }

    /// The expert, if there is one and its factor leaves it as it is.
    pub(crate) fn sole_expert<'a>(&self, step: &FusionStep<'a>) -> Option<&'a RoleRow<'a>> {
        match self.tasks[..] {
            [Task { lambda: 1.0, expert, .. }] => Some(&step.rows()[expert]),
            _ => None,
        }
    }

    /// Writes `onto + alpha · Σ lambda[t] · (expert[t] − anti[t])`, by way of `scratch` where there are many experts.
    pub(crate) fn apply(
        &self,
        step: &FusionStep<'_>,
        onto: &[f32],
        alpha: f64,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        /// Experts of one pass; with their contrasts on the stack, nothing is allocated.
        const AT_ONCE: usize = 8;
        for (pass, tasks) in self.tasks.chunks(AT_ONCE).enumerate() {
            let mut contrasts = [Contrast { weight: 0.0, towards: &[], away: &[], where_masked: 0.0 }; AT_ONCE];
            for (contrast, task) in contrasts.iter_mut().zip(tasks) {
                *contrast = Contrast::between(alpha * task.lambda, step.row(task.expert), step.row(task.anti));
            }
            if pass > 0 {
                scratch.clear();
                scratch.extend_from_slice(out);
            }
            // Contrasts of weight 0 are not looked at.
            linear_combination(if pass == 0 { onto } else { scratch }, 1.0, &contrasts, out);
        }
    }
}

fn misfit(what: String) -> Error {
    Error::new(ErrorKind::Incompatible, what).with_help(
        "task-arithmetic fuses one base, one or more experts, and one anti (or, at a fixed strength, as many as experts)",
    )
}
