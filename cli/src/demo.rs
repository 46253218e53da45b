//! `logitfuse demo`: what fusion does, from nothing: small experts steer a large base, then one model's two prompts.

mod columns;
mod family;
mod in_context;
mod strengths;

use std::process::ExitCode;

use logitfuse_onnx::Runtime;
use logitfuse_setup::{Environment, Weights, find_or_install_runtime, model_smollm2, smollm2_dir};

use crate::{
    args::{DemoArgs, Global},
    output,
    signal::{self, INTERRUPTED},
};

pub(crate) fn run(global: &Global, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    let mut say = |line: &str| output::say(global.quiet, &format!("set-up: {line}"));
    let found = find_or_install_runtime(&env, global.ort_lib.as_deref(), &mut say)?;
    let runtime = Runtime::load(&found.library)?;
    say(&format!("ONNX Runtime {} ({})", runtime.version(), found.origin));
    let cancel = signal::cancel_on_interrupt()?;
    match family::models(&env) {
        Some(models) => {
            say(&format!("models: {}", models.display()));
            family::show(global, &models, &runtime, &cancel)?;
        }
        None => output::say(
            global.quiet,
            "weak to strong: its models (12 MB) come with the repository and are not here; `logitfuse demo` shows them within a \
             checkout. Going on with the second part.",
        ),
    }
    if cancel.is_cancelled() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let model = match &args.model {
        Some(model) => model.clone(),
        None => model_smollm2(&env, &smollm2_dir(&env, Weights::Int8)?, Weights::Int8, &mut say)?,
    };
    say(&format!("model: {}", model.display()));
    in_context::show(global, &model, args.alpha, &runtime, &cancel)?;
    Ok(if cancel.is_cancelled() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}
