//! Strategies on a tape.

use std::{
    fs::File,
    io::BufReader,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, PromptReading, PromptScore, Result,
    RoleBinding, RoleRow, SessionInfo, SharedVocabulary, TokenId, numerics,
};
use logitfuse_engine::Cancel;
use logitfuse_replay::{Block, Rest, Tape, TapeHeader, TextInfo};

use super::{Outcome, Setting, TextOutcome, TokenOutcome};
use logitfuse_config::{Config, SourceConfig};
use logitfuse_pipeline::{ModelFolder, PluginSettings};
use logitfuse_text::Tokenizer;

/// A strategy with the sources of a tape in its roles.
pub struct Candidate {
    settings: Vec<Setting>,
    strategy: Arc<dyn FusionStrategy>,
    session: SessionInfo,
    /// The source on the tape of each binding.
    sources: Vec<usize>,
}

/// Texts by number, each with one outcome per candidate.
type Done = Vec<(usize, Vec<TextOutcome>)>;

/// A tape, and how it is to be read.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The file.
    pub path: PathBuf,
    /// What strategies see of ids that the tape does not hold.
    pub rest: Rest,
    /// At most this many texts, from the first on.
    pub limit: Option<usize>,
    /// Keep every token's outcome, with the strategy's trace.
    pub tokens: bool,
    /// How many texts are read side by side; 0 is one per core. Changes no result.
    pub threads: usize,
    /// What tells that other tokens are the same text; without it only the tape's own tokens count as that.
    pub tokenizer: Option<Tokenizer>,
}

impl Replay {
    /// The whole tape, in the plainest way.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), rest: Rest::default(), limit: None, tokens: false, threads: 0, tokenizer: None }
    }

    /// With the tokenizer of an experiment's models, where one of them is here and has the one that the tape was made with.
    #[must_use]
    pub fn with_tokenizer_of(mut self, config: &Config, tape: &TapeHeader) -> Self {
        let open = |source: &SourceConfig| {
            let folder = ModelFolder::open(&source.model, source.variant.as_deref()).ok()?;
            Tokenizer::load(folder.tokenizer_dir()).ok()
        };
        let fits = |tokenizer: &Tokenizer| tokenizer.fingerprint() == tape.tokenizer;
        self.tokenizer = config.sources.values().find_map(open).filter(fits);
        self
    }

    /// The strategy of an experiment with some of its parameters set, on the sources of a tape that is made of its models.
    ///
    /// # Errors
    /// Those of building the strategy; [`ErrorKind::Incompatible`] if it wants a source, or something of the prompts, that
    /// the tape does not hold.
    pub fn candidate(
        &self,
        config: &Config,
        tape: &TapeHeader,
        vocabulary: &SharedVocabulary,
        settings: &[Setting],
        plugins: &PluginSettings,
    ) -> Result<Candidate> {
        let mut config = config.clone();
        settings.iter().try_for_each(|setting| setting.apply(&mut config.strategy))?;
        let (strategy, _) = config.fusion_strategy(plugins)?;
        let info = strategy.info();
        let name = self.path.display();
        if info.prompt == PromptReading::Rows {
            let what = format!("{name}: strategy `{}` reads the rows of every prompt, which no tape holds", info.id);
            return Err(Error::new(ErrorKind::Unsupported, what).with_help("run it with its models: `logitfuse run`"));
        }
        let roles = config.assign(info)?;
        let has_prompts =
            |role: &str| roles.iter().any(|(of, source)| of == role && config.sources[source].calibration.is_some());
        if info.calibration.as_ref().is_some_and(|spec| spec.required || has_prompts(&spec.role)) {
            let what = format!("{name}: strategy `{}` is fitted to its models before it starts", info.id);
            return Err(Error::new(ErrorKind::Unsupported, what).with_help(
                "no tape holds the rows after calibration prompts: run it with its models, `logitfuse run`",
            ));
        }
        let (mut bindings, mut sources) = (Vec::new(), Vec::new());
        for (role, source) in roles {
            let Some(place) = tape.sources.iter().position(|known| known.name == source) else {
                let known: Vec<&str> = tape.sources.iter().map(|source| source.name.as_str()).collect();
                let what = format!("{name}: source `{source}`, which plays role `{role}`, is not on the tape");
                return Err(Error::new(ErrorKind::Incompatible, what)
                    .with_help(format!("the tape holds {}; record it with all sources", known.join(", "))));
            };
            bindings.push(RoleBinding { role, source: tape.sources[place].session.clone() });
            sources.push(place);
        }
        let session = SessionInfo::new(bindings, vocabulary.clone());
        Ok(Candidate { settings: settings.to_vec(), strategy, session, sources })
    }

    /// What each strategy makes of the texts. A block of rows is read once for all of them.
    ///
    /// # Errors
    /// Those of the tape and of the strategies; [`ErrorKind::Cancelled`].
    pub fn run(&self, candidates: &[Candidate], cancel: &Cancel) -> Result<Vec<Outcome>> {
        let tape = Tape::open(&self.path)?;
        let texts = self.limit.unwrap_or(usize::MAX).min(tape.texts().len());
        if texts == 0 {
            return Err(Error::new(ErrorKind::InvalidData, format!("{}: no text on it", self.path.display()))
                .with_help("`logitfuse tape record` goes on with it"));
        }
        drop(tape);
        let threads = match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let result = self.work(candidates, texts, &next, &stop, cancel);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            result
        };
        let mut done: Done = thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(texts)).map(|_| scope.spawn(work)).collect();
            let mut results = vec![work()];
            let crashed = || Err((0, Error::new(ErrorKind::Internal, "a strategy panicked on a tape")));
            results.extend(others.into_iter().map(|other| other.join().unwrap_or_else(|_| crashed())));
            // Of several errors that of the earliest text, so that the same one is told at every run.
            let mut all = Vec::new();
            let mut first: Option<(usize, Error)> = None;
            for result in results {
                match result {
                    Ok(mut done) => all.append(&mut done),
                    Err((text, e)) if first.as_ref().is_none_or(|(known, _)| text < *known) => first = Some((text, e)),
                    Err(_) => {}
                }
            }
            first.map_or(Ok(all), |(_, e)| Err(e))
        })?;
        done.sort_unstable_by_key(|(text, _)| *text);
        let mut outcomes: Vec<Outcome> = candidates
            .iter()
            .map(|candidate| Outcome { settings: candidate.settings.clone(), texts: Vec::with_capacity(texts) })
            .collect();
        for (_, of_text) in done {
            for (outcome, text) in outcomes.iter_mut().zip(of_text) {
                outcome.texts.push(text);
            }
        }
        Ok(outcomes)
    }

    /// One thread's share: whatever text is next.
    fn work(
        &self,
        candidates: &[Candidate],
        texts: usize,
        next: &AtomicUsize,
        stop: &AtomicBool,
        cancel: &Cancel,
    ) -> std::result::Result<Done, (usize, Error)> {
        let mut player = Player::open(self, candidates).map_err(|e| (0, e))?;
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let text = next.fetch_add(1, Ordering::Relaxed);
            if text >= texts {
                break;
            }
            if cancel.is_cancelled() {
                return Err((text, Error::new(ErrorKind::Cancelled, "the replay was cancelled")));
            }
            done.push((text, player.text(candidates, text).map_err(|e| (text, e))?));
        }
        Ok(done)
    }
}

/// A tape with the buffers to play it.
struct Player<'r> {
    tape: Tape<BufReader<File>>,
    replay: &'r Replay,
    /// By source; those that no candidate asks for stay empty.
    rows: Vec<Vec<f32>>,
    fused: Vec<f32>,
}

/// One candidate on its way through a text.
struct Runner {
    state: Box<dyn FusionState>,
    outcome: TextOutcome,
    trace: Vec<f64>,
    /// Whether every token is kept.
    tokens: bool,
}

impl<'r> Player<'r> {
    fn open(replay: &'r Replay, candidates: &[Candidate]) -> Result<Self> {
        let tape = Tape::open(&replay.path)?;
        let width = tape.vocabulary().width();
        let asked = |source| candidates.iter().any(|candidate| candidate.sources.contains(&source));
        let rows = (0..tape.header().sources.len()).map(|source| vec![0.0; if asked(source) { width } else { 0 }]);
        Ok(Self { rows: rows.collect(), fused: vec![0.0; width], tape, replay })
    }

    fn text(&mut self, candidates: &[Candidate], text: usize) -> Result<Vec<TextOutcome>> {
        let info = self.tape.texts()[text].info.clone();
        let start = |candidate: &Candidate| Runner::start(candidate, &info, self.replay.tokens);
        let mut runners = candidates.iter().map(start).collect::<Result<Vec<_>>>()?;
        let mut committed: Vec<TokenId> = Vec::with_capacity(info.tokens);
        let mut log_probs = vec![0.0; self.rows.len()];
        let mut log_normalisers = vec![0.0; self.rows.len()];
        for number in 0.. {
            let Some(block) = self.tape.block(text, number)? else { break };
            for (position, &token) in block.tokens().iter().enumerate() {
                for (source, row) in self.rows.iter_mut().enumerate().filter(|(_, row)| !row.is_empty()) {
                    log_normalisers[source] = self.tape.row(&block, source, position, self.replay.rest, row)?;
                }
                let row =
                    |&source: &usize| RoleRow::new(&self.rows[source], log_normalisers[source], log_probs[source]);
                for (runner, candidate) in runners.iter_mut().zip(candidates) {
                    let rows: Vec<RoleRow<'_>> = candidate.sources.iter().map(row).collect();
                    let step = FusionStep::new(&rows, &committed);
                    runner
                        .step(candidate, &block, position, &step, &mut self.fused)
                        .map_err(|e| e.context(format_args!("token {} of `{info}`", committed.len())))?;
                }
                for (source, row) in self.rows.iter().enumerate().filter(|(_, row)| !row.is_empty()) {
                    log_probs[source] += f64::from(row[token as usize]) - log_normalisers[source];
                }
                committed.push(token);
            }
        }
        let mut outcomes: Vec<TextOutcome> = runners.into_iter().map(|runner| runner.outcome).collect();
        for outcome in &mut outcomes {
            outcome.exact = exact(outcome.left, &committed, self.replay.tokenizer.as_ref())?;
        }
        Ok(outcomes)
    }
}

/// Whether greedy decoding writes a text of these tokens, if it leaves them at `left`. The same text may be made of other tokens:
/// whether it then goes on as the text does is told by rows that the tape does not hold.
fn exact(left: Option<(usize, TokenId)>, tokens: &[TokenId], tokenizer: Option<&Tokenizer>) -> Result<Option<bool>> {
    let Some((at, token)) = left else { return Ok(Some(true)) };
    let Some(tokenizer) = tokenizer else { return Ok(Some(false)) };
    let whole = tokenizer.decode(tokens, false)?;
    let other = tokenizer.decode(&[&tokens[..at], &[token]].concat(), false)?;
    Ok(match () {
        () if other == whole => Some(true),
        () if whole.starts_with(&other) => None,
        () => Some(false),
    })
}

impl Runner {
    fn start(candidate: &Candidate, info: &TextInfo, tokens: bool) -> Result<Self> {
        let outcome = TextOutcome {
            info: info.clone(),
            log_prob: 0.0,
            agreed: 0,
            left: None,
            exact: None,
            masked: 0,
            unknown: 0.0,
            slack: 0.0,
            tokens: Vec::new(),
        };
        let columns = if tokens { candidate.strategy.info().trace.len() } else { 0 };
        Ok(Self {
            state: candidate.strategy.start(&candidate.session)?,
            outcome,
            trace: vec![f64::NAN; columns],
            tokens,
        })
    }

    /// Fuses a position as the engine does when it scores.
    fn step(
        &mut self,
        candidate: &Candidate,
        block: &Block,
        position: usize,
        step: &FusionStep<'_>,
        fused: &mut [f32],
    ) -> Result<()> {
        let (token, at) = (block.tokens()[position], step.committed.len());
        if at == 0 {
            self.state.begin(step, &prompts(candidate, block)?)?;
        }
        self.trace.fill(f64::NAN);
        self.state.fuse(step, &mut FusedRow { logits: fused, trace: &mut self.trace })?;
        let log_normaliser = numerics::log_sum_exp(fused);
        if !log_normaliser.is_finite() {
            let cause =
                numerics::check_row(fused).err().map_or_else(|| "its logits overflow".to_owned(), |e| e.to_string());
            let id = &candidate.strategy.info().id;
            return Err(Error::new(
                ErrorKind::Numeric,
                format!("strategy `{id}` wrote a row that is no distribution: {cause}"),
            ));
        }
        let log_prob = f64::from(fused[token as usize]) - log_normaliser;
        #[expect(clippy::cast_possible_truncation, reason = "ids are u32 throughout")]
        let greedy = numerics::argmax(fused) as TokenId;
        let outcome = &mut self.outcome;
        outcome.log_prob += log_prob;
        outcome.masked += usize::from(log_prob == f64::NEG_INFINITY);
        if greedy == token {
            outcome.agreed += 1;
        } else {
            outcome.left.get_or_insert((at, greedy));
        }
        if let Some(ids) = block.known(position) {
            let known: f64 = ids.iter().map(|&id| (f64::from(fused[id as usize]) - log_normaliser).exp()).sum();
            outcome.unknown = outcome.unknown.max(1.0 - known);
            outcome.slack -= known.min(1.0).ln();
        }
        if self.tokens {
            outcome.tokens.push(TokenOutcome { token, log_prob, greedy, trace: self.trace.clone() });
        }
        self.state.commit(&[token])
    }
}

/// What a strategy that asks for it is told of the prompts.
fn prompts(candidate: &Candidate, block: &Block) -> Result<Vec<PromptScore>> {
    let info = candidate.strategy.info();
    if info.prompt == PromptReading::End {
        return Ok(Vec::new());
    }
    let Some(scores) = block.prompts() else {
        let what = format!("strategy `{}` asks how probable the prompts were, which this tape does not say", info.id);
        return Err(Error::new(ErrorKind::Incompatible, what)
            .with_help("record it with this strategy in the experiment's TOML"));
    };
    Ok(candidate.sources.iter().map(|&source| scores[source]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "ARS" is one token, and it is two.
    fn tokenizer() -> Tokenizer {
        let json = r#"{"model": {"type": "BPE", "vocab": {"A": 0, "R": 1, "S": 2, "AR": 3, "ARS": 4, "X": 5},
            "merges": ["A R"]}, "decoder": {"type": "Fuse"}}"#;
        Tokenizer::from_json(json).expect("a sound tokenizer")
    }

    #[test]
    fn a_text_is_exact_whatever_its_tokens() {
        let tokenizer = tokenizer();
        let of = |left, tokens: &[TokenId]| exact(left, tokens, Some(&tokenizer)).expect("letters");
        assert_eq!(of(None, &[3, 2]), Some(true));
        // AR + S, and greedy decoding says ARS.
        assert_eq!(of(Some((0, 4)), &[3, 2]), Some(true));
        // It says A: whether R and S follow, no row tells.
        assert_eq!(of(Some((0, 0)), &[3, 2]), None);
        assert_eq!(of(Some((0, 4)), &[3, 2, 5]), None);
        assert_eq!(of(Some((1, 5)), &[3, 2]), Some(false));
        assert_eq!(exact(Some((0, 4)), &[3, 2], None).expect("no text is made"), Some(false));
    }
}
