//! The result in a sentence, and what must be said beside it.

use logitfuse_rundir::{FailureRecord, Saturation};
use maud::{Markup, html};

use crate::{
    data::Data,
    number,
    outline::{GapRole, MEAN, Outline, Task},
};

pub(super) fn section(data: &Data, outline: &Outline<'_>) -> Markup {
    let notes = notes(data, outline);
    html! {
        section id="verdict" aria-label="Verdict" {
            p class="verdict" { (headline(outline)) }
            ul class="per-task" {
                @for task in &outline.tasks { li { (per_task(outline, task)) } }
            }
            @if !notes.is_empty() {
                ul class="notes" { @for note in notes { li { (note) } } }
            }
        }
    }
}

/// What makes figures unfit to be reported, as short as a stamp.
pub(super) fn stamps(data: &Data) -> Vec<&'static str> {
    let mut stamps = Vec::new();
    if data.metrics.limit.is_some() {
        stamps.push("limited run: not for reporting");
    }
    if !data.metrics.complete {
        stamps.push("incomplete run");
    }
    if data.metrics.failures.iter().any(|failure| failure.failed > 0) {
        stamps.push("samples failed");
    }
    if data.metrics.failures.iter().any(|failure| failure.fallback_samples > 0) {
        stamps.push("texts of the base alone");
    }
    stamps
}

fn headline(outline: &Outline<'_>) -> Markup {
    let tasks = outline.tasks.len();
    if let Some((variant, gap, value)) = outline.best_gap(MEAN) {
        return html! {
            strong { (variant.name) } " closes " strong { (number::percent(value)) }
            @if let Some(interval) = gap.interval { " " (number::percent_interval(interval)) }
            " of the gap between " strong { (gap.base) } " and " strong { (gap.ceiling) }
            ", on the mean of " (gap.n) " tasks."
        };
    }
    if let [task] = outline.tasks.as_slice()
        && let Some((variant, record)) = outline.best(task)
    {
        return html! {
            strong { (variant.name) } " reaches " strong { (task.value(record.value.unwrap_or(f64::NAN))) }
            " on " (task.name) "."
        };
    }
    let mut wins: Vec<(&str, usize)> = Vec::new();
    for (variant, _) in outline.tasks.iter().filter_map(|task| outline.best(task)) {
        match wins.iter_mut().find(|(name, _)| *name == variant.name) {
            Some((_, count)) => *count += 1,
            None => wins.push((variant.name, 1)),
        }
    }
    // The first of equals, in the experiment's order.
    html! {
        @if let Some((name, count)) = wins.iter().rev().max_by_key(|(_, count)| count) {
            strong { (name) } " is the best on " (count) " of " (tasks) " tasks."
        } @else {
            "No variant has a value."
        }
    }
}

fn per_task(outline: &Outline<'_>, task: &Task<'_>) -> Markup {
    let Some((variant, record)) = outline.best(task) else {
        return html! { strong { (task.name) } ": no variant has a value." };
    };
    let against = |part: GapRole| {
        let other = outline.of_role(part)?;
        let record = outline.record(other.name, task)?;
        Some((other.name, task.value(record.value?)))
    };
    html! {
        strong { (task.name) } ": " em { (variant.name) } " "
        (task.value(record.value.unwrap_or(f64::NAN)))
        @if let Some(interval) = record.interval { " " span class="interval" { (task.interval(interval)) } }
        " " (task.label())
        @if let Some((name, value)) = against(GapRole::Base) { "; " em { (name) } " alone " (value) }
        @if let Some((name, value)) = against(GapRole::Ceiling) { ", " em { (name) } " " (value) }
        @if let Some(closed) = outline.gap(variant.name, task.name).and_then(|gap| gap.value) {
            ": " (number::percent(closed)) " of the gap"
        }
        "."
    }
}

fn notes(data: &Data, outline: &Outline<'_>) -> Vec<Markup> {
    let mut notes = Vec::new();
    if let Some(limit) = data.metrics.limit {
        notes.push(
            html! { "Only the first " (limit) " items of each task were run: these figures are not for reporting." },
        );
    }
    if !data.metrics.complete {
        notes.push(html! { "Samples are missing: figures are over those that are there." });
    }
    for sentence in data.metrics.failures.iter().flat_map(FailureRecord::sentences) {
        notes.push(html! { (sentence) "." });
    }
    if data.untraced > 0 {
        notes.push(html! { "The traces of " (data.untraced) " samples are not drawn: there are too many. They are in samples.jsonl." });
    }
    let mut saturation = Saturation::default();
    for sample in &data.samples {
        saturation.add(sample);
    }
    notes.extend(saturation.notes().into_iter().map(|note| html! { (note) "." }));
    let candidates = outline.candidates().count();
    if candidates > 2 {
        notes.push(html! {
            "The best of " (candidates) " variants, chosen on these same items: its figures are somewhat optimistic. "
            code { "logitfuse compare" } " tests differences with a correction for many."
        });
    }
    notes
}
