use anyhow::Result;
use logitfuse_setup::Environment;

use crate::{
    audit,
    steps::{cargo, everything, root, step},
    test,
};

/// Cheapest first; the tests last, so that their counts end the output.
pub(crate) fn run(env: &Environment) -> Result<()> {
    step(&mut cargo(["fmt", "--all", "--check"]))?;
    audit::run()?;
    step(everything(["clippy", "--all-targets"]).args(["--", "-D", "warnings"]))?;
    // What a newcomer builds: without the features that the other steps switch on.
    step(&mut cargo(["check", "--quiet"]))?;
    // A workspace of its own, because fuzzers are built in their own way; here it is enough that they compile.
    // Nothing is linked, so libFuzzer is not compiled either: any file passes for its library.
    let manifest = "tests/fuzz/Cargo.toml";
    step(
        cargo(["check", "--quiet", "--manifest-path", manifest, "--target-dir", "target/fuzz"])
            .env("CUSTOM_LIBFUZZER_PATH", root().join(manifest)),
    )?;
    step(everything(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    // The verdict on a commit must not depend on the day.
    test::run(env, &[], Some("1"))
}
