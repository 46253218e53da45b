use std::ops::Range;

use crate::TokenId;

/// The token ids that every source of a run defines. Everything else is masked before fusing, so a padded column or an
/// id that one model lacks can be neither emitted nor counted in a divergence.
///
/// ```
/// use logitfuse_core::SharedVocabulary;
///
/// // Two models of one family: 6 and 8 logit columns, 5 tokens in the tokenizer, id 2 unknown to one of them.
/// let vocabulary = SharedVocabulary::new(5, [2]);
/// assert_eq!(vocabulary.width(), 5);
/// assert!(!vocabulary.contains(2) && !vocabulary.contains(7));
///
/// let mut row = [1.0; 5];
/// vocabulary.mask(&mut row);
/// assert_eq!(row, [1.0, 1.0, f32::NEG_INFINITY, 1.0, 1.0]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedVocabulary {
    width: usize,
    holes: Vec<Range<TokenId>>,
}

impl SharedVocabulary {
    /// Ids `0..width` without those in `missing`.
    pub fn new(width: usize, missing: impl IntoIterator<Item = TokenId>) -> Self {
        let mut missing: Vec<TokenId> = missing.into_iter().filter(|&id| (id as usize) < width).collect();
        missing.sort_unstable();
        let mut holes: Vec<Range<TokenId>> = Vec::new();
        for id in missing {
            match holes.last_mut() {
                Some(last) if last.end >= id => last.end = last.end.max(id + 1),
                _ => holes.push(id..id + 1),
            }
        }
        // Ids missing at the end cost nothing when the rows are simply cut there.
        let mut width = width;
        if holes.last().is_some_and(|last| last.end as usize == width) {
            width = holes.pop().map_or(width, |last| last.start as usize);
        }
        Self { width, holes }
    }

    /// The length of every row that a strategy sees: one past the largest id that all sources define.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of ids that may be emitted.
    pub fn count(&self) -> usize {
        self.width - self.holes.iter().map(ExactSizeIterator::len).sum::<usize>()
    }

    /// Whether every source defines `id`.
    pub fn contains(&self, id: TokenId) -> bool {
        (id as usize) < self.width && !self.holes.iter().any(|hole| hole.contains(&id))
    }

    /// Sets the ids that are not in the vocabulary to `-inf`.
    ///
    /// # Panics
    /// If the row is shorter than [`width`](Self::width).
    pub fn mask(&self, row: &mut [f32]) {
        for hole in &self.holes {
            row[hole.start as usize..hole.end as usize].fill(f32::NEG_INFINITY);
        }
    }
}
