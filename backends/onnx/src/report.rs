use std::path::PathBuf;

use serde::Serialize;

use crate::{Spin, TensorInfo};

/// How a model was opened: what its graph has, and what was decided about it and why.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// The ONNX file.
    pub onnx: PathBuf,
    /// The execution provider that runs it.
    pub provider: String,
    /// Providers that were preferred and did not work, in the order they were tried.
    pub refused: Vec<RejectedProvider>,
    /// Threads of one operation; 0 is ONNX Runtime's own choice.
    pub threads: usize,
    /// When threads that wait for work spin.
    pub spin: Spin,
    /// The graph's inputs.
    pub inputs: Vec<TensorInfo>,
    /// The graph's outputs.
    pub outputs: Vec<TensorInfo>,
    /// How the key/value cache is kept.
    pub kv: KvPolicy,
    /// Why it is kept so.
    pub kv_reason: String,
    /// Prompt tokens that are run at once.
    pub chunk_tokens: usize,
}

/// An execution provider of the user's list that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedProvider {
    /// Its name.
    pub provider: String,
    /// ONNX Runtime's message.
    pub reason: String,
}

/// How a key/value cache is kept; see [`KvChoice`](crate::KvChoice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KvPolicy {
    /// Past and present are one growing buffer, in which the graph writes behind the old keys and values.
    InPlace,
    /// The present that one call returns is the past of the next.
    PassThrough,
    /// The graph has no cache: every call runs the whole sequence.
    Recompute,
}

impl std::fmt::Display for KvPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::InPlace => "in-place",
            Self::PassThrough => "pass-through",
            Self::Recompute => "recompute",
        })
    }
}
