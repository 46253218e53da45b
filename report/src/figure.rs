//! Plots, each as a drawing for a wide page, one for a phone, and a file.
//!
//! The layout is computed for both widths rather than scaled: a label that shrinks to a third is no label.

mod distribution;
mod dots;
mod gap;
mod matrix;
mod panels;
mod position;
mod scale;
mod scores;
mod svg;
mod sweep;
mod waterfall;

use maud::{Markup, PreEscaped, html};

use crate::{
    columns::Columns,
    outline::{Outline, Variant},
    palette, text,
    time::Cost,
};
use svg::Canvas;

const STYLE: &str = include_str!("assets/figure.css");
/// Units of the wide drawing: the page's text column.
const WIDE: f64 = 880.0;
/// Units of the narrow one: what a small phone has.
const NARROW: f64 = 330.0;

/// A plot with what is said of it.
pub(crate) struct Figure {
    /// The stem of its files, and its id in the page: letters, digits and dashes.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) caption: String,
    wide: Canvas,
    narrow: Canvas,
}

impl Figure {
    fn new(name: &str, title: &str, caption: &str, draw: impl Fn(f64) -> Canvas) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: caption.to_owned(),
            wide: draw(WIDE),
            narrow: draw(NARROW),
        }
    }

    /// In a page, where [`style`] is in force; with a heading unless its section's says as much.
    pub(crate) fn inline(&self, heading: bool) -> Markup {
        let nothing = html! {};
        html! {
            figure class="plot" id=(format!("figure-{}", self.name)) {
                @if heading { h3 { (self.title) } }
                div class="wide" { (self.wide.finish(&self.title, &nothing)) }
                div class="narrow" { (self.narrow.finish(&self.title, &nothing)) }
                figcaption { (self.caption) }
            }
        }
    }

    /// By itself: light, on white.
    pub(crate) fn standalone(&self) -> String {
        let head = html! {
            title { (self.title) }
            style { (PreEscaped(palette::resolve_light(STYLE))) }
            rect width="100%" height="100%" fill="white" {}
        };
        text::visible(&self.wide.finish(&self.title, &head).0)
    }
}

/// The style sheet of figures, with the page's custom properties for colours.
pub(crate) fn style() -> &'static str {
    STYLE
}

/// All plots of a run, by the section they belong to.
pub(crate) struct Figures {
    pub(crate) scores: Option<Figure>,
    pub(crate) gap: Option<Figure>,
    pub(crate) sweeps: Vec<Figure>,
    /// Of each trace column: over position, over tokens.
    pub(crate) traces: Vec<[Option<Figure>; 2]>,
    pub(crate) time: Option<Figure>,
}

impl Figures {
    pub(crate) fn of(
        outline: &Outline<'_>,
        columns: &Columns<'_>,
        representatives: &[&Variant<'_>],
        costs: &[Cost],
    ) -> Self {
        let trace = |i| {
            [
                position::figure(outline, columns, representatives, i),
                distribution::figure(outline, columns, representatives, i),
            ]
        };
        Self {
            scores: scores::figure(outline),
            gap: gap::figure(outline),
            sweeps: sweep::figures(outline),
            traces: (0..columns.names().len()).map(trace).collect(),
            time: waterfall::figure(costs, outline, representatives),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Figure> {
        let first = self.scores.iter().chain(&self.gap).chain(&self.sweeps);
        first.chain(self.traces.iter().flatten().flatten()).chain(&self.time)
    }
}

/// A file name for a figure of a column: readable where the column's name allows it, its number where not.
fn file_stem(kind: &str, column: &str, index: usize) -> String {
    let plain = column.len() <= 60 && column.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain { format!("{kind}-{}", column.replace('_', "-")) } else { format!("{kind}-{}", index + 1) }
}
