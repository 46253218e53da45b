//! (f) What the border of a plugin costs: the same strategy as a shared library and built in.
//!
//! The library is `cargo build --release --package logitfuse-plugin-static-proxy`, beside this benchmark's profile. Both
//! decode the same prompts of one model in turn; the fused token is one batch of three rows.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    path::PathBuf,
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result, ResultExt};
use logitfuse_engine::Concurrency;
use logitfuse_plugin_host::{OnError, PluginFile};
use logitfuse_static_proxy::StaticProxy;
use serde_json::json;

use crate::{
    Bench,
    contest::{Contest, Contestant, Task},
    model::Model,
    ours::Ours,
    report::{Row, Section, Target, Unit},
    say,
    stats::{Ratio, Summary},
};

const CONTEXT: usize = 64;

pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section { title: "(f) A strategy as a plugin", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        compare(bench, model, &mut section)?;
    }
    section.notes.push(
        "The host looks at every row that leaves a plugin; the rest of the border is a handful of pointers. The share of the \
         border is the difference of the two strategies' own times in a token's time."
            .to_owned(),
    );
    Ok(section)
}

fn compare(bench: &Bench, model: &Model, section: &mut Section) -> Result<()> {
    let case = format!("{}, context {CONTEXT}", model.weights);
    let params = json!({});
    let file = PluginFile::read(&library()?)?.load()?;
    let strategies: [Arc<dyn FusionStrategy>; 2] =
        [Arc::new(StaticProxy::from_json(&params)?), Arc::new(file.strategy("static-proxy", &params, OnError::Fail)?)];
    let threads = model.plan(&bench.runtime, &["base"], "none")?.0[0];
    let engine = |strategy| Ours::new(&bench.runtime, model, &[threads], Concurrency::Parallel, strategy);
    let [built_in, plugin] = strategies.map(engine);
    let (mut built_in, mut plugin) = (built_in?, plugin?);

    say(&format!("(f) {case}: {} rounds", bench.effort.rounds));
    let prompts = (0..3).map(|i| model.prompt(i * CONTEXT, CONTEXT)).collect::<Result<_>>()?;
    let task = Task { prompts, new_tokens: bench.effort.new_tokens };
    let refs: &mut [&mut dyn Contestant] = &mut [&mut built_in, &mut plugin];
    let contest = Contest::hold(refs, bench.effort.rounds, &task)?;

    let row = |i: usize, what: &str| {
        let tokens = contest.turns[i].iter().flat_map(|turn| turn.token_ms.iter().copied());
        Row::new(&case, what, Unit::MillisecondsPerToken, Summary::of(tokens))
    };
    let fuse = |i: usize| -> Vec<f64> {
        contest.turns[i].iter().filter_map(|turn| turn.inside.as_ref()).map(|inside| inside.fuse_ms).collect()
    };
    let step = |i: usize, what: &str| Row::new(&case, what, Unit::MillisecondsPerToken, Summary::of(fuse(i)));
    let (built_in_fuse, plugin_fuse) = (fuse(0), fuse(1));
    let border =
        built_in_fuse.iter().zip(&plugin_fuse).zip(contest.rounds_ms(0)).map(|((b, p), token)| (p - b) / token);
    let tokens = Ratio::of(&contest.rounds_ms(1), &contest.rounds_ms(0));
    section.rows.extend([
        row(0, "built in"),
        row(1, "plugin").compared("built in", tokens).target(Target::AtMost(1.01)),
        step(0, "the strategy's step, built in"),
        step(1, "the strategy's step, plugin").compared("built in", Ratio::of(&plugin_fuse, &built_in_fuse)),
        Row::new(&case, "the border's share of a token", Unit::Share, Summary::of(border)).target(Target::AtMost(0.01)),
    ]);
    Ok(())
}

/// Beside the folder that cargo keeps benchmarks in.
fn library() -> Result<PathBuf> {
    let bench = std::env::current_exe().or_err(ErrorKind::Io, "this benchmark")?;
    let profile = bench.parent().and_then(|deps| deps.parent()).unwrap_or(&bench);
    let file = profile.join(format!("{DLL_PREFIX}logitfuse_plugin_static_proxy{DLL_SUFFIX}"));
    if file.exists() {
        return Ok(file);
    }
    Err(Error::new(ErrorKind::NotFound, format!("{}: does not exist", file.display())).with_help(
        "run `cargo xtask bench`, or `cargo build --release --package logitfuse-plugin-static-proxy` before",
    ))
}
