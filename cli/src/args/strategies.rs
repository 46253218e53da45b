//! Flags of `logitfuse strategies`.

use clap::Subcommand;

use super::Format;

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
