//! Prompts: how they get into the sources, and what the strategy is told of them.

use logitfuse_core::{Error, ErrorKind, FusionStep, PromptReading, PromptScore, Result, RoleRow, TokenId};
use smallvec::smallvec;

use super::{Context, Decoder, context::Phase, score::ROWS, start::MOST_RESERVED};
use crate::{
    Event, Fusion, SourcePool,
    active::{ActiveSequence, Task},
    pool::batch::{Asked, ForwardBatch, Place, Purpose, StepOutputs},
    sequence::{ByBinding, Sequence},
};

/// Prompts go in by chunks of this many tokens, so that a long one shows progress and can be interrupted.
pub(super) const PREFILL_CHUNK: usize = 512;

/// One source's part of a piece that is read: the first of its positions in the prompt, its first row among those of its
/// source, and how many there are.
#[derive(Clone, Copy)]
struct Piece {
    position: usize,
    row: usize,
    len: usize,
}

impl Piece {
    /// The row behind the piece's `nth` token, of this source.
    fn asked<'a>(&self, nth: usize, source: usize, pool: &'a SourcePool) -> Asked<'a> {
        let place = Place::Prompt(self.position + nth);
        Asked { source: &pool.info(source).name, width: pool.vocabulary().width(), place }
    }
}

impl Decoder {
    /// Feeds the prompts of new sequences. Those that generate have their first token then; those that are scored hold
    /// their context but for its last token.
    pub(super) fn prefill(&mut self, joining: &mut [ActiveSequence], context: &mut Context<'_>) {
        let total: usize = joining.iter().filter(|a| a.is_running()).map(prompt_tokens).sum();
        // A running sum: to count anew for each of thousands of sequences takes longer than to decode them.
        let mut before = done(joining);
        for a in joining.iter_mut() {
            if !a.is_running() {
                continue;
            }
            before -= held(a);
            // What is read is read in full: of a beginning that was run before, the rows are gone.
            let fed = if a.fusion.reading() == PromptReading::End {
                self.reuse_prefixes(a, context, before, total)
            } else {
                self.read_prompt(a, context, before, total)
            };
            if let Err(error) = fed {
                a.fail(error);
            }
            before += held(a);
        }
        if !self.fill(joining, context, total) {
            return;
        }
        let mut batch = self.batch(Purpose::Step);
        for a in joining.iter_mut().filter(|a| a.generating().is_some()) {
            a.sequence.sources.iter_mut().for_each(|source| source.feed_prompt_end(0, &mut batch));
        }
        if batch.is_empty() {
            self.batches.recycle([batch]);
            return;
        }
        let outputs: StepOutputs = smallvec![self.forward(batch, joining, context, Phase::Prefill)];
        context.tell(Event::Prefill { done: total, total });
        for a in joining.iter_mut().filter(|a| a.generating().is_some()) {
            let ended = self.end_prompt(a, &outputs, context);
            if let Err(error) = ended.and_then(|()| self.fuse_and_emit(a, &outputs, None, context).map(|_| ())) {
                a.fail(error);
            }
        }
        self.batches.recycle(outputs);
    }

    /// An empty batch.
    pub(super) fn batch(&mut self, purpose: Purpose) -> ForwardBatch {
        self.batches.take(purpose, self.pool.len())
    }

    /// Runs a batch of these sequences; those whose source failed end.
    pub(super) fn forward(
        &self,
        mut batch: ForwardBatch,
        active: &mut [ActiveSequence],
        context: &mut Context<'_>,
        phase: Phase,
    ) -> ForwardBatch {
        self.pool.forward(&mut batch, context.cancel());
        context.charge(&batch, active, phase);
        batch
    }

    /// Feeds prompts chunk by chunk, up to where the last one begins. False if the call was cancelled.
    fn fill(&mut self, joining: &mut [ActiveSequence], context: &mut Context<'_>, total: usize) -> bool {
        loop {
            joining.iter_mut().for_each(ActiveSequence::check_cancelled);
            if !proceed(context, done(joining), total) {
                return false;
            }
            let mut batch = self.batch(Purpose::Step);
            for a in joining.iter_mut().filter(|a| a.is_running()) {
                let scored = matches!(a.task, Task::Score(_));
                for source in &mut a.sequence.sources {
                    let last = source.prompt.len() - 1;
                    // All chunks end where those of a prompt that was not reused do.
                    let end = if scored { last } else { last / PREFILL_CHUNK * PREFILL_CHUNK };
                    if source.held < end {
                        source.feed_prompt(end.min(source.held + PREFILL_CHUNK), 0, &mut batch);
                    }
                }
            }
            let empty = batch.is_empty();
            if !empty {
                batch = self.forward(batch, joining, context, Phase::Prefill);
            }
            self.batches.recycle([batch]);
            if empty {
                return true;
            }
        }
    }

    /// Gives the sources of a sequence that holds nothing yet the longest beginning of its prompt that is kept, having run
    /// one first if this prompt and a recent one share it.
    fn reuse_prefixes(
        &mut self,
        a: &mut ActiveSequence,
        context: &mut Context<'_>,
        before: usize,
        total: usize,
    ) -> Result<()> {
        let reach = match &a.task {
            Task::Generate(generating) => generating.max_new_tokens,
            Task::Score(scoring) => scoring.request.continuations.iter().map(Vec::len).max().unwrap_or(0),
        };
        for at in 0..a.sequence.sources.len() {
            let (source, prompt) = (a.sequence.sources[at].source, a.sequence.sources[at].prompt.clone());
            let mut found = self.prefixes.look_up(&self.pool, source, &prompt, PREFILL_CHUNK);
            if found.shared > 0 {
                let parent = found.parent.map(|parent| (parent, found.hit));
                let opened = self.pool.open(source, parent, found.shared)?;
                let told = &mut |context: &mut Context<'_>| proceed(context, before, total);
                let filled = self.fill_prefix(a, (source, opened), &prompt[found.hit..found.shared], context, told);
                if !matches!(filled, Ok(true)) {
                    self.pool.close(source, opened);
                    return filled.map(|_| ());
                }
                self.prefixes.insert(source, &prompt[..found.shared], opened);
                (found.parent, found.hit) = (Some(opened), found.shared);
            }
            let Some(parent) = found.parent else { continue };
            let room = prompt.len() + reach.min(MOST_RESERVED);
            let fork = self.pool.open(source, Some((parent, found.hit)), room)?;
            let held = &mut a.sequence.sources[at];
            self.pool.close(source, held.id);
            (held.id, held.held) = (fork, found.hit);
            a.timings.reused_tokens[source] += found.hit;
            context.timings.reused_tokens[source] += found.hit;
            self.prefixes.evict(&self.pool);
        }
        Ok(())
    }

    /// Runs a beginning that is to be kept. False if `told` broke off.
    fn fill_prefix(
        &mut self,
        a: &mut ActiveSequence,
        (source, id): (usize, logitfuse_core::SequenceId),
        tokens: &[TokenId],
        context: &mut Context<'_>,
        told: &mut dyn FnMut(&mut Context<'_>) -> bool,
    ) -> Result<bool> {
        for chunk in tokens.chunks(PREFILL_CHUNK) {
            if !told(context) {
                return Ok(false);
            }
            let mut batch = self.batch(Purpose::Step);
            batch.sources[source].feed(id, chunk, 0);
            // Charged to the request that has it run.
            if let Some(sequence) = a.sequence.sources.iter_mut().find(|sequence| sequence.source == source) {
                sequence.pending += chunk.len();
            }
            let batch = self.forward(batch, std::slice::from_mut(a), context, Phase::Prefill);
            let failed = batch.sources[source].error().cloned();
            self.batches.recycle([batch]);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(told(context))
    }

    /// Feeds the prompt of every binding, of which nothing was fed, but for its last token, and keeps or shows to the
    /// strategy what the sources say of it.
    fn read_prompt(
        &mut self,
        a: &mut ActiveSequence,
        context: &mut Context<'_>,
        before: usize,
        total: usize,
    ) -> Result<()> {
        let by_rows = a.fusion.reading() == PromptReading::Rows;
        if by_rows {
            insist_on_one_prompt(&a.fusion, &a.sequence)?;
        }
        a.sequence.prompt_scores = vec![PromptScore::default(); a.sequence.source_of.len()];
        let longest = a.sequence.sources.iter().map(|source| source.prompt.len() - 1).max().unwrap_or(0);
        for start in (0..longest).step_by(ROWS) {
            a.check_cancelled();
            let held: usize = a.sequence.sources.iter().map(|source| source.held).sum();
            if !a.is_running() || !proceed(context, before + held, total) {
                return Ok(());
            }
            let mut batch = self.batch(Purpose::Step);
            let mut pieces: Vec<Option<Piece>> = vec![None; a.sequence.sources.len()];
            for (at, (source, piece)) in a.sequence.sources.iter_mut().zip(&mut pieces).enumerate() {
                let end = (start + ROWS).min(source.prompt.len() - 1);
                // A drafter that plays no role is not asked.
                if end <= start || a.sequence.drafter == Some(at) {
                    continue;
                }
                let (position, len) = (source.held, end - source.held);
                *piece = Some(Piece { position, row: source.feed_prompt(end, len, &mut batch), len });
            }
            let batch = self.forward(batch, std::slice::from_mut(a), context, Phase::Prefill);
            if a.is_running() {
                score_prompt(&self.pool, &mut a.sequence, &pieces, &batch)?;
                if by_rows {
                    show_prompt(&self.pool, &mut a.sequence, &pieces, &batch)?;
                }
            }
            self.batches.recycle([batch]);
        }
        Ok(())
    }

    /// Tells the strategy that the prompt is over. `outputs` hold the rows of its end.
    pub(super) fn end_prompt(
        &self,
        a: &mut ActiveSequence,
        outputs: &StepOutputs,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let start = std::time::Instant::now();
        let rows: ByBinding<_> = a.sequence.rows(outputs, &self.pool)?.into_iter().flatten().collect();
        let Sequence { state, prompt_scores, .. } = &mut a.sequence;
        state.begin(&FusionStep::new(&rows, &[]), prompt_scores)?;
        let took = start.elapsed();
        a.timings.fuse += took;
        context.timings.fuse += took;
        Ok(())
    }
}

/// Tells how far the prompts are; false if the call was cancelled.
fn proceed(context: &mut Context<'_>, done: usize, total: usize) -> bool {
    if context.is_cancelled() {
        return false;
    }
    context.tell(Event::Prefill { done, total });
    !context.is_cancelled()
}

/// Tokens that the sources of a sequence are to hold before its first step.
fn prompt_tokens(a: &ActiveSequence) -> usize {
    let left = usize::from(matches!(a.task, Task::Score(_)));
    a.sequence.sources.iter().map(|source| source.prompt.len() - left).sum()
}

/// Tokens that the sources of the sequences that run hold.
fn done(joining: &[ActiveSequence]) -> usize {
    joining.iter().map(held).sum()
}

fn held(a: &ActiveSequence) -> usize {
    if a.is_running() { a.sequence.sources.iter().map(|source| source.held).sum() } else { 0 }
}

/// Adds a piece to what each binding's source gives the prompt.
fn score_prompt(
    pool: &SourcePool,
    sequence: &mut Sequence,
    pieces: &[Option<Piece>],
    batch: &ForwardBatch,
) -> Result<()> {
    let Sequence { sources, source_of, prompt_scores, .. } = sequence;
    for (&at, score) in source_of.iter().zip(prompt_scores) {
        let Some(piece) = pieces[at] else { continue };
        let source = &sources[at];
        for nth in 0..piece.len {
            let next = source.prompt[piece.position + nth + 1];
            if pool.vocabulary().contains(next) {
                let asked = piece.asked(nth, source.source, pool);
                score.log_prob += batch.sources[source.source].log_prob(piece.row + nth, next, asked)?;
                score.tokens += 1;
            }
        }
    }
    Ok(())
}

/// Shows a piece's rows to the strategy, position by position.
fn show_prompt(
    pool: &SourcePool,
    sequence: &mut Sequence,
    pieces: &[Option<Piece>],
    batch: &ForwardBatch,
) -> Result<()> {
    let Sequence { sources, source_of, state, .. } = sequence;
    let Some(Some(first)) = pieces.first() else { return Ok(()) };
    let mut rows: Vec<RoleRow<'_>> = Vec::with_capacity(source_of.len());
    for nth in 0..first.len {
        let next = sources[0].prompt[first.position + nth + 1];
        if !pool.vocabulary().contains(next) {
            continue;
        }
        rows.clear();
        for &at in source_of.iter() {
            let Some(piece) = pieces[at] else { continue };
            let source = sources[at].source;
            rows.push(batch.sources[source].row(piece.row + nth, 0.0, piece.asked(nth, source, pool))?);
        }
        state.read_prompt(&FusionStep::new(&rows, &[]), next)?;
    }
    Ok(())
}

fn insist_on_one_prompt(fusion: &Fusion, sequence: &Sequence) -> Result<()> {
    let prompts = || sequence.source_of.iter().map(|&at| &sequence.sources[at].prompt);
    let Some(other) = prompts().position(|prompt| *prompt != sequence.sources[0].prompt) else { return Ok(()) };
    let [first, other] = [0, other].map(|binding| &fusion.session().bindings[binding]);
    let what = format!(
        "strategy `{}` compares what its sources say of every token of a prompt; role `{}` (source `{}`) has another \
         prompt than role `{}` (source `{}`)",
        fusion.strategy().info().id,
        other.role,
        other.source,
        first.role,
        first.source
    );
    Err(Error::new(ErrorKind::InvalidConfig, what).with_help("give all sources the same templates and tokenizers"))
}
