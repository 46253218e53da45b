//! The child process: runs one case and writes its record.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde_json::json;

use crate::{
    Group, Outcome, Request, claimed, config, context::unknown, environment, family, fuzz, laws, load, memory, numeric,
    perf, snapshot::Snapshot, subject, subject::Subject, threads,
};
use logitfuse_plugin_host::{PluginFile, exit_past_plugins};

/// Runs the case of a request file and writes its record. This is what the program of
/// [`Isolation::Process`](crate::Isolation::Process) calls with its last two arguments.
///
/// # Errors
/// If the request cannot be read or the record not be written; what is wrong with the plugin is in the record. Where code of the
/// plugin has run, this ends the process once the record is there.
#[expect(clippy::exit, reason = "a case about the end of a process ends it")]
pub fn serve(request: &Path, record: &Path) -> Result<()> {
    let text = std::fs::read(request).or_err(ErrorKind::Io, request.display())?;
    let request: Request = serde_json::from_slice(&text).or_err(ErrorKind::InvalidData, request.display())?;
    family::confine();
    let own = std::process::id();
    let mut outcome = run_case(&request);
    if std::process::id() != own {
        // A copy of this process, which the plugin made and which came back here.
        return Ok(());
    }
    if matches!(outcome, Outcome::Passed(_) | Outcome::Warning(_)) && family::has_children() {
        outcome = Outcome::Failed("started a process".to_owned());
    }
    let (verdict, detail) = outcome.parts();
    let done = json!({ "nonce": request.nonce, "verdict": verdict, "detail": detail });
    // Renamed into place, so that half a record is none.
    let half = record.with_extension("half");
    std::fs::write(&half, done.to_string())
        .and_then(|()| std::fs::rename(&half, record))
        .or_err(ErrorKind::Io, record.display())?;
    if request.group == Group::Environment && request.name == environment::EXIT {
        // With all that a program does at its end.
        std::process::exit(environment::EXIT_STATUS);
    }
    exit_past_plugins(0);
    Ok(())
}

/// Runs a case here.
pub(crate) fn run_case(request: &Request) -> Outcome {
    match examine(request) {
        Ok(outcome) => outcome,
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

fn examine(request: &Request) -> Result<Outcome> {
    let file = PluginFile::read(&request.plugin)?;
    if file.hash().to_string() != request.sha256 {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!("{}: changed while it was checked", file.path().display()),
        ));
    }
    // What constructors change is changed by the plugin, too.
    let before = Snapshot::take();
    let subject = Subject::load(&file, request)?;
    let name = request.name.as_str();
    match request.group {
        Group::Load => return Ok(load::run(name, &subject)),
        Group::Config => return Ok(config::run(name, &subject)),
        _ => {}
    }
    let strategy = match subject.strategy() {
        Ok(strategy) => strategy,
        Err(e) => return Ok(Outcome::Skipped(format!("there is no instance to try: {e}"))),
    };
    let role_counts = match subject::role_counts(&strategy) {
        Ok(role_counts) => role_counts,
        Err(what) => return Ok(Outcome::Failed(what)),
    };
    let context = (&subject, &strategy, &role_counts[..]);
    Ok(match request.group {
        Group::Memory => memory::run(name, context),
        Group::Numeric => numeric::run(name, context),
        Group::StateLaws => laws::run(name, context),
        Group::ClaimedLaws => claimed::run(name, context),
        Group::Threads => threads::run(name, context),
        Group::Environment => environment::run(name, &before, context),
        Group::Perf => perf::run(name, context),
        Group::Fuzz => fuzz::run(context),
        Group::Static | Group::Load | Group::Config => unknown(name),
    })
}
