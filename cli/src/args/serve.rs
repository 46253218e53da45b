//! Flags of `logitfuse serve`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};

use super::{OverrideArgs, at_least_one};

#[derive(Args)]
#[command(
    after_help = "What is served: the fusions of [[models]], or the experiment's own, under the name of its file. Each model is in\n\
    memory once, however many fusions it takes part in, and all of them decode in one batch.\n\n\
    Examples:\n  \
    logitfuse serve family.toml\n  \
    curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\\n       \
    -d '{\"model\": \"family\", \"prompt\": \"Once\", \"max_tokens\": 16, \"fusion\": {\"trace\": true}}'\n  \
    lm_eval --model local-completions --tasks arc_easy \\\n       \
    --model_args model=family,base_url=http://127.0.0.1:8080/v1/completions,num_concurrent=8\n  \
    openssl rand -hex 32 > keys; chmod 600 keys; logitfuse serve family.toml --host 0.0.0.0 --api-key-file keys\n\n\
    The page at / shows what every model thought of every token. /openapi.json lists the routes, /metrics is for Prometheus.\n\
    The address is the one line on stdout; the log is on stderr. SIGTERM or Ctrl-C: requests that were accepted are answered,\n\
    further ones are refused with 503, and the exit status is 0; a second one ends at once."
)]
pub(crate) struct ServeArgs {
    /// The experiment
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// Address to listen on; any but a loopback address needs API keys
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub(crate) port: u16,

    /// File of API keys, one a line, instead of those in `LOGITFUSE_API_KEYS`; requests send one as `Authorization: Bearer KEY`
    #[arg(long, value_name = "FILE", help_heading = "Who may ask")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Name by which a loopback address may be called besides localhost, such as that of a proxy; repeat for each
    #[arg(long, value_name = "NAME", help_heading = "Who may ask")]
    pub(crate) allowed_host: Vec<String>,

    /// Sequences that are decoded at once; changes no result
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one, help_heading = "How much")]
    pub(crate) max_batch: usize,
    /// Sequences that may wait; further requests are told at once to come back (429)
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "How much")]
    pub(crate) queue: usize,
    /// Tokens that one choice may have
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one, help_heading = "How much")]
    pub(crate) max_tokens: usize,
    /// Seconds for an answer to be complete, waiting included
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800), help_heading = "How much")]
    pub(crate) request_timeout: u64,
    /// Bytes of a request's body
    #[arg(long, value_name = "N", default_value_t = 4 << 20, value_parser = at_least_one, help_heading = "How much")]
    pub(crate) max_body: usize,
    /// Connections that are open at once; further ones wait
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one, help_heading = "How much")]
    pub(crate) max_connections: usize,

    /// What a line of the log is
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = "Log")]
    pub(crate) log_format: LogFormat,
    /// How much is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Log")]
    pub(crate) log_level: LogLevel,
    /// Log what requests say; without it the log holds no text of theirs
    #[arg(long, help_heading = "Log")]
    pub(crate) log_requests: bool,

    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}
