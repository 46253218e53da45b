//! Finds and installs the prerequisites of logitfuse: ONNX Runtime and a real language model.
//!
//! # Why this crate exists
//!
//! logitfuse loads ONNX Runtime at start-up instead of linking it, so that one binary serves every build of it, CPU or
//! GPU. So the library has to be found, and a fresh machine has none. The same holds for a model: weights do not belong in a
//! repository. This crate gets both with the one tool that such a machine has, Python with pip: wheels are downloaded with the user's own pip configuration, checked against the sha256 that is pinned
//! here, and unpacked without running any of their code.
//!
//! Everything that is made appears atomically and once: a folder either is there, complete and with a manifest of its
//! files' hashes, or is not there. Two processes that want the same thing at the same time make it once. This is
//! [`make_once`], which serves for anything else that is costly to make too.
//!
//! # Examples
//!
//! Where is ONNX Runtime, and if nowhere, what should the user do?
//!
//! ```
//! use logitfuse_setup::{Environment, find_runtime};
//!
//! let nothing_here = Environment::empty("/nowhere");
//! let error = find_runtime(&nothing_here, None).unwrap_err();
//! assert!(error.help().unwrap().contains("logitfuse runtime install"));
//! ```
//!
//! A runtime and a model, whatever was there before (this one downloads, so it does not run here):
//!
//! ```no_run
//! use logitfuse_setup::{Environment, Weights, find_or_install_runtime, model_smollm2, smollm2_dir};
//!
//! let env = Environment::of_process();
//! let mut say = |line: &str| eprintln!("{line}");
//! let runtime = find_or_install_runtime(&env, None, &mut say)?;
//! let model = model_smollm2(&env, &smollm2_dir(&env, Weights::Int8)?, Weights::Int8, &mut say)?;
//! println!("{} {}", runtime.library.display(), model.display());
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Reference
//!
//! | what | where it goes | pinned by |
//! |---|---|---|
//! | ONNX Runtime | [`cache_dir`]`/runtime/onnxruntime-VERSION[-gpu]/` | sha256 of the wheel, per platform |
//! | SmolLM2-135M-Instruct | [`default_model_dir`]`/smollm2-WEIGHTS/` | sha256 of the GGUF and versions of the converter's packages |
//! | the converter's packages | [`cache_dir`]`/python/` | `python/requirements.txt` |
//!
//! Environment variables are read from an [`Environment`], never behind the caller's back; [`mod@env`] lists them all.

#![deny(missing_docs)]

mod cache;
pub mod env;
#[cfg(unix)]
#[cfg(test)]
mod fake;
mod folder;
mod interpreter;
mod manifest;
mod model;
mod plugins;
mod python;
mod runtime;
mod wheel;

pub use cache::cache_dir;
pub use env::Environment;
pub use folder::{Check, make_once};
pub use manifest::sha256_of_texts;
pub use model::{Weights, default_model_dir, model_smollm2, smollm2_dir};
pub use plugins::plugin_dirs;
pub use python::Python;
pub use runtime::{
    Candidate, FoundRuntime, Origin, find_or_install_runtime, find_runtime, install_runtime, runtime_candidates,
};
