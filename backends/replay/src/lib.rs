//! Logits without a model: scripted rows, a deterministic toy language model, recordings of real ones.
//!
//! # Why this crate exists
//!
//! A decode loop, a sampler or a new strategy should be tested in milliseconds, on any machine, against rows that are
//! known. A real model gives none of that. The sources here implement [`LogitSource`] to the letter (sequences, forks,
//! truncation, batches, context limits, errors that change nothing), so what works on them meets the same interface
//! with a real model behind it.
//!
//! * [`ScriptedSource`] yields exactly the rows it is told: a list, or a function of the tokens so far.
//! * [`SyntheticSource`] makes rows up that look like a language model's and are a pure function of a seed and the tokens.
//!   Related seeds give related models: a stand-in for a base, its tuned expert and its untuned twin.
//! * [`tape`]s hold what real sources yielded along given texts, for strategies to be tried on.
//! * [`PrefixSource`] turns any function of the tokens so far, your own [`PrefixModel`], into a source.
//!
//! # Example
//!
//! ```
//! use logitfuse_core::numerics::argmax;
//! use logitfuse_core::{LogitSource, Rows, Step};
//! use logitfuse_replay::SyntheticSource;
//!
//! let mut source = SyntheticSource::new("toy", 100, 42);
//! let mut rows = Rows::new();
//!
//! // Greedy decoding: feed what is new, take the most probable token.
//! let sequence = source.open()?;
//! let mut tokens = vec![1, 2, 3];
//! let mut fed = 0;
//! for _ in 0..5 {
//!     source.forward(&[Step { sequence, tokens: &tokens[fed..], rows: 1 }], &mut rows)?;
//!     fed = tokens.len();
//!     tokens.push(argmax(rows.row(0)) as u32);
//! }
//! assert_eq!(source.len(sequence), Some(7));
//!
//! // The same tokens give the same row, however they were fed.
//! let before = rows.row(0).to_vec();
//! source.truncate(sequence, 4)?;
//! source.forward(&[Step { sequence, tokens: &tokens[4..7], rows: 1 }], &mut rows)?;
//! assert_eq!(rows.row(0), before);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! [`LogitSource`]: logitfuse_core::LogitSource

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod prefix;
mod scripted;
mod synthetic;
pub mod tape;

pub use prefix::{PrefixModel, PrefixSource};
pub use scripted::{Script, ScriptedSource};
pub use synthetic::{SyntheticSource, ToyModel};
pub use tape::{
    Block, Rest, RowKind, Tail, Tape, TapeHeader, TapeSource, TapeText, TapeVocabulary, TapeWriter, TextInfo,
};
