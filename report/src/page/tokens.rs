//! Traced samples, token by token: one item, and how each variant answered it.

use std::collections::BTreeMap;

use logitfuse_rundir::{Response, SampleRecord, TokenRecord, TopLogprob};
use maud::{Markup, html};

use super::{
    outcomes::{question, verdict},
    results::key,
    scrolling, section,
};
use crate::{
    columns::{Columns, label, label_with_unit},
    data::Data,
    number,
    outcomes::right,
    outline::{GapRole, Outline, Task, Variant},
    palette::SHADES,
    ribbon::{Agreement, shade, winner, winner_class},
    text,
};

/// So many tokens of three models over all tasks: what a browser still opens at once.
const TOKENS: usize = 6000;
/// So many answers to one item.
const VARIANTS: usize = 24;
/// So many items of a task at most.
const ITEMS: usize = 8;
/// So many tokens of one response.
const LONGEST: usize = 300;
/// So many responses of one sample: choices of a multiple choice.
const RESPONSES: usize = 6;

pub(super) fn tokens(
    data: &Data,
    outline: &Outline<'_>,
    columns: &Columns<'_>,
    representatives: &[&Variant<'_>],
) -> Option<Markup> {
    let shown: Vec<&Variant<'_>> = outline
        .variants
        .iter()
        .filter(|v| v.role != GapRole::Candidate || representatives.iter().any(|r| r.name == v.name))
        .take(VARIANTS)
        .collect();
    let most = most_alpha(data, outline);
    let tasks: Vec<(&Task<'_>, Vec<Item<'_>>, usize)> = outline
        .tasks
        .iter()
        .filter_map(|task| {
            let items = items(data, &shown, task);
            let there = items.len();
            let items = affordable(items, TOKENS / outline.tasks.len().max(1));
            (!items.is_empty()).then_some((task, items, there))
        })
        .collect();
    if tasks.is_empty() {
        return None;
    }
    Some(section(
        "tokens",
        "Token by token",
        html! {
            p {
                "The tokens of each variant. Select a token, or move with the arrow keys, to see the top tokens of every source "
                "at its place."
            }
            (switch(most, &tasks))
            @for (i, (task, items, there)) in tasks.iter().enumerate() {
                details open[i == 0] {
                    summary { (task.name) }
                    @if items.len() < *there {
                        p class="small" { (items.len()) " of " (there) " traced items; the others are in samples.jsonl." }
                    }
                    @for item in items { (self::item(item, task, columns, most)) }
                }
            }
        },
    ))
}

/// A traced item with the answers of the shown variants.
struct Item<'a> {
    answers: Vec<(&'a Variant<'a>, &'a SampleRecord)>,
}

fn items<'a>(data: &'a Data, shown: &[&'a Variant<'a>], task: &'a Task<'a>) -> Vec<Item<'a>> {
    let mut items: Vec<Item<'a>> = Vec::new();
    let mut places: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for variant in shown {
        for sample in data.traced(variant.name, task.name) {
            let place = *places.entry((sample.doc_index, sample.repeat)).or_insert(items.len());
            if place == items.len() {
                items.push(Item { answers: Vec::new() });
            }
            if items[place].answers.len() < VARIANTS {
                items[place].answers.push((variant, sample));
            }
        }
    }
    // Items on which variants differ come first: they are what one looks for.
    items.sort_by_key(|item| {
        let rights: Vec<bool> = item.answers.iter().filter_map(|(_, sample)| right(sample, task)).collect();
        !(rights.contains(&true) && rights.contains(&false))
    });
    items
}

fn affordable(items: Vec<Item<'_>>, budget: usize) -> Vec<Item<'_>> {
    let mut spent = 0;
    let cost = |item: &Item<'_>| -> usize {
        let responses = item.answers.iter().flat_map(|(_, sample)| sample.responses.iter().take(RESPONSES));
        // Every model has a column, and so has the fusion.
        let columns = |response: &Response| response.trace.first().map_or(0, |token| token.roles.len().max(3) + 1);
        responses.map(|response| response.trace.len().min(LONGEST) * columns(response)).sum::<usize>() / 4
    };
    let fits = |(i, item): &(usize, Item<'_>)| {
        spent += cost(item);
        *i == 0 || spent <= budget
    };
    items.into_iter().take(ITEMS).enumerate().take_while(fits).map(|(_, item)| item).collect()
}

/// The largest α of any traced token; 0 where no strategy has one.
fn most_alpha(data: &Data, outline: &Outline<'_>) -> f64 {
    let samples = outline
        .tasks
        .iter()
        .flat_map(|task| outline.variants.iter().flat_map(move |variant| data.traced(variant.name, task.name)));
    let tokens = samples.flat_map(|sample| &sample.responses).flat_map(|response| &response.trace);
    tokens.filter_map(|token| token.trace.get("alpha").copied().flatten()).filter(|a| a.is_finite()).fold(0.0, f64::max)
}

fn switch(most: f64, tasks: &[(&Task<'_>, Vec<Item<'_>>, usize)]) -> Markup {
    let experts = tasks
        .iter()
        .flat_map(|(_, items, _)| items.iter().flat_map(|item| &item.answers))
        .flat_map(|(_, sample)| &sample.responses)
        .filter_map(|response| response.trace.first())
        .map(|token| token.roles.iter().filter(|role| role.role != "base" && role.role != "anti").count())
        .max()
        .unwrap_or(0);
    let winners =
        ["the base", if experts > 1 { "the first expert" } else { "the expert" }, "the second", "a later one"];
    html! {
        fieldset class="switch" {
            legend { "Colour tokens by" }
            @if most > 0.0 {
                label { input type="radio" name="by" id="by-alpha"; " α" }
            }
            label { input type="radio" name="by" id="by-agreement" checked; " agreement" }
            label { input type="radio" name="by" id="by-winner"; " winning source" }
            @if most > 0.0 {
                p class="key by-alpha" {
                    "0 "
                    @for s in 0..SHADES { span class="t" data-s=(s) { "\u{2003}" } }
                    " " (number::significant(most))
                }
            }
            p class="key by-agreement" {
                @for (agreement, words) in Agreement::EACH { span class="t" data-d=(agreement.class()) { (words) } " " }
            }
            p class="key by-winner" {
                "most probable under "
                @for (i, words) in winners.iter().take(1 + experts.max(1)).enumerate() { span class="t" data-w=(i + 1) { (words) } " " }
            }
        }
    }
}

fn item(item: &Item<'_>, task: &Task<'_>, columns: &Columns<'_>, most: f64) -> Markup {
    let Some((_, first)) = item.answers.first() else { return html! {} };
    html! {
        article class="example" {
            (question(first))
            @for (variant, sample) in &item.answers { (answer(variant, sample, right(sample, task), columns, most)) }
        }
    }
}

/// A ribbon for each traced response; the name once, and of several responses the probability of each.
fn answer(
    variant: &Variant<'_>,
    sample: &SampleRecord,
    right: Option<bool>,
    columns: &Columns<'_>,
    most: f64,
) -> Markup {
    let traced: Vec<&Response> = sample.responses.iter().filter(|r| !r.trace.is_empty()).take(RESPONSES).collect();
    html! {
        @if let [only] = traced.as_slice() {
            (ribbon(variant, only, &html! { (key(variant)) (variant.name) }, &verdict(right), columns, most))
        } @else {
            @for (i, response) in traced.iter().enumerate() {
                @let name = html! { @if i == 0 { (key(variant)) (variant.name) " " (verdict(right)) } };
                @let log_prob = html! { span title="log-probability in nats" { (number::fixed(response.log_prob, 2)) } };
                (ribbon(variant, response, &name, &log_prob, columns, most))
            }
        }
    }
}

fn ribbon(
    variant: &Variant<'_>,
    response: &Response,
    who: &Markup,
    mark: &Markup,
    columns: &Columns<'_>,
    most: f64,
) -> Markup {
    let shown = &response.trace[..response.trace.len().min(LONGEST)];
    let used: Vec<&str> = columns
        .names()
        .iter()
        .copied()
        .filter(|name| shown.iter().any(|token| token.trace.contains_key(*name)))
        .collect();
    html! {
        div class="ribbon" {
            p class="who" { (who) }
            p class="mark" { (mark) }
            p class="tokens" role="group" aria-label=(format!("Tokens of {}", variant.name)) {
                @for token in shown { (span(token, most)) }
                @if shown.len() < response.trace.len() { " […]" }
            }
            details class="numbers" {
                summary { "Table" span class="hidden" { " of the tokens of " (variant.name) } }
                (scrolling(&format!("Tokens of {}", variant.name), table(shown, &used)))
            }
        }
    }
}

fn span(token: &TokenRecord, most: f64) -> Markup {
    let alpha = token.trace.get("alpha").copied().flatten().map(|alpha| shade(alpha, most));
    let agreement = Agreement::of(token).map(Agreement::class);
    let winner = winner(token).filter(|_| token.roles.len() > 1).map(|winner| winner_class(token, winner));
    html! { span class="t" data-s=[alpha] data-d=[agreement] data-w=[winner] { (text::token(&token.text)) } }
}

fn table(tokens: &[TokenRecord], columns: &[&str]) -> Markup {
    let roles: Vec<String> = tokens.first().map_or(vec![], |token| {
        let twice = |role: &str| token.roles.iter().filter(|other| other.role == role).count() > 1;
        let name = |role: &logitfuse_rundir::BindingToken| {
            if twice(&role.role) { format!("{} {}", role.role, role.source) } else { role.role.clone() }
        };
        token.roles.iter().map(name).collect()
    });
    html! {
        table {
            caption { span { "Probability of each token, what the strategy reports, and the top tokens of each source" } }
            thead { tr {
                th scope="col" { "Token" } th scope="col" class="number" { "p" }
                @for column in columns {
                    th scope="col" class="number" { span title=(label_with_unit(column)) { (label(column)) } }
                }
                th scope="col" { "fused" }
                @for role in &roles { th scope="col" { (role) } }
            } }
            tbody {
                @for token in tokens {
                    tr {
                        th scope="row" { code { (text::token(&token.text)) } }
                        td class="number" { (number::fixed(token.log_prob.exp(), 3)) }
                        @for column in columns {
                            td class="number" {
                                (token.trace.get(*column).copied().flatten().map_or("–".to_owned(), number::significant))
                            }
                        }
                        td { (top_logprobs(&token.top_logprobs, token.token)) }
                        @for role in &token.roles { td { (top_logprobs(&role.top_logprobs, token.token)) } }
                    }
                }
            }
        }
    }
}

/// The top tokens with their probabilities; the one that was taken is marked.
fn top_logprobs(top_logprobs: &[TopLogprob], taken: u32) -> Markup {
    html! {
        @if top_logprobs.is_empty() { "–" } @else {
            ol class="top-tokens" {
                @for top in top_logprobs.iter().take(5) {
                    li {
                        @if top.token == taken { strong { (text::token(&top.text)) } span class="hidden" { " (taken)" } }
                        @else { span { (text::token(&top.text)) } }
                        " " span class="p" { (number::fixed(top.log_prob.exp(), 3)) }
                    }
                }
            }
        }
    }
}
