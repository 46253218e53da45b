//! One task at a time: the table, the gap with each tuned model, and what a fixed strength can do.

use anyhow::Result;

use super::{
    gap::Ceiling,
    markdown::{Table, closed, percent, points},
    page::ends,
    study::{Results, Study, TASKS},
};

/// Strengths that are tried on the validation split.
pub(super) const STATIC: [&str; 4] =
    ["static[alpha=0.5]", "static[alpha=1.0]", "static[alpha=1.5]", "static[alpha=2.0]"];

const BOUNDS: &str = "`dynamic-kl` has the paper's bounds on this page, α in [0, 2] (`bounds = \"paper\"`). By default α is at most 1, a row of \
     [its own](#what-it-owes-to-what): the gap closed is the same here, and what demonstrations gave another base survives.\n\n";
const GAP: &str = "
**Gap closed** is (fused − base) / (tuned − base), on the same items; *mean* is over the four tasks. \"Tuned\" is a large model for each task,
but at `sum` a full score on every item, because there our tuned models are weak (below): no better one can lower these figures.
The *paper's ratio*, fused / tuned, flatters: the base alone has a high one.
";

const ORACLES: &str = "
The tuned model of `sum` that was fixed on validation had been tuned on the eight common cities of the training items alone, and writes their
names for others that begin alike. Its successor was made after the test, on all training cities and held at the country; no figure of
a fused model depends on it. The mean gap closed, with each:
";

const STATIC_CHOICE: &str = "
For every task the fixed strength that scores best on the validation split (the first of equals), and the one that is best on the mean
of the tasks, against dynamic fusion, which was told nothing:
";

pub(super) fn single(results: &Results) -> Result<String> {
    let (ours, reference) = (&results.single, results.reference());
    let systems: [(&str, &Study, &str); 13] = [
        ("`L`, the large base alone", ours, "large"),
        ("`S`, the small base alone", ours, "small"),
        ("`S-t`, the expert alone", ours, "expert"),
        ("`L` with demonstrations", &results.in_context, "large-shown"),
        ("`static-proxy`, α = 0.5", ours, STATIC[0]),
        ("`static-proxy`, α = 1", ours, STATIC[1]),
        ("`static-proxy`, α = 1.5", ours, STATIC[2]),
        ("`static-proxy`, α = 2", ours, STATIC[3]),
        ("`dynamic-kl`, the paper's grid", ours, "dynamic-grid"),
        ("**`dynamic-kl`**", ours, "dynamic"),
        ("`dynamic-kl`, expert chosen by the prompt", ours, "chosen"),
        ("`L-t`, the large model tuned", reference, "L_t"),
        ("`L-t`, `sum` as first fixed", reference, "L_t first"),
    ];
    let gap = ends(results, Ceiling::Perfect);
    let mut scores = Table::new([&[""], &TASKS[..]].concat());
    let mut gaps = Table::new([&["gap closed"], &TASKS[..], &["mean", "paper's ratio"]].concat());
    for (label, study, system) in systems {
        let cells =
            TASKS.iter().map(|task| study.find(system, task).map_or(Ok(String::new()), |a| Ok(percent(&a.mean()?))));
        scores.row([label.to_owned()].into_iter().chain(cells.collect::<Result<Vec<_>>>()?));
        if !study.has(system) || matches!(system, "L_t" | "large") {
            continue;
        }
        let mut cells = vec![label.to_owned()];
        for task in TASKS {
            cells.push(closed(gap.closed(study, system, task)?));
        }
        cells.push(closed(gap.mean(study, system)?));
        cells.push(format!("{:.2}", gap.ratio(study, system)?));
        gaps.row(cells);
    }
    let base = gap.ratio(ours, "large")?;
    let mut oracles = Table::new(["", "`dynamic-kl`", "chosen by the prompt", "`static-proxy`, α = 1"]);
    let kinds = [
        ("the first tuned model of `sum`", Ceiling::First),
        ("its successor", Ceiling::Tuned),
        ("a full score at `sum`, as on this page", Ceiling::Perfect),
    ];
    for (label, ceiling) in kinds {
        let ends = ends(results, ceiling);
        let cell = |system| -> Result<String> { Ok(closed(ends.mean(ours, system)?)) };
        oracles.row([label.to_owned(), cell("dynamic")?, cell("chosen")?, cell(STATIC[1])?]);
    }
    Ok(format!(
        "\n## One task at a time\n\n{BOUNDS}{}{GAP}\n{}\nThe base alone has a ratio of {base:.2}.\n{ORACLES}\n{}",
        scores.text(),
        gaps.text(),
        oracles.text()
    ))
}

pub(super) fn static_choice(results: &Results) -> Result<String> {
    let score = |system: &str, task: &str| -> Result<f64> { Ok(results.validation.get(system, task)?.mean()?.value) };
    let best = |of: &dyn Fn(&str) -> Result<f64>| -> Result<&str> {
        let mut best = (f64::NEG_INFINITY, STATIC[0]);
        for system in STATIC {
            let value = of(system)?;
            // Of equals the weakest.
            if value > best.0 {
                best = (value, system);
            }
        }
        Ok(best.1)
    };
    let overall = best(&|system| TASKS.iter().map(|task| score(system, task)).sum())?;
    let mut table =
        Table::new(["", "best α", "validation", "test", "dynamic − it, test", "dynamic − one α for all, test"]);
    for task in TASKS {
        let chosen = best(&|system| score(system, task))?;
        let fused = results.single.get("dynamic", task)?;
        let there = results.single.get(chosen, task)?;
        table.row([
            task.to_owned(),
            strength(chosen).to_owned(),
            format!("{:.1}", 100.0 * score(chosen, task)?),
            percent(&there.mean()?),
            points(&fused.minus(there)?),
            points(&fused.minus(results.single.get(overall, task)?)?),
        ]);
    }
    let gap = ends(results, Ceiling::Perfect);
    let said = format!(
        "One α for all tasks is {}: on the test it closes {} of the mean gap.\n",
        strength(overall),
        closed(gap.mean(&results.single, overall)?)
    );
    Ok(format!("\n## Dynamic against the best fixed strength\n{STATIC_CHOICE}\n{}\n{said}", table.text()))
}

fn strength(system: &str) -> &str {
    system.trim_start_matches("static[alpha=").trim_end_matches(']')
}
