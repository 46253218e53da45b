//! Steps that the leading source settles alone: the other sources rest, and catch up when they are asked.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, Memoryless, Result, RoleRow, RoleSpec, Rows,
    SequenceId, SessionInfo, SourceInfo, Step, StrategyInfo, TokenId,
};
use logitfuse_engine::{Cancel, Decoder, Event, Request, Role, Sampling};
use logitfuse_replay::SyntheticSource;

const VOCAB: usize = 61;

/// Adds the expert where the base is not sure; what the expert was told of the text's probability is in the trace.
struct Hesitant(StrategyInfo);

impl Hesitant {
    fn new(lead: bool) -> Arc<Self> {
        let info = StrategyInfo::new("hesitant", [RoleSpec::one("base"), RoleSpec::one("expert")])
            .with_trace("acted", "1")
            .with_trace("expert_log_prob", "nats");
        Arc::new(Self(if lead { info.with_lead_role("base") } else { info }))
    }
}

impl FusionStrategy for Hesitant {
    fn info(&self) -> &StrategyInfo {
        &self.0
    }

    fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State { lead: self.0.lead_role.is_some() }))
    }
}

#[derive(Clone)]
struct State {
    lead: bool,
}

fn sure(base: &RoleRow<'_>) -> bool {
    let best = base.logits().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (f64::from(best) - base.log_normaliser).exp() > 0.5
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let [base, expert] = [step.row(0), step.row(1)];
        out.logits.copy_from_slice(base.logits());
        if sure(base) {
            out.trace[0] = 0.0;
        } else {
            out.logits.iter_mut().zip(expert.logits()).for_each(|(out, x)| *out += 0.5 * x);
            out.trace.copy_from_slice(&[1.0, expert.sequence_log_prob]);
        }
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, _: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        out.logits.copy_from_slice(lead.logits());
        out.trace[0] = 0.0;
        Ok(self.lead && sure(lead))
    }
}

/// Counts calls.
struct Counted {
    inner: SyntheticSource,
    calls: Arc<AtomicUsize>,
}

impl LogitSource for Counted {
    fn info(&self) -> &SourceInfo {
        self.inner.info()
    }
    fn open(&mut self) -> Result<SequenceId> {
        self.inner.open()
    }
    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.inner.fork(of)
    }
    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.inner.truncate(sequence, len)
    }
    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.inner.len(sequence)
    }
    fn close(&mut self, sequence: SequenceId) {
        self.inner.close(sequence);
    }
    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.forward(batch, out)
    }
}

struct Run {
    /// Per request: token, log-probability, trace, as bits.
    tokens: Vec<Vec<(TokenId, u64, Vec<u64>)>>,
    settled: usize,
    expert_calls: usize,
}

fn run(lead: bool, one_source: bool, requests: &[Request]) -> Run {
    let calls = Arc::new(AtomicUsize::new(0));
    let expert = Counted { inner: SyntheticSource::new("expert", VOCAB, 2), calls: Arc::clone(&calls) };
    let builder = Decoder::builder(Hesitant::new(lead)).source(Box::new(SyntheticSource::new("base", VOCAB, 1)));
    let mut engine = builder
        .source(Box::new(expert))
        .roles([Role::new("base", 0), Role::new("expert", usize::from(!one_source))])
        .build()
        .unwrap();
    let mut tokens = vec![Vec::new(); requests.len()];
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(t) = event {
            assert_eq!(t.position, tokens[t.request].len());
            tokens[t.request].push((t.token, t.log_prob.to_bits(), t.trace.iter().map(|x| x.to_bits()).collect()));
        }
        ControlFlow::Continue(())
    };
    let done = engine.generate(requests, &Cancel::new(), &mut on_event).unwrap();
    Run {
        tokens,
        settled: done.iter().map(|generation| generation.timings.early_exits).sum(),
        expert_calls: calls.load(Ordering::Relaxed),
    }
}

fn requests() -> Vec<Request> {
    let request = |n: TokenId| {
        let prompt = |role: TokenId| (0..5 + n).map(|i| (i * 7 + n * 3 + role) % 60).collect();
        let sampling = Sampling { temperature: 1.0, seed: u64::from(n), ..Sampling::default() };
        Request::new([prompt(0), prompt(1)]).max_new_tokens(40 + n as usize).sampling(sampling).trace()
    };
    (0..4).map(request).collect()
}

#[test]
fn lazy_sources_give_the_bits_of_eager_ones() {
    for one_source in [false, true] {
        let (lazy, eager) = (run(true, one_source, &requests()), run(false, one_source, &requests()));
        assert_eq!(lazy.tokens, eager.tokens);
        assert_eq!(eager.settled, 0);
        let total: usize = lazy.tokens.iter().map(Vec::len).sum();
        assert!(lazy.settled > total / 10 && lazy.settled < total - total / 10, "{} of {total}", lazy.settled);
    }
}

#[test]
fn a_source_that_is_not_needed_rests() {
    let alone = &requests()[..1];
    let (lazy, eager) = (run(true, false, alone), run(false, false, alone));
    // The first token comes with the prompt.
    assert_eq!(eager.expert_calls, eager.tokens[0].len());
    assert_eq!(lazy.expert_calls, eager.expert_calls - lazy.settled);
}

#[test]
fn a_lazy_sequence_does_not_depend_on_its_batch() {
    let together = run(true, true, &requests());
    for (n, request) in requests().iter().enumerate() {
        assert_eq!(run(true, true, std::slice::from_ref(request)).tokens[0], together.tokens[n], "sequence {n}");
    }
}
