use anyhow::Result;
use logitfuse_setup::Environment;

use crate::{
    prepare::{Prepared, say},
    steps::{cargo, output_of, step},
};

/// Sets up, then runs the tests; the runner's own counts come last.
pub(crate) fn run(env: &Environment, runner_args: &[String]) -> Result<()> {
    let prepared = Prepared::new(env)?;
    // Whoever asks for certain tests does not ask for the doctests.
    let doctests = if runner_args.is_empty() {
        step(prepared.tell(&mut cargo(["test", "--workspace", "--doc", "--quiet", "--no-fail-fast"])))
    } else {
        Ok(())
    };
    // The tests start the binary, which a test build alone does not make.
    step(&mut cargo(["build", "--quiet"]))?;
    let nextest = output_of(&mut cargo(["nextest", "--version"])).is_ok();
    let mut runner = if nextest {
        cargo(["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        say("cargo-nextest is not installed; cargo test does the same, a little slower");
        cargo(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
    };
    step(prepared.tell(runner.args(runner_args)))?;
    doctests
}
