//! `logitfuse serve`: opens an experiment's fusions and puts them behind a server.

use std::{
    io::stderr,
    net::SocketAddr,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use logitfuse_server::{ApiKeys, Server, ServerHandle, ServerOptions};
use logitfuse_setup::{Environment, env};
use tracing::Level;

use crate::{
    args::{Global, LogFormat, LogLevel, ServeArgs},
    decode, output, plugin,
    signal::INTERRUPTED,
};

pub(crate) fn run(global: &Global, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    start_log(args, global.quiet)?;
    decode::forward_plugin_log(global);
    let runtime = decode::runtime(global)?;
    let models = experiment.open_served(&runtime, global.threads, &plugin::settings(global))?;
    for (_, pipeline) in &models {
        decode::notes(global, pipeline);
    }
    let names: Vec<String> = models.iter().map(|(name, _)| name.clone()).collect();
    let server = Server::new(models, options)?;
    let listener = server.bind()?;
    let address = listener.local_addr().or_err(ErrorKind::Io, "the listener")?;
    drain_on_signal(server.handle())?;
    output::line(&format!("http://{address}"))?;
    output::say(global.quiet, &format!("serving {} at http://{address}; Ctrl-C ends", names.join(", ")));
    server.run(listener)?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &ServeArgs) -> Result<ServerOptions> {
    let mut options = ServerOptions::default();
    options.address = SocketAddr::new(args.host, args.port);
    options.keys = keys(args)?;
    options.allowed_hosts.clone_from(&args.allowed_host);
    (options.max_batch, options.queue) = (args.max_batch, args.queue);
    options.log_requests = args.log_requests;
    let limits = &mut options.limits;
    limits.max_tokens = args.max_tokens;
    limits.request_timeout = Duration::from_secs(args.request_timeout);
    limits.body_bytes = args.max_body;
    limits.connections = args.max_connections;
    // Before models are loaded, which takes a while.
    options.check()?;
    Ok(options)
}

fn keys(args: &ServeArgs) -> Result<ApiKeys> {
    if let Some(file) = &args.api_key_file {
        return ApiKeys::from_file(file);
    }
    match Environment::of_process().get(&env::API_KEYS) {
        Some(keys) => ApiKeys::from_text(&keys.to_string_lossy()).map_err(|error| error.context(env::API_KEYS.name)),
        None => Ok(ApiKeys::default()),
    }
}

/// The log goes to stderr, a line an event.
fn start_log(args: &ServeArgs, quiet: bool) -> Result<()> {
    let level = match args.log_level {
        _ if quiet => Level::ERROR,
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr).with_target(false);
    let started = match args.log_format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Error::new(ErrorKind::Internal, format!("the log cannot be started: {error}")))
}

/// The first SIGTERM, SIGHUP or Ctrl-C lets the server finish what it accepted; a second one ends the process at once.
fn drain_on_signal(server: ServerHandle) -> Result<()> {
    let told = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if told.swap(true, Ordering::SeqCst) {
            #[expect(clippy::exit, reason = "the operator asked twice, and a handler has nowhere to return to")]
            std::process::exit(i32::from(INTERRUPTED));
        }
        server.drain();
    })
    .or_err(ErrorKind::Io, "signals cannot be handled")
}
