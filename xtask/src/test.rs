use std::{
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use logitfuse_setup::{Environment, env};

use crate::{
    prepare::{Prepared, say},
    steps::{cargo, everything, output_of, step, target_dir},
};

/// How often every property is tried, unless the caller's environment says otherwise. More than proptest's own 256: laws
/// break at rare rows, and a case is cheap.
const CASES: &str = "1000";

/// Sets up, then runs the tests; the runner's own counts come last.
pub(crate) fn run(env: &Environment, runner_args: &[String], seed: Option<&str>) -> Result<()> {
    let prepared = Prepared::new(env)?;
    let properties = Properties::new(seed);
    // A filter asks for certain tests, so the doctests are left out.
    let doctests = if runner_args.is_empty() {
        step(properties.tell(prepared.tell(&mut everything(["test", "--doc", "--quiet", "--no-fail-fast"]))))
    } else {
        Ok(())
    };
    // The tests start the binary and load plugins, neither of which a test build makes by itself. In one build with the tests:
    // alone, they would get other features of their dependencies, and so copies of them.
    step(&mut everything(["build", "--quiet", "--lib", "--bins", "--tests"]))?;
    let nextest = output_of(&mut cargo(["nextest", "--version"])).is_ok();
    let mut runner = if nextest {
        everything(["nextest", "run", "--no-fail-fast"])
    } else {
        say("cargo-nextest is not installed; cargo test does the same, a little slower");
        everything(["test", "--lib", "--bins", "--tests", "--no-fail-fast"])
    };
    runner.args(runner_args).env(env::TEST_PLUGINS.name, target_dir().join("debug"));
    step(properties.tell(prepared.tell(&mut runner))).inspect_err(|_| say(&properties.replay()))?;
    doctests
}

/// The number of cases of property tests and the seed that they are drawn from: told, so that what failed can be seen to
/// fail again, and a new one every time unless the caller sets one, so that runs add up.
struct Properties {
    cases: String,
    seed: String,
}

impl Properties {
    fn new(seed: Option<&str>) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = seed.map_or_else(|| time.as_micros().to_string(), str::to_owned);
        let properties = Self {
            cases: std::env::var("PROPTEST_CASES").unwrap_or_else(|_| CASES.to_owned()),
            seed: std::env::var("PROPTEST_RNG_SEED").unwrap_or(seed),
        };
        say(&properties.replay());
        properties
    }

    fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PROPTEST_CASES", &self.cases).env("PROPTEST_RNG_SEED", &self.seed)
    }

    fn replay(&self) -> String {
        format!(
            "these property tests again: PROPTEST_CASES={} PROPTEST_RNG_SEED={} cargo xtask test",
            self.cases, self.seed
        )
    }
}
