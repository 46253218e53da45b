//! Several experts at once.

use anyhow::Result;

use super::{
    gap::Ceiling,
    markdown::{Table, closed, percent, points},
    page::ends,
    study::{Results, Study, TASKS, UNSEEN},
};

const MULTI: &str = "
All four experts at once, without saying which one a prompt is for. `chosen` is what `dynamic-kl` does where experts bring calibration prompts
(16 each, without answers); `one_expert` is the search that the paper describes. `cloze` has no expert: what is right is to leave the base
alone. *Merged* experts are one model, made of the four in their weights by `logitfuse merge` ([docs/merge.md](merge.md)) with the values that the
TIES paper recommends where nothing is tuned; the paper of dynamic fusion calls the last but one row task arithmetic + fusion. The gap is to the large models tuned for each task, as above, and to one large model tuned on all of them.
";

pub(super) fn multi(results: &Results) -> Result<String> {
    let (ours, more, merged) = (&results.single, &results.multi, &results.merged);
    let systems: [(&str, &Study, &str); 15] = [
        ("`L`, the large base alone", ours, "large"),
        ("**chosen by the prompt**", ours, "chosen"),
        ("`one_expert`, the paper's search", ours, "one-expert"),
        ("pool, `uniform`", more, "pool[weights=uniform]"),
        ("pool, `kl`", more, "pool[weights=kl]"),
        ("pool, `entropy`", more, "pool[weights=entropy]"),
        ("pool, `posterior`", more, "pool[weights=posterior]"),
        ("pool, `posterior` of the prompt", more, "pool-by-prompt"),
        ("task arithmetic, λ = 1/4", more, "arithmetic"),
        ("task arithmetic, λ = 1", more, "arithmetic-in-full"),
        ("task arithmetic, dynamic", more, "arithmetic-dynamic"),
        ("merged by task arithmetic, alone", merged, "task-arithmetic"),
        ("merged by TIES, alone", merged, "ties"),
        ("`dynamic-kl`, expert merged by task arithmetic", merged, "fused-task-arithmetic"),
        ("`dynamic-kl`, expert merged by TIES", merged, "fused-ties"),
    ];
    let together = results.reference().has("L_all");
    let mut table =
        Table::new([&[""], &TASKS[..], &["gap, mean", "gap to one tuned on all", "`cloze` − `L`"]].concat());
    for (label, study, system) in systems {
        let mut cells = vec![label.to_owned()];
        for task in TASKS {
            cells.push(percent(&study.get(system, task)?.mean()?));
        }
        if system == "large" {
            cells.extend(["0".to_owned(), "0".to_owned(), percent(&study.get(system, UNSEEN)?.mean()?)]);
        } else {
            cells.push(closed(ends(results, Ceiling::Perfect).mean(study, system)?));
            cells.push(if together {
                closed(ends(results, Ceiling::Together).mean(study, system)?)
            } else {
                String::new()
            });
            cells.push(points(&study.get(system, UNSEEN)?.minus(ours.get("large", UNSEEN)?)?));
        }
        table.row(cells);
    }
    if together {
        let mut cells = vec!["`L-all`, tuned on all".to_owned()];
        for task in TASKS {
            cells.push(percent(&results.reference().get("L_all", task)?.mean()?));
        }
        table.row(cells.into_iter().chain(std::iter::repeat_n(String::new(), 3)));
    }
    Ok(format!("\n## Several experts\n{MULTI}\n{}", table.text()))
}
