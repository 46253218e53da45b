use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use logitfuse_setup::{Environment, Weights, env, install_runtime, model_smollm2, smollm2_dir};

use crate::{
    prepare::say,
    steps::{cargo, output_of, root},
};

const NO_GPU: u8 = 3;
const TOKENS: &str = "64";

/// Generates the same text on the CPU and on the GPU with one runtime, and compares the tokens.
pub(crate) fn run(env: &Environment) -> Result<ExitCode> {
    let Some(gpus) = gpus() else {
        eprintln!("no NVIDIA GPU on this machine (`nvidia-smi -L` lists none): nothing was checked");
        return Ok(ExitCode::from(NO_GPU));
    };
    say(&gpus);
    let runtime = install_runtime(env, true, &mut say)?.library;
    // float32: what differs then is the path, not a kernel's idea of int8.
    let model = model_smollm2(env, &smollm2_dir(env, Weights::Fp32)?, Weights::Fp32, &mut say)?;
    let [on_cpu, on_gpu] = ["cpu", "cuda"].map(|provider| generate(provider, &runtime, &model));
    let (on_cpu, on_gpu) = (on_cpu?, on_gpu?);
    ensure!(on_cpu == on_gpu, "CPU and CUDA disagree:\n  cpu  {on_cpu:?}\n  cuda {on_gpu:?}");
    say(&format!("CPU and CUDA agree on {} tokens", on_cpu.len()));
    Ok(ExitCode::SUCCESS)
}

fn gpus() -> Option<String> {
    let list = output_of(Command::new("nvidia-smi").arg("-L")).ok()?;
    (!list.trim().is_empty()).then(|| list.trim().to_owned())
}

/// The tokens that the product itself generates, provider named strictly: no falling back.
fn generate(provider: &str, runtime: &Path, model: &Path) -> Result<Vec<u32>> {
    let mut logitfuse =
        cargo(["run", "--quiet", "--release", "--", "generate", "--format", "json", "--provider", provider]);
    logitfuse.args(["--max-new-tokens", TOKENS, "--model"]).arg(model);
    logitfuse.arg("Explain in two sentences why the sky is blue.");
    let text = output_of(logitfuse.current_dir(root()).env(env::ORT_LIB.name, runtime))?;
    let answer: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("{provider}: not JSON"))?;
    serde_json::from_value(answer["tokens"].clone()).with_context(|| format!("{provider}: no `tokens` in the answer"))
}
