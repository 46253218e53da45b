//! (c) Two prompts of one model, which decode as one batch of two rows, against one prompt.

use std::sync::Arc;

use logitfuse_core::Result;
use logitfuse_engine::Concurrency;
use logitfuse_in_context::{InContext, Params};

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
    let mut section = Section { title: "(c) Two prompts of one model", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        compare(bench, model, &mut section)?;
    }
    Ok(section)
}

fn compare(bench: &Bench, model: &Model, section: &mut Section) -> Result<()> {
    let case = format!("{}, context {CONTEXT}", model.weights);
    let threads = model.plan(&bench.runtime, &["base"], "none")?.0[0];
    let mut one = Ours::alone(&bench.runtime, model, threads)?;
    let strategy = Arc::new(InContext::new(Params::default())?);
    let mut two = Ours::new(&bench.runtime, model, &[threads], Concurrency::Parallel, strategy)?;

    say(&format!("(c) {case}: {} rounds", bench.effort.rounds));
    let prompts = vec![model.prompt(0, CONTEXT)?, model.prompt(CONTEXT, CONTEXT)?];
    let task = Task { prompts, new_tokens: bench.effort.new_tokens };
    let refs: &mut [&mut dyn Contestant] = &mut [&mut one, &mut two];
    let contest = Contest::hold(refs, bench.effort.rounds, &task)?;

    let row = |i: usize, what: &str| {
        let tokens = contest.turns[i].iter().flat_map(|turn| turn.token_ms.iter().copied());
        Row::new(&case, format!("{what}: {threads}"), Unit::MillisecondsPerToken, Summary::of(tokens))
    };
    let ratio = Ratio::of(&contest.rounds_ms(1), &contest.rounds_ms(0));
    section.rows.push(row(0, "one prompt"));
    section.rows.push(row(1, "two prompts, in-context").compared("one prompt", ratio).target(Target::AtMost(1.35)));
    Ok(())
}
