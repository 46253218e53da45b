use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use pulp::NullaryFnOnce;

use super::{
    dispatch::dispatch,
    lanes::{first, max},
};
use crate::TokenId;

/// The id of the largest entry; among equal entries the smallest id, so that greedy decoding is a function of the row.
///
/// ```
/// use logitfuse_core::numerics::argmax;
///
/// assert_eq!(argmax(&[1.0, 3.0, f32::NEG_INFINITY, 3.0]), 1);
/// ```
pub fn argmax(row: &[f32]) -> usize {
    dispatch(Argmax(row))
}

struct Argmax<'a>(&'a [f32]);

impl NullaryFnOnce for Argmax<'_> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let max = max([self.0], |[x]| x);
        first([self.0], |[x]| x, max)
    }
}

/// The `k` largest entries with their ids, largest first, equal ones by id. Fewer where fewer are unmasked.
///
/// The row is scanned once and not sorted: for the usual small `k` this costs little more than [`argmax`].
///
/// ```
/// use logitfuse_core::numerics::top_k;
///
/// let row = [1.0, 3.0, f32::NEG_INFINITY, 3.0];
/// assert_eq!(top_k(&row, 2), [(1, 3.0), (3, 3.0)]);
/// assert_eq!(top_k(&row, 9), [(1, 3.0), (3, 3.0), (0, 1.0)]);
/// ```
pub fn top_k(row: &[f32], k: usize) -> Vec<(TokenId, f32)> {
    dispatch(TopK { row, k })
}

struct TopK<'a> {
    row: &'a [f32],
    k: usize,
}

impl NullaryFnOnce for TopK<'_> {
    type Output = Vec<(TokenId, f32)>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        /// Entries that are passed over together when none of them beats the worst one kept.
        const BLOCK: usize = 128;
        let Self { row, k } = self;
        let k = k.min(row.len());
        if k == 0 {
            return Vec::new();
        }
        let mut kept = BinaryHeap::with_capacity(k + 1);
        // What an entry must exceed to be kept. Ids only grow, so an equal entry never displaces one.
        let mut bar = f32::NEG_INFINITY;
        for (number, block) in row.chunks(BLOCK).enumerate() {
            if max([block], |[x]| x) <= bar {
                continue;
            }
            for (offset, &logit) in block.iter().enumerate() {
                if logit > bar {
                    bar = keep(&mut kept, k, Ranked { id: token_id(number * BLOCK + offset), logit });
                }
            }
        }
        kept.into_sorted_vec().into_iter().map(|Reverse(ranked)| (ranked.id, ranked.logit)).collect()
    }
}

/// Adds an entry to the best `k` and returns what the next one must exceed.
fn keep(kept: &mut BinaryHeap<Reverse<Ranked>>, k: usize, entry: Ranked) -> f32 {
    kept.push(Reverse(entry));
    if kept.len() > k {
        kept.pop();
    }
    match kept.peek() {
        Some(Reverse(worst)) if kept.len() == k => worst.logit,
        _ => f32::NEG_INFINITY,
    }
}

fn token_id(index: usize) -> TokenId {
    TokenId::try_from(index).unwrap_or(TokenId::MAX)
}

/// An entry in the order of preference: larger logits first, then smaller ids. Logits are never NaN here, because NaN
/// exceeds no bar; 0 and -0 are equal.
struct Ranked {
    id: TokenId,
    logit: f32,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.logit.partial_cmp(&other.logit).unwrap_or(Ordering::Equal).then_with(|| other.id.cmp(&self.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
