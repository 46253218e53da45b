//! Where the fused model is right and base and expert are wrong, and the reverse.

use logitfuse_rundir::SampleRecord;
use maud::{Markup, html};

use super::{scrolling, section};
use crate::{
    number,
    outcomes::{AloneComparison, Item},
    text,
};

/// So many examples of each kind and task.
const EXAMPLES: usize = 5;
/// Characters of a prompt or an answer that are shown.
const SHOWN: usize = 600;

pub(super) fn outcomes(comparisons: &[AloneComparison<'_>], best: Option<&str>) -> Option<Markup> {
    if comparisons.is_empty() {
        return None;
    }
    let shown: Vec<&AloneComparison<'_>> = comparisons.iter().filter(|c| Some(c.fused) == best).collect();
    let shown = if shown.is_empty() { comparisons.iter().take(1).collect() } else { shown };
    let name = shown.first().map_or("", |comparison| comparison.fused);
    Some(section(
        "outcomes",
        "Right where others are wrong",
        html! {
            (scrolling("Right answers by who is right alone", counts(comparisons)))
            h3 { (name) " right, base and expert wrong" }
            (examples(&shown, |comparison| comparison.gained().collect()))
            h3 { (name) " wrong, base and expert right" }
            (examples(&shown, |comparison| comparison.lost().collect()))
        },
    ))
}

fn counts(comparisons: &[AloneComparison<'_>]) -> Markup {
    let cell = |comparison: &AloneComparison<'_>, base, expert| {
        let (right, n) = comparison.count(base, expert);
        html! {
            td class="number" {
                @if n == 0 { "–" } @else {
                    (right) " of " (n)
                    span class="interval" { (number::percent(right as f64 / n as f64)) }
                }
            }
        }
    };
    html! {
        table {
            caption { span { "Items that the fused model gets right, by who is right alone: what it keeps, follows and finds" } }
            thead { tr {
                th scope="col" { "Variant" } th scope="col" { "Task" }
                th scope="col" class="number" { "both right" }
                th scope="col" class="number" { "only base right" }
                th scope="col" class="number" { "only expert right" }
                th scope="col" class="number" { "both wrong" }
            } }
            tbody {
                @for comparison in comparisons {
                    tr {
                        th scope="row" { (comparison.fused) }
                        td { (comparison.task) }
                        (cell(comparison, true, true))
                        (cell(comparison, true, false))
                        (cell(comparison, false, true))
                        (cell(comparison, false, false))
                    }
                }
            }
        }
    }
}

fn examples<'a>(
    comparisons: &[&'a AloneComparison<'a>],
    pick: impl Fn(&'a AloneComparison<'a>) -> Vec<&'a Item<'a>>,
) -> Markup {
    let picked: Vec<(&AloneComparison<'_>, Vec<&Item<'_>>)> =
        comparisons.iter().map(|comparison| (*comparison, pick(comparison))).collect();
    html! {
        @if picked.iter().all(|(_, items)| items.is_empty()) {
            p { "No such item." }
        }
        @for (comparison, items) in picked.iter().filter(|(_, items)| !items.is_empty()) {
            details {
                summary { (comparison.task) ": " (items.len()) @if items.len() == 1 { " item" } @else { " items" } }
                @for item in items.iter().take(EXAMPLES) { (example(comparison, item)) }
                @if items.len() > EXAMPLES {
                    p class="small" { "The other " (items.len() - EXAMPLES) " are in samples.jsonl." }
                }
            }
        }
    }
}

fn example(comparison: &AloneComparison<'_>, item: &Item<'_>) -> Markup {
    let answers = [(comparison.fused, item.fused, item.fused_right), (comparison.base, item.base, item.base_right)];
    let experts =
        comparison.experts.iter().zip(&item.experts).map(|(name, sample)| (*name, *sample, item.expert_right));
    html! {
        article class="example" {
            (question(item.fused))
            dl {
                @for (name, sample, right) in answers.into_iter().chain(experts) {
                    div {
                        dt { (name) " " (verdict(Some(right))) }
                        dd class="said" { (answer(sample)) }
                    }
                }
            }
        }
    }
}

/// The item: its id, its prompt where it has one, its target.
pub(super) fn question(sample: &SampleRecord) -> Markup {
    let prompt = sample
        .doc
        .get("prompt")
        .or_else(|| sample.doc.get("question"))
        .map_or_else(|| serde_json::Value::Object(sample.doc.clone()).to_string(), text::json);
    html! {
        p class="id" { (sample.task) " · " (sample.doc_id) @if sample.repeat > 0 { " · repeat " (sample.repeat) } }
        p class="prompt" { (text::shortened(&prompt, SHOWN)) }
        p class="target" { "Target: " q { (text::shortened(&text::json(&sample.target), SHOWN)) } }
    }
}

/// Right or wrong, to the eye and to the ear.
pub(super) fn verdict(right: Option<bool>) -> Markup {
    match right {
        Some(true) => html! { span class="good" { "✓ right" } },
        Some(false) => html! { span class="bad" { "✗ wrong" } },
        None => html! {},
    }
}

/// What was said; of several responses the filter's choice.
fn answer(sample: &SampleRecord) -> String {
    if let [only] = sample.responses.as_slice() {
        return text::shortened(&only.text, SHOWN);
    }
    let chosen: Vec<String> = sample.filtered.values().map(text::json).collect();
    text::shortened(&chosen.join("; "), SHOWN)
}
