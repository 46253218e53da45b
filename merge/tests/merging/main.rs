//! Merges of small models, from a recipe to a folder.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

mod determinism;
mod folders;
mod hostile;
mod methods;
mod peers;
mod quantised;
mod support;
