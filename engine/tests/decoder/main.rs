//! What the decoder promises, on synthetic sources: no model, no runtime.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod early_exit;
mod exactness;
mod interrupt;
mod many_fusions;
mod nan_rows;
mod prefix_cache;
mod prompts;
mod queue;
mod scoring;
mod sequences;
mod speculation;
