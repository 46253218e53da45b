//! Every figure of `docs/results.md`, from the weights that ship.

mod drafters;
mod drafts;
mod examples;
mod gap;
mod markdown;
mod page;
mod seeds;
mod several;
mod single;
mod study;
mod variations;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;
use logitfuse_setup::{Environment, env, find_or_install_runtime};

use crate::{
    prepare::say,
    steps::{cargo, root, step, target_dir},
};

/// The experiments with the family, most important first.
const EXPERIMENTS: [&str; 6] = ["weak-to-strong", "best-static", "multi-task", "in-context", "ablations", "merged"];

/// The recipes in `examples/experiments/merged`, and the models that `merged.toml` runs.
const MERGED: [&str; 2] = ["task-arithmetic", "ties"];

/// Times are taken in rounds, each of which times every variant within seconds: what else the machine does is then the same for all.
const ROUNDS: usize = 5;

#[derive(Args)]
pub(crate) struct ResultsArgs {
    /// Write the page from the runs that are there, without running anything
    #[arg(long)]
    page_only: bool,
}

/// Runs what is not there yet into `target/results` and writes the page. Killed, it goes on where it was.
pub(crate) fn run(env: &Environment, args: &ResultsArgs) -> Result<()> {
    let folder = target_dir().join("results");
    if !args.page_only {
        experiments(env, &folder)?;
    }
    let runs = EXPERIMENTS.map(|name| folder.join(name));
    let reference = root().join("examples/family/results");
    let page = page::page(&study::Results::read(&runs, |name| rounds(&folder, name), &reference)?)?;
    let file = root().join("docs/results.md");
    fs::write(&file, page).with_context(|| file.display().to_string())?;
    say(&format!("written: {}", file.display()));
    Ok(())
}

fn experiments(env: &Environment, folder: &Path) -> Result<()> {
    let runtime = find_or_install_runtime(env, None, &mut say)?;
    // As it is released: the figures say how fast it is, too.
    step(&mut cargo(["build", "--release", "--package", "logitfuse-cli"]))?;
    let binary = target_dir().join("release").join(format!("logitfuse{}", std::env::consts::EXE_SUFFIX));
    let run = |name: &str, output: &Path, flags: &[&str]| {
        let mut command = Command::new(&binary);
        command.current_dir(root()).arg("run").arg(format!("examples/experiments/{name}.toml")).args(flags);
        step(command.arg("--output").arg(output).env(env::ORT_LIB.name, &runtime.library))
    };
    merge_experts(&binary)?;
    for name in EXPERIMENTS {
        run(name, &folder.join(name), &[])?;
    }
    // One text at a time, as a person waits for it; nothing traced.
    let mut flags = vec!["--quiet", "--no-report", "--limit", "8", "--batch", "1", "--set", "run.traced_samples=0"];
    for variant in ["variants.small", "variants.one-expert"] {
        flags.extend(["--unset", variant]);
    }
    rounds(folder, "speed").iter().try_for_each(|round| run("weak-to-strong", round, &flags))?;
    let flags = ["--quiet", "--no-report", "--limit", "32"];
    ["drafts", "drafters"]
        .into_iter()
        .try_for_each(|name| rounds(folder, name).iter().try_for_each(|round| run(name, round, &flags)))
}

/// The experts of the family as one model, where `merged.toml` looks for it. Made anew: a merge gives the same bytes every time.
fn merge_experts(binary: &Path) -> Result<()> {
    for name in MERGED {
        let model = root().join("models/S-merged").join(name);
        if model.exists() {
            fs::remove_dir_all(&model).with_context(|| model.display().to_string())?;
        }
        let recipe = format!("examples/experiments/merged/{name}.toml");
        let mut command = Command::new(binary);
        step(command.current_dir(root()).args(["merge", "--quiet", &recipe, "--output"]).arg(&model))?;
    }
    Ok(())
}

fn rounds(folder: &Path, name: &str) -> Vec<PathBuf> {
    (1..=ROUNDS).map(|round| folder.join(format!("{name}-{round}"))).collect()
}
