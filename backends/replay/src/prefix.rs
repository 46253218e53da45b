use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, SequenceId, SourceInfo, Step, TokenId};

/// A function from the tokens so far to the logits of the next one.
pub trait PrefixModel: Send {
    /// Writes the row that follows `prefix`, which holds one token at least; every entry must be written.
    fn row(&mut self, prefix: &[TokenId], out: &mut [f32]) -> Result<()>;
}

/// A [`LogitSource`] that keeps the tokens of each sequence and asks a [`PrefixModel`] for the rows.
///
/// This is the reference for what the trait means: a sequence *is* its tokens, so forks are copies, truncation is
/// truncation, and a row cannot depend on how its prefix was fed or what else is in the batch.
///
/// ```
/// use logitfuse_core::{LogitSource, Result, Rows, Step, TokenId};
/// use logitfuse_replay::{PrefixModel, PrefixSource};
///
/// /// Always wants the next id.
/// struct Counting;
///
/// impl PrefixModel for Counting {
///     fn row(&mut self, prefix: &[TokenId], out: &mut [f32]) -> Result<()> {
///         out.fill(0.0);
///         let next = prefix[prefix.len() - 1] as usize + 1;
///         out[next % out.len()] = 10.0;
///         Ok(())
///     }
/// }
///
/// let mut source = PrefixSource::with_model("counting", 8, Counting).context_length(3);
/// let sequence = source.open()?;
/// let mut rows = Rows::new();
/// source.forward(&[Step { sequence, tokens: &[4, 5], rows: 2 }], &mut rows)?;
/// assert_eq!((rows.row(0)[5], rows.row(1)[6]), (10.0, 10.0));
///
/// let error = source.forward(&[Step { sequence, tokens: &[6, 7], rows: 1 }], &mut rows).unwrap_err();
/// assert_eq!(error.to_string(), "counting: 4 tokens do not fit into a context of 3");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PrefixSource<M> {
    info: SourceInfo,
    pub(crate) model: M,
    sequences: BTreeMap<SequenceId, Vec<TokenId>>,
    opened: u64,
}

impl<M: PrefixModel> PrefixSource<M> {
    /// A source of rows of `width` entries, without a context limit or end-of-sequence ids.
    pub fn with_model(name: &str, width: usize, model: M) -> Self {
        let info = SourceInfo::new(name, width).with_kv_bytes_per_token(size_of::<TokenId>() as u64);
        Self { info, model, sequences: BTreeMap::new(), opened: 0 }
    }

    /// Limits a sequence to `tokens` tokens.
    #[must_use]
    pub fn context_length(mut self, tokens: usize) -> Self {
        self.info.context_length = Some(tokens);
        self
    }

    /// Sets the ids that end a text.
    #[must_use]
    pub fn end_of_sequence(mut self, ids: impl IntoIterator<Item = TokenId>) -> Self {
        self.info.end_of_sequence = ids.into_iter().collect();
        self
    }

    /// The tokens that a sequence holds; `None` if it is not open.
    pub fn tokens(&self, sequence: SequenceId) -> Option<&[TokenId]> {
        self.sequences.get(&sequence).map(Vec::as_slice)
    }

    fn error(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{}: {what}", self.info.name))
    }

    fn not_open(&self, sequence: SequenceId) -> Error {
        self.error(ErrorKind::Internal, format_args!("sequence {} is not open", sequence.0))
    }

    fn add(&mut self, tokens: Vec<TokenId>) -> SequenceId {
        let sequence = SequenceId(self.opened);
        self.opened += 1;
        self.sequences.insert(sequence, tokens);
        sequence
    }

    /// What the step's sequence will hold, or why the step is wrong.
    fn extended(&self, step: &Step<'_>) -> Result<Vec<TokenId>> {
        let held = self.sequences.get(&step.sequence).ok_or_else(|| self.not_open(step.sequence))?;
        if step.tokens.is_empty() || step.rows > step.tokens.len() {
            let what = format!("{} rows of a step of {} tokens", step.rows, step.tokens.len());
            return Err(self.error(ErrorKind::Internal, what));
        }
        if let Some(id) = step.tokens.iter().find(|&&id| id as usize >= self.info.logit_width) {
            let what = format!("token {id} is not below the {} ids of this source", self.info.logit_width);
            return Err(self
                .error(ErrorKind::Incompatible, what)
                .with_help("use the tokenizer that the source goes with"));
        }
        let extended = [held, step.tokens].concat();
        match self.info.context_length {
            Some(limit) if extended.len() > limit => Err(self
                .error(
                    ErrorKind::ContextOverflow,
                    format_args!("{} tokens do not fit into a context of {limit}", extended.len()),
                )
                .with_help("shorten the prompt or generate fewer tokens")),
            _ => Ok(extended),
        }
    }
}

impl<M: PrefixModel> LogitSource for PrefixSource<M> {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SequenceId> {
        Ok(self.add(Vec::new()))
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        let tokens = self.sequences.get(&of).ok_or_else(|| self.not_open(of))?.clone();
        Ok(self.add(tokens))
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        let held = self.len(sequence).ok_or_else(|| self.not_open(sequence))?;
        if len > held {
            let what = format!("sequence {} holds {held} tokens and cannot be cut to {len}", sequence.0);
            return Err(self.error(ErrorKind::Internal, what));
        }
        if let Some(tokens) = self.sequences.get_mut(&sequence) {
            tokens.truncate(len);
        }
        Ok(())
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.sequences.get(&sequence).map(Vec::len)
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        let mut extended = BTreeMap::new();
        for step in batch {
            if extended.insert(step.sequence, self.extended(step)?).is_some() {
                let what = format!("sequence {} appears twice in a batch", step.sequence.0);
                return Err(self.error(ErrorKind::Internal, what));
            }
        }
        out.reset(batch.iter().map(|step| step.rows).sum(), self.info.logit_width);
        let mut index = 0;
        for step in batch {
            let tokens = &extended[&step.sequence];
            for len in tokens.len() - step.rows + 1..=tokens.len() {
                self.model.row(&tokens[..len], out.row_mut(index)).map_err(|e| e.context(&self.info.name))?;
                index += 1;
            }
        }
        // Only now, when nothing can fail any more, do the sequences grow.
        self.sequences.append(&mut extended);
        Ok(())
    }
}
