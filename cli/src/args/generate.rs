//! Flags of `logitfuse generate`.

use std::path::PathBuf;

use clap::Args;

use super::{Format, OverrideArgs, key_value};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse generate --model models/smollm2-int8 \"Why is the sky blue?\"\n  \
    logitfuse generate --model models/smollm2-int8 --context @passage.txt --alpha 0.5 \"Who wrote it?\"\n  \
    logitfuse generate --strategy static-proxy --role base=L --role expert=S-tuned --role anti=S --trace \"…\"\n  \
    logitfuse generate --config experiment.toml --format json < prompt.txt")]
pub(crate) struct GenerateArgs {
    /// The prompt; read from stdin if absent
    #[arg(conflicts_with = "prompt_file")]
    pub(crate) prompt: Option<String>,
    /// Read the prompt from a file; `-` is stdin
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,

    /// Take models, strategy and defaults from an experiment's TOML
    #[arg(long, value_name = "FILE", help_heading = "Models and fusion", conflicts_with_all = ["model", "role", "context", "variant", "provider", "system", "chat_template"])]
    pub(crate) config: Option<PathBuf>,
    /// One model by itself, or the model of every role
    #[arg(long, value_name = "DIR", help_heading = "Models and fusion")]
    pub(crate) model: Option<PathBuf>,
    /// The model of a role; repeat for each
    #[arg(long, value_name = "ROLE=DIR", value_parser = key_value, help_heading = "Models and fusion")]
    pub(crate) role: Vec<(String, String)>,
    /// Fusion strategy, see `logitfuse strategies list` [default: in-context with --context, else none]
    #[arg(long, value_name = "ID", help_heading = "Models and fusion")]
    pub(crate) strategy: Option<String>,
    /// A parameter of the strategy, its value in JSON or a bare word; repeat for each
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Models and fusion")]
    pub(crate) param: Vec<(String, String)>,
    /// Short for --param alpha=A: the strength of the fusion
    #[arg(long, value_name = "A", allow_negative_numbers = true, help_heading = "Models and fusion")]
    pub(crate) alpha: Option<f64>,
    /// A passage that only the base sees, for in-context fusion: a text, or @FILE
    #[arg(long, value_name = "TEXT", requires = "model", help_heading = "Models and fusion")]
    pub(crate) context: Option<String>,
    /// Which of several ONNX files in a folder: q4, fp16, …
    #[arg(long, value_name = "NAME", help_heading = "Models and fusion")]
    pub(crate) variant: Option<String>,
    /// Execution provider with options; repeat in order of preference: `cuda:device_id=0`, tensorrt, cpu
    #[arg(long, value_name = "EP", help_heading = "Models and fusion")]
    pub(crate) provider: Vec<String>,
    /// System message of the chat
    #[arg(long, value_name = "TEXT", help_heading = "Models and fusion")]
    pub(crate) system: Option<String>,
    /// Chat template: model (its own, if it has one), none, or a file
    #[arg(long, value_name = "WHICH", help_heading = "Models and fusion")]
    pub(crate) chat_template: Option<String>,

    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
}

/// Overrides of `[run]`.
#[derive(Args, Default)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Tokens to generate at most [default: 128]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_new_tokens: Option<usize>,
    /// 0 is greedy [default: 0]
    #[arg(short, long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Keep the most probable tokens that hold this much mass
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Keep tokens at least P times as probable as the best
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f64>,
    /// Divide the logits of tokens already seen; 1 is off
    #[arg(long, value_name = "R")]
    pub(crate) repetition_penalty: Option<f64>,
    /// Subtract from the logits of tokens already generated
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f64>,
    /// Subtract from a token's logit once per time it was generated
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f64>,
    /// Add to the logit of a token id; repeat for each
    #[arg(long, value_name = "ID=X", value_parser = key_value)]
    pub(crate) logit_bias: Vec<(String, String)>,
    /// Seed of the random stream [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// End the text where this string first appears; repeat for each
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Go on past end-of-sequence tokens
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "Output")]
pub(crate) struct PrintArgs {
    /// text streams as it is generated; json is one document, jsonl one line a sample
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Show for every token what the fusion did: probability, alpha, divergences, each role's top token
    #[arg(long)]
    pub(crate) trace: bool,
    /// Add timings to JSON output (off by default, so that equal runs give equal bytes)
    #[arg(long)]
    pub(crate) timings: bool,
}
