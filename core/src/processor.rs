//! Logits processors: what changes a fused row before a token is sampled from it.

use std::fmt::Debug;

use crate::{Result, SharedVocabulary, TokenId, numerics};

/// Tokens with their probabilities.
pub type Candidates = Vec<(TokenId, f64)>;

/// What a logits processor knows of the sequence besides the row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProcessorContext<'a> {
    /// The tokens generated so far; while tokens are drafted, the draft included.
    pub generated: &'a [TokenId],
}

impl<'a> ProcessorContext<'a> {
    /// The context of the position after these tokens.
    pub fn new(generated: &'a [TokenId]) -> Self {
        Self { generated }
    }
}

/// A logits processor of one sequence: changes the fused row of every position before a token is sampled.
///
/// Processors run after fusion, in the order of the request, on the unnormalised fused logits at temperature 1. Masks of a
/// grammar, penalties and truncations are processors. What a strategy sees is not changed by them: it fuses the sources'
/// own rows.
///
/// Drafts keep processors exact: a drafter's rows go through the same processors, with the drafted tokens committed, and
/// [`rollback`](Self::rollback) takes the drafted tokens back before the fused rows are looked at. A processor whose
/// `rollback` undoes `commit` therefore has the same distribution of texts with and without drafts.
///
/// ```
/// use logitfuse_core::{LogitsProcessor, ProcessorContext, Result, SamplingRow, TokenId};
///
/// /// Bans a token until so many others were generated.
/// #[derive(Clone)]
/// struct NotBefore {
///     token: TokenId,
///     position: usize,
/// }
///
/// impl LogitsProcessor for NotBefore {
///     fn apply(&mut self, context: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
///         if context.generated.len() < self.position {
///             row.logits_mut()[self.token as usize] = f32::NEG_INFINITY;
///         }
///         Ok(())
///     }
///     fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
///         Ok(Box::new(self.clone()))
///     }
/// }
///
/// let mut row = SamplingRow::new();
/// row.reset(&[0.0, 2.0, 1.0]);
/// NotBefore { token: 1, position: 3 }.apply(&ProcessorContext::new(&[0]), &mut row)?;
/// assert_eq!(row.argmax(), Some(2));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub trait LogitsProcessor: Send {
    /// Changes the row of the position after `context.generated`. Called again for the same position it does the same.
    fn apply(&mut self, context: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()>;

    /// A token was generated, or drafted.
    fn commit(&mut self, token: TokenId) -> Result<()> {
        let _ = token;
        Ok(())
    }

    /// Undoes the last `n` commits.
    fn rollback(&mut self, n: usize) -> Result<()> {
        let _ = n;
        Ok(())
    }

    /// An independent copy: equal calls have equal effects from here on.
    fn fork(&self) -> Result<Box<dyn LogitsProcessor>>;

    /// Whether the most probable token is the same after [`apply`](Self::apply), whatever the row. Greedy decoding leaves
    /// such a processor out.
    fn preserves_argmax(&self) -> bool {
        false
    }
}

/// Makes the logits processor of each sequence; immutable and shared between requests.
///
/// A closure is one:
///
/// ```
/// use logitfuse_core::{LogitsProcessor, ProcessorContext, ProcessorFactory, Result, SamplingRow, SharedVocabulary, TokenId};
///
/// #[derive(Clone)]
/// struct Ban(TokenId);
/// impl LogitsProcessor for Ban {
///     fn apply(&mut self, _: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
///         row.logits_mut()[self.0 as usize] = f32::NEG_INFINITY;
///         Ok(())
///     }
///     fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
///         Ok(Box::new(self.clone()))
///     }
/// }
///
/// let factory = |_prompt: &[TokenId], _: &SharedVocabulary| Ok(Box::new(Ban(7)) as Box<dyn LogitsProcessor>);
/// assert!(factory.start(&[1, 2], &SharedVocabulary::new(10, [])).is_ok());
/// ```
pub trait ProcessorFactory: Send + Sync {
    /// The processor of a sequence whose first role reads this prompt. The row of every position is
    /// `vocabulary.width()` long.
    fn start(&self, prompt: &[TokenId], vocabulary: &SharedVocabulary) -> Result<Box<dyn LogitsProcessor>>;
}

impl<F> ProcessorFactory for F
where
    F: Fn(&[TokenId], &SharedVocabulary) -> Result<Box<dyn LogitsProcessor>> + Send + Sync,
{
    fn start(&self, prompt: &[TokenId], vocabulary: &SharedVocabulary) -> Result<Box<dyn LogitsProcessor>> {
        self(prompt, vocabulary)
    }
}

/// The fused row of one position on its way to a token: logits, then, once something is truncated, the tokens that are
/// left with their probabilities.
///
/// Truncations are exact on the probabilities of the whole row and cost what they keep, not the vocabulary. A processor
/// that writes logits after a truncation works on the row in which everything that was cut is `-inf`.
///
/// ```
/// use logitfuse_core::SamplingRow;
///
/// let mut row = SamplingRow::new();
/// row.reset(&[0.0, 3.0_f32.ln(), f32::NEG_INFINITY, -1.0]);
/// row.keep_top_k(2);
/// let candidates = row.take_candidates(Vec::new());
/// assert_eq!(candidates[0].0, 1);
/// assert!((candidates[0].1 - 0.75).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SamplingRow {
    logits: Vec<f32>,
    /// The softmax of `logits`, where it is known.
    probabilities: Vec<f32>,
    known: bool,
    /// What truncations left, where there was one: probabilities of the whole row, whose sum is below 1.
    candidates: Candidates,
    kept: Kept,
    /// Whether it is known that some token is not banned.
    possible: bool,
}

impl SamplingRow {
    /// A row without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with these logits: finite or `-inf`.
    pub fn reset(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        (self.known, self.kept, self.possible) = (false, Kept::All, false);
    }

    /// The logits, one per token id of the shared vocabulary; truncations are not in them.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The logits to be written; `-inf` bans a token. What was truncated before is banned.
    pub fn logits_mut(&mut self) -> &mut [f32] {
        if self.kept != Kept::All {
            self.candidates.sort_unstable_by_key(|c| c.0);
            let mut kept = self.candidates.iter().map(|c| c.0 as usize).peekable();
            for (id, x) in self.logits.iter_mut().enumerate() {
                if kept.next_if_eq(&id).is_none() {
                    *x = f32::NEG_INFINITY;
                }
            }
        }
        (self.known, self.kept, self.possible) = (false, Kept::All, false);
        &mut self.logits
    }

    /// The most probable token, of equals the smallest id; `None` if every token is banned.
    pub fn argmax(&self) -> Option<TokenId> {
        if self.kept != Kept::All {
            let better =
                |a: (TokenId, f64), b: (TokenId, f64)| if b.1 > a.1 || (b.1 >= a.1 && b.0 < a.0) { b } else { a };
            return self.candidates.iter().copied().reduce(better).map(|c| c.0);
        }
        let best = (!self.logits.is_empty()).then(|| numerics::argmax(&self.logits))?;
        (self.logits[best] > f32::NEG_INFINITY).then(|| id_of(best))
    }

    /// Divides the logits by the temperature; 0, or so little that nothing but the best token is left, keeps that one.
    pub fn scale(&mut self, temperature: f64) {
        let Some(best) = self.argmax() else { return };
        #[expect(clippy::cast_possible_truncation, reason = "f32 rows, f32 scale")]
        let scale = (1.0 / temperature) as f32;
        if !scale.is_finite() {
            self.candidates.clear();
            self.candidates.push((best, 1.0));
            self.kept = Kept::Sorted;
            return;
        }
        // Shifted first: a small temperature must not overflow what it leaves of the best.
        let logits = self.logits_mut();
        let shift = logits[best as usize];
        for x in logits {
            *x = (*x - shift) * scale;
        }
        self.possible = true;
    }

    /// Keeps the `k` most probable tokens, the most probable first.
    pub fn keep_top_k(&mut self, k: usize) {
        if self.kept == Kept::All {
            self.take_sorted(k);
        } else {
            self.sort();
            self.candidates.truncate(k);
        }
    }

    /// Keeps the smallest set of most probable tokens that holds this share of the mass that is left, the most probable
    /// first.
    pub fn keep_top_p(&mut self, p: f64) {
        let total = if self.kept == Kept::All {
            // The nucleus is small almost always, so look at a few before sorting many.
            let mut k = 64;
            loop {
                self.take_sorted(k);
                let mass: f64 = self.candidates.iter().map(|c| c.1).sum();
                if mass >= p || self.candidates.len() >= self.logits.len() || self.candidates.len() < k {
                    break;
                }
                k *= 8;
            }
            1.0
        } else {
            self.sort();
            self.candidates.iter().map(|c| c.1).sum()
        };
        let mut mass = 0.0;
        let end = self.candidates.iter().position(|c| {
            mass += c.1;
            mass >= p * total
        });
        self.candidates.truncate(end.map_or(self.candidates.len(), |last| last + 1));
    }

    /// Keeps the tokens that are at least this fraction as probable as the most probable one.
    pub fn keep_min_p(&mut self, fraction: f64) {
        self.truncate();
        let best = self.candidates.iter().map(|c| c.1).fold(0.0, f64::max);
        self.candidates.retain(|c| c.1 >= fraction * best);
    }

    /// The tokens that are left with their probabilities, which sum to 1, written into `buffer`: the most probable first
    /// where `top_k` or `top_p` truncated, else in order of id. Empty if every token is banned.
    #[must_use]
    pub fn take_candidates(&mut self, mut buffer: Candidates) -> Candidates {
        if self.kept == Kept::All {
            if !self.possible && self.argmax().is_none() {
                buffer.clear();
                return buffer;
            }
            self.truncate();
        }
        std::mem::swap(&mut self.candidates, &mut buffer);
        (self.known, self.kept) = (false, Kept::All);
        if let [only] = &mut buffer[..] {
            only.1 = 1.0;
            return buffer;
        }
        let mass: f64 = buffer.iter().map(|c| c.1).sum();
        for candidate in &mut buffer {
            candidate.1 /= mass;
        }
        buffer
    }

    /// The softmax of the logits.
    fn probabilities(&mut self) -> &[f32] {
        if !self.known {
            self.probabilities.resize(self.logits.len(), 0.0);
            numerics::softmax(&self.logits, numerics::log_sum_exp(&self.logits), &mut self.probabilities);
            self.known = true;
        }
        &self.probabilities
    }

    /// Makes candidates of all tokens that are possible.
    fn truncate(&mut self) {
        if self.kept != Kept::All {
            return;
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        candidates.reserve(self.logits.len());
        candidates.extend(
            self.probabilities().iter().enumerate().filter(|x| *x.1 > 0.0).map(|(id, &p)| (id_of(id), f64::from(p))),
        );
        self.candidates = candidates;
        self.kept = Kept::Candidates;
    }

    /// Makes candidates of the `k` most probable tokens.
    fn take_sorted(&mut self, k: usize) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let probabilities = self.probabilities();
        let top = numerics::top_k(probabilities, k.min(probabilities.len()));
        candidates.extend(top.into_iter().filter(|&(_, p)| p > 0.0).map(|(id, p)| (id, f64::from(p))));
        self.candidates = candidates;
        self.kept = Kept::Sorted;
    }

    fn sort(&mut self) {
        if self.kept != Kept::Sorted {
            self.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            self.kept = Kept::Sorted;
        }
    }
}

/// What truncations left of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    /// Nothing was truncated.
    #[default]
    All,
    /// The candidates, in order of id.
    Candidates,
    /// The candidates, the most probable first.
    Sorted,
}

#[expect(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32, ids are u32 throughout")]
fn id_of(index: usize) -> TokenId {
    index as TokenId
}

impl Debug for dyn ProcessorFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProcessorFactory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -1.0];

    fn ids(row: &mut SamplingRow) -> Vec<TokenId> {
        row.take_candidates(Vec::new()).into_iter().map(|c| c.0).collect()
    }

    #[test]
    fn writing_after_a_truncation_sees_what_was_cut_as_banned() {
        let mut row = SamplingRow::new();
        row.reset(&ROW);
        row.keep_top_k(3);
        assert_eq!(row.logits_mut(), [f32::NEG_INFINITY, 2.0, 1.0, 2.0, f32::NEG_INFINITY]);
        row.logits_mut()[1] = f32::NEG_INFINITY;
        assert_eq!(ids(&mut row), [2, 3]);
    }

    #[test]
    fn truncations_compose_in_any_order() {
        let mut row = SamplingRow::new();
        row.reset(&ROW);
        row.keep_min_p(0.3);
        row.keep_top_k(2);
        assert_eq!(ids(&mut row), [1, 3]);
        row.reset(&ROW);
        row.keep_top_p(0.79);
        row.keep_min_p(0.5);
        assert_eq!(ids(&mut row), [1, 3]);
    }

    #[test]
    fn nothing_is_left_of_a_banned_row() {
        let mut row = SamplingRow::new();
        row.reset(&[f32::NEG_INFINITY; 3]);
        assert_eq!(row.argmax(), None);
        row.scale(0.5);
        assert!(ids(&mut row).is_empty());
    }
}
