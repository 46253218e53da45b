//! The child process: runs one case and writes its record.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde_json::json;

use crate::{
    Group, Outcome, Request, claimed, config, context::unknown, environment, fuzz, laws, load, memory, numeric, perf,
    subject, subject::Subject, threads,
};
use logitfuse_plugin_host::PluginFile;

/// Runs the case of a request file and writes its record. This is what the program of
/// [`Isolation::Process`](crate::Isolation::Process) calls with its last two arguments.
///
/// # Errors
/// If the request cannot be read or the record not be written; what is wrong with the plugin is in the record.
pub fn serve(request: &Path, record: &Path) -> Result<()> {
    let text = std::fs::read(request).or_err(ErrorKind::Io, request.display())?;
    let request: Request = serde_json::from_slice(&text).or_err(ErrorKind::InvalidData, request.display())?;
    let (verdict, detail) = run_case(&request).parts();
    let done = json!({ "nonce": request.nonce, "verdict": verdict, "detail": detail });
    // Renamed into place, so that half a record is none.
    let half = record.with_extension("half");
    std::fs::write(&half, done.to_string())
        .and_then(|()| std::fs::rename(&half, record))
        .or_err(ErrorKind::Io, record.display())
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
        Group::Environment => environment::run(name, context),
        Group::Perf => perf::run(name, context),
        Group::Fuzz => fuzz::run(context),
        Group::Static | Group::Load | Group::Config => unknown(name),
    })
}
