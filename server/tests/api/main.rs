//! The server as its clients see it, over the shipped family of models and over sources that wait to be told.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod chat;
mod common;
mod completions;
mod echo;
mod fusion;
mod hostile;
mod overload;
mod routes;
