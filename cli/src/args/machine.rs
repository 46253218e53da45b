//! Flags of `logitfuse demo`, `models` and `runtime`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// A model folder to use instead of SmolLM2-135M-Instruct
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Strength of the fusion
    #[arg(long, value_name = "A", default_value_t = 0.5, allow_negative_numbers = true)]
    pub(crate) alpha: f64,
}

#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// Layout, inputs, cache policy, tokenizer and templates of a folder; for several, whether they can be fused
    Inspect(InspectArgs),
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// Model folders or ONNX files
    #[arg(required = true, value_name = "DIR")]
    pub(crate) models: Vec<PathBuf>,
    /// Which of several ONNX files in a folder
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// Look at files only: neither ONNX Runtime nor the weights are loaded, the cache policy stays unknown
    #[arg(long)]
    pub(crate) no_load: bool,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Show where ONNX Runtime is searched, what was found and which one is used
    Show,
    /// Install the pinned ONNX Runtime into the user's cache, with pip
    Install {
        /// The build with CUDA and TensorRT
        #[arg(long)]
        cuda: bool,
    },
}
