use anyhow::Result;
use logitfuse_setup::Environment;

use crate::{
    prepare::Prepared,
    steps::{cargo, step},
};

/// Hands over to the benchmark, which starts its peer by itself so that the two can take turns.
pub(crate) fn run(env: &Environment, bench_args: &[String]) -> Result<()> {
    let mut prepared = Prepared::new(env)?;
    if bench_args.iter().any(|argument| argument == "--with-transformers") {
        prepared.add_transformers(env)?;
    }
    // What a strategy costs as a plugin is measured too, and cargo knows no dependency on a library that is only loaded.
    step(&mut cargo(["build", "--release", "--package", "logitfuse-plugin-static-proxy"]))?;
    let mut bench = cargo(["bench", "--package", "logitfuse-tests", "--bench", "decode", "--"]);
    step(prepared.tell(bench.args(bench_args)))
}
