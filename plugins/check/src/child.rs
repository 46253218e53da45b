//! The side of a case that may die.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde_json::json;

use crate::{
    Group, Outcome, Request, claimed, config, environment, fuzz, laws, load, memory, numeric, perf, subject,
    subject::{Arrangement, Subject},
    threads,
};
use logitfuse_plugin_host::PluginFile;

/// Runs the case of a request file and writes its record. This is what the program of
/// [`Place::Child`](crate::Place::Child) calls with its last two arguments.
///
/// # Errors
/// If the request cannot be read or the record not be written; what is wrong with the plugin is in the record.
pub fn serve(request: &Path, record: &Path) -> Result<()> {
    let text = std::fs::read(request).or_err(ErrorKind::Io, request.display())?;
    let request: Request = serde_json::from_slice(&text).or_err(ErrorKind::InvalidData, request.display())?;
    let (verdict, detail) = perform(&request).parts();
    let done = json!({ "nonce": request.nonce, "verdict": verdict, "detail": detail });
    // Renamed into place, so that half a record is none.
    let half = record.with_extension("half");
    std::fs::write(&half, done.to_string())
        .and_then(|()| std::fs::rename(&half, record))
        .or_err(ErrorKind::Io, record.display())
}

/// Runs a case here.
pub(crate) fn perform(request: &Request) -> Outcome {
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
    let arrangements = match subject::arrangements(&strategy) {
        Ok(arrangements) => arrangements,
        Err(what) => return Ok(Outcome::Failed(what)),
    };
    let tried = (&subject, &strategy, &arrangements[..]);
    Ok(match request.group {
        Group::Memory => memory::run(name, tried),
        Group::Numeric => numeric::run(name, tried),
        Group::StateLaws => laws::run(name, tried),
        Group::ClaimedLaws => claimed::run(name, tried),
        Group::Threads => threads::run(name, tried),
        Group::Environment => environment::run(name, tried),
        Group::Perf => perf::run(name, tried),
        Group::Fuzz => fuzz::run(tried),
        Group::Static | Group::Load | Group::Config => unknown(name),
    })
}

/// What all groups from `memory` on are given.
pub(crate) type Tried<'a> = (&'a Subject, &'a logitfuse_plugin_host::PluginStrategy, &'a [Arrangement]);

pub(crate) fn unknown(name: &str) -> Outcome {
    Outcome::Skipped(format!("this version has no case {name}"))
}
