use anyhow::Result;
use logitfuse_setup::Environment;

use crate::{
    prepare::Prepared,
    steps::{cargo, step},
};

/// Hands over to the benchmark, which starts its peer by itself so that the two can take turns.
pub(crate) fn run(env: &Environment, bench_args: &[String]) -> Result<()> {
    let prepared = Prepared::new(env)?;
    let mut bench = cargo(["bench", "--package", "logitfuse-tests", "--bench", "decode", "--"]);
    step(prepared.tell(bench.args(bench_args)))
}
