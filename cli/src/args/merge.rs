//! Flags of `logitfuse merge`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

#[derive(Args)]
#[command(after_help = "A recipe:\n\n  \
    method = \"ties\"              # linear, task_arithmetic, ties, dare_linear, dare_ties, slerp\n  \
    lambda = 1.0                 # factor of what all experts learnt together\n  \
    density = 0.2                # share of each expert's delta that stays; ties and dare\n\n  \
    [base]                       # what the experts were tuned from; linear has none\n  \
    model = \"models/S\"           # a folder or an ONNX file, from the recipe on\n\n  \
    [[expert]]\n  \
    model = \"models/S-math\"\n  \
    weight = 0.6                 # of this expert's delta, else 1\n\n  \
    [[expert]]\n  \
    model = \"models/S-qa\"\n\n\
    Models have one architecture, in fp32, fp16, bf16 or quantised; quantised weights are quantised again and the error is told. The new \
    folder is loaded like its first parent and has a README.md with the sha256 of all files that it was made from. docs/merge.md \
    has the methods and all keys. To join the directories of `run --shard`, use `logitfuse merge-shards`.")]
pub(crate) struct MergeArgs {
    /// The recipe, a TOML
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: PathBuf,
    /// Folder to make; it is complete when it appears
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}
