//! From a request to a sequence that runs.

use logitfuse_core::{Error, ErrorKind, Result, TokenId};

use super::{Decoder, Job};
use crate::{
    Draft, FinishReason, Fusion, Request, Sampler, ScoreRequest, SourcePool, Timings,
    active::{ActiveSequence, End, Generating, Task},
    draft::scheduler::{AcceptanceStats, DraftScheduler},
    sequence::{Sequence, SourceSequence},
};

/// Room for so many tokens is made beforehand at most.
pub(super) const MOST_RESERVED: usize = 1 << 16;
/// The longest draft for which room is made beforehand.
const DRAFT_RESERVED: usize = 64;

impl Decoder {
    pub(super) fn start(&self, index: usize, job: Job) -> Result<ActiveSequence> {
        match job {
            Job::Generate(request) => self.start_generating(index, request),
            Job::Score(request) => self.start_scoring(index, request),
        }
    }

    fn start_generating(&self, index: usize, request: Request) -> Result<ActiveSequence> {
        let fusion = request.fusion.as_ref().unwrap_or(&self.fusion).clone();
        self.check_pool(&fusion)?;
        request.sampling.check_vocabulary(self.pool.vocabulary())?;
        let prompt = request.prompts.first().map_or(&[][..], Vec::as_slice);
        let own = request.processors.iter().map(|factory| factory.start(prompt, self.pool.vocabulary()));
        let mut sampler = Sampler::with_processors(&request.sampling, prompt, own.collect::<Result<_>>()?)?;
        sampler.reserve(request.max_new_tokens.min(MOST_RESERVED) + DRAFT_RESERVED);
        let greedy = request.sampling.is_greedy();
        let scheduler = fusion.speculation().map_or_else(DraftScheduler::none, |speculation| {
            // Greedy, a draft changes no token; sampled, it would change what is drawn.
            let stats = self.acceptance_of(&fusion).filter(|_| greedy);
            DraftScheduler::new(&speculation.length, stats.as_ref().map(AcceptanceStats::prior))
        });
        let drafter = match fusion.speculation().map(|speculation| speculation.draft) {
            Some(Draft::Source(source)) => Some(source),
            _ => None,
        };
        Ok(ActiveSequence {
            index,
            sequence: open(&self.pool, &fusion, &request.prompts, request.max_new_tokens, drafter)?,
            fusion,
            task: Task::Generate(Box::new(Generating {
                max_new_tokens: request.max_new_tokens,
                ignore_end_of_sequence: request.ignore_end_of_sequence,
                greedy,
                sampler,
                detokenizer: request.text.as_ref().map(|text| text.start()),
                text: String::new(),
                log_prob: 0.0,
                scheduler,
                draft: Vec::new(),
                draft_ends: false,
            })),
            timings: Timings::new(self.pool.len()),
            advanced: 0,
            end: (request.max_new_tokens == 0).then_some(End::Generated(FinishReason::Length)),
            cancel: request.cancel,
            observe_rows: request.observe_rows,
            trace: request.trace,
            top_logprobs: request.top_logprobs,
        })
    }

    fn start_scoring(&self, index: usize, request: ScoreRequest) -> Result<ActiveSequence> {
        let fusion = request.fusion.as_ref().unwrap_or(&self.fusion).clone();
        self.check_pool(&fusion)?;
        super::score::check(&fusion, &request)?;
        let longest = request.continuations.iter().map(Vec::len).max().unwrap_or(0);
        // The last token of a continuation is asked about, never fed. What is given needs no draft, and a source that only
        // drafts needs no prompt.
        let sequence = open(&self.pool, &fusion, &request.prompts, longest.saturating_sub(1), None)?;
        Ok(ActiveSequence {
            index,
            sequence,
            fusion,
            timings: Timings::new(self.pool.len()),
            advanced: 0,
            end: None,
            cancel: request.cancel.clone(),
            observe_rows: request.observe_rows,
            trace: request.trace,
            top_logprobs: request.top_logprobs,
            task: Task::Score(Box::new(super::score::scoring(request))),
        })
    }
}

/// Opens the sequences of one request; `reach` is how many tokens it may add to each prompt.
fn open(
    pool: &SourcePool,
    fusion: &Fusion,
    prompts: &[Vec<TokenId>],
    reach: usize,
    drafter: Option<usize>,
) -> Result<Sequence> {
    check_prompts(pool, fusion, prompts)?;
    let mut sequence = Sequence {
        sources: Vec::new(),
        source_of: Vec::new(),
        drafter: None,
        state: fusion.strategy().start(fusion.session())?,
        prompt_scores: Vec::new(),
        tokens: Vec::with_capacity(reach.min(MOST_RESERVED)),
    };
    let opened = open_sources(pool, fusion, prompts, reach, drafter, &mut sequence);
    opened.inspect_err(|_| sequence.close(pool))?;
    Ok(sequence)
}

fn open_sources(
    pool: &SourcePool,
    fusion: &Fusion,
    prompts: &[Vec<TokenId>],
    reach: usize,
    drafter: Option<usize>,
    sequence: &mut Sequence,
) -> Result<()> {
    let new = |prompt: &Vec<TokenId>, source| {
        let id = pool.open(source, None, prompt.len() + reach.min(MOST_RESERVED))?;
        Ok::<_, Error>(SourceSequence::new(source, id, prompt))
    };
    for (prompt, &source) in prompts.iter().zip(fusion.binding_sources()) {
        let shared = sequence.sources.iter().position(|s| s.source == source && s.prompt == *prompt);
        sequence.source_of.push(shared.unwrap_or(sequence.sources.len()));
        if shared.is_none() {
            sequence.sources.push(new(prompt, source)?);
        }
    }
    if let (Some(source), Some(prompt)) = (drafter, prompts.first()) {
        sequence.drafter = Some(sequence.sources.len());
        sequence.sources.push(new(prompt, source)?);
    }
    Ok(())
}

/// Whether every binding can read its prompt.
fn check_prompts(pool: &SourcePool, fusion: &Fusion, prompts: &[Vec<TokenId>]) -> Result<()> {
    let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
    let bindings = &fusion.session().bindings;
    if prompts.len() != bindings.len() {
        return wrong(format!("{} prompts for {} roles", prompts.len(), bindings.len()));
    }
    for ((prompt, binding), &source) in prompts.iter().zip(bindings).zip(fusion.binding_sources()) {
        let info = pool.info(source);
        if prompt.is_empty() {
            return wrong(format!("the prompt of role `{}` (source `{}`) has no token", binding.role, binding.source));
        }
        if let Some(limit) = info.context_length.filter(|&limit| prompt.len() > limit) {
            let what =
                format!("source `{}`: the prompt has {} tokens, the context holds {limit}", info.name, prompt.len());
            return Err(Error::new(ErrorKind::ContextOverflow, what)
                .with_help("shorten the prompt, or use a model with a longer context"));
        }
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= info.logit_width) {
            return wrong(format!(
                "source `{}`: prompt token {id} is not in its vocabulary of {}",
                info.name, info.logit_width
            ));
        }
    }
    Ok(())
}
