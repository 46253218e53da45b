//! Group memory: writes beyond rows or into inputs, answers that were never written, pointers that were kept, memory that
//! grows.

use crate::{
    Outcome,
    context::{CaseContext, unknown},
};

pub(crate) const CASES: &[&str] = &["guard-page-after", "guard-page-before", "growth"];

pub(crate) fn run(name: &str, context: CaseContext<'_>) -> Outcome {
    match name {
        #[cfg(unix)]
        "guard-page-after" => guarded_play::run(context, crate::guard_page::GuardPage::After).into(),
        #[cfg(unix)]
        "guard-page-before" => guarded_play::run(context, crate::guard_page::GuardPage::Before).into(),
        #[cfg(not(unix))]
        "guard-page-after" | "guard-page-before" => Outcome::Skipped("guard pages need mmap".to_owned()),
        "growth" => growth::run(context),
        _ => unknown(name),
    }
}

#[cfg(unix)]
mod guarded_play {
    use logitfuse_conformance::Case;
    use logitfuse_conformance::generators::{RowKind, row_of};
    use logitfuse_core::numerics::log_sum_exp;
    use logitfuse_core::{FusedRow, FusionState, FusionStep, FusionStrategy, RoleRow};
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use crate::{
        context::CaseContext,
        guard_page::{GuardPage, GuardedArray, RevokedArray},
        subject::{RoleCounts, draw, fitted, session},
    };

    /// Around the lanes of vector units, and around a page.
    const WIDTHS: [usize; 8] = [1, 2, 3, 17, 64, 1023, 1024, 4099];

    pub(crate) fn run((subject, strategy, role_counts): CaseContext<'_>, guard: GuardPage) -> Result<(), String> {
        let mut runner = subject.runner(11);
        for counts in role_counts {
            for width in WIDTHS {
                play(strategy, &wide(counts, width, &mut runner)?, guard)?;
            }
            for _ in 0..subject.cases {
                play(strategy, &draw(counts, &mut runner)?, guard)?;
            }
        }
        Ok(())
    }

    fn wide(counts: &RoleCounts, width: usize, runner: &mut TestRunner) -> Result<Case, String> {
        let session = session(counts, width);
        let mut row =
            |kind| row_of(kind, width, 0).new_tree(runner).map(|tree| tree.current()).map_err(|e| e.to_string());
        let kinds = [RowKind::Ordinary, RowKind::Masked, RowKind::Padded];
        let mut steps = Vec::new();
        for kind in kinds {
            steps.push(session.bindings.iter().map(|_| row(kind)).collect::<Result<_, _>>()?);
        }
        Ok(Case { session, steps, tokens: vec![0; 3] })
    }

    /// Plays a case with everything that the plugin is lent beside guard pages, all access to it revoked after each call.
    fn play(strategy: &dyn FusionStrategy, case: &Case, guard: GuardPage) -> Result<(), String> {
        let text = |e: logitfuse_core::Error| e.to_string();
        let io = |e: std::io::Error| format!("memory could not be protected: {e}");
        let fitted = fitted(strategy, case).map_err(text)?;
        let strategy = fitted.as_deref().unwrap_or(strategy);
        let mut state = strategy.start(&case.session).map_err(text)?;
        let mut gone: Vec<RevokedArray<f32>> = Vec::new();
        let mut tokens_gone: Vec<RevokedArray<u32>> = Vec::new();
        let guarded = |row: &Vec<f32>| GuardedArray::new(row, guard).and_then(GuardedArray::read_only);
        for (rows, next) in case.prompt(strategy) {
            let rows: Vec<GuardedArray<f32>> = rows.iter().map(guarded).collect::<Result<_, _>>().map_err(io)?;
            state.read_prompt(&FusionStep::new(&lend(&rows, |_| 0.0), &[]), next).map_err(text)?;
            gone.extend(revoke(rows).map_err(io)?);
        }
        let rows: Vec<GuardedArray<f32>> = case.steps[0].iter().map(guarded).collect::<Result<_, _>>().map_err(io)?;
        let scores = case.prompt_scores(strategy);
        state.begin(&FusionStep::new(&lend(&rows, |_| 0.0), &[]), &scores).map_err(text)?;
        gone.extend(revoke(rows).map_err(io)?);
        for step in 0..case.steps.len() {
            let rows: Vec<GuardedArray<f32>> =
                case.steps[step].iter().map(guarded).collect::<Result<_, _>>().map_err(io)?;
            let committed =
                GuardedArray::new(&case.tokens[..step], guard).and_then(GuardedArray::read_only).map_err(io)?;
            let columns = if step % 2 == 0 { strategy.info().trace.len() } else { 0 };
            fuse(state.as_mut(), case, step, &rows, &committed, guard, columns)?;
            let chosen =
                GuardedArray::new(&case.tokens[step..=step], guard).and_then(GuardedArray::read_only).map_err(io)?;
            gone.extend(revoke(rows).map_err(io)?);
            tokens_gone.push(committed.revoke().map_err(io)?);
            state.commit(chosen.as_slice()).map_err(text)?;
            tokens_gone.push(chosen.revoke().map_err(io)?);
        }
        Ok(())
    }

    fn lend(rows: &[GuardedArray<f32>], sequence_log_prob: impl Fn(usize) -> f64) -> Vec<RoleRow<'_>> {
        let rows = rows.iter().map(GuardedArray::as_slice).enumerate();
        rows.map(|(index, row)| RoleRow::new(row, log_sum_exp(row), sequence_log_prob(index))).collect()
    }

    fn revoke(rows: Vec<GuardedArray<f32>>) -> std::io::Result<Vec<RevokedArray<f32>>> {
        rows.into_iter().map(GuardedArray::revoke).collect()
    }

    fn fuse(
        state: &mut dyn FusionState,
        case: &Case,
        step: usize,
        rows: &[GuardedArray<f32>],
        committed: &GuardedArray<u32>,
        guard: GuardPage,
        columns: usize,
    ) -> Result<(), String> {
        let io = |e: std::io::Error| format!("memory could not be protected: {e}");
        let lent = lend(rows, |index| case.sequence_log_prob(index, step));
        let mut logits = GuardedArray::new(&vec![f32::NAN; case.width()], guard).map_err(io)?;
        let mut trace = GuardedArray::new(&vec![f64::NAN; columns], guard).map_err(io)?;
        let mut out = FusedRow { logits: logits.as_mut_slice(), trace: trace.as_mut_slice() };
        // That every entry is written the host sees.
        state.fuse(&FusionStep::new(&lent, committed.as_slice()), &mut out).map_err(|e| e.to_string())
    }
}

mod growth {
    use crate::{Outcome, context::CaseContext, subject};

    /// What the allocator may keep for itself, in bytes a call.
    const SLACK: f64 = 256.0;
    const CALLS: u32 = 4_000;

    /// `fuse` without a commit has no lasting effect, so it has no lasting memory either.
    pub(crate) fn run((subject, strategy, role_counts): CaseContext<'_>) -> Outcome {
        let Some(before_all) = resident() else { return Outcome::Skipped("this system does not tell".to_owned()) };
        let case = match subject::draw(&role_counts[0], &mut subject.runner(12)) {
            Ok(case) => case,
            Err(what) => return Outcome::Failed(what),
        };
        let fuse_often = |times: u32| -> Result<(), logitfuse_core::Error> {
            let fitted = subject::fitted(strategy, &case)?;
            let strategy = fitted.as_deref().unwrap_or(strategy);
            let mut state = case.start(strategy)?;
            (0..times).try_for_each(|_| subject::fuse(state.as_mut(), &case, 0, strategy.info().trace.len()).map(drop))
        };
        // The first calls fill caches and scratch buffers.
        let grown = fuse_often(200).and_then(|()| {
            let before = resident().unwrap_or(before_all);
            fuse_often(CALLS)?;
            Ok(resident().unwrap_or(before).saturating_sub(before))
        });
        let per_call = match grown {
            Ok(bytes) => bytes as f64 / f64::from(CALLS),
            Err(e) => return Outcome::Failed(e.to_string()),
        };
        if per_call > SLACK {
            Outcome::Failed(format!("fuse keeps about {per_call:.0} bytes a call"))
        } else {
            Outcome::passed()
        }
    }

    /// The memory of this process, in bytes.
    fn resident() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }
}
