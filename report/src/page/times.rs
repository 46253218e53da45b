//! Where the time went.

use logitfuse_rundir::{DraftStats, Forecast};
use maud::{Markup, html};

use super::{scrolling, section};
use crate::{data::Data, figure::Figures, number, time::Cost};

pub(super) fn times(data: &Data, costs: &[Cost], figures: &Figures) -> Option<Markup> {
    let figure = figures.time.as_ref()?;
    let mut names: Vec<&str> = Vec::new();
    for stage in costs.iter().flat_map(|cost| &cost.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    let of = |cost: &Cost, name: &str| {
        let stage = cost.stages.iter().find(|stage| stage.name == name);
        stage.map_or("–".to_owned(), |stage| number::significant(stage.milliseconds))
    };
    Some(section(
        "time",
        "Time",
        html! {
            (figure.inline(false))
            @if !data.drafting.is_empty() { (drafts(&data.drafting)) }
            details {
                summary { "Times in numbers" }
                (scrolling("Milliseconds by variant and stage", html! {
                    table {
                        caption { span { "Mean milliseconds of a generated token by stage; prompts: milliseconds a sample" } }
                        thead { tr {
                            th scope="col" { "Variant" } th scope="col" class="number" { "Tokens" }
                            @for name in &names { th scope="col" class="number" { (name) } }
                            th scope="col" class="number" { "Wall clock" } th scope="col" class="number" { "Prompts" }
                        } }
                        tbody {
                            @for cost in costs {
                                tr {
                                    th scope="row" { (cost.variant) }
                                    td class="number" { (cost.tokens) }
                                    @for name in &names { td class="number" { (of(cost, name)) } }
                                    td class="number" { (number::significant(cost.wall)) }
                                    td class="number" { (number::significant(cost.prompts)) }
                                }
                            }
                        }
                    }
                }))
            }
        },
    ))
}

/// Predicted and achieved speed of drafts.
fn drafts(drafting: &[(Forecast, DraftStats)]) -> Markup {
    let shown = |value: Option<f64>| value.map_or("–".to_owned(), number::significant);
    let per_round = |of: &DraftStats| of.per_round().map(|(drafted, _)| drafted);
    html! {
        h3 { "Drafts" }
        p class="small" { "Predicted: what rounds cost when they were timed before the start, for drafts as long and as often accepted as they were, with the batch full. Texts that end while others go on leave it less full." }
        (scrolling("Drafts by variant and task", html! {
            table {
                caption { span { "Drafted tokens and tokens per second, prompts not counted" } }
                thead { tr {
                    th scope="col" { "Variant" } th scope="col" { "Task" } th scope="col" { "Drafter" }
                    th scope="col" class="number" { "Tokens a round" } th scope="col" class="number" { "Accepted" }
                    th scope="col" class="number" { "Predicted" } th scope="col" class="number" { "Achieved" }
                } }
                tbody {
                    @for (forecast, of) in drafting {
                        tr {
                            th scope="row" { (forecast.variant) }
                            td { (forecast.task) }
                            td { (forecast.draft) ", " (forecast.tokens) }
                            td class="number" { (shown(per_round(of))) }
                            td class="number" { (of.acceptance().map_or("–".to_owned(), number::percent)) }
                            td class="number" { (shown(forecast.tokens_per_second(of))) }
                            td class="number" { (shown(of.tokens_per_second())) }
                        }
                    }
                }
            }
        }))
    }
}
