use logitfuse_core::{Error, ErrorKind, Result};
use ort::session::{
    Session,
    builder::{AutoDevicePolicy, SessionBuilder},
};

use crate::{ModelFolder, OnnxOptions, Provider, RejectedProvider, Runtime, Spin, error, providers::TensorRtProfile};

/// Loads the model on the first provider of the user's list that takes it.
pub(crate) fn open(
    runtime: &Runtime,
    folder: &ModelFolder,
    options: &OnnxOptions,
    profile: &TensorRtProfile<'_>,
) -> Result<(Session, Provider, Vec<RejectedProvider>)> {
    let wanted = if options.providers.is_empty() { vec![Provider::cpu()] } else { options.providers.clone() };
    let mut refused = Vec::new();
    for provider in wanted {
        match load(runtime, folder, options, &provider, profile) {
            Ok(session) => return Ok((session, provider, refused)),
            Err(e) => {
                refused.push(RejectedProvider {
                    provider: provider.name().to_owned(),
                    reason: error::one_line(e.message()),
                });
            }
        }
    }
    Err(all_refused(folder, &refused))
}

fn load(
    runtime: &Runtime,
    folder: &ModelFolder,
    options: &OnnxOptions,
    provider: &Provider,
    profile: &TensorRtProfile<'_>,
) -> ort::Result<Session> {
    let builder = SessionBuilder::new(runtime.environment())?
        // Nothing but what the user lists: no accelerator that happens to be there.
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_log_level(ort::logging::LogLevel::Fatal)?
        .with_intra_threads(options.threads)?
        .with_intra_op_spinning(options.spin != Spin::Never)?
        .with_config_entry("session.force_spinning_stop", if options.spin == Spin::WhileRunning { "1" } else { "0" })?
        // Every step has a shape of its own; patterns of earlier steps only hold memory.
        .with_memory_pattern(false)?;
    provider.register(builder, profile)?.commit_from_file(folder.onnx())
}

fn all_refused(folder: &ModelFolder, refused: &[RejectedProvider]) -> Error {
    let shown = folder.onnx().display();
    if let [.., RejectedProvider { provider, reason }] = refused
        && provider == "cpu"
    {
        // What the CPU cannot load, nothing can: the file is at fault.
        return Error::new(ErrorKind::Backend, format!("{shown}: ONNX Runtime cannot load it: {reason}"))
            .with_help("fetch or export the model again, or update ONNX Runtime: `logitfuse runtime install`");
    }
    let reasons: Vec<String> = refused.iter().map(|r| format!("{}: {}", r.provider, r.reason)).collect();
    let help = if refused.iter().any(|r| matches!(&*r.provider, "cuda" | "tensorrt")) {
        "end the list with `cpu` to fall back to it, or install a runtime for the GPU: `logitfuse runtime install --cuda`"
    } else {
        "end the list with `cpu` to fall back to it, or load an ONNX Runtime that was built with the provider"
    };
    Error::new(ErrorKind::Unsupported, format!("{shown}: no execution provider works: {}", reasons.join("; ")))
        .with_help(help)
}
