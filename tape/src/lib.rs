//! Logit tapes: models run once, strategies as often as you like.
//!
//! [`record`] feeds every source the texts of an experiment's samples and keeps the rows; [`Replay`] runs strategies on
//! them, many at once, without a model; [`FitOptions::run`] looks for the parameters that suit the texts best. The file itself
//! is [`logitfuse_replay::tape`]'s.

#![deny(missing_docs)]

mod brent;
mod feed;
mod fit;
mod grid;
mod outcome;
mod record;
mod replay;
mod texts;

pub use feed::Feeding;
pub use fit::{Baseline, Fit, FitOptions, FittedParameter, Metric};
pub use grid::{Grid, Range, Setting};
pub use outcome::{Outcome, Summary, TextOutcome, TokenOutcome};
pub use record::{RecordOptions, Recorded, record};
pub use replay::{Candidate, Replay};
pub use texts::Reference;
