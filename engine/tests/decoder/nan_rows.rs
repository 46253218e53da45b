//! A single NaN in a row ends what asked for it, by name and position, wherever rows are asked for.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, LogitsProcessor, Memoryless,
    ProcessorContext, PromptReading, Result, RoleRow, RoleSpec, SamplingRow, SessionInfo, SharedVocabulary,
    StrategyInfo, TokenId,
};
use logitfuse_dynamic_kl::DynamicKl;
use logitfuse_engine::{
    BaseOnly, CalibrationPrompts, Cancel, Decoder, Draft, DraftLength, Event, Fusion, Request, Role, Sampling,
    ScoreRequest, SourcePool, Speculation,
};
use logitfuse_replay::ScriptedSource;
use logitfuse_static_proxy::{Params, StaticProxy};

const VOCAB: usize = 83;
const PROMPT: [TokenId; 4] = [5, 7, 11, 13];

/// Where a source says something that is no number.
#[derive(Clone, Copy, Debug)]
struct Slip {
    /// The tokens before the row.
    after: usize,
    entry: usize,
    value: f32,
}

fn nan(after: usize, entry: usize) -> Slip {
    Slip { after, entry, value: f32::NAN }
}

/// A source of its own mind, which may slip once.
fn source(seed: u32, slip: Option<Slip>) -> Box<dyn LogitSource> {
    let row = move |prefix: &[TokenId]| {
        let mut state = prefix.iter().fold(seed, |state, &token| state.wrapping_mul(31).wrapping_add(token + 1));
        let mut row: Vec<f32> = (0..VOCAB)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 21) as f32
            })
            .collect();
        if let Some(slip) = slip.filter(|slip| slip.after == prefix.len()) {
            row[slip.entry] = slip.value;
        }
        row
    };
    Box::new(ScriptedSource::from_fn(&format!("model {seed}"), VOCAB, row))
}

/// Four sources, one of which slips.
fn pool(slipping: usize, slip: Slip) -> SourcePool {
    let slips = |place| (place == slipping).then_some(slip);
    let builder = (1..).zip(0..4).fold(SourcePool::builder(), |b, (seed, place)| b.source(source(seed, slips(place))));
    builder.build().unwrap()
}

fn proxies() -> [Arc<dyn FusionStrategy>; 2] {
    [
        Arc::new(StaticProxy::new(Params { alpha: 0.7, ..Params::default() }).unwrap()),
        Arc::new(DynamicKl::new(logitfuse_dynamic_kl::Params::default()).unwrap()),
    ]
}

fn proxy_over(pool: &SourcePool, strategy: Arc<dyn FusionStrategy>) -> Fusion {
    Fusion::new(pool, strategy, [Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)]).unwrap()
}

fn request(fusion: &Fusion) -> Request {
    Request::new(vec![PROMPT.to_vec(); fusion.session().bindings.len()]).max_new_tokens(8)
}

/// The error that a request ends with, and how many tokens came before it.
fn failure(fusion: &Fusion, request: Request) -> (Error, usize) {
    let mut tokens = 0;
    let mut on_event = |event: Event<'_>| {
        tokens += usize::from(matches!(event, Event::Token(_)));
        ControlFlow::Continue(())
    };
    let error = Decoder::new(fusion).generate(&[request], &Cancel::new(), &mut on_event).unwrap_err();
    (error, tokens)
}

fn assert_named(error: &Error, message: &str) {
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Numeric, message));
}

#[test]
fn in_any_entry() {
    for entry in 0..VOCAB {
        for (value, name) in [(f32::NAN, "NaN"), (-f32::NAN, "NaN"), (f32::INFINITY, "+inf")] {
            let pool = pool(0, Slip { after: PROMPT.len() + 2, entry, value });
            let fusion = Fusion::new(&pool, Arc::new(BaseOnly::new()), [Role::new("base", 0)]).unwrap();
            let (error, tokens) = failure(&fusion, request(&fusion));
            let what = "source `model 1` yielded a row that is no distribution at token 2";
            assert_named(&error, &format!("{what}: entry {entry} is {name}"));
            assert_eq!(tokens, 2);
        }
    }
}

#[test]
fn of_any_role_of_a_fusion_greedy_or_sampled() {
    for strategy in proxies() {
        for role in 0..3 {
            for temperature in [0.0, 1.0] {
                let pool = pool(role, nan(PROMPT.len() + 3, 41));
                let fusion = proxy_over(&pool, Arc::clone(&strategy));
                let sampling = Sampling { temperature, ..Sampling::default() };
                let (error, tokens) = failure(&fusion, request(&fusion).sampling(sampling));
                let source = role + 1;
                let what = format!("source `model {source}` yielded a row that is no distribution at token 3");
                assert_named(&error, &format!("{what}: entry 41 is NaN"));
                assert_eq!(tokens, 3, "{} {role}", strategy.info().id);
            }
        }
    }
}

#[test]
fn of_a_drafter_or_of_what_verifies_its_drafts() {
    for draft in [Draft::Binding(1), Draft::Source(3), Draft::PromptLookup { longest: 3 }] {
        for slipping in 0..4 {
            if slipping == 3 && draft != Draft::Source(3) {
                continue;
            }
            let pool = pool(slipping, nan(PROMPT.len() + 4, 0));
            let speculation = Speculation { draft, length: DraftLength::Fixed(3) };
            let [strategy, _] = proxies();
            let fusion = proxy_over(&pool, strategy).with_speculation(Some(speculation)).unwrap();
            let (error, tokens) = failure(&fusion, request(&fusion));
            let what = format!("source `model {}` yielded a row that is no distribution at token 4", slipping + 1);
            assert_named(&error, &format!("{what}: entry 0 is NaN"));
            assert!(tokens <= 4, "{draft:?} {slipping}: {tokens} tokens");
        }
    }
}

#[test]
fn of_any_role_of_a_text_that_is_scored() {
    for strategy in proxies() {
        for role in 0..3 {
            let pool = pool(role, nan(PROMPT.len() + 2, VOCAB - 1));
            let fusion = proxy_over(&pool, Arc::clone(&strategy));
            let score = |continuations: &[&[TokenId]]| {
                let continuations = continuations.iter().map(|c| c.to_vec()).collect::<Vec<_>>();
                let request = ScoreRequest::new(vec![PROMPT.to_vec(); 3], continuations);
                Decoder::new(&fusion).score(&request, &Cancel::new())
            };
            let what = format!("source `model {}` yielded a row that is no distribution at token 2", role + 1);
            let what = format!("{what}: entry {} is NaN", VOCAB - 1);
            assert_named(&score(&[&[1, 2, 3, 4]]).unwrap_err(), &what);
            assert_named(&score(&[&[1], &[2, 3, 4]]).unwrap_err(), &format!("continuation 1: {what}"));
            // What ends before it does not ask for it.
            assert_eq!(score(&[&[1, 2], &[9]]).unwrap().len(), 2);
        }
    }
}

/// Speaks as its first row, or writes a NaN of its own.
struct Plain {
    info: StrategyInfo,
    slip: Option<(usize, usize)>,
}

impl Plain {
    fn new(reading: PromptReading) -> Self {
        let info = StrategyInfo::new("plain", ["base", "other"].map(RoleSpec::one)).with_prompt(reading);
        Self { info: info.with_lead_role("base"), slip: None }
    }
}

#[derive(Clone)]
struct Speaking(Option<(usize, usize)>);

impl FusionStrategy for Plain {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Speaking(self.slip)))
    }
}

impl Memoryless for Speaking {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        if let Some((position, entry)) = self.0
            && position == step.committed.len()
        {
            out.logits[entry] = f32::NAN;
        }
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        Memoryless::fuse(self, &FusionStep::new(&[*lead], committed), out)?;
        Ok(committed.len() % 2 == 1)
    }
}

fn plain_over(pool: &SourcePool, plain: Plain) -> Fusion {
    Fusion::new(pool, Arc::new(plain), [Role::new("base", 0), Role::new("other", 1)]).unwrap()
}

#[test]
fn within_a_prompt_that_is_read() {
    let what = |source: usize| {
        format!("source `model {source}` yielded a row that is no distribution behind token 1 of the prompt")
    };
    for reading in [PromptReading::LogProbs, PromptReading::Rows] {
        for role in 0..2 {
            let pool = pool(role, nan(2, 17));
            let fusion = plain_over(&pool, Plain::new(reading));
            let expected = format!("{}: entry 17 is NaN", what(role + 1));
            assert_named(&failure(&fusion, request(&fusion)).0, &expected);
            let scored = ScoreRequest::new(vec![PROMPT.to_vec(); 2], [vec![1]]);
            assert_named(&Decoder::new(&fusion).score(&scored, &Cancel::new()).unwrap_err(), &expected);
        }
    }
    // Nobody sees the row of a prompt that is not read.
    let pool = pool(0, nan(2, 17));
    let fusion = plain_over(&pool, Plain::new(PromptReading::End));
    assert_eq!(Decoder::new(&fusion).generate_one(&request(&fusion)).unwrap().tokens.len(), 8);
}

#[test]
fn of_a_lead_role_that_decides_alone() {
    for position in [1, 2] {
        let pool = pool(0, nan(PROMPT.len() + position, 3));
        let fusion = plain_over(&pool, Plain::new(PromptReading::End));
        let what = format!("source `model 1` yielded a row that is no distribution at token {position}");
        assert_named(&failure(&fusion, request(&fusion)).0, &format!("{what}: entry 3 is NaN"));
    }
}

#[test]
fn of_a_source_that_catches_up_after_early_exits() {
    let pool = pool(1, nan(PROMPT.len() + 1, 3));
    let fusion = plain_over(&pool, Plain::new(PromptReading::End));
    let (error, tokens) = failure(&fusion, request(&fusion));
    let what = "source `model 2` yielded a row that is no distribution at token 1";
    assert_named(&error, &format!("{what}: entry 3 is NaN"));
    assert_eq!(tokens, 2, "the row was asked for once all rows were needed");
}

#[test]
fn behind_a_calibration_prompt() {
    // The longer prompt is the second.
    for slipping in [1, 2] {
        let pool = pool(slipping, nan(5, 60));
        let fusion = proxy_over(&pool, Arc::new(DynamicKl::new(logitfuse_dynamic_kl::Params::default()).unwrap()));
        let prompts = [vec![1, 2, 3], vec![1, 4, 3, 9, 2], vec![1, 5, 3]];
        let prompts = prompts.map(|prompt| vec![vec![], prompt.clone(), prompt]).to_vec();
        let calibrated = Decoder::new(&fusion).calibrated(&fusion, &[CalibrationPrompts { binding: 1, prompts }]);
        let of = "calibration prompt 2 of role `expert` (source `model 2`)";
        let what = format!("source `model {}` yielded a row that is no distribution at token 0", slipping + 1);
        assert_named(&calibrated.err().unwrap(), &format!("{of}: {what}: entry 60 is NaN"));
    }
}

#[test]
fn in_any_entry_of_a_fused_row() {
    let pool = pool(0, nan(usize::MAX, 0));
    for entry in 0..VOCAB {
        for position in [2, 3] {
            let fusion = plain_over(&pool, Plain { slip: Some((position, entry)), ..Plain::new(PromptReading::End) });
            let what = format!("strategy `plain` wrote a row that is no distribution at token {position}");
            let what = format!("{what}: entry {entry} is NaN");
            assert_named(&failure(&fusion, request(&fusion)).0, &what);
            let scored = ScoreRequest::new(vec![PROMPT.to_vec(); 2], [vec![1, 2, 3, 4]]);
            assert_named(&Decoder::new(&fusion).score(&scored, &Cancel::new()).unwrap_err(), &what);
        }
    }
}

/// Writes one entry of every row.
#[derive(Clone)]
struct Writes(usize, f32);

impl LogitsProcessor for Writes {
    fn apply(&mut self, _: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
        row.logits_mut()[self.0] = self.1;
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

#[test]
fn by_a_logits_processor() {
    let pool = pool(0, nan(usize::MAX, 0));
    let fusion = Fusion::new(&pool, Arc::new(BaseOnly::new()), [Role::new("base", 0)]).unwrap();
    for entry in [0, 40, VOCAB - 1] {
        for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "+inf")] {
            for temperature in [0.0, 0.8] {
                let sampling = Sampling { temperature, top_p: 0.9, ..Sampling::default() };
                let factory = move |_: &[TokenId], _: &SharedVocabulary| {
                    Ok(Box::new(Writes(entry, value)) as Box<dyn LogitsProcessor>)
                };
                let request = request(&fusion).sampling(sampling).processor(Arc::new(factory));
                let what = "a logits processor wrote a row that is no distribution at token 0";
                assert_named(&failure(&fusion, request).0, &format!("{what}: entry {entry} is {name}"));
            }
        }
    }
}
