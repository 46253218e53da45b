//! The table: variants by tasks, with intervals; then every metric there is.

use std::collections::BTreeSet;

use logitfuse_rundir::MetricRecord;
use maud::{Markup, html};

use super::{scrolling, section};
use crate::{
    data::Data,
    figure::Figures,
    number,
    outline::{GapRole, Outline, Task, Variant, metric_label},
};

pub(super) fn results(data: &Data, outline: &Outline<'_>, figures: &Figures) -> Markup {
    let methods: BTreeSet<&str> = data.metrics.metrics.iter().map(|record| record.interval_method.as_str()).collect();
    let methods: Vec<&str> = methods.into_iter().filter(|method| !method.is_empty()).collect();
    let limited = data.metrics.limit.is_some();
    section(
        "results",
        "Results",
        html! {
            (scrolling("Scores by variant and task", html! {
                table class="scores" {
                    caption { span {
                        "Value and 95 % interval of each variant. Best of a task in bold, base and ceiling aside."
                        @if limited { " A limited run: not for reporting." }
                    } }
                    thead { tr {
                        th scope="col" { "Variant" }
                        @for task in &outline.tasks { th scope="col" class="number" { (task.name) (heading_note(outline, task)) } }
                    } }
                    tbody {
                        @for variant in &outline.variants {
                            tr {
                                th scope="row" { (key(variant)) (variant.name) (part_note(variant)) }
                                @for task in &outline.tasks { (cell(outline, variant, task)) }
                            }
                        }
                    }
                }
            }))
            @if !methods.is_empty() { p class="small" { "Intervals: " (methods.join("; ")) "." } }
            @if let Some(figure) = &figures.scores { (figure.inline(true)) }
            details {
                summary { "Every metric and filter" }
                (scrolling("Every metric and filter", every(&data.metrics.metrics)))
            }
        },
    )
}

/// A swatch of the variant's colour; its name is beside it.
pub(super) fn key(variant: &Variant<'_>) -> Markup {
    html! { span class=(format!("swatch {}", variant.class())) aria-hidden="true" {} }
}

fn part_note(variant: &Variant<'_>) -> Markup {
    let note = match variant.role {
        GapRole::Base => " (base)",
        GapRole::Ceiling => " (ceiling)",
        GapRole::Candidate => "",
    };
    html! { @if !note.is_empty() { span class="muted" { (note) } } }
}

fn heading_note(outline: &Outline<'_>, task: &Task<'_>) -> Markup {
    let counts: BTreeSet<usize> =
        outline.variants.iter().filter_map(|v| outline.record(v.name, task)).map(|record| record.n).collect();
    let n = match (counts.first(), counts.last()) {
        (Some(low), Some(high)) if low == high => format!("n = {low}"),
        (Some(low), Some(high)) => format!("n = {low} to {high}"),
        _ => String::new(),
    };
    let better = if task.higher_is_better { "" } else { ", less is better" };
    html! { span class="note" { (task.label()) (better) br; (n) } }
}

fn cell(outline: &Outline<'_>, variant: &Variant<'_>, task: &Task<'_>) -> Markup {
    let Some((record, value)) = outline.record(variant.name, task).and_then(|r| Some((r, r.value?))) else {
        return html! { td class="number" { "–" } };
    };
    let best = outline.best(task).is_some_and(|(best, _)| best.name == variant.name);
    let shown = task.value(value);
    html! {
        td class="number" {
            @if best { strong { (shown) } span class="hidden" { " (best)" } } @else { (shown) }
            @if let Some(interval) = record.interval { span class="interval" { (task.interval(interval)) } }
        }
    }
}

fn every(records: &[MetricRecord]) -> Markup {
    html! {
        table {
            caption { span { "All of metrics.json" } }
            thead { tr {
                th scope="col" { "Variant" } th scope="col" { "Task" } th scope="col" { "Metric" }
                th scope="col" class="number" { "n" } th scope="col" class="number" { "Value" }
                th scope="col" class="number" { "Standard error" } th scope="col" class="number" { "95 % interval" }
                th scope="col" { "Interval by" }
            } }
            tbody {
                @for record in records {
                    tr {
                        th scope="row" { (record.variant) }
                        td { (record.task) }
                        td { (metric_label(&record.metric, &record.filter)) @if !record.higher_is_better { " (less is better)" } }
                        td class="number" { (record.n) }
                        td class="number" { (record.value.map_or("–".to_owned(), |v| number::value(v, record.interval))) }
                        td class="number" { (record.stderr.map_or("–".to_owned(), number::significant)) }
                        td class="number" { (record.interval.map_or("–".to_owned(), number::interval)) }
                        td { (record.interval_method) }
                    }
                }
            }
        }
    }
}
