//! Logit tapes: models run once, strategies as often as you like.
//!
//! [`record`] feeds every source the texts of an experiment's samples and keeps the rows; [`Replay`] runs strategies on
//! them, many at once, without a model; [`Calibration`] looks for the parameters that suit the texts best. The file itself
//! is [`logitfuse_replay::tape`]'s.

mod brent;
mod calibrate;
mod grid;
mod outcome;
mod record;
mod recorder;
mod replay;
mod texts;

pub use calibrate::{Baseline, Calibration, Fit, FittedParameter, Metric};
pub use grid::{Grid, Range, Setting};
pub use outcome::{Outcome, Summary, TextOutcome, TokenOutcome};
pub use record::{RecordOptions, Recorded, record};
pub use replay::{Candidate, Replay};
pub use texts::Reference;
