//! ONNX Runtime as a source of logits: any exported decoder behind [`logitfuse_core::LogitSource`].
//!
//! # Why this crate exists
//!
//! Published decoders agree on little: some take positions, some a mask, some neither; caches are concatenated by the
//! graph or written in place; logits are f16 or f32, of every position or the last; configuration files contradict the graph.
//! This crate handles all of it, and is the only one that depends on `ort`, no type of which is in a public signature.
//!
//! ```no_run
//! use logitfuse_core::LogitSource;
//! use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime};
//!
//! let runtime = Runtime::load("libonnxruntime.so".as_ref())?;
//! let folder = ModelFolder::open("models/smollm2-135m-int8".as_ref(), None)?;
//! let model = OnnxSource::open(&runtime, &folder, &OnnxOptions::default())?;
//! println!("{}: {} ({})", model.info().name, model.report().kv, model.report().kv_reason);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! How a model is opened: [`ModelFolder`] finds the file and its configuration and refuses what is broken; the graph's
//! inputs and outputs become a signature; [`Provider`]s are tried in order; the cache policy is chosen
//! ([`KvChoice`]); [`LoadReport`] tells what was decided and why.
//!
//! # GPUs
//!
//! `cuda` and `tensorrt` keep the key/value cache on the device; forks, growth and truncation of pass-through caches go
//! through the host. The code for them was written and compiled on machines without a GPU: the ways to fail are tested
//! with ONNX Runtime's own errors, the way to succeed by `cargo xtask gpu-check` where there is one.

#![deny(missing_docs)]

mod decoder;
mod element;
mod error;
mod folder;
mod graph;
mod interrupt;
mod kv;
mod memory;
mod options;
mod probe;
mod providers;
mod report;
mod runtime;
mod session;
mod shapes;
mod signature;
mod source;
mod tensor_info;

pub use element::Element;
pub use folder::{Layout, ModelConfig, ModelFolder};
pub use options::{KvChoice, OnnxOptions, Spin};
pub use providers::Provider;
pub use report::{KvPolicy, LoadReport, RejectedProvider};
pub use runtime::Runtime;
pub use signature::{CacheTensor, LogitRows, Signature};
pub use source::OnnxSource;
pub use tensor_info::{Dim, TensorInfo};
