//! What a strategy is told of prompts, and that it costs nothing where a strategy does not ask.

use std::sync::{Arc, Mutex};

use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{
    ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, Memoryless, PromptReading, PromptScore,
    Result, RoleRow, RoleSpec, Rows, SessionInfo, SharedVocabulary, Step, StrategyInfo, TokenId,
};
use logitfuse_engine::{Cancel, Decoder, Draft, DraftLength, Event, Request, Role, ScoreRequest, Speculation};
use logitfuse_ensemble::TriMix;
use logitfuse_replay::SyntheticSource;
use serde_json::json;

const VOCAB: usize = 61;
/// Ids that may not be generated.
const BARRED: [TokenId; 2] = [7, 33];

/// What a state was told before its first step.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// By position that was read: the bits of its rows, and the token that follows.
    read: Vec<(Vec<u32>, TokenId)>,
    end: Vec<u32>,
    prompt: Vec<PromptScore>,
}

fn bits(step: &FusionStep<'_>) -> Vec<u32> {
    let of_row = |row: &RoleRow<'_>| row.logits().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    step.rows().iter().flat_map(of_row).collect()
}

/// Speaks as the base and keeps what it was told.
struct Listener {
    info: StrategyInfo,
    told: Arc<Mutex<Vec<Told>>>,
}

#[derive(Clone)]
struct Listening {
    told: Arc<Mutex<Vec<Told>>>,
    own: Told,
    begun: bool,
}

impl FusionStrategy for Listener {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Listening { told: Arc::clone(&self.told), own: Told::default(), begun: false }))
    }
}

impl Memoryless for Listening {
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        assert!(!self.begun && step.committed.is_empty());
        self.own.read.push((bits(step), next));
        Ok(())
    }

    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        assert!(!self.begun && step.committed.is_empty());
        self.begun = true;
        self.own.end = bits(step);
        self.own.prompt = prompt.to_vec();
        self.told.lock().unwrap().push(self.own.clone());
        Ok(())
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        assert!(self.begun);
        if step.committed.is_empty() {
            assert_eq!(bits(step), self.own.end);
        }
        out.logits.copy_from_slice(step.row(0).logits());
        Ok(())
    }
}

fn source(seed: u64) -> SyntheticSource {
    SyntheticSource::new(&format!("model {seed}"), VOCAB, seed)
}

fn build(strategy: Arc<dyn FusionStrategy>, speculation: Option<Speculation>) -> Decoder {
    Decoder::builder(strategy)
        .source(Box::new(source(1)))
        .source(Box::new(source(2)))
        .source(Box::new(source(3)))
        // Two roles of one source.
        .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 1)])
        .vocabulary(SharedVocabulary::new(VOCAB, BARRED))
        .speculation(speculation)
        .build()
        .unwrap()
}

fn listener(reading: PromptReading) -> (Arc<dyn FusionStrategy>, Arc<Mutex<Vec<Told>>>) {
    let told = Arc::default();
    let info = StrategyInfo::new("listener", ["base", "expert", "anti"].map(RoleSpec::one)).with_prompt(reading);
    (Arc::new(Listener { info, told: Arc::clone(&told) }), told)
}

fn text(n: usize, length: usize) -> Vec<TokenId> {
    (0..length).map(|i| TokenId::try_from((i * i + 5 * i + 7 * n) % VOCAB).unwrap()).collect()
}

/// All rows of a text, masked, by a source of its own.
fn rows_of(seed: u64, tokens: &[TokenId]) -> Vec<Vec<f32>> {
    let (mut source, mut rows) = (source(seed), Rows::new());
    let sequence = source.open().unwrap();
    source.forward(&[Step { sequence, tokens, rows: tokens.len() }], &mut rows).unwrap();
    let masked = |row: usize| {
        let mut row = rows.row(row).to_vec();
        for id in BARRED {
            row[id as usize] = f32::NEG_INFINITY;
        }
        row
    };
    (0..tokens.len()).map(masked).collect()
}

fn score_of(seed: u64, tokens: &[TokenId]) -> PromptScore {
    let rows = rows_of(seed, tokens);
    let follows = rows.iter().zip(&tokens[1..]).filter(|(_, next)| !BARRED.contains(next));
    follows.fold(PromptScore::default(), |sum, (row, &next)| PromptScore {
        log_prob: sum.log_prob + f64::from(row[next as usize]) - log_sum_exp(row),
        tokens: sum.tokens + 1,
    })
}

const LENGTHS: [usize; 5] = [1, 2, 65, 128, 200];

#[test]
fn prompts_are_scored_under_every_binding() {
    let (strategy, told) = listener(PromptReading::LogProbs);
    let mut engine = build(strategy, None);
    // Three prompts of one request differ, in length too.
    let prompts: Vec<Vec<Vec<TokenId>>> =
        LENGTHS.iter().map(|&length| vec![text(1, length), text(2, length + 30), text(1, 3)]).collect();
    let requests: Vec<Request> = prompts.iter().map(|p| Request::new(p.clone()).max_new_tokens(2)).collect();
    engine.generate(&requests, &Cancel::new(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), prompts.len());
    for (prompts, told) in prompts.iter().zip(&told) {
        assert!(told.read.is_empty());
        for ((prompt, seed), seen) in prompts.iter().zip([1, 2, 2]).zip(&told.prompt) {
            let expected = score_of(seed, prompt);
            assert_eq!(seen.tokens, expected.tokens);
            assert!((seen.log_prob - expected.log_prob).abs() < 1e-9, "{seen:?} {expected:?}");
        }
    }
}

#[test]
fn prompts_are_read_position_by_position() {
    let (strategy, told) = listener(PromptReading::Rows);
    let mut engine = build(strategy, None);
    for length in LENGTHS {
        let prompt = text(3, length);
        engine.generate_one(&Request::new(vec![prompt.clone(); 3]).max_new_tokens(1)).unwrap();
        let told = told.lock().unwrap().pop().unwrap();
        let by_source = [1, 2].map(|seed| rows_of(seed, &prompt));
        let rows = |position: usize| -> Vec<u32> {
            [0, 1, 1]
                .iter()
                .flat_map(|&source: &usize| by_source[source][position].iter().map(|x| x.to_bits()))
                .collect()
        };
        let follows = prompt[1..].iter().enumerate().filter(|(_, next)| !BARRED.contains(next));
        let expected: Vec<(Vec<u32>, TokenId)> = follows.map(|(position, &next)| (rows(position), next)).collect();
        assert_eq!(told.read, expected);
        assert_eq!(told.end, rows(length - 1));
        assert_eq!(told.prompt.len(), 3);
    }
    let error = engine.generate_one(&Request::new([text(1, 4), text(1, 4), text(2, 4)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("role `anti` (source `model 2`) has another prompt than role `base`"),
        "{error}"
    );
}

/// Decoding, drafting and scoring tell a strategy the same of a prompt, whatever runs beside it.
#[test]
fn everybody_tells_the_same() {
    let same = vec![text(4, 150); 3];
    for reading in [PromptReading::End, PromptReading::LogProbs, PromptReading::Rows] {
        let (strategy, told) = listener(reading);
        let take = || std::mem::take(&mut *told.lock().unwrap());
        let request = Request::new(same.clone()).max_new_tokens(5);
        let plain = build(Arc::clone(&strategy), None).generate_one(&request).unwrap();
        let expected = take();
        assert_eq!(expected.len(), 1);
        assert_eq!(expected[0].prompt.len(), if reading == PromptReading::End { 0 } else { 3 });
        let speculation = Speculation { draft: Draft::Source(2), length: DraftLength::Fixed(2) };
        let drafted = build(Arc::clone(&strategy), Some(speculation)).generate_one(&request).unwrap();
        assert_eq!((drafted.tokens, take()), (plain.tokens.clone(), expected.clone()));
        // The prompt is told once, however many continuations follow it.
        let mut engine = build(Arc::clone(&strategy), None);
        let continuations = [plain.tokens.clone(), vec![1, 2, 3], vec![1, 2, 4]];
        let scores = engine.score(&ScoreRequest::new(same.clone(), continuations), &Cancel::new()).unwrap();
        assert_eq!(take(), expected);
        assert!((scores[0].log_prob - plain.log_prob).abs() < 1e-9);
        let both = [request.clone(), Request::new(vec![text(9, 70); 3]).max_new_tokens(2)];
        engine.generate(&both, &Cancel::new(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!(take()[0], expected[0]);
    }
}

/// Strategies that do not ask do not pay: prompts that begin alike still share their beginning. For one that asks they are
/// run in full.
#[test]
fn only_who_asks_pays() {
    let requests: Vec<Request> =
        (0..4).map(|n| Request::new(vec![[text(5, 300), text(n, 4)].concat(); 3]).max_new_tokens(2)).collect();
    let run = |reading: PromptReading| {
        let (strategy, _) = listener(reading);
        let mut engine = build(strategy, None);
        let mut each = requests.iter().cloned().map(Ok);
        let timings =
            engine.generate_stream(&mut each, 1, &Cancel::new(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        (timings.prefill_tokens.iter().sum::<usize>(), timings.reused_tokens.iter().sum::<usize>())
    };
    let (fed, reused) = run(PromptReading::End);
    assert!(reused > 0);
    for reading in [PromptReading::LogProbs, PromptReading::Rows] {
        assert_eq!(run(reading), (2 * 4 * 304, 0));
    }
    assert!(fed < 2 * 4 * 304);
}

/// The calibrated three-way mixture decodes as the one with the weights that its prompt decides.
#[test]
fn a_prompt_decides_the_weights_of_trimix() {
    let trimix = |params| -> Arc<dyn FusionStrategy> { Arc::new(TriMix::from_json(&params).unwrap()) };
    for n in 0..3 {
        let prompt: Vec<TokenId> = text(n, 90).into_iter().filter(|id| !BARRED.contains(id)).collect();
        let request = Request::new(vec![prompt.clone(); 3]).max_new_tokens(4).trace();
        let mut engine = build(trimix(json!({ "calibration": "prompt" })), None);
        let mut weights = Vec::new();
        let mut on_event = |event: Event<'_>| {
            if let Event::Token(token) = event {
                weights.push((token.trace[3], token.trace[4]));
            }
            std::ops::ControlFlow::Continue(())
        };
        let done = engine.generate(std::slice::from_ref(&request), &Cancel::new(), &mut on_event).unwrap();
        assert!(weights.windows(2).all(|pair| pair[0] == pair[1]));
        // None of the others makes the prompt more probable.
        let nats = |alpha: f64, beta: f64| {
            let mut engine = build(trimix(json!({ "alpha": alpha, "beta": beta })), None);
            let (first, rest) = prompt.split_at(1);
            let given = ScoreRequest::new(vec![first.to_vec(); 3], [rest.to_vec()]);
            engine.score(&given, &Cancel::new()).unwrap()[0].log_prob
        };
        let (alpha, beta) = weights[0];
        let best = nats(alpha, beta);
        for other in [0.1, 0.3, 0.5, 0.7, 0.9, 1.0] {
            assert!(nats(other, beta) <= best + 1e-9 && nats(alpha, other) <= best + 1e-9);
        }
        let fixed = build(trimix(json!({ "alpha": alpha, "beta": beta })), None).generate_one(&request).unwrap();
        assert_eq!((&fixed.tokens, fixed.log_prob.to_bits()), (&done[0].tokens, done[0].log_prob.to_bits()));
    }
}
