//! Every law, shown to be able to fail: a strategy or source that breaks it and nothing before it.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use logitfuse_conformance::{Case, Violation, generators, oracles, source_laws, strategy_laws};
use logitfuse_core::{
    CalibrationRows, CalibrationSpec, Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law,
    LogitSource, Memoryless, Result, RoleRow, RoleSpec, Rows, SequenceId, SessionInfo, SourceInfo, Step, StrategyInfo,
    TokenId,
};
use logitfuse_replay::SyntheticSource;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

type LawCheck = fn(&dyn FusionStrategy, &Case) -> Result<(), Violation>;

/// What a strategy does wrong. `Nothing` copies the base.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Nothing,
    LeavesAnEntry,
    CountsFuses,
    ForksAfresh,
    ForgetsToRollBack,
    RemembersAbandonedFuses,
    SharesAcrossStates,
    AddsAnExpertLogit,
    PrefersLowIds,
    Unmasks,
    HeedsTheTrace,
    ExitsWithOtherBits,
    ExitsWithoutALead,
    Overtakes,
    AddsExpertProbabilities,
}

struct Faulty {
    fault: Fault,
    info: StrategyInfo,
    shared: Arc<AtomicUsize>,
}

struct State {
    fault: Fault,
    fuses: usize,
    commits: usize,
    /// Tokens that were fused before they were committed, and whether the next one was.
    charged: usize,
    pending: usize,
    shared: Arc<AtomicUsize>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        let info = StrategyInfo::new("faulty", [RoleSpec::one("base"), RoleSpec::one("expert")]).with_laws([
            Law::ShiftInvariant,
            Law::VocabEquivariant,
            Law::MaskPreserving,
            Law::ArgmaxInvariant,
            Law::linear_in("expert"),
        ]);
        let info = info.with_trace("nothing", "1");
        let info = if fault == Fault::ExitsWithOtherBits { info.with_lead_role("base") } else { info };
        Self { fault, info, shared: Arc::default() }
    }
}

impl FusionStrategy for Faulty {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State {
            fault: self.fault,
            fuses: 0,
            commits: 0,
            charged: 0,
            pending: 0,
            shared: self.shared.clone(),
        }))
    }
}

impl FusionState for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let (base, expert) = (step.row(0).logits(), step.row(1).logits());
        out.logits.copy_from_slice(base);
        self.fuses += 1;
        let last = base.len() - 1;
        match self.fault {
            Fault::LeavesAnEntry => out.logits[last] = f32::NAN,
            Fault::CountsFuses => out.logits[0] = (self.fuses - self.commits) as f32,
            Fault::ForksAfresh | Fault::ForgetsToRollBack => out.logits[0] = self.commits as f32,
            Fault::RemembersAbandonedFuses => {
                out.logits[0] = self.charged as f32;
                self.pending = 1;
            }
            Fault::SharesAcrossStates => out.logits[0] = self.shared.load(Ordering::SeqCst) as f32,
            Fault::AddsAnExpertLogit => {
                for (out, expert) in out.logits.iter_mut().zip(expert) {
                    *out += expert.clamp(0.0, 1.0);
                }
            }
            Fault::PrefersLowIds => out.logits[0] = out.logits[0].max(base.iter().copied().fold(0.0, f32::max) + 3.0),
            Fault::Unmasks => out.logits.iter_mut().filter(|x| x.is_infinite()).for_each(|x| *x = -1e30),
            Fault::HeedsTheTrace => out.logits[0] += out.trace.len() as f32,
            Fault::Overtakes => out.logits.iter_mut().filter(|x| x.is_finite()).for_each(|x| *x = -*x),
            Fault::AddsExpertProbabilities => {
                let best = expert.iter().copied().fold(f32::MIN, f32::max);
                for (out, expert) in out.logits.iter_mut().zip(expert) {
                    *out += 5.0 * (expert - best).exp();
                }
            }
            Fault::ExitsWithOtherBits | Fault::ExitsWithoutALead | Fault::Nothing => {}
        }
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, _committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        out.logits.copy_from_slice(lead.logits());
        if self.fault == Fault::ExitsWithOtherBits {
            out.logits[0] += 1.0;
        }
        Ok(matches!(self.fault, Fault::ExitsWithOtherBits | Fault::ExitsWithoutALead))
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.commits += tokens.len();
        self.charged += std::mem::take(&mut self.pending);
        self.shared.fetch_add(tokens.len(), Ordering::SeqCst);
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        if self.fault != Fault::ForgetsToRollBack {
            self.commits -= n;
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        let commits = if self.fault == Fault::ForksAfresh { 0 } else { self.commits };
        Ok(Box::new(Self { commits, shared: self.shared.clone(), ..*self }))
    }
}

/// The first violation that a strategy with this fault shows.
fn violation(fault: Fault, law: LawCheck) -> Option<&'static str> {
    first_violation(|case| law(&Faulty::new(fault), case))
}

/// The first violation within a few hundred cases.
fn first_violation(mut law: impl FnMut(&Case) -> Result<(), Violation>) -> Option<&'static str> {
    let mut runner = TestRunner::deterministic();
    let cases = generators::case(&[("base", 1), ("expert", 1)]);
    (0..300).find_map(|_| {
        let case = cases.new_tree(&mut runner).expect("the generators reject nothing").current();
        law(&case).err().map(|violation| violation.law)
    })
}

#[test]
fn a_sound_strategy_passes() {
    let laws: [LawCheck; 3] = [strategy_laws::contract, strategy_laws::claimed, strategy_laws::identity];
    for law in laws {
        assert_eq!(violation(Fault::Nothing, law), None);
    }
}

#[test]
fn every_strategy_law_catches_its_fault() {
    use strategy_laws as laws;
    let all: [(Fault, LawCheck, &str); 15] = [
        (Fault::LeavesAnEntry, laws::valid_output, "valid-output"),
        (Fault::CountsFuses, laws::fuse_is_idempotent, "fuse-is-idempotent"),
        (Fault::ForksAfresh, laws::fork_is_a_copy, "fork-is-a-copy"),
        (Fault::ForgetsToRollBack, laws::rollback_is_replay, "rollback-is-replay"),
        (Fault::RemembersAbandonedFuses, laws::an_abandoned_fuse_is_forgotten, "an-abandoned-fuse-is-forgotten"),
        (Fault::SharesAcrossStates, laws::states_are_independent, "states-are-independent"),
        (Fault::SharesAcrossStates, laws::threads_agree, "threads-agree"),
        (Fault::AddsAnExpertLogit, laws::shift_invariant, "shift-invariant"),
        (Fault::PrefersLowIds, laws::vocab_equivariant, "vocab-equivariant"),
        (Fault::Unmasks, laws::mask_preserving, "mask-preserving"),
        (Fault::HeedsTheTrace, laws::trace_changes_nothing, "trace-changes-nothing"),
        (Fault::ExitsWithOtherBits, laws::early_exit_equals_fuse, "early-exit-equals-fuse"),
        (Fault::ExitsWithoutALead, laws::early_exit_equals_fuse, "early-exit-equals-fuse"),
        (Fault::Overtakes, laws::argmax_invariant, "argmax-invariant"),
        (Fault::AddsExpertProbabilities, |s, case| laws::linear_in(s, case, "expert"), "linear-in"),
    ];
    for (fault, law, name) in all {
        assert_eq!(violation(fault, law), Some(name), "{fault:?}");
    }
    assert_eq!(violation(Fault::AddsAnExpertLogit, laws::identity), Some("identity"));
    // The collections call the single laws.
    assert_eq!(violation(Fault::CountsFuses, laws::contract), Some("fuse-is-idempotent"));
    assert_eq!(violation(Fault::ExitsWithOtherBits, laws::contract), Some("early-exit-equals-fuse"));
    assert_eq!(violation(Fault::Unmasks, laws::claimed), Some("mask-preserving"));
    assert_eq!(violation(Fault::Overtakes, laws::claimed), Some("argmax-invariant"));
    assert_eq!(violation(Fault::AddsExpertProbabilities, laws::claimed), Some("linear-in"));
}

#[test]
fn going_back_is_caught() {
    let (near, far) = (Faulty::new(Fault::Nothing), Faulty::new(Fault::Overtakes));
    let monotone = |order: [&dyn FusionStrategy; 2]| first_violation(|case| strategy_laws::monotone_kl(&order, case));
    assert_eq!(monotone([&near, &far]), None);
    assert_eq!(monotone([&far, &near]), Some("monotone-kl-in"));
}

#[test]
fn oracles_that_disagree_are_caught() {
    let (base, other) = (Faulty::new(Fault::Nothing), Faulty::new(Fault::AddsAnExpertLogit));
    let (base, other): (&dyn FusionStrategy, &dyn FusionStrategy) = (&base, &other);
    assert_eq!(first_violation(|case| oracles::same_bits((base, case), (base, case))), None);
    assert_eq!(first_violation(|case| oracles::same_distribution((base, case), (base, case))), None);
    assert_eq!(first_violation(|case| oracles::is_role(base, case, "base")), None);
    assert_eq!(first_violation(|case| oracles::same_bits((base, case), (other, case))), Some("same-bits"));
    let disagree = first_violation(|case| oracles::same_distribution((base, case), (other, case)));
    assert_eq!(disagree, Some("same-distribution"));
    assert_eq!(first_violation(|case| oracles::is_role(base, case, "expert")), Some("is-role"));
}

/// What a source does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leak {
    Nothing,
    /// A row depends on how many tokens came with it.
    Chunk,
    /// Truncation shortens what is told and keeps what is held.
    Truncation,
    /// A fork is the original.
    Fork,
    /// A row depends on the size of the batch.
    Batch,
    /// Closed sequences keep their length.
    Close,
    /// Nonsense is accepted.
    Nonsense,
}

struct Leaky {
    leak: Leak,
    inner: SyntheticSource,
    /// Lengths as told, where they differ from those held.
    told: RefCell<Vec<(SequenceId, usize)>>,
}

impl Leaky {
    fn new(leak: Leak) -> Self {
        Self { leak, inner: SyntheticSource::new("leaky", 30, 5), told: RefCell::default() }
    }
}

impl LogitSource for Leaky {
    fn info(&self) -> &SourceInfo {
        self.inner.info()
    }

    fn open(&mut self) -> Result<SequenceId> {
        self.inner.open()
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        if self.leak == Leak::Fork && self.inner.len(of).is_some() { Ok(of) } else { self.inner.fork(of) }
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        match self.leak {
            Leak::Truncation if self.inner.len(sequence).is_some_and(|held| len <= held) => {
                self.told.borrow_mut().push((sequence, len));
                Ok(())
            }
            Leak::Nonsense => {
                let held = self.inner.len(sequence).unwrap_or(0);
                self.inner.truncate(sequence, len.min(held))
            }
            _ => self.inner.truncate(sequence, len),
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        if self.leak != Leak::Close {
            self.inner.close(sequence);
        }
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        let told = self.told.borrow().iter().rev().find(|(s, _)| *s == sequence).map(|(_, len)| *len);
        told.or_else(|| self.inner.len(sequence))
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.inner.forward(batch, out)?;
        let noise = match self.leak {
            Leak::Chunk => batch.iter().map(|step| step.tokens.len()).sum(),
            Leak::Batch => batch.len(),
            _ => return Ok(()),
        };
        for row in 0..out.len() {
            out.row_mut(row)[0] += noise as f32 * 0.125;
        }
        Ok(())
    }
}

#[test]
fn every_source_law_catches_its_fault() {
    let laws = [
        (Leak::Nothing, None),
        (Leak::Chunk, Some("pieces-equal-the-whole")),
        (Leak::Truncation, Some("truncation-forgets")),
        (Leak::Fork, Some("forks-are-copies")),
        (Leak::Batch, Some("batches-equal-singles")),
        (Leak::Close, Some("sequences-are-counted")),
        (Leak::Nonsense, Some("errors-change-nothing")),
    ];
    for (leak, law) in laws {
        let result = source_laws::all(&mut Leaky::new(leak), &[1, 2, 3, 4], &[5, 6, 7], 0.05);
        assert_eq!(result.err().map(|violation| violation.law), law, "{leak:?}");
    }
}

#[test]
fn the_tolerance_is_what_it_says() {
    // The batch of two moves one logit by an eighth.
    let check =
        |tolerance| source_laws::batches_equal_singles(&mut Leaky::new(Leak::Batch), &[&[1, 2], &[3, 4]], tolerance);
    assert!(check(0.13).is_ok());
    assert!(check(0.12).is_err());
}

#[test]
fn an_error_of_the_strategy_is_a_violation() {
    struct Refuses(StrategyInfo);
    impl FusionStrategy for Refuses {
        fn info(&self) -> &StrategyInfo {
            &self.0
        }
        fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
            Err(Error::new(ErrorKind::Unsupported, "not today"))
        }
    }
    let mut runner = TestRunner::deterministic();
    let case = generators::case(&[("base", 1)]).new_tree(&mut runner).expect("nothing is rejected").current();
    let refuses = Refuses(StrategyInfo::new("refuses", [RoleSpec::one("base")]));
    let violation = strategy_laws::contract(&refuses, &case).unwrap_err();
    assert_eq!(violation.to_string(), "valid-output: not today");
}

/// What a strategy does wrong when it is calibrated. Its state adds a number to the base's first logit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Misfit {
    Nothing,
    /// Every calibration gives another strategy.
    Varies,
    /// The strategy that was calibrated changes.
    Changes,
    /// Prompts that could not be run do not matter.
    Ignores,
    /// Asks for calibration prompts, and takes none.
    Refuses,
}

#[derive(Clone)]
struct Fits {
    misfit: Misfit,
    added: f32,
    calls: Arc<AtomicUsize>,
    info: StrategyInfo,
}

impl FusionStrategy for Fits {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let calls = self.calls.load(Ordering::SeqCst) as f32;
        Ok(Box::new(Adds(if self.misfit == Misfit::Changes { calls } else { self.added })))
    }

    fn calibrated(
        &self,
        session: &SessionInfo,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) as f32;
        let rows = rows_after(session.row_of("expert").unwrap_or(0));
        let added = match (self.misfit, rows) {
            (Misfit::Refuses, _) => return Err(Error::new(ErrorKind::Unsupported, "not today")),
            (Misfit::Varies, _) => calls,
            (Misfit::Ignores, Err(_)) => 0.0,
            (_, rows) => rows?.prompts() as f32,
        };
        Ok(Arc::new(Self { added, ..self.clone() }))
    }
}

#[derive(Clone)]
struct Adds(f32);

impl Memoryless for Adds {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        out.logits[0] = self.0;
        Ok(())
    }
}

#[test]
fn a_calibration_that_is_not_repeatable_is_caught() {
    let spec = CalibrationSpec::new("expert", ["base"], 2);
    let roles = || [RoleSpec::one("base"), RoleSpec::one("expert")];
    for (misfit, law) in [
        (Misfit::Nothing, None),
        (Misfit::Varies, Some("calibration-is-repeatable")),
        (Misfit::Changes, Some("calibration-is-repeatable")),
        (Misfit::Ignores, Some("calibration-is-repeatable")),
        (Misfit::Refuses, Some("calibration-is-repeatable")),
    ] {
        let info = StrategyInfo::new("fits", roles()).with_calibration(spec.clone());
        let strategy = Fits { misfit, added: 0.0, calls: Arc::default(), info };
        let violation = first_violation(|case| strategy_laws::calibration_is_repeatable(&strategy, case));
        assert_eq!(violation, law, "{misfit:?}");
    }
    // Both forms are tried, and what takes no prompts is tried once.
    let forms = |info: StrategyInfo| {
        let strategy = Fits { misfit: Misfit::Nothing, added: 0.0, calls: Arc::default(), info };
        let mut forms = 0;
        let seen = first_violation(|case| {
            forms = 0;
            let failed = |e: Error| Violation { law: "failed", detail: e.to_string() };
            case.in_each_form(&strategy, failed, |form| {
                forms += 1;
                strategy_laws::contract(form, case)
            })
        });
        (seen, forms)
    };
    assert_eq!(forms(StrategyInfo::new("fits", roles())), (None, 1));
    assert_eq!(forms(StrategyInfo::new("fits", roles()).with_calibration(spec.clone())), (None, 2));
    let required = spec.required();
    assert_eq!(forms(StrategyInfo::new("fits", roles()).with_calibration(required)), (None, 1));
}
