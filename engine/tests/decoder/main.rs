//! What the decoder promises, on synthetic sources: no model, no runtime.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod early_exit;
mod exactness;
mod many_fusions;
mod prefix_cache;
mod prompts;
mod queue;
mod scoring;
mod sequences;
mod speculation;
