//! Fusions behind the interfaces that every client speaks: OpenAI's completions and chat, and the Open Inference Protocol v2.
//!
//! # Why this crate exists
//!
//! Evaluation tools, libraries and gateways speak OpenAI's API. Several servers that speak it answer in ways that make clients
//! silently wrong: without log-probabilities for the prompt, with one too few, or with those of another position. Here a
//! prompt that is echoed comes with one log-probability a token, the first null, and the tokens joined are the text.
//!
//! A fusion can be asked more than a model: the field `fusion` of a request changes parameters of the strategy and asks what
//! each source thought of every token.
//!
//! # From here
//!
//! [`Server`] serves [pipelines](logitfuse::Pipeline); [`ServerOptions`] say where, to whom and how much. `logitfuse serve`
//! is this crate behind a command line. `/openapi.json` of a server describes its routes.
//!
//! # What holds for every request
//!
//! * The same request with the same seed has the same tokens, whatever is decoded beside it, and they are those that the
//!   engine gives offline. Choice `i` of a prompt has the seed `seed + i`.
//! * It waits in a bounded queue or is refused at once; it ends when its client goes away or its time is over.
//! * It names no path, no plugin and no template file. What is wrong with it is a 4xx that names the field.

#![deny(missing_docs)]

mod app;
mod auth;
mod body;
mod chat;
mod choice;
mod completions;
mod connections;
mod echo;
mod error;
mod generation;
mod inference;
mod metrics;
mod models;
mod openapi;
mod options;
mod page;
mod prompt;
mod prompts;
mod router;
mod server;
mod settings;
mod sse;
mod token_texts;
mod tokens;

pub use auth::ApiKeys;
pub use options::{Limits, ServerOptions};
pub use server::{Server, ServerHandle};
