//! Every flag, with the words of `--help`. Nothing here knows a command: commands read these types, `main` dispatches.

mod common;
pub(crate) mod config;
pub(crate) mod effect;
mod export;
mod generate;
mod machine;
mod merge;
mod plan;
pub(crate) mod plugin;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod strategies;
pub(crate) mod tape;
mod tasks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "serve")]
pub(crate) use self::serve::{LogFormat, LogLevel, ServeArgs};
pub(crate) use self::{
    common::{Format, OverrideArgs},
    export::{ExportArgs, ExportTarget},
    generate::{GenerateArgs, PrintArgs, SamplingArgs},
    machine::{DemoArgs, InspectArgs, ModelsCommand, RuntimeCommand},
    merge::MergeArgs,
    plan::PlanArgs,
    run::{CompareArgs, FigureFormat, MergeShardsArgs, ReportArgs, RerunArgs, RunArgs, VerifyArgs},
    strategies::StrategiesCommand,
    tasks::TasksCommand,
};
use self::{
    common::{at_least_one, key_value},
    config::ConfigCommand,
    plugin::PluginCommand,
    tape::{FitArgs, TapeCommand},
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
#[command(next_help_heading = "RunContext")]
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
    /// What to do with a plugin whose sha256 is pinned nowhere
    #[arg(long, global = true, value_name = "POLICY", default_value = "pin-named")]
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
    /// Refuse it, and one that needs libraries which its sha256 does not cover
    RequirePin,
    /// Refuse it if an experiment names its file; load it, and say so, from the folders for plugins
    PinNamed,
    /// Load it, and say so
    Warn,
    /// Load it
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate text from one prompt
    Generate(Box<GenerateArgs>),
    /// Run an experiment: its prompts as JSONL, or its tasks into a directory that can be resumed and verified
    Run(Box<RunArgs>),
    /// Serve an experiment's fusions: OpenAI's API, the Open Inference Protocol, and a page that shows what each model thought
    #[cfg(feature = "serve")]
    Serve(Box<ServeArgs>),
    /// Time an experiment's models on this machine: which one should draft, how many tokens, and the speed-up
    Plan(PlanArgs),
    /// Regenerate samples of a run and report the first one that differs, with its step and source
    Verify(VerifyArgs),
    /// Run the experiment of a run directory once more
    Rerun(RerunArgs),
    /// Paired differences of two runs, or of two variants of one
    Compare(CompareArgs),
    /// Join the directories of `run --shard`
    MergeShards(MergeShardsArgs),
    /// Write a fusion as files that onnxruntime-genai, ONNX Runtime or Triton serve without logitfuse
    Export(ExportArgs),
    /// Regenerate a run's HTML page and figures
    Report(ReportArgs),
    /// Inspect an experiment's TOML: show it resolved, check it, print its schema
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Evaluation tasks for an experiment's `[tasks]`
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Merge the weights of models of one architecture: task arithmetic, TIES, DARE, SLERP, means
    Merge(MergeArgs),
    /// List the strategies and show what they compute
    #[command(subcommand)]
    Strategies(StrategiesCommand),
    /// Strategies in shared libraries: list, show, check, create and pin them
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Record models' logits along given texts, and run strategies on the recording without the models
    #[command(subcommand)]
    Tape(TapeCommand),
    /// Fit a strategy's parameters to a tape; prints a patch for the TOML
    #[command(visible_alias = "calibrate")]
    Fit(Box<FitArgs>),
    /// Inspect models
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
