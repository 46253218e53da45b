//! Flags of `logitfuse tape` and `logitfuse fit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use logitfuse_replay::RowKind;
use logitfuse_tape::{Grid, Metric, Range, Reference};

use super::{Format, OverrideArgs, at_least_one};

#[derive(Subcommand)]
pub(crate) enum TapeCommand {
    /// Feed every source of an experiment the samples' texts and store the rows; resumes an unfinished tape
    Record(Box<RecordArgs>),
    /// Run the experiment's strategy on a tape: the probability of every text, and where greedy decoding would leave it
    Replay(Box<ReplayArgs>),
    /// Show what a tape holds and verify its checksums
    Inspect {
        /// The tape
        #[arg(value_name = "TAPE")]
        tape: PathBuf,
        /// text or json
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse tape record experiment.toml -o answers.lftape\n  \
    logitfuse tape record experiment.toml -o dense.lftape --rows f16 --reference generated\n  \
    logitfuse tape record quiz.toml -o quiz.lftape --choices options --gold gold --reference ' {{ choice }}.'\n\n\
    docs/tape.md has the layout of the file and a reader in Python.")]
pub(crate) struct RecordArgs {
    /// The experiment: its samples, and its sources with their prompts
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// The tape; samples that it holds already are not run again
    #[arg(short, long, value_name = "TAPE")]
    pub(crate) output: PathBuf,
    /// How rows are kept: f32 (as they come), f16 (rounded), or top-k=K (the best K of every source, and the mass of the rest)
    #[arg(long, value_name = "KIND", default_value = "top-k=64")]
    pub(crate) rows: RowKind,
    /// The texts: a field of the samples, a Jinja text over their fields, or `generated` by the experiment's strategy
    /// [default: answer; with --choices ' {{ choice }}']
    #[arg(long, value_name = "TEXT")]
    pub(crate) reference: Option<Reference>,
    /// A field with a list of choices; each becomes a text
    #[arg(long, value_name = "FIELD")]
    pub(crate) choices: Option<String>,
    /// The field with the right choice, or its number from 0
    #[arg(long, value_name = "FIELD", requires = "choices")]
    pub(crate) gold: Option<String>,
    /// Record the end of the texts, too: an end-of-sequence token
    #[arg(long)]
    pub(crate) end_of_sequence: bool,
    /// Feed texts token by token, as decoding does: for models whose rows depend on that, such as many int8 exports; slower
    #[arg(long)]
    pub(crate) stepwise: bool,
    /// Only this source; repeat for each [default: all of the experiment]
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Vec<String>,
    /// Only the first N samples
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

/// How a tape is read.
#[derive(Args)]
pub(crate) struct ReadArgs {
    /// What strategies see of ids that a top-k tape does not hold: an equal share of their mass, or that they are impossible
    /// [default: spread]
    #[arg(long, value_name = "HOW")]
    pub(crate) rest: Option<RestArg>,
    /// Only the first N texts
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RestArg {
    Spread,
    Mask,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse tape replay experiment.toml answers.lftape --grid alpha=0:2:0.05\n  \
    logitfuse tape replay experiment.toml answers.lftape --trace --format jsonl")]
pub(crate) struct ReplayArgs {
    /// The experiment: its strategy, and which source plays which role
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// The tape
    #[arg(value_name = "TAPE")]
    pub(crate) tape: PathBuf,
    /// Values to try: PATH=FROM:TO:STEP or PATH=A,B,C with PATH such as strategy.params.alpha, in short alpha; repeat for
    /// every combination
    #[arg(long, value_name = "PATH=VALUES")]
    pub(crate) grid: Vec<Grid>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// text is a table; json one document; jsonl one line per text
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
    /// With jsonl: every token, with the strategy's trace
    #[arg(long)]
    pub(crate) trace: bool,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse fit experiment.toml answers.lftape --param alpha --range 0:2\n  \
    logitfuse fit experiment.toml quiz.lftape --param strategy.gate.max_prob --range 0:1 --metric acc\n\n\
    stdout is a piece of TOML to paste into the experiment; what was found out goes to stderr.")]
pub(crate) struct FitArgs {
    /// The experiment: its strategy, and which source plays which role
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// The tape
    #[arg(value_name = "TAPE")]
    pub(crate) tape: PathBuf,
    /// A parameter: strategy.params.alpha, in short alpha; repeat to find several
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) param: Vec<String>,
    /// Where it may lie; one for all parameters, or one each in the same order
    #[arg(long, value_name = "LOW:HIGH", default_value = "0:2", allow_hyphen_values = true)]
    pub(crate) range: Vec<Range>,
    /// `nll`, `greedy_agreement` or `exact_path`; with choices on the tape `acc` or `acc_norm`
    #[arg(long, value_name = "NAME", default_value = "nll")]
    pub(crate) metric: Metric,
    /// Points of the scan over a range
    #[arg(long, value_name = "N", default_value_t = 41)]
    pub(crate) points: usize,
    /// How often samples are drawn anew for the intervals
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) draws: usize,
    /// Seed of these draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// text is the patch; json one document with everything
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}
