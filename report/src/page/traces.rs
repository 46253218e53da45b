//! What the fusion did: trace columns over position and over tokens.

use maud::{Markup, html};

use super::{results::key, scrolling, section};
use crate::{
    columns::{Columns, label_with_unit},
    figure::Figures,
    number,
    outline::{Outline, Variant},
};

pub(super) fn traces(
    outline: &Outline<'_>,
    columns: &Columns<'_>,
    representatives: &[&Variant<'_>],
    figures: &Figures,
) -> Option<Markup> {
    let mut plots = figures.traces.iter().filter(|pair| pair.iter().any(Option::is_some));
    let first = plots.next()?;
    let rest: Vec<_> = plots.collect();
    let swept = outline.candidates().count() > representatives.len();
    Some(section(
        "fusion",
        "What the fusion did",
        html! {
            p {
                "Over the traced samples."
                @if swept { " Of each sweep only its best point is drawn." }
                " Variants whose value never changes are left out."
            }
            @for figure in first.iter().flatten() { (figure.inline(true)) }
            @if !rest.is_empty() {
                details {
                    summary { "Divergences and other trace columns" }
                    @for figure in rest.iter().flat_map(|pair| pair.iter().flatten()) { (figure.inline(true)) }
                }
            }
            details {
                summary { "The same in numbers" }
                (scrolling("Trace columns in numbers", table(outline, columns, representatives)))
            }
        },
    ))
}

fn table(outline: &Outline<'_>, columns: &Columns<'_>, variants: &[&Variant<'_>]) -> Markup {
    html! {
        table {
            caption { span { "Trace columns over traced tokens" } }
            thead { tr {
                th scope="col" { "Variant" } th scope="col" { "Task" } th scope="col" { "Column" }
                th scope="col" class="number" { "Tokens" } th scope="col" class="number" { "Mean" }
                th scope="col" class="number" { "Lower quartile" } th scope="col" class="number" { "Median" }
                th scope="col" class="number" { "Upper quartile" }
            } }
            tbody {
                @for variant in variants {
                    @for task in &outline.tasks {
                        @for column in columns.names() {
                            @let values = columns.pooled(column, variant.name, task.name);
                            @if let Some(mean) = values.mean() {
                                tr {
                                    th scope="row" { (key(variant)) (variant.name) }
                                    td { (task.name) }
                                    td { (label_with_unit(column)) }
                                    td class="number" { (values.len()) }
                                    td class="number" { (number::significant(mean)) }
                                    @for q in [0.25, 0.5, 0.75] {
                                        td class="number" { (values.at(q).map_or("–".to_owned(), number::significant)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
