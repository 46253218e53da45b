//! Flags of `logitfuse export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{OverrideArgs, at_least_one};

#[derive(Args)]
#[command(
    after_help = "The strategy becomes a graph, and the models stay as they are; nothing of logitfuse is needed to serve the files.\n\
    Parameters of the strategy are inputs `fusion.NAME` with the experiment's values as defaults, columns of the trace are\n\
    outputs `trace.NAME`. Strategies that remember earlier tokens, gates, schedules and plugins cannot be exported; the error\n\
    says why.\n\n\
    Targets:\n  \
    genai   a folder for onnxruntime-genai: models one after the other, then the rule; batches, several tokens at once\n  \
    onnx    one graph in Optimum's layout, for any ONNX Runtime, transformers.js and logitfuse itself; DIR/genai is a folder\n          \
    for onnxruntime-genai over the same weights, where a model may draft (--draft)\n  \
    triton  a model repository for Triton: the graph, and a Python model that decodes with onnxruntime-genai\n\n\
    Examples:\n  \
    logitfuse export experiment.toml --target genai -o fused\n  \
    logitfuse export family.toml --variant dynamic --target onnx -o fused --check 5\n  \
    logitfuse export family.toml --set strategy.use=static-proxy --target onnx --draft expert -o fused"
)]
pub(crate) struct ExportArgs {
    /// The experiment
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// What is to serve the files
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: ExportTarget,
    /// The folder to make; it must not exist, or be empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// This variant, where an experiment has tasks [default: the first one that fuses]
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// The variant on this task [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<String>,
    /// Target onnx: the model of this role drafts in the folder for genai; of several experts the second is `expert_2`
    #[arg(long, value_name = "ROLE")]
    pub(crate) draft: Option<String>,
    /// Target onnx: caches of all layers get one shape, which genai's drafts need where attention is no GroupQueryAttention
    #[arg(long)]
    pub(crate) uniform_kv: bool,
    /// Decode the first N prompts with the models and with the exported files, and compare
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) check: Option<usize>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ExportTarget {
    Genai,
    Onnx,
    Triton,
}
