//! What a [`FusionStrategy`] must obey.
//!
//! The first group holds for every strategy; [`contract`] checks it all. The second group is for strategies that claim it
//! in `StrategyInfo::laws`; [`claimed`] checks what is claimed. The last two, [`identity`] and [`monotone_kl`], need rows or
//! parameters of a certain kind, so the caller decides when they apply.

use std::thread;

use logitfuse_core::numerics::{argmax, check_row, kl_divergence, log_sum_exp, softmax};
use logitfuse_core::{Error, ErrorKind, FusionStrategy, Law, TokenId};

use crate::case::Output;
use crate::lowered::evaluate;
use crate::{Case, Violation};

/// The largest total variation that rounding may explain.
const TOLERANCE: f64 = 1e-4;

/// Checks every law that holds without being claimed.
pub fn contract(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    valid_output(strategy, case)?;
    fuse_is_idempotent(strategy, case)?;
    fork_is_a_copy(strategy, case)?;
    rollback_is_replay(strategy, case)?;
    states_are_independent(strategy, case)?;
    threads_agree(strategy, case)?;
    trace_changes_nothing(strategy, case)?;
    an_abandoned_fuse_is_forgotten(strategy, case)?;
    lowering_agrees(strategy, case)?;
    early_exit_equals_fuse(strategy, case)
}

/// Checks those laws that the strategy claims and that need no special parameters: `shift-invariant`,
/// `vocab-equivariant`, `mask-preserving`, `argmax-invariant`, `linear-in: ROLE`.
pub fn claimed(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    for law in &strategy.info().laws {
        match law {
            Law::ShiftInvariant => shift_invariant(strategy, case)?,
            Law::VocabEquivariant => vocab_equivariant(strategy, case)?,
            Law::MaskPreserving => mask_preserving(strategy, case)?,
            Law::ArgmaxInvariant => argmax_invariant(strategy, case)?,
            Law::LinearIn(role) => linear_in(strategy, case, role)?,
            _ => {}
        }
    }
    Ok(())
}

/// Every fused row is written in full and holds finite values or `-inf`, one finite value at least.
pub fn valid_output(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "valid-output";
    for (step, output) in run(LAW, strategy, case)?.iter().enumerate() {
        check_row(&output.logits).map_err(|e| Violation::new(LAW, e.context(format_args!("position {step}"))))?;
    }
    Ok(())
}

/// `fuse`, called again before a commit, writes the same bits.
pub fn fuse_is_idempotent(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "fuse-is-idempotent";
    let failed = Violation::because(LAW);
    let once = run(LAW, strategy, case)?;
    let mut state = case.start(strategy).map_err(&failed)?;
    for (step, once) in once.iter().enumerate() {
        // Twice, with another position's rows between, as a search that looks around would do.
        case.fuse(strategy, state.as_mut(), step).map_err(&failed)?;
        let mut elsewhere = case.clone();
        elsewhere.steps[step].clone_from(&case.steps[case.steps.len() - 1 - step]);
        elsewhere.fuse(strategy, state.as_mut(), step).map_err(&failed)?;
        let again = case.fuse(strategy, state.as_mut(), step).map_err(&failed)?;
        same_bits(LAW, step, once, &again)?;
        state.commit(&case.tokens[step..=step]).map_err(&failed)?;
    }
    Ok(())
}

/// A strategy that is written as a graph, [`FusionStrategy::lower`], gives the same distribution as a graph, up to what f32
/// rounds. A solver of few steps may find another minimum of its `loss`, if it reports one, which must be as good.
pub fn lowering_agrees(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "lowering-agrees";
    const LOWERED_TOLERANCE: f64 = 2e-3;
    const LARGEST_LOGIT: f32 = 1e3;
    let Ok(graph) = strategy.lower(&case.session) else { return Ok(()) };
    let parameters: Vec<f32> = graph.parameters().iter().map(|parameter| parameter.default).collect();
    let columns: Vec<&str> = strategy.info().trace.iter().map(|column| column.name.as_str()).collect();
    if let Some((name, _)) = graph.trace().iter().find(|(name, _)| !columns.contains(&name.as_str())) {
        return Err(Violation::new(LAW, format_args!("the graph reports `{name}`, which is no column of the trace")));
    }
    for (step, output) in run(LAW, strategy, case)?.iter().enumerate() {
        let rows: Vec<&[f32]> = case.steps[step].iter().map(Vec::as_slice).collect();
        // A strength in f32 leaves a part in a million of such logits open, and no model gives them.
        if rows.iter().any(|row| row.iter().any(|x| x.is_finite() && x.abs() > LARGEST_LOGIT)) {
            continue;
        }
        let lowered = evaluate(&graph, &rows, &parameters);
        let distance = total_variation(&output.logits, &lowered.fused);
        if distance <= LOWERED_TOLERANCE {
            continue;
        }
        let of_graph = |name: &str| {
            graph.trace().iter().position(|(known, _)| known == name).map(|at| f64::from(lowered.trace[at]))
        };
        let of_fuse = |name: &str| columns.iter().position(|known| *known == name).map(|at| output.trace[at]);
        let (loss, own_loss) = (loss(of_graph), loss(of_fuse));
        let as_good = loss.zip(own_loss).is_some_and(|(loss, own)| loss <= own + LOWERED_TOLERANCE * own.max(0.1));
        if !as_good {
            let what = format_args!(
                "position {step}: the graph's distribution is {distance} away; loss {loss:?}, that of `fuse` {own_loss:?}"
            );
            return Err(Violation::new(LAW, what));
        }
    }
    Ok(())
}

/// What a solver minimised: its `loss`, or that of the published objective for the divergences that it reports.
fn loss(column: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    if let Some(loss) = column("loss").filter(|loss| !loss.is_nan()) {
        return Some(loss);
    }
    let beyond = |kl: &str, target: &str| Some(column(kl)? - column(target)?);
    let [forward, reverse] = [("kl_fused_base", "kl_expert_anti"), ("kl_base_fused", "kl_anti_expert")];
    Some(beyond(forward.0, forward.1)?.powi(2) + beyond(reverse.0, reverse.1)?.powi(2))
}

/// Calibration changes nothing about the strategy that was calibrated, gives the same again from the same rows, and fails if
/// the rows after a prompt cannot be had. Holds of what takes no calibration prompts.
pub fn calibration_is_repeatable(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "calibration-is-repeatable";
    let failed = Violation::because(LAW);
    let Some(spec) = &strategy.info().calibration else { return Ok(()) };
    let before = if spec.required { Vec::new() } else { run(LAW, strategy, case)? };
    let [once, again] = [(); 2].map(|()| case.calibrated(strategy));
    let (Some(once), Some(again)) = (once.map_err(&failed)?, again.map_err(&failed)?) else {
        return Err(Violation::new(LAW, "it asks for calibration prompts and takes none"));
    };
    let (once, again) = (run(LAW, once.as_ref(), case)?, run(LAW, again.as_ref(), case)?);
    for (step, (once, again)) in once.iter().zip(&again).enumerate() {
        same_bits(LAW, step, once, again)?;
    }
    let after = if spec.required { Vec::new() } else { run(LAW, strategy, case)? };
    for (step, (before, after)) in before.iter().zip(&after).enumerate() {
        same_bits(LAW, step, before, after)?;
    }
    let mut asked = false;
    let fitted = strategy.calibrated(&case.session, &mut |_| {
        asked = true;
        Err(Error::new(ErrorKind::Backend, "a model failed"))
    });
    if asked && fitted.is_ok() {
        return Err(Violation::new(LAW, "it was calibrated by prompts that could not be run"));
    }
    Ok(())
}

/// The fused row has the same bits whether the trace was asked for or not.
pub fn trace_changes_nothing(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "trace-changes-nothing";
    let failed = Violation::because(LAW);
    let mut state = case.start(strategy).map_err(&failed)?;
    for (step, traced) in run(LAW, strategy, case)?.into_iter().enumerate() {
        let plain = case.fuse_with_trace(state.as_mut(), step, 0).map_err(&failed)?;
        let expected = Output { trace: Vec::new(), ..traced };
        same_bits(LAW, step, &expected, &plain)?;
        state.commit(&case.tokens[step..=step]).map_err(&failed)?;
    }
    Ok(())
}

/// An early exit writes what `fuse` writes, trace included, and so do the positions after it: an engine that leaves the other
/// sources idle gets the same text. A strategy without a lead role never exits early.
pub fn early_exit_equals_fuse(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "early-exit-equals-fuse";
    let failed = Violation::because(LAW);
    let expected = run(LAW, strategy, case)?;
    let mut state = case.start(strategy).map_err(&failed)?;
    for (step, expected) in expected.iter().enumerate() {
        let exited = case.early_exit(strategy, state.as_mut(), step).map_err(&failed)?;
        if exited.is_some() && strategy.info().lead_role.is_none() {
            return Err(Violation::new(LAW, format!("position {step}: early exit without a lead role")));
        }
        let output = match exited {
            Some(output) => output,
            None => case.fuse(strategy, state.as_mut(), step).map_err(&failed)?,
        };
        same_bits(LAW, step, expected, &output)?;
        state.commit(&case.tokens[step..=step]).map_err(&failed)?;
    }
    Ok(())
}

/// A fork and its original give equal outputs for equal inputs, and neither disturbs the other.
pub fn fork_is_a_copy(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "fork-is-a-copy";
    let failed = Violation::because(LAW);
    let expected = run(LAW, strategy, case)?;
    for at in 0..case.steps.len() {
        let mut original = case.start(strategy).map_err(&failed)?;
        case.run(strategy, original.as_mut(), 0..at).map_err(&failed)?;
        let mut fork = original.fork().map_err(&failed)?;
        let rest = at..case.steps.len();
        let of_fork = case.run(strategy, fork.as_mut(), rest.clone()).map_err(&failed)?;
        drop(fork);
        let of_original = case.run(strategy, original.as_mut(), rest.clone()).map_err(&failed)?;
        for ((step, of_fork), of_original) in rest.zip(&of_fork).zip(&of_original) {
            same_bits(LAW, step, &expected[step], of_fork)?;
            same_bits(LAW, step, &expected[step], of_original)?;
        }
    }
    Ok(())
}

/// After `rollback(n)` the state is as if the last `n` tokens had never been committed.
pub fn rollback_is_replay(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "rollback-is-replay";
    let failed = Violation::because(LAW);
    let expected = run(LAW, strategy, case)?;
    let end = case.steps.len();
    for n in 0..=end {
        let mut state = case.start(strategy).map_err(&failed)?;
        case.run(strategy, state.as_mut(), 0..end).map_err(&failed)?;
        state.rollback(n).map_err(&failed)?;
        let replayed = case.run(strategy, state.as_mut(), end - n..end).map_err(&failed)?;
        for (step, replayed) in (end - n..end).zip(&replayed) {
            same_bits(LAW, step, &expected[step], replayed)?;
        }
    }
    Ok(())
}

/// A token may be committed without a `fuse`, and a `fuse` that `rollback(0)` took back counts as none.
pub fn an_abandoned_fuse_is_forgotten(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "an-abandoned-fuse-is-forgotten";
    let failed = Violation::because(LAW);
    let end = case.steps.len();
    for skipped in 0..end {
        let rest = skipped + 1..end;
        let run_on = |abandon: bool| {
            let mut state = case.start(strategy)?;
            case.run(strategy, state.as_mut(), 0..skipped)?;
            if abandon {
                case.fuse(strategy, state.as_mut(), skipped)?;
                state.rollback(0)?;
            }
            state.commit(&case.tokens[skipped..=skipped])?;
            case.run(strategy, state.as_mut(), rest.clone())
        };
        let (expected, seen) = (run_on(false).map_err(&failed)?, run_on(true).map_err(&failed)?);
        for ((step, expected), seen) in rest.clone().zip(&expected).zip(&seen) {
            same_bits(LAW, step, expected, seen)?;
        }
    }
    Ok(())
}

/// Two sequences whose steps take turns get what each gets alone.
pub fn states_are_independent(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "states-are-independent";
    let failed = Violation::because(LAW);
    // A second sequence of other content: the same positions backwards.
    let mut other = case.clone();
    other.steps.reverse();
    other.tokens.reverse();
    let cases = [case, &other];
    let expected = [run(LAW, strategy, case)?, run(LAW, strategy, &other)?];
    let mut states = Vec::new();
    for case in cases {
        states.push(case.start(strategy).map_err(&failed)?);
    }
    for step in 0..case.steps.len() {
        for ((case, state), expected) in cases.iter().zip(&mut states).zip(&expected) {
            let outputs = case.run(strategy, state.as_mut(), step..step + 1).map_err(&failed)?;
            same_bits(LAW, step, &expected[step], &outputs[0])?;
        }
    }
    Ok(())
}

/// States that run on several threads at the same time get what one gets alone.
pub fn threads_agree(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "threads-agree";
    let expected = run(LAW, strategy, case)?;
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| run(LAW, strategy, case)));
        for thread in threads {
            let outputs = thread.join().map_err(|_| Violation::new(LAW, "a thread panicked"))??;
            for (step, (expected, output)) in expected.iter().zip(&outputs).enumerate() {
                same_bits(LAW, step, expected, output)?;
            }
        }
        Ok(())
    })
}

/// A constant added to all logits of a source changes no probability.
///
/// Checked on rows put onto a grid where adding the constant is exact, so that rounding cannot hide a fault, nor be one.
pub fn shift_invariant(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "shift-invariant";
    let onto_grid = |x: &f32| if x.is_finite() { (x.clamp(-64.0, 64.0) * 256.0).round() / 256.0 } else { *x };
    let on_grid = case.map_rows(|_, row| row.iter().map(onto_grid).collect());
    let shifted = on_grid.map_rows(|index, row| {
        let constant = [7.0, -31.0, 50.0][index % 3];
        row.iter().map(|x| x + constant).collect()
    });
    close(LAW, 0.0, &run(LAW, strategy, &on_grid)?, &run(LAW, strategy, &shifted)?)
}

/// Renaming the token ids renames the result's, and changes nothing else.
///
/// Sums over the vocabulary round differently in another order, and what is computed from them moves in its last digits.
/// Where that is multiplied with logits of size 1e4, probabilities may move visibly; so logits that agree to the last
/// digits of the case's largest are accepted as well.
pub fn vocab_equivariant(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "vocab-equivariant";
    let width = case.width();
    // Backwards, then rotated: no id of a vocabulary of three or more stays, and blocks are torn apart.
    let from = |id: usize| (width - 1 - id + width / 3) % width;
    let permute = |row: &[f32]| (0..width).map(|id| row[from(id)]).collect::<Vec<f32>>();
    let mut renamed = case.map_rows(|_, row| permute(row));
    for token in &mut renamed.tokens {
        let new = (0..width).find(|&id| from(id) == *token as usize).unwrap_or(0);
        *token = TokenId::try_from(new).unwrap_or(0);
    }
    let mut expected = run(LAW, strategy, case)?;
    for output in &mut expected {
        output.logits = permute(&output.logits);
    }
    let largest = case.steps.iter().flatten().flatten().filter(|x| x.is_finite()).fold(0.0, |a: f32, x| a.max(x.abs()));
    close(LAW, 4.0 * f64::from(f32::EPSILON * largest), &expected, &run(LAW, strategy, &renamed)?)
}

/// An id that is masked in role `base` is masked in the result.
pub fn mask_preserving(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "mask-preserving";
    let base = base(LAW, case)?;
    for (step, output) in run(LAW, strategy, case)?.iter().enumerate() {
        let unmasked = |(base, fused): (&f32, &f32)| *base == f32::NEG_INFINITY && *fused != f32::NEG_INFINITY;
        if let Some(id) = case.steps[step][base].iter().zip(&output.logits).position(unmasked) {
            return Err(Violation::new(LAW, format!("position {step}: id {id} is {} again", output.logits[id])));
        }
    }
    Ok(())
}

/// The result is role `base`, bit for bit: what `identity-at` claims, to be called with a strategy of those parameters, or
/// with a case where nothing is to be fused, such as [`Case::with_role_equal`] of expert and anti.
pub fn identity(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "identity";
    let base = base(LAW, case)?;
    for (step, output) in run(LAW, strategy, case)?.iter().enumerate() {
        let pairs = || case.steps[step][base].iter().zip(&output.logits);
        if let Some(id) = pairs().position(|(base, fused)| base.to_bits() != fused.to_bits()) {
            let (was, is) = (case.steps[step][base][id], output.logits[id]);
            return Err(Violation::new(LAW, format!("position {step}: id {id} was {was} in the base and is {is}")));
        }
    }
    Ok(())
}

/// The base's top token stays a top token.
pub fn argmax_invariant(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    const LAW: &str = "argmax-invariant";
    let base = base(LAW, case)?;
    for (step, output) in run(LAW, strategy, case)?.iter().enumerate() {
        let (was, is) = (argmax(&case.steps[step][base]), argmax(&output.logits));
        if output.logits[was] < output.logits[is] {
            return Err(Violation::new(LAW, format!("position {step}: id {is} has overtaken id {was}")));
        }
    }
    Ok(())
}

/// The fused logits are an affine function of the rows of `role`: half way between two rows of that role lies what is
/// half way between their results. Checked without masks, which are not linear, on rows of moderate size.
pub fn linear_in(strategy: &dyn FusionStrategy, case: &Case, role: &str) -> Result<(), Violation> {
    const LAW: &str = "linear-in";
    let onto_grid = |x: &f32| if x.is_finite() { (x.clamp(-32.0, 32.0) * 64.0).round() / 64.0 } else { -16.0 };
    let one = case.map_rows(|_, row| row.iter().map(onto_grid).collect());
    let rows_of_role: Vec<usize> = one.session.rows_of(role).collect();
    let vary = |f: &dyn Fn(f32, f32) -> f32| {
        one.map_rows(|index, row| {
            let other = row.iter().rev();
            if rows_of_role.contains(&index) {
                row.iter().zip(other).map(|(&a, &b)| f(a, b)).collect()
            } else {
                row.to_vec()
            }
        })
    };
    let (other, middle) = (vary(&|_, b| b), vary(&|a, b| 0.5 * (a + b)));
    let mut expected = run(LAW, strategy, &one)?;
    for (output, other) in expected.iter_mut().zip(run(LAW, strategy, &other)?) {
        for (a, b) in output.logits.iter_mut().zip(other.logits) {
            *a = 0.5 * (*a + b);
        }
    }
    close(LAW, 0.0, &expected, &run(LAW, strategy, &middle)?)
}

/// Of strategies that differ in one parameter, given in its order, a later one goes no less far from the base: KL(fused‖base)
/// does not decrease. What `monotone-kl-in` claims.
pub fn monotone_kl(strategies: &[&dyn FusionStrategy], case: &Case) -> Result<(), Violation> {
    const LAW: &str = "monotone-kl-in";
    /// Nats that rounding explains, beside that of a logit.
    const SLACK: f64 = 1e-4;
    let base = base(LAW, case)?;
    let mut last: Option<Vec<(f64, f64)>> = None;
    for strategy in strategies {
        let distances: Vec<(f64, f64)> = run(LAW, *strategy, case)?
            .iter()
            .zip(&case.steps)
            .map(|(output, rows)| {
                let (fused, base) = (&output.logits, &rows[base]);
                let largest = fused.iter().filter(|x| x.is_finite()).fold(0.0_f32, |max, x| max.max(x.abs()));
                let distance = kl_divergence(fused, log_sum_exp(fused), base, log_sum_exp(base));
                (distance, 4.0 * f64::from(f32::EPSILON * largest))
            })
            .collect();
        for (step, ((before, _), (now, rounding))) in last.iter().flatten().zip(&distances).enumerate() {
            if *now < before - SLACK * before.max(1.0) - rounding {
                return Err(Violation::new(LAW, format!("position {step}: from {before} back to {now} nats")));
            }
        }
        last = Some(distances);
    }
    Ok(())
}

fn base(law: &'static str, case: &Case) -> Result<usize, Violation> {
    case.session.row_of("base").ok_or_else(|| Violation::new(law, "the case has no role base"))
}

pub(crate) fn run(law: &'static str, strategy: &dyn FusionStrategy, case: &Case) -> Result<Vec<Output>, Violation> {
    case.run_all(strategy).map_err(Violation::because(law))
}

pub(crate) fn same_bits(law: &'static str, step: usize, expected: &Output, seen: &Output) -> Result<(), Violation> {
    if expected.bits() == seen.bits() {
        return Ok(());
    }
    let detail = match expected.logits.iter().zip(&seen.logits).position(|(a, b)| a.to_bits() != b.to_bits()) {
        Some(id) => format!("position {step}: id {id} is {}, not {}", seen.logits[id], expected.logits[id]),
        None => format!("position {step}: the trace is {:?}, not {:?}", seen.trace, expected.trace),
    };
    Err(Violation::new(law, detail))
}

/// Equal within what rounding explains: in probabilities, or within `margin` in every logit.
pub(crate) fn close(law: &'static str, margin: f64, expected: &[Output], seen: &[Output]) -> Result<(), Violation> {
    for (step, (expected, seen)) in expected.iter().zip(seen).enumerate() {
        let distance = total_variation(&expected.logits, &seen.logits);
        // NaN, the difference of two masked entries, is not above the margin.
        let apart = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs() > margin;
        let differs = expected.logits.iter().zip(&seen.logits).any(apart);
        if differs && (distance.is_nan() || distance > TOLERANCE) {
            let detail = format!("position {step}: total variation {distance:.2e}, more than {TOLERANCE:.0e}");
            return Err(Violation::new(law, detail));
        }
    }
    Ok(())
}

fn total_variation(a: &[f32], b: &[f32]) -> f64 {
    let probabilities = |row: &[f32]| {
        let mut p = vec![0.0; row.len()];
        softmax(row, log_sum_exp(row), &mut p);
        p
    };
    let pairs = probabilities(a).into_iter().zip(probabilities(b));
    0.5 * pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
}
