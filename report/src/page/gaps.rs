//! The gap: how far each variant went from the base to the ceiling.

use maud::{Markup, html};

use super::{results::key, scrolling, section};
use crate::{
    figure::Figures,
    number,
    outline::{MEAN, Outline, Variant},
};

pub(super) fn gaps(outline: &Outline<'_>, figures: &Figures) -> Option<Markup> {
    let (base, ceiling) = outline.gap_ends()?;
    let tasks = outline.gap_tasks();
    Some(section(
        "gap",
        "Gap closed",
        html! {
            p {
                "(variant − " (base) ") / (" (ceiling) " − " (base) ") on the same items. A dash: the ceiling is "
                "not clearly above the base, so that the gap is not defined."
            }
            @if let Some(figure) = &figures.gap { (figure.inline(false)) }
            details {
                summary { "The gap in numbers, and the ratio that papers print" }
                (scrolling("Gap closed by variant and task", html! {
                    table {
                        caption { span {
                            "Share of the gap closed with its 95 % interval. Below it, as “ratio”: variant / " (ceiling)
                            ", the papers' figure, which flatters a base that is good already."
                        } }
                        thead { tr {
                            th scope="col" { "Variant" }
                            @for task in &tasks { th scope="col" class="number" { (task) } }
                        } }
                        tbody {
                            @for variant in outline.candidates() {
                                tr {
                                    th scope="row" { (key(variant)) (variant.name) }
                                    @for task in &tasks { (cell(outline, variant, task)) }
                                }
                            }
                        }
                    }
                }))
            }
        },
    ))
}

fn cell(outline: &Outline<'_>, variant: &Variant<'_>, task: &str) -> Markup {
    let Some(gap) = outline.gap(variant.name, task) else {
        return html! { td class="number" { "–" } };
    };
    html! {
        td class="number" {
            (gap.value.map_or("–".to_owned(), number::percent))
            @if let Some(interval) = gap.interval { span class="interval" { (number::percent_interval(interval)) } }
            @if let Some(ratio) = gap.ratio_to_ceiling {
                span class="interval" { "ratio " (number::percent(ratio)) }
            } @else if task == MEAN {
                span class="interval" { "no ratio of a mean" }
            }
        }
    }
}
