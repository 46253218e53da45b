//! Every flag, with the words of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use logitfuse_config::Overrides;
use logitfuse_plugin_host::Policy;

use crate::{
    calibrate::CalibrateArgs,
    compare::CompareArgs,
    config::ConfigCommand,
    merge::MergeArgs,
    plan::PlanArgs,
    plugin::PluginCommand,
    report::ReportArgs,
    run::{RerunArgs, RunArgs},
    tape::TapeCommand,
    verify::VerifyArgs,
};

/// Fuse the next-token distributions of several ONNX language models while they decode.
#[derive(Parser)]
#[command(name = "logitfuse", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with `logitfuse demo`: it sets up all it needs and shows what fusion does.\n\
                        Exit status: 0 success, 1 the answer is \"no\", 2 something is wrong, 130 interrupted.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct Global {
    /// ONNX Runtime library to load, or a folder that holds it [default: see `logitfuse runtime show`]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) ort_lib: Option<PathBuf>,
    /// CPU threads over all models; 0 uses all cores. Never changes a result
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Folder of plugins, before those of `LOGITFUSE_PLUGIN_PATH`; repeat for each
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
    /// What to do with a plugin whose sha256 nobody has written down
    #[arg(long, global = true, value_name = "POLICY", default_value = "warn")]
    pub(crate) plugin_trust: Trust,
    /// Load only plugins that `logitfuse.lock` beside the experiment lists, with that sha256
    #[arg(long, global = true)]
    pub(crate) locked: bool,
    /// When to use colour; `NO_COLOR` is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Trust {
    /// Refuse it
    RequirePin,
    /// Load it, and say so
    Warn,
    /// Load it
    Off,
}

impl From<Trust> for Policy {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::RequirePin => Self::RequirePin,
            Trust::Warn => Self::Warn,
            Trust::Off => Self::Off,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate text from one prompt
    Generate(Box<GenerateArgs>),
    /// Run an experiment: its prompts as JSONL, or its tasks into a directory that can be resumed and believed
    Run(Box<RunArgs>),
    /// Time an experiment's models on this machine: who should draft, how much, and what it gives
    Plan(PlanArgs),
    /// Make samples of a run again and name the first one that differs, the step and the source
    Verify(VerifyArgs),
    /// Run the experiment of a run directory once more
    Rerun(RerunArgs),
    /// Paired differences of two runs, or of two variants of one
    Compare(CompareArgs),
    /// Join the directories of `run --shard`
    Merge(MergeArgs),
    /// Make a run's HTML page and figures again
    Report(ReportArgs),
    /// Look at an experiment's TOML: what it comes down to, whether it is sound, what its keys are
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Questions with known answers, for an experiment's `[tasks]`
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// What strategies there are, and what they compute
    #[command(subcommand)]
    Strategies(StrategiesCommand),
    /// Strategies in shared libraries: find, look at, check, write and pin them
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Record what models say along given texts, and run strategies on the recording without them
    #[command(subcommand)]
    Tape(TapeCommand),
    /// Find the parameters of a strategy that suit a tape best; prints a patch for the TOML
    Calibrate(Box<CalibrateArgs>),
    /// Look at models
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Find or install ONNX Runtime
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Check this machine: ONNX Runtime, Python, caches
    Doctor,
    /// Show in-context fusion on a real model; sets up everything it needs
    Demo(DemoArgs),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

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
    #[arg(long, value_name = "FILE", help_heading = "Models and fusion", conflicts_with_all = ["model", "role", "context"])]
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
    #[arg(long, value_name = "TEXT")]
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
    /// Show for every token what the fusion did: probability, alpha, divergences, each role's favourite
    #[arg(long)]
    pub(crate) trace: bool,
    /// Add timings to JSON output (off by default, so that equal runs give equal bytes)
    #[arg(long)]
    pub(crate) timings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
    Jsonl,
}

/// Changes of an experiment's TOML for this once.
#[derive(Args, Default)]
#[command(next_help_heading = "Experiment")]
pub(crate) struct OverrideArgs {
    /// Set a key of the experiment; has the last word over variants and tasks. VALUE is TOML or a bare word, paths are
    /// relative to the working directory; repeat for each: `--set strategy.params.alpha=0.5 --set run.stop=[]`
    #[arg(long, value_name = "PATH=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
    /// Take a key of the experiment away, in variants and tasks too; before --set; repeat for each
    #[arg(long, value_name = "PATH")]
    pub(crate) unset: Vec<String>,
}

impl OverrideArgs {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { set: self.set.clone(), unset: self.unset.clone() }
    }
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
pub(crate) enum TasksCommand {
    /// Write a task file of lm-eval as a table for an experiment's TOML
    #[command(after_help = "Example:\n  logitfuse tasks import gsm8k.yaml --data gsm8k.jsonl >> experiment.toml")]
    Import {
        /// The task file; files that it includes are read too
        #[arg(value_name = "FILE.yaml")]
        file: PathBuf,
        /// Its items, as JSONL; without it a comment says how to write them
        #[arg(long, value_name = "FILE.jsonl")]
        data: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum StrategiesCommand {
    /// One line each
    List {
        /// text, json, or jsonl
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
    /// Equation, roles, parameters with their defaults and ranges, trace, laws, and a TOML to start from
    Show {
        /// The strategy's id, or `gate` or `schedule`, which wrap any strategy
        name: String,
        /// text, json, or jsonl
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
}

#[derive(Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Where ONNX Runtime is looked for, what was found, which one is used
    Show,
    /// Install the pinned ONNX Runtime into the user's cache, with pip
    Install {
        /// The build with CUDA and TensorRT
        #[arg(long)]
        cuda: bool,
    },
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// A model folder to use instead of SmolLM2-135M-Instruct
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Strength of the fusion
    #[arg(long, value_name = "A", default_value_t = 0.5, allow_negative_numbers = true)]
    pub(crate) alpha: f64,
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
