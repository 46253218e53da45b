//! The page: sections in the order in which a reader asks.

mod gaps;
mod outcomes;
mod provenance;
mod results;
mod times;
mod tokens;
mod traces;
mod verdict;

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::{
    columns::Columns,
    data::Data,
    figure::{self, Figures},
    outcomes::comparisons,
    outline::Outline,
    palette, text,
    time::Cost,
};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// The whole document.
pub(crate) fn document(
    data: &Data,
    outline: &Outline<'_>,
    columns: &Columns<'_>,
    costs: &[Cost],
    figures: &Figures,
) -> String {
    let representatives = outline.representatives();
    let compared = comparisons(data, outline, &representatives);
    let best = representatives
        .iter()
        .filter(|v| compared.iter().any(|comparison| comparison.fused == v.name))
        .max_by(|a, b| outline.merit(a).total_cmp(&outline.merit(b)));
    let parts: Vec<(&str, &str, Markup)> = [
        ("results", "Results", Some(results::results(data, outline, figures))),
        ("gap", "Gap closed", gaps::gaps(outline, figures)),
        ("sweeps", "Sweeps", sweeps(figures)),
        ("fusion", "What the fusion did", traces::traces(outline, columns, &representatives, figures)),
        ("tokens", "Token by token", tokens::tokens(data, outline, columns, &representatives)),
        ("outcomes", "Right and wrong", outcomes::outcomes(&compared, best.map(|v| v.name))),
        ("time", "Time", times::times(data, costs, figures)),
        ("manifest", "Manifest", Some(provenance::manifest(data))),
    ]
    .into_iter()
    .filter_map(|(id, name, part)| Some((id, name, part?)))
    .collect();
    let style = [palette::properties().as_str(), STYLE, figure::style()].concat();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy(&style, SCRIPT));
                title { (data.title) " – logitfuse" }
                link rel="icon" href="data:,";
                style { (PreEscaped(&style)) }
            }
            body {
                a class="skip" href="#verdict" { "Skip to the result" }
                header {
                    p class="kind" { "logitfuse run" }
                    h1 { (data.title) }
                    @for stamp in verdict::stamps(data) { p class="stamp" { (stamp) } }
                    nav aria-label="Sections" {
                        ul { @for (id, name, _) in &parts { li { a href=(format!("#{id}")) { (name) } } } }
                    }
                }
                main {
                    (verdict::section(data, outline))
                    @for (_, _, part) in &parts { (part) }
                }
                footer {
                    p { "Made by logitfuse " (data.manifest.identity.logitfuse) " from the files of the run directory; the figures are beside this page in " code { "figures/" } "." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    text::visible(&page.0)
}

/// What a browser may do with the page, whatever a sample contains: load nothing from elsewhere, and obey our own style sheet and
/// script, known by their hashes, and none that a sample might bring.
fn policy(style: &str, script: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(style),
        hash(script)
    )
}

fn sweeps(figures: &Figures) -> Option<Markup> {
    (!figures.sweeps.is_empty()).then(|| {
        section(
            "sweeps",
            "Sweeps",
            html! {
                @for figure in &figures.sweeps { (figure.inline(true)) }
                p class="small" { "The same in numbers: the table of results, a variant a point." }
            },
        )
    })
}

/// A part of the page, named by its heading.
#[expect(clippy::needless_pass_by_value, reason = "built where it is handed over: a reference would adorn every call")]
fn section(id: &str, heading: &str, content: Markup) -> Markup {
    let heading_id = format!("{id}-heading");
    html! { section id=(id) aria-labelledby=(heading_id) { h2 id=(heading_id) { (heading) } (content) } }
}

/// What may be wider than the window: it scrolls by itself, with the keyboard too.
#[expect(clippy::needless_pass_by_value, reason = "built where it is handed over: a reference would adorn every call")]
fn scrolling(name: &str, content: Markup) -> Markup {
    html! { div class="scrolling" role="region" aria-label=(name) tabindex="0" { (content) } }
}
