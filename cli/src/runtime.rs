//! `logitfuse runtime`.

use std::process::ExitCode;

use logitfuse_onnx::Runtime;
use logitfuse_setup::{Candidate, Environment, FoundRuntime, find_runtime, install_runtime, runtime_candidates};

use crate::{args::Global, output};

pub(crate) fn show(global: &Global) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    let candidates = runtime_candidates(&env, global.ort_lib.as_deref());
    let width = candidates.iter().map(|c| c.origin.to_string().len()).max().unwrap_or(0);
    for Candidate { origin, looked_in, outcome } in &candidates {
        let found = match outcome {
            Ok(Some(library)) => library.display().to_string(),
            Ok(None) => format!("- ({looked_in})"),
            Err(e) => format!("error: {e}"),
        };
        output::line(&format!("{:<width$}  {found}", origin.to_string()))?;
    }
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
