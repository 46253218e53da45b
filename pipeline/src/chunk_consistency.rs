//! Chunk consistency: whether a model yields the same rows when it reads several tokens at once, as with prompts and drafts.

use logitfuse_core::{LogitSource, Result, Rows, Step, TokenId, numerics::log_sum_exp};
use logitfuse_text::Tokenizer;

/// Total variation distance from which on greedy texts were seen to change with drafts.
const MATTERS: f64 = 1e-3;
const TEXT: &str = "The library opens at nine in the morning and closes at six. On Sundays it stays closed, but the \
    reading room next door is open to everybody who wants to sit down with a newspaper.";

/// How far the rows of a text lie apart, read one token at a time and several at once.
///
/// Drafts are verified several tokens at once. Where that gives other rows than single steps do, as with exports in int8 whose
/// kernels for one row round otherwise than those for several, a text with drafts may be another than one without.
///
/// ```
/// use logitfuse_pipeline::ChunkConsistency;
/// use logitfuse_replay::SyntheticSource;
/// use logitfuse_text::Tokenizer;
///
/// let tokenizer = Tokenizer::from_json(r#"{"model": {"type": "WordLevel", "unk_token": "?",
///     "vocab": {"?": 0, "The": 1, "library": 2}}, "pre_tokenizer": {"type": "Whitespace"}}"#)?;
/// let mut source = SyntheticSource::new("exact", 3, 1);
/// let measured = ChunkConsistency::measure(&mut source, &tokenizer, 16)?.unwrap();
/// assert_eq!((measured.tokens, measured.distance, measured.matters()), (16, 0.0, false));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ChunkConsistency {
    /// Tokens of the text.
    pub tokens: usize,
    /// The largest total variation distance between two rows: the probability that lies elsewhere.
    pub distance: f64,
}

impl ChunkConsistency {
    /// Tokens that are read at once: a long draft.
    pub const CHUNK: usize = 8;

    /// Reads the beginning of a short text of ours in both ways, `most` tokens of it; nothing if the model has no room for it.
    ///
    /// # Errors
    /// Those of the source, and a row of it that is no distribution.
    pub fn measure(source: &mut dyn LogitSource, tokenizer: &Tokenizer, most: usize) -> Result<Option<Self>> {
        let info = source.info();
        let room = info.context_length.unwrap_or(usize::MAX).min(most);
        let width = info.logit_width;
        let mut tokens = tokenizer.encode(TEXT, false)?;
        tokens.truncate(tokens.len().min(room) / Self::CHUNK * Self::CHUNK);
        let known = tokens.iter().all(|&token| (token as usize) < width);
        if tokens.is_empty() || !known {
            return Ok(None);
        }
        let singly = read(source, &tokens, 1)?;
        let at_once = read(source, &tokens, Self::CHUNK)?;
        let distances = singly.iter().zip(&at_once).map(|(a, b)| total_variation(a, b));
        Ok(Some(Self { tokens: tokens.len(), distance: distances.fold(0.0, f64::max) }))
    }

    /// Whether the difference is large enough to change a greedy text now and then.
    pub fn matters(&self) -> bool {
        self.distance > MATTERS
    }
}

/// The row after each token, which are fed `chunk` at a time.
fn read(source: &mut dyn LogitSource, tokens: &[TokenId], chunk: usize) -> Result<Vec<Vec<f32>>> {
    let sequence = source.open()?;
    let (mut rows, mut all) = (Rows::new(), Vec::new());
    let ran = tokens.chunks(chunk).try_for_each(|tokens| {
        source.forward(&[Step { sequence, tokens, rows: tokens.len() }], &mut rows)?;
        for row in 0..rows.len() {
            logitfuse_core::numerics::check_row(rows.row(row)).map_err(|e| e.context(&source.info().name))?;
            all.push(rows.row(row).to_vec());
        }
        Ok(())
    });
    source.close(sequence);
    ran.map(|()| all)
}

fn total_variation(a: &[f32], b: &[f32]) -> f64 {
    let (log_a, log_b) = (log_sum_exp(a), log_sum_exp(b));
    let apart = |(&x, &y): (&f32, &f32)| ((f64::from(x) - log_a).exp() - (f64::from(y) - log_b).exp()).abs();
    a.iter().zip(b).map(apart).sum::<f64>() / 2.0
}
