use logitfuse_core::{Error, ErrorKind, Result, TokenId, numerics};

use crate::{
    Cancel, Engine, Timings,
    sequence::{Sequence, Yielded},
};

/// Rows are asked for by this many at a time: 64 rows of a vocabulary of 128 k are 32 MB a source.
const ROWS: usize = 64;

/// A continuation to score, teacher-forced: the fused model is asked for the probability of each token given the prompt
/// and the *given* tokens before it.
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// One prompt per binding, as in [`Request`](crate::Request).
    pub prompts: Vec<Vec<TokenId>>,
    /// The tokens to score, one at least.
    pub continuation: Vec<TokenId>,
}

/// The score of a continuation.
#[derive(Clone, Debug)]
pub struct Score {
    /// Sum of the tokens' fused log-probabilities, in nats.
    pub log_prob: f64,
    /// Whether every token is the one that greedy decoding would have chosen.
    pub is_greedy: bool,
    /// One entry per token of the continuation.
    pub tokens: Vec<TokenScore>,
}

/// One scored token.
#[derive(Clone, Debug)]
pub struct TokenScore {
    /// The token.
    pub token: TokenId,
    /// Its fused log-probability at temperature 1, in nats.
    pub log_prob: f64,
    /// The token that greedy decoding would have chosen.
    pub greedy: TokenId,
    /// Its log-probability under each binding, in nats.
    pub roles: Vec<f64>,
    /// One value per trace column of the strategy.
    pub trace: Vec<f64>,
}

impl Engine {
    /// Scores a continuation. Chunked; a cancelled score is an error of kind `Cancelled`.
    pub fn score(&mut self, request: &ScoreRequest, cancel: &Cancel) -> Result<Score> {
        if request.continuation.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfig, "a continuation to score has no token"));
        }
        let width = self.session.vocabulary.width();
        if let Some(id) = request.continuation.iter().find(|&&id| !self.session.vocabulary.contains(id)) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("token {id} of the continuation is not in the effective vocabulary of {width}"),
            ));
        }
        let mut sequence = self.open(&request.prompts, request.continuation.len())?;
        let result = self.score_sequence(&mut sequence, &request.continuation, cancel);
        self.close(&sequence);
        result
    }

    fn score_sequence(&mut self, sequence: &mut Sequence, continuation: &[TokenId], cancel: &Cancel) -> Result<Score> {
        // The row of a prompt's last token predicts the continuation's first, so that token goes with the continuation.
        let prefixes: Vec<_> =
            sequence.slots.iter().map(|s| (s.source, s.sequence, &s.prompt[..s.prompt.len() - 1])).collect();
        let timings = &mut Timings::new(self.workers.len());
        if !self.fill(&prefixes, timings, &mut |_| !cancel.is_cancelled())? {
            return Err(cancelled());
        }
        let mut score = Score { log_prob: 0.0, is_greedy: true, tokens: Vec::with_capacity(continuation.len()) };
        for piece in continuation.chunks(ROWS) {
            let scored = score.tokens.len();
            let mut feeds = self.no_feeds();
            for slot in &mut sequence.slots {
                let first = if scored == 0 { slot.prompt.last().copied() } else { Some(continuation[scored - 1]) };
                let tokens: Vec<TokenId> = first.into_iter().chain(piece[..piece.len() - 1].iter().copied()).collect();
                let rows = tokens.len();
                slot.feed(0, tokens, rows, &mut feeds);
            }
            if cancel.is_cancelled() {
                return Err(cancelled());
            }
            let yielded = vec![self.forward(feeds, timings, true)?];
            for &token in piece {
                let entry = self.score_token(sequence, &yielded, token)?;
                score.log_prob += entry.log_prob;
                score.is_greedy &= entry.greedy == token;
                score.tokens.push(entry);
            }
            self.recycle(yielded);
        }
        Ok(score)
    }

    fn score_token(&mut self, sequence: &mut Sequence, yielded: &Yielded, token: TokenId) -> Result<TokenScore> {
        let rows: Vec<_> = sequence.rows(yielded, self.session.vocabulary.width())?.into_iter().flatten().collect();
        let log_normaliser = self.fuser.fuse(sequence.state.as_mut(), &rows, &sequence.tokens, true)?;
        let log_prob = |row: &[f32], log_normaliser: f64| f64::from(row[token as usize]) - log_normaliser;
        #[expect(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32, ids are u32 throughout")]
        let entry = TokenScore {
            token,
            log_prob: log_prob(&self.fuser.row, log_normaliser),
            greedy: numerics::argmax(&self.fuser.row) as TokenId,
            roles: rows.iter().map(|row| log_prob(row.logits(), row.log_normaliser)).collect(),
            trace: self.fuser.trace.clone(),
        };
        drop(rows);
        sequence.commit(token, yielded)?;
        Ok(entry)
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "scoring was cancelled")
}
