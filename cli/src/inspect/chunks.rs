//! Chunk consistency: whether a model yields the same rows when it reads several tokens at once, as with prompts and drafts.

use logitfuse_core::{LogitSource, Result, Rows, Step, TokenId, numerics::log_sum_exp};
use logitfuse_text::Tokenizer;

/// Total variation distance from which on greedy texts were seen to change with drafts.
const MATTERS: f64 = 1e-3;
/// Tokens that are read at once: a long draft.
const CHUNK: usize = 8;
const TEXT: &str = "The library opens at nine in the morning and closes at six. On Sundays it stays closed, but the \
    reading room next door is open to everybody who wants to sit down with a newspaper.";

/// How far the rows of a text lie apart, read one token at a time and several at once.
pub(super) struct ChunkConsistency {
    tokens: usize,
    /// The largest total variation distance between two rows: the probability that lies elsewhere.
    pub(super) distance: f64,
}

impl ChunkConsistency {
    /// Reads a short text of ours in both ways; nothing if the model has no room for it.
    pub(super) fn measure(source: &mut impl LogitSource, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let info = source.info();
        let room = info.context_length.unwrap_or(usize::MAX);
        let width = info.logit_width;
        let mut tokens = tokenizer.encode(TEXT, false)?;
        tokens.truncate(tokens.len().min(room) / CHUNK * CHUNK);
        let known = tokens.iter().all(|&token| (token as usize) < width);
        if tokens.is_empty() || !known {
            return Ok(None);
        }
        let singly = read(source, &tokens, 1)?;
        let at_once = read(source, &tokens, CHUNK)?;
        let distances = singly.iter().zip(&at_once).map(|(a, b)| total_variation(a, b));
        Ok(Some(Self { tokens: tokens.len(), distance: distances.fold(0.0, f64::max) }))
    }
}

impl std::fmt::Display for ChunkConsistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tokens, distance } = self;
        if *distance == 0.0 {
            return write!(f, "equal rows whether read one by one or {CHUNK} at once (a text of {tokens} tokens)");
        }
        let share = 100.0 * distance;
        write!(f, "rows read one by one and {CHUNK} at once differ by up to ")?;
        if *distance <= MATTERS {
            return write!(f, "{share:.0e} % of the probability (a text of {tokens} tokens)");
        }
        write!(f, "{share:.1} % of the probability (a text of {tokens} tokens); ")?;
        write!(f, "warning: [speculation] may change greedy texts of this export, compare with drafts off")
    }
}

/// The row after each token, which are fed `chunk` at a time.
fn read(source: &mut impl LogitSource, tokens: &[TokenId], chunk: usize) -> Result<Vec<Vec<f32>>> {
    let sequence = source.open()?;
    let (mut rows, mut all) = (Rows::new(), Vec::new());
    for tokens in tokens.chunks(chunk) {
        source.forward(&[Step { sequence, tokens, rows: tokens.len() }], &mut rows)?;
        all.extend((0..rows.len()).map(|row| rows.row(row).to_vec()));
    }
    source.close(sequence);
    Ok(all)
}

fn total_variation(a: &[f32], b: &[f32]) -> f64 {
    let (log_a, log_b) = (log_sum_exp(a), log_sum_exp(b));
    let apart = |(&x, &y): (&f32, &f32)| ((f64::from(x) - log_a).exp() - (f64::from(y) - log_b).exp()).abs();
    a.iter().zip(b).map(apart).sum::<f64>() / 2.0
}
