//! BLEU, chrF and chrF++ of a corpus, as sacrebleu computes them.
//!
//! Why: these are scores of a *corpus*, from counts that are summed over all segments, not means of segments' scores; and
//! BLEU depends on the tokens so much that only numbers from one program can be compared. lm-eval takes sacrebleu (2.6)
//! with its defaults, and so do these.
//!
//! ```
//! use logitfuse_metrics::translation::{Bleu, Chrf};
//!
//! let (mut bleu, mut chrf) = (Bleu::default(), Chrf::default());
//! for (prediction, reference) in [("The cat sat on the mat.", "The cat sat on a mat."), ("Hello!", "Hello!")] {
//!     bleu.add(prediction, &[reference]);
//!     chrf.add(prediction, &[reference]);
//! }
//! assert!((bleu.score() - 50.197_242).abs() < 1e-6);
//! assert!(chrf.score() > bleu.score());
//! ```
//!
//! All scores are between 0 and 100.
//!
//! * [`Bleu`]: tokens of `mteval-v13a`, n-grams up to 4, brevity penalty against the closest reference length, "exp"
//!   smoothing. K. Papineni et al., ACL 2002; M. Post, WMT 2018.
//! * [`Chrf`]: character n-grams up to 6 without white space, β = 2; [`Chrf::plus_plus`] adds words and pairs of words.
//!   M. Popović, WMT 2015 and 2017.

mod bleu;
mod chrf;

use std::collections::BTreeMap;

pub use bleu::Bleu;
pub use chrf::Chrf;

/// How often each n-gram comes up.
fn counts<T: Ord>(tokens: &[T], n: usize) -> BTreeMap<&[T], usize> {
    let mut counts = BTreeMap::new();
    for gram in tokens.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// How many n-grams both have, each as often as both have it.
fn common<K: Ord>(a: &BTreeMap<K, usize>, b: &BTreeMap<K, usize>) -> usize {
    a.iter().map(|(gram, count)| b.get(gram).map_or(0, |other| *count.min(other))).sum()
}
