//! How sure a number is: standard errors, intervals and tests over the items of an experiment.
//!
//! Why: two strategies that differ by one point on 500 items usually do not differ. All systems answer the *same* items,
//! so differences are taken item by item, which is far sharper than comparing two means with their own intervals.
//!
//! ```
//! use logitfuse_metrics::statistics::{Bootstrap, McNemar, Summary};
//!
//! let base = [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
//! let fused = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
//! let difference = Bootstrap::default().difference(&fused, &base)?;
//! assert_eq!(difference.value, 0.5);
//! assert!(difference.interval.low > 0.0, "the interval excludes no difference at all");
//! assert_eq!(McNemar::new(&fused.map(|s| s > 0.5), &base.map(|s| s > 0.5))?.p_value, 0.0625);
//! assert_eq!(Summary::of(&base).unwrap().mean, 0.3);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Which one to take
//!
//! | question | answer |
//! |---|---|
//! | a mean score and its standard error, as lm-eval prints it | [`Summary::of`] |
//! | the same where items share a passage | [`Summary::clustered`] |
//! | an interval for an accuracy | [`wilson`] |
//! | an interval for any score, also of a whole corpus | [`Bootstrap::interval`] |
//! | a difference between two systems | [`Bootstrap::difference`] |
//! | whether two accuracies differ | [`McNemar`] |
//! | many such tests at once | [`holm`] |
//! | how much of a gap is closed | [`gap`](crate::gap) |
//!
//! # Reproducibility
//!
//! Everything is f64, summed in the order of the items. The bootstrap draws from `ChaCha8`, whose key is the caller's seed
//! in little-endian order and 24 zero bytes, with a zero nonce and counter; the same seed and number of items give the
//! same draws on every machine. A drawn item is `⌊x·n / 2³²⌋` for the next 32-bit word x of the stream; words with
//! `x·n mod 2³² < 2³² mod n`, which would favour some items, are skipped (Lemire 2019).

mod bootstrap;
mod interval;
mod significance;
mod summary;

pub use bootstrap::{Bootstrap, Distribution, Estimate};
pub use interval::{Interval, wilson};
pub use significance::{McNemar, holm};
pub use summary::Summary;

pub(crate) use bootstrap::mean_of;

use logitfuse_core::{Error, ErrorKind, Result};

/// Paired scores must be of the same items.
pub(crate) fn same_items(a: usize, b: usize) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Incompatible, format!("scores: {a} of one system and {b} of the other"))
        .with_help("compare systems on the same items, in the same order"))
}
