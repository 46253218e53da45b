//! `logitfuse runtime`.

use std::process::ExitCode;

use logitfuse_onnx::Runtime;
use logitfuse_setup::{Candidate, Environment, FoundRuntime, find_runtime, install_runtime, runtime_candidates};

use crate::{args::Global, output, table::TextTable};

pub(crate) fn show(global: &Global) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    let candidates = runtime_candidates(&env, global.ort_lib.as_deref());
    let rows = candidates.iter().map(|Candidate { origin, looked_in, outcome }| {
        let found = match outcome {
            Ok(Some(library)) => library.display().to_string(),
            Ok(None) => format!("- ({looked_in})"),
            Err(e) => format!("error: {e}"),
        };
        [origin.to_string(), found]
    });
    output::write_all(TextTable::new(rows).to_string().as_bytes())?;
    let FoundRuntime { library, origin } = find_runtime(&env, global.ort_lib.as_deref())?;
    let runtime = Runtime::load(&library)?;
    output::line(&format!("\nused: ONNX Runtime {}, {} ({origin})", runtime.version(), library.display()))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn install(global: &Global, cuda: bool) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    let installed = install_runtime(&env, cuda, &mut |line| output::say(global.quiet, line))?;
    let runtime = Runtime::load(&installed.library)?;
    output::line(&format!("ONNX Runtime {}: {}", runtime.version(), installed.library.display()))?;
    Ok(ExitCode::SUCCESS)
}
