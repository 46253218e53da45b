//! Where the time went.

use maud::{Markup, html};

use super::{scrolling, section};
use crate::{figure::Figures, number, time::Cost};

pub(super) fn times(costs: &[Cost], figures: &Figures) -> Option<Markup> {
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
