//! (e) Three sources fused by logitfuse against the same fusion written by hand.
//!
//! By hand is what one does without us: three onnxruntime-genai generators, or three sessions of Python onnxruntime, their
//! logits fused with numpy; if asked for, three models of transformers too, whose threads spin as OpenMP has them.
//! Each gets the threads that suit it best, in turn or side by side.

use std::{path::Path, sync::Arc};

use logitfuse_core::Result;
use logitfuse_static_proxy::{Params, StaticProxy};

use crate::{
    Bench,
    contest::{Contest, Task},
    entrant::{Entrant, contestants, tuned},
    model::Model,
    ours::Ours,
    peer::Peer,
    report::{Row, Section, Target, Unit},
    say,
    stats::{Ratio, Summary},
};

const CONTEXT: usize = 64;
const ROLES: [&str; 3] = ["base", "expert", "anti"];
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/fusion_peer.py");

pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section { title: "(e) Fusion written by hand", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        compare(bench, model, &mut section)?;
    }
    section.notes.push(
        "Everybody loads one model three times and chooses the greedy token of base + expert − anti; a ratio above 1 \
         means that logitfuse is faster. Nobody speculates."
            .to_owned(),
    );
    Ok(section)
}

fn compare(bench: &Bench, model: &Model, section: &mut Section) -> Result<()> {
    let case = format!("{}, context {CONTEXT}", model.weights);
    let prompts = vec![model.prompt(0, CONTEXT)?];
    let tuning = Task { prompts: prompts.clone(), new_tokens: bench.effort.tuning_tokens };
    let mut entrants = Vec::new();
    // What PyTorch would be asked to run is not int8.
    let transformers = (bench.with_transformers && model.weights == "fp32").then_some("transformers");
    for engine in ["genai", "onnxruntime"].into_iter().chain(transformers) {
        let mut all = Vec::new();
        for threads in bench.effort.threads() {
            for side_by_side in [false, true] {
                let how = if side_by_side { "side by side" } else { "in turn" };
                let peer = Peer::fusing(&bench.python, Path::new(SCRIPT), engine, model, threads, side_by_side)?;
                all.push(Entrant::new(format!("{engine} by hand, {how}"), threads, peer));
            }
        }
        entrants.extend(tuned(bench, &format!("(e) {case}"), all, &tuning)?.into_iter().next());
    }
    let (threads, concurrency) = model.plan(&bench.runtime, &ROLES, "static-proxy")?;
    let strategy = Arc::new(StaticProxy::new(Params { alpha: 1.0, ..Params::default() })?);
    let ours = Ours::new(&bench.runtime, model, &threads, concurrency, strategy)?;
    entrants.push(Entrant::new("logitfuse, plan", threads[0], ours));

    say(&format!("(e) {case}: {} rounds", bench.effort.rounds));
    let task = Task { prompts, new_tokens: bench.effort.new_tokens };
    let contest = Contest::hold(&mut contestants(&mut entrants), bench.effort.rounds, &task)?;
    let ours = entrants.len() - 1;
    for (i, entrant) in entrants.iter().enumerate() {
        let all = contest.turns[i].iter().flat_map(|turn| turn.token_ms.iter().copied());
        let who = if i == ours { entrant.name.clone() } else { format!("{}: {}", entrant.name, entrant.threads) };
        let row = Row::new(&case, who, Unit::MillisecondsPerToken, Summary::of(all));
        section.rows.push(if i == ours {
            row
        } else {
            let row = row.compared("its time ÷ ours", Ratio::of(&contest.rounds_ms(i), &contest.rounds_ms(ours)));
            // Python's onnxruntime runs the very kernels that we do, so what can be gained on it is its Python.
            if entrant.name.starts_with("genai") { row.target(Target::AtLeast(1.25)) } else { row }
        });
    }
    let agree = contest.turns.iter().flatten().all(|turn| turn.tokens == contest.turns[0][0].tokens);
    section.notes.push(format!("{case}: all generated {} tokens.", if agree { "the same" } else { "**different**" }));
    Ok(())
}
