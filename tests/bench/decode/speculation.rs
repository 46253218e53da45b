//! (g) One source that speculates, against onnxruntime-genai's own speculation.
//!
//! Both look up what followed the last time (n-grams), and for the fp32 model both also draft with the int8 one. Everybody
//! is timed without speculation too, so that what speculation itself gains is seen beside who is faster.

use std::collections::BTreeMap;

use logitfuse_config::Config;
use logitfuse_core::Result;
use logitfuse_pipeline::{SourceConfig, SpeculationConfig, StrategyConfig};

use crate::{
    Bench,
    contest::{Contest, Task},
    entrant::{Entrant, contestants, tuned},
    model::Model,
    ours::Ours,
    peer::{Drafting, Peer},
    report::{Row, Section, Unit},
    say,
    stats::{Ratio, Summary},
};

/// Prose that repeats itself, so that there is something to look up.
const CONTEXT: usize = 400;
/// Drafts that genai is tried with; the fastest takes part.
const DRAFTS: [usize; 2] = [3, 6];

pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section { title: "(g) One source that speculates", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        let drafter = bench.model("int8").filter(|drafter| drafter.weights != model.weights);
        duel(bench, model, drafter, &mut section)?;
    }
    section.notes.push(
        "A token's time is the mean over a turn: speculation yields several at once. Drafts of genai are as long as suits it \
         best, ours as long as the engine finds to pay."
            .to_owned(),
    );
    Ok(section)
}

fn duel(bench: &Bench, model: &Model, drafter: Option<&Model>, section: &mut Section) -> Result<()> {
    let case = format!("{}, context {CONTEXT}", model.weights);
    let label = format!("(g) {case}");
    // Drafts are tuned on turns of full length: in a short one the first draft, which comes with the prompt, weighs too much.
    let task = Task { prompts: vec![model.prompt(0, CONTEXT)?], new_tokens: bench.effort.new_tokens };

    let alone = bench
        .effort
        .threads()
        .into_iter()
        .map(|threads| Ok(Entrant::new("genai", threads, Peer::start(&bench.python, model, threads)?)));
    let mut entrants = tuned(bench, &label, alone.collect::<Result<_>>()?, &task)?;
    entrants.truncate(1);
    let threads = entrants[0].threads;
    let mut fastest = |who: &str, draftings: [Drafting<'_>; DRAFTS.len()]| -> Result<()> {
        let each = DRAFTS.iter().zip(draftings).map(|(tokens, drafting)| {
            let peer = Peer::speculating(&bench.python, model, threads, drafting)?;
            Ok(Entrant::new(format!("genai, {who}, {tokens} tokens a draft"), threads, peer))
        });
        let all = tuned(bench, &label, each.collect::<Result<_>>()?, &task)?;
        entrants.extend(all.into_iter().next());
        Ok(())
    };
    fastest("n-grams", DRAFTS.map(|tokens| Drafting::Ngram { tokens }))?;
    if let Some(drafter) = drafter {
        fastest("int8 drafts", DRAFTS.map(|tokens| Drafting::Model { model: drafter, tokens }))?;
    }
    let theirs = entrants.len();

    entrants.push(ours(bench, model, None, None, "logitfuse")?);
    entrants.push(ours(bench, model, None, Some("prompt_lookup"), "logitfuse, n-grams")?);
    if drafter.is_some() {
        entrants.push(ours(bench, model, drafter, Some("drafter"), "logitfuse, int8 drafts")?);
    }

    say(&format!("{label}: {} rounds", bench.effort.rounds));
    let contest = Contest::hold(&mut contestants(&mut entrants), bench.effort.rounds, &task)?;
    for (i, entrant) in entrants.iter().enumerate() {
        let means = contest.means_ms(i);
        let row = Row::new(&case, &entrant.name, Unit::MillisecondsPerToken, Summary::of(means.iter().copied()));
        section.rows.push(match i.checked_sub(theirs) {
            None if i == 0 => row,
            None => row.compared("genai's time alone ÷ this", Ratio::of(&contest.means_ms(0), &means)),
            Some(same) => row.compared("genai's time, same way ÷ ours", Ratio::of(&contest.means_ms(same), &means)),
        });
    }
    for (i, entrant) in entrants.iter().enumerate() {
        let own = if i < theirs { 0 } else { theirs };
        if i != own && contest.turns[i].iter().any(|turn| turn.tokens != contest.turns[own][0].tokens) {
            section.notes.push(format!(
                "{case}: the tokens of \"{}\" are **not** those that the same engine chooses without speculation; where \
                 weights are int8, ONNX Runtime's results depend on how many rows a pass has.",
                entrant.name
            ));
        }
    }
    Ok(())
}

/// As an experiment has it: the model alone, and who drafts for it.
fn ours(bench: &Bench, model: &Model, drafter: Option<&Model>, draft: Option<&str>, name: &str) -> Result<Entrant> {
    let mut sources = BTreeMap::from([("base".to_owned(), SourceConfig::new(model.folder.root()))]);
    if let Some(drafter) = drafter {
        sources.insert("drafter".to_owned(), SourceConfig::new(drafter.folder.root()));
    }
    let strategy = StrategyConfig { id: Some("none".to_owned()), ..StrategyConfig::default() };
    let mut config = Config::new(sources, strategy);
    config.speculation =
        draft.map(|draft| SpeculationConfig { draft: draft.to_owned(), ..SpeculationConfig::default() });
    let threads = model.plan(&bench.runtime, &["base"], "none")?.0[0];
    Ok(Entrant::new(name, threads, Ours::of_config(&bench.runtime, &config)?))
}
