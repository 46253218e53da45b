//! Whether the names that an experiment uses are there, and are usable.

use logitfuse_pipeline::did_you_mean;

use super::{
    diagnostic::Diagnostic,
    document::{Entry, Table, Value},
    place::SourceMap,
};

/// Checks the names of variants and tasks, and those in `[gap]` and `[[expect]]`. `stems` are the variants' names before their
/// sweeps.
pub(crate) fn check(
    document: &Table,
    variants: &[String],
    stems: &[String],
    texts: &SourceMap,
    found: &mut Vec<Diagnostic>,
) {
    let table = |key: &str| document.get(key).and_then(|entry| entry.node.as_table());
    // Samples are found again by variant/task/item.
    for (kind, one) in [("variants", "variant"), ("tasks", "task")] {
        for (name, entry) in table(kind).into_iter().flatten() {
            if name.is_empty() || name.contains(|c: char| "/[]".contains(c) || c.is_control()) {
                let what = format!("`{name}` cannot be the name of a {one}");
                let wrong = Diagnostic::new(what, texts.place(&entry.key));
                found.push(wrong.help("names have no slash and no brackets"));
            }
        }
    }
    let tasks: Vec<&str> = table("tasks").into_iter().flat_map(|tasks| tasks.keys().map(String::as_str)).collect();
    let mut known: Vec<&str> = variants.iter().chain(stems).map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let stranger = |kind: &str, entry: &Entry, known: &[&str]| {
        let name = entry.node.as_str()?;
        let help = if known.is_empty() {
            format!("there are no {kind}s")
        } else {
            format!("the {kind}s are {}", known.join(", "))
        };
        (!known.contains(&name)).then(|| {
            Diagnostic::new(format!("there is no {kind} `{name}`"), texts.place(&entry.node.span))
                .label(did_you_mean(name, known.iter().copied()))
                .help(help)
        })
    };
    let gap = table("gap");
    for entry in ["base", "ceiling"].into_iter().filter_map(|key| gap?.get(key)) {
        // Other names may be those of the file of scores, which is read when the tasks' data are.
        if gap.is_some_and(|gap| !gap.contains_key("scores")) {
            found.extend(stranger("variant", entry, &known));
        }
        let several = entry.node.as_str().map_or(0, |name| stems.iter().filter(|stem| *stem == name).count());
        if several > 1 {
            let what = format!("`{}` is swept, so it is {several} variants", entry.node.as_str().unwrap_or_default());
            let wrong = Diagnostic::new(what, texts.place(&entry.node.span));
            found.push(wrong.help("name one point of the sweep, as `config check` shows them"));
        }
    }
    let by_task = gap.and_then(|gap| gap.get("metric")?.node.as_table());
    for (task, entry) in by_task.into_iter().flatten().filter(|(task, _)| !tasks.contains(&task.as_str())) {
        found.push(
            Diagnostic::new(format!("there is no task `{task}`"), texts.place(&entry.key))
                .label(did_you_mean(task, tasks.iter().copied()))
                .help(format!("the tasks are {}", tasks.join(", "))),
        );
    }
    let Some(Value::Array(all)) = document.get("expect").map(|entry| &entry.node.value) else { return };
    for (one, item) in all.iter().filter_map(|item| Some((item.as_table()?, item))) {
        found.extend(one.get("variant").and_then(|entry| stranger("variant", entry, &known)));
        found.extend(one.get("task").and_then(|entry| stranger("task", entry, &tasks)));
        if !["at_least", "at_most", "gap_at_least"].iter().any(|key| one.contains_key(*key)) {
            let wrong = Diagnostic::new("an expectation without a bound", texts.place(&item.span));
            found.push(wrong.help("add at_least, at_most or gap_at_least"));
        }
        if let (Some(entry), None) = (one.get("gap_at_least"), gap) {
            let wrong = Diagnostic::new("there is no [gap] whose closing could be expected", texts.place(&entry.key));
            found.push(wrong.help("add [gap] with base, ceiling and metric"));
        }
    }
}
