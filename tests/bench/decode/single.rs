//! (a) One source against onnxruntime-genai on the same files, both with the threads that suit them best.

use logitfuse_core::Result;

use crate::{
    Bench,
    contest::{Contest, Task},
    entrant::{Entrant, contestants, tuned},
    model::{Model, Threads},
    ours::Ours,
    peer::Peer,
    report::{Row, Section, Target, Unit},
    say,
    stats::{Ratio, Summary},
};

const CONTEXTS: [usize; 2] = [64, 1000];

pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut section =
        Section { title: "(a) One source against onnxruntime-genai", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        for &context in if bench.effort.quick { &CONTEXTS[..1] } else { &CONTEXTS } {
            duel(bench, model, context, &mut section)?;
        }
    }
    section.notes.push(
        "A token is one pass over one token and the choice after it; a ratio above 1 means that logitfuse is faster."
            .to_owned(),
    );
    section.notes.push("Nobody speculates here; (g) has what both gain by it.".to_owned());
    Ok(section)
}

fn duel(bench: &Bench, model: &Model, context: usize, section: &mut Section) -> Result<()> {
    let case = format!("{}, context {context}", model.weights);
    let prompts = vec![model.prompt(0, context)?];
    let tuning = Task { prompts: prompts.clone(), new_tokens: bench.effort.tuning_tokens };

    let peers = bench
        .effort
        .threads()
        .into_iter()
        .map(|threads| Ok(Entrant::new("genai", threads, Peer::start(&bench.python, model, threads)?)));
    let label = format!("(a) {case}");
    let mut entrants = tuned(bench, &label, peers.collect::<Result<_>>()?, &tuning)?;
    entrants.truncate(1);

    let plan = model.plan(&bench.runtime, &["base"], "none")?.0[0];
    let mut candidates = bench.effort.threads();
    if !candidates.contains(&plan) {
        candidates.push(plan);
    }
    let ours = candidates
        .into_iter()
        .map(|threads| Ok(Entrant::new("logitfuse", threads, Ours::alone(&bench.runtime, model, threads)?)));
    let mut ours = tuned(bench, &label, ours.collect::<Result<_>>()?, &tuning)?;
    let best = ours[0].threads;
    ours.retain(|entrant| entrant.threads == best || entrant.threads == plan);
    entrants.append(&mut ours);

    say(&format!("(a) {case}: {} rounds", bench.effort.rounds));
    let task = Task { prompts, new_tokens: bench.effort.new_tokens };
    let contest = Contest::hold(&mut contestants(&mut entrants), bench.effort.rounds, &task)?;

    section.rows.extend(rows(&case, &entrants, plan, &contest));
    let agree = contest.turns.iter().flatten().all(|turn| turn.tokens == contest.turns[0][0].tokens);
    let idle = contest.disturbance.map_or_else(String::new, |share| {
        format!("; while one worked, the other used at most {:.0} % of a core", 100.0 * share)
    });
    section
        .notes
        .push(format!("{case}: all generated {} tokens{idle}.", if agree { "the same" } else { "**different**" }));
    Ok(())
}

/// genai comes first, then our fastest.
fn rows(case: &str, entrants: &[Entrant], plan: Threads, contest: &Contest) -> Vec<Row> {
    let tuned = entrants[1].threads;
    let firsts = |i: usize| contest.turns[i].iter().map(|turn| turn.first_ms).collect::<Vec<f64>>();
    let mut rows = Vec::new();
    for (i, entrant) in entrants.iter().enumerate() {
        let threads = entrant.threads;
        let who = match i {
            0 => format!("genai, tuned: {threads}"),
            _ if threads == plan && tuned == plan => format!("logitfuse, plan and tuned: {threads}"),
            _ if threads == plan => format!("logitfuse, plan: {threads}"),
            _ => format!("logitfuse, tuned: {threads}"),
        };
        let all = contest.turns[i].iter().flat_map(|turn| turn.token_ms.iter().copied());
        let mut decode = Row::new(case, &who, Unit::MillisecondsPerToken, Summary::of(all));
        let mut first = Row::new(case, format!("{who}, first token"), Unit::Milliseconds, Summary::of(firsts(i)));
        if i > 0 {
            let speed = Ratio::of(&contest.rounds_ms(0), &contest.rounds_ms(i));
            decode = decode.compared("genai's time ÷ ours", speed);
            // The target is on what a user gets who tunes nothing.
            decode = if threads == plan { decode.target(Target::AtLeast(0.95)) } else { decode };
            first = first.compared("genai's time ÷ ours", Ratio::of(&firsts(0), &firsts(i)));
        }
        rows.extend([decode, first]);
    }
    rows
}
