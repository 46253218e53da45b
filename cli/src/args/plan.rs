//! Flags of `logitfuse plan`.

use std::path::PathBuf;

use clap::Args;

use super::{Format, OverrideArgs, at_least_one};

#[derive(Args)]
#[command(
    after_help = "A fused token costs a pass of every model. With [speculation] a cheap model drafts several tokens, all models verify\n\
    the whole draft in one pass, and the fused distribution accepts a prefix of it. Whether that is faster depends on the\n\
    machine and on how often drafts are accepted. This command loads the models and times them:\n  \
    passes     of each model, for one row and for several at once: a draft of n tokens needs n + 1 rows\n  \
    steps      of all models, in the waves that their sizes suggest, and one after another\n  \
    rounds     with drafts of 1 to 8 tokens, for every possible drafter, with all that a round does besides passes\n\n\
    Tokens per second follow from the costs of a round and from the acceptance, the probability that a drafted token is\n\
    accepted if those before it are. It is assumed to be 0.5, 0.7 or 0.9; --probe measures it.\n\n\
    Examples:\n  \
    logitfuse plan family.toml                          the table, and what to write into the TOML\n  \
    logitfuse plan family.toml --probe 32               measures the acceptance on 32 items, and predicted against achieved\n  \
    logitfuse plan family.toml --variant dynamic --task math --batch 16 --probe 64\n  \
    logitfuse plan family.toml --format json | jq .choice"
)]
pub(crate) struct PlanArgs {
    /// The experiment
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// This variant, where an experiment has tasks [default: the first one that fuses]
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// The variant on this task [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<String>,
    /// Decode the first N items or prompts, with and without drafts
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) probe: Option<usize>,
    /// Sequences that are decoded at once [default: `batch` of [run], else 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batch: Option<usize>,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}
