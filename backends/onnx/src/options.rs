use logitfuse_core::TokenId;
use serde::Serialize;

use crate::Provider;

/// How a model is opened. `OnnxOptions::default()` is right for one model on the CPU.
///
/// ```
/// use logitfuse_onnx::{KvChoice, OnnxOptions};
///
/// let options = OnnxOptions {
///     name: Some("expert".into()),
///     threads: 2,
///     providers: vec!["cuda:device_id=1".parse()?, "cpu".parse()?],
///     ..OnnxOptions::default()
/// };
/// assert_eq!(options.kv, KvChoice::Auto);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// The source's name in messages and reports; the folder's name if `None`.
    pub name: Option<String>,
    /// Threads that one operator is split over; 0 leaves it to ONNX Runtime (one a physical core).
    pub threads: usize,
    /// Whether threads spin while they wait for work.
    pub spin: Spin,
    /// Execution providers in order of preference: the first that works is used, and what failed before it is
    /// reported. Empty means the CPU.
    pub providers: Vec<Provider>,
    /// How the key/value cache is kept.
    pub kv: KvChoice,
    /// Prompt tokens that are run at once. `None` keeps a chunk's logits below 12 MB.
    pub chunk_tokens: Option<usize>,
    /// Overrides the context length that the model's configuration states.
    pub context_length: Option<usize>,
    /// Ids that end a text if the model's configuration states none, such as that of the tokenizer's `eos_token`.
    pub end_of_sequence: Vec<TokenId>,
}

/// When threads of a session spin while they wait for work. Waking a thread takes longer than many operators of a one-token
/// step, so a session that spins is faster, and everything else on these cores is slower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Spin {
    /// Never: threads sleep, and are woken for every operator.
    #[default]
    Never,
    /// From the beginning of a call to its end. Right for several models that take turns.
    WhileRunning,
    /// Also for a while after a call, in case that the next one comes soon. Right for a lone model on a quiet machine,
    /// and several times slower than sleeping as soon as two models take turns.
    Always,
}

/// How the key/value cache is kept between calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvChoice {
    /// [`InPlace`](Self::InPlace) where the graph allows it.
    #[default]
    Auto,
    /// Past and present are the same buffer, which grows by doubling: no copy per token, free truncation, several
    /// sequences in one call. Needs `GroupQueryAttention` on every key/value pair.
    InPlace,
    /// The present that a call returns is the past of the next one. Works for every graph with a cache.
    PassThrough,
}
