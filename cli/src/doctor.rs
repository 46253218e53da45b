//! `logitfuse doctor`: checks of the machine, one line each.

use std::process::ExitCode;

use logitfuse_core::Result;
use logitfuse_onnx::Runtime;
use logitfuse_setup::{Environment, Python, cache_dir, default_model_dir, env, find_runtime};

use crate::{args::Global, output};

pub(crate) fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let machine = Environment::of_process();
    let mut healthy = true;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tell(
        "logitfuse",
        &format!("{} on {}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS),
    )?;
    tell(
        "threads",
        &format!(
            "{cores} cores, {}",
            if global.threads == 0 { "all used".to_owned() } else { format!("{} used", global.threads) }
        ),
    )?;
    let library = find_runtime(&machine, global.ort_lib.as_deref())
        .and_then(|found| Ok((Runtime::load(&found.library)?, found)))
        .map(|(runtime, found)| format!("{} ({}: {})", runtime.version(), found.origin, found.library.display()));
    healthy &= check("ONNX Runtime", library)?;
    check("cache folder", cache_dir(&machine).map(|dir| dir.display().to_string()))?;
    check("models folder", default_model_dir(&machine).map(|dir| dir.display().to_string()))?;
    check(
        "Python",
        Python::find(&machine).map(|python| format!("{} (needed only to install things)", python.program().display())),
    )?;
    for variable in env::ALL {
        if let Some(value) = machine
            .get(variable)
            .filter(|_| variable.name.starts_with("LOGITFUSE_") || variable.name.starts_with("ORT_"))
        {
            // Keys are for no one's eyes.
            let secret = variable.name == env::API_KEYS.name;
            tell(variable.name, if secret { "is set".into() } else { value.to_string_lossy() }.as_ref())?;
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(what: &str, value: &str) -> Result<()> {
    output::line(&format!("{what:<16} {value}"))
}

/// Prints the finding or what is wrong with the remedy; whether it was well.
fn check(what: &str, finding: Result<String>) -> Result<bool> {
    match finding {
        Ok(value) => tell(what, &value).map(|()| true),
        Err(e) => {
            tell(what, &format!("error: {e}"))?;
            e.help().map_or(Ok(()), |help| tell("", &format!("help: {help}")))?;
            Ok(false)
        }
    }
}
