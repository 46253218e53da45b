//! Evaluation: tasks, and runs of every variant of an experiment on every task.
//!
//! # Why this crate exists
//!
//! A table can be trusted where its samples can be made again. This crate turns task files (ours, or lm-eval's YAML) into
//! requests and answers into figures ([`task`]), and writes a resumable [run directory](run) in which every sample stands
//! before a figure is computed. Generating text needs none of it.

#![deny(missing_docs)]

mod preflight;
pub mod run;
pub mod task;

pub use preflight::preflight;
pub use task::{Doc, Outcome, Task, TaskRequest};
