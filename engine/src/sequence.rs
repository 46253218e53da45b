//! The state of one text over all of its sources.

use logitfuse_core::{FusionState, PromptScore, Result, RoleRow, SequenceId, TokenId};
use smallvec::SmallVec;

use crate::{
    SourcePool,
    pool::batch::{Asked, ForwardBatch, Place, StepOutputs},
};

/// Something of every binding; most strategies have few.
pub(crate) type ByBinding<T> = SmallVec<[T; 8]>;

/// A text's sequence in one source. Bindings that share a source *and* a prompt share it: the row is computed once.
pub(crate) struct SourceSequence {
    pub(crate) source: usize,
    pub(crate) id: SequenceId,
    pub(crate) prompt: Vec<TokenId>,
    /// Tokens of the prompt that the source holds.
    pub(crate) held: usize,
    /// Generated tokens that the source holds, drafted ones included.
    fed: usize,
    /// Log-probability in nats of the first `credited` generated tokens under this source.
    log_prob: f64,
    credited: usize,
    /// Where the rows of the positions from `credited` on lie, as far as the source was asked for them.
    rows: Vec<RowIndex>,
    /// Tokens in the batch that is being put together.
    pub(crate) pending: usize,
}

/// Where a row lies among what sources yielded since the last commit.
#[derive(Clone, Copy)]
struct RowIndex {
    /// Which of the passes yielded it.
    pass: usize,
    /// Its place among the rows of its source.
    row: usize,
}

impl SourceSequence {
    pub(crate) fn new(source: usize, id: SequenceId, prompt: &[TokenId]) -> Self {
        let prompt = prompt.to_vec();
        Self { source, id, prompt, held: 0, fed: 0, log_prob: 0.0, credited: 0, rows: Vec::new(), pending: 0 }
    }

    /// Feeds these tokens as part of the pass with this number; the last `rows` of them yield rows.
    pub(crate) fn feed(&mut self, pass: usize, tokens: &[TokenId], rows: usize, batch: &mut ForwardBatch) {
        let before = batch.sources[self.source].feed(self.id, tokens, rows);
        self.pending += tokens.len();
        self.rows.extend((before..before + rows).map(|row| RowIndex { pass, row }));
    }

    /// Feeds the next tokens of the prompt, up to `end`; the last `rows` of them yield rows, the first of which has the
    /// place that is returned.
    pub(crate) fn feed_prompt(&mut self, end: usize, rows: usize, batch: &mut ForwardBatch) -> usize {
        let tokens = &self.prompt[self.held..end];
        self.pending += tokens.len();
        let before = batch.sources[self.source].feed(self.id, tokens, rows);
        self.held = end;
        before
    }

    /// As [`feed_prompt`](Self::feed_prompt) to the prompt's end, whose row is that of the first generated position.
    pub(crate) fn feed_prompt_end(&mut self, pass: usize, batch: &mut ForwardBatch) {
        let row = self.feed_prompt(self.prompt.len(), 1, batch);
        self.rows.push(RowIndex { pass, row });
    }

    /// Feeds what the source does not hold of `tokens`, the generated text so far and perhaps a draft of its
    /// continuation. Every token yields a row, so that a token's log-probability is known however late the source hears
    /// of it.
    pub(crate) fn catch_up(&mut self, pass: usize, tokens: &[TokenId], batch: &mut ForwardBatch) {
        let new = &tokens[self.fed..];
        self.fed += new.len();
        if !new.is_empty() {
            self.feed(pass, new, new.len(), batch);
        }
    }

    /// The row of the position after `tokens`; `None` if the source was not asked for it.
    pub(crate) fn row<'a>(
        &self,
        tokens: &[TokenId],
        outputs: &'a StepOutputs,
        pool: &SourcePool,
    ) -> Result<Option<RoleRow<'a>>> {
        if self.credited + self.rows.len() <= tokens.len() {
            return Ok(None);
        }
        let mut log_prob = self.log_prob;
        for ((at, &token), position) in self.rows.iter().zip(&tokens[self.credited..]).zip(self.credited..) {
            log_prob += outputs[at.pass].sources[self.source].log_prob(at.row, token, self.asked(position, pool))?;
        }
        let at = self.rows[tokens.len() - self.credited];
        outputs[at.pass].sources[self.source].row(at.row, log_prob, self.asked(tokens.len(), pool)).map(Some)
    }

    fn asked<'a>(&self, position: usize, pool: &'a SourcePool) -> Asked<'a> {
        let (width, source) = (pool.vocabulary().width(), pool.info(self.source).name.as_str());
        Asked { source, width, place: Place::Token(position) }
    }

    /// Takes the rows of generated tokens into account.
    fn credit(&mut self, tokens: &[TokenId], outputs: &StepOutputs, pool: &SourcePool) -> Result<()> {
        let late = &tokens[self.credited..];
        let known = late.len().min(self.rows.len());
        if known == 0 {
            return Ok(());
        }
        for ((at, &token), position) in self.rows[..known].iter().zip(late).zip(self.credited..) {
            self.log_prob +=
                outputs[at.pass].sources[self.source].log_prob(at.row, token, self.asked(position, pool))?;
        }
        self.rows.drain(..known);
        self.credited += known;
        Ok(())
    }

    /// Forgets rows that were not used, whose buffers go back to their source, and drafted tokens that did not become text.
    /// Of the generated tokens the last one is never fed: its row belongs to the next step. Returns how many tokens the
    /// source should keep, if it holds more.
    pub(crate) fn rewind(&mut self, generated: usize) -> Option<usize> {
        self.rows.clear();
        let kept = self.fed.min(generated.saturating_sub(1));
        let surplus = self.fed > kept;
        self.fed = kept;
        surplus.then_some(self.prompt.len() + kept)
    }

    /// Forgets what followed the prompt's last token but one, as if nothing had; returns how many tokens the source should
    /// keep.
    pub(crate) fn restart(&mut self) -> usize {
        (self.fed, self.log_prob, self.credited) = (0, 0.0, 0);
        self.rows.clear();
        self.prompt.len() - 1
    }
}

/// A text that is generated or scored.
pub(crate) struct Sequence {
    pub(crate) sources: Vec<SourceSequence>,
    /// The place in `sources` of each binding.
    pub(crate) source_of: Vec<usize>,
    /// The place in `sources` of a drafter that plays no role.
    pub(crate) drafter: Option<usize>,
    pub(crate) state: Box<dyn FusionState>,
    /// How probable the prompt was under each binding; empty if the strategy does not ask.
    pub(crate) prompt_scores: Vec<PromptScore>,
    pub(crate) tokens: Vec<TokenId>,
}

impl Sequence {
    /// The rows of the next position by binding; `None` where the source was not asked.
    pub(crate) fn rows<'a>(
        &self,
        outputs: &'a StepOutputs,
        pool: &SourcePool,
    ) -> Result<ByBinding<Option<RoleRow<'a>>>> {
        self.source_of.iter().map(|&at| self.sources[at].row(&self.tokens, outputs, pool)).collect()
    }

    /// Makes `token` final: in the strategy's state and in the running log-probability of every source that was asked.
    pub(crate) fn commit(&mut self, token: TokenId, outputs: &StepOutputs, pool: &SourcePool) -> Result<()> {
        self.tokens.push(token);
        for source in &mut self.sources {
            source.credit(&self.tokens, outputs, pool)?;
        }
        self.state.commit(&[token])
    }

    /// Feeds the generated text and a draft to every source but a drafter that plays no role.
    pub(crate) fn catch_up(&mut self, pass: usize, text: &[TokenId], batch: &mut ForwardBatch) {
        for (at, source) in self.sources.iter_mut().enumerate() {
            if self.drafter != Some(at) {
                source.catch_up(pass, text, batch);
            }
        }
    }

    /// Releases what it holds in its sources.
    pub(crate) fn close(&self, pool: &SourcePool) {
        for source in &self.sources {
            pool.close(source.source, source.id);
        }
    }
}
