//! The page: what was asked, the table, and what it says.

use anyhow::Result;
use logitfuse_metrics::gap::Recovered;

use super::{
    drafters, drafts, examples,
    gap::{Ceiling, Ends},
    markdown::{Table, closed, points},
    seeds, several, single,
    study::{Results, TASKS, UNSEEN},
    variations,
};

/// What must be reached, as shares of the gap.
const WANTED_SINGLE: f64 = 0.9;
const WANTED_MULTI: f64 = 0.6;

const INTRODUCTION: &str = "# What the family shows

<!-- Written by `cargo xtask results`; edit xtask/src/results/. -->

A large untuned base, steered by small experts, against the large model tuned: the experiment of *On Giant's Shoulders:
Effortless Weak to Strong by Dynamic Logits Fusion* (NeurIPS 2024), on [models that we trained ourselves](../examples/family/README.md).
Every figure on this page comes from one command, which runs `examples/experiments/{weak-to-strong, best-static, multi-task, in-context,
ablations, merged, drafts, drafters}.toml` with the weights that ship into `target/results` and writes this page; killed, it goes on where it was:

```
cargo xtask results
```

Two things need weights that do not ship, the tuned large models and the members of other training seeds. Their scores, item by item, are
in `examples/family/results`, made by the Python reference with the command in [its README](../examples/family/README.md).

Scores are percentages: exact match, and for `sum` ROUGE-2. Brackets are 95 % intervals of a bootstrap over the 256 test items of a task, paired
wherever two systems are compared. They say nothing of other training seeds, which have [their own table](#training-seeds). Every choice was
made on the validation split, and the test split decoded when nothing was chosen any more.
";

/// The whole page.
pub(super) fn page(results: &Results) -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    let sections = [
        verdict,
        single::single,
        single::static_choice,
        several::multi,
        variations::in_context,
        variations::ablations,
        variations::cost,
        drafts::drafts,
        drafters::drafters,
        seeds::seeds,
        examples::agreement,
        examples::examples,
    ];
    for section in sections {
        page.push_str(&section(results)?);
    }
    Ok(page)
}

/// The gap that the page's figures are about.
pub(super) fn ends(results: &Results, ceiling: Ceiling) -> Ends<'_> {
    Ends { base: (&results.single, "large"), oracles: results.reference(), ceiling }
}

fn verdict(results: &Results) -> Result<String> {
    let gap = ends(results, Ceiling::Perfect);
    let single = gap.mean(&results.single, "dynamic")?;
    let multi = gap.mean(&results.single, "chosen")?;
    let unseen = results.single.get("chosen", UNSEEN)?.minus(results.single.get("large", UNSEEN)?)?;
    let mut above = Vec::new();
    let mut everywhere = true;
    for task in TASKS {
        let more = results.single.get("chosen", task)?.minus(results.single.get("one-expert", task)?)?;
        everywhere &= more.interval.low > 0.0;
        above.push(format!("{task} {}", points(&more)));
    }
    let reached = |yes: bool| if yes { "yes" } else { "**no**" }.to_owned();
    let at_least = |gap: Option<Recovered>, wanted: f64| reached(gap.is_some_and(|gap| gap.value >= wanted));
    let mut table = Table::new(["wanted", "found", "reached"]);
    for (what, found, system, wanted) in [
        ("single task, mean gap closed ≥ 90 %", single, "dynamic", WANTED_SINGLE),
        ("several experts, mean gap closed ≥ 60 %", multi, "selected", WANTED_MULTI),
    ] {
        table.row([what.to_owned(), closed(found), at_least(found, wanted)]);
        let gaps = seeds::gaps(results, system)?;
        let everywhere = gaps.iter().all(|gap| gap.is_some_and(|gap| gap >= wanted));
        let seeds = format!("… by training seed ({} of 3 were trained)", gaps.len());
        table.row([seeds, seeds::shown(&gaps), reached(everywhere)]);
    }
    table.row(["… and above `one_expert` by more than the interval".to_owned(), above.join("; "), reached(everywhere)]);
    table.row([
        "unseen task: not below the base by more than the interval".to_owned(),
        points(&unseen),
        reached(unseen.interval.high >= 0.0),
    ]);
    Ok(format!("\n{}", table.text()))
}
