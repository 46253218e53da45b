//! A canvas that writes SVG: shapes with classes, text that is escaped, coordinates of two decimals.

use maud::{Markup, PreEscaped, Render, html};

/// A drawing that grows.
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text begins, has its middle, or ends.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The markers of the first hues: told apart without colour.
#[derive(Clone, Copy)]
pub(crate) enum Marker {
    Disc,
    Square,
    Diamond,
    Triangle,
}

impl Marker {
    pub(crate) fn of(hue: Option<usize>) -> Self {
        [Self::Disc, Self::Square, Self::Diamond, Self::Triangle][hue.unwrap_or(0) % 4]
    }
}

impl Canvas {
    pub(crate) fn new(width: f64) -> Self {
        Self { width, height: 0.0, body: String::new() }
    }

    pub(crate) fn width(&self) -> f64 {
        self.width
    }

    /// Makes the drawing at least so high.
    pub(crate) fn reach(&mut self, y: f64) {
        self.height = self.height.max(y);
    }

    fn push(&mut self, markup: &Markup) {
        self.body.push_str(&markup.0);
    }

    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.push(&html! { line class=(class) x1=(N(from.0)) y1=(N(from.1)) x2=(N(to.0)) y2=(N(to.1)) {} });
    }

    pub(crate) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), note: &str) {
        let (width, height) = (size.0.max(0.0), size.1.max(0.0));
        self.push(&html! {
            rect class=(class) x=(N(at.0)) y=(N(at.1)) width=(N(width)) height=(N(height)) { (title(note)) }
        });
    }

    pub(crate) fn path(&mut self, class: &str, d: &str) {
        self.push(&html! { path class=(class) d=(d) {} });
    }

    pub(crate) fn marker(&mut self, class: &str, marker: Marker, (x, y): (f64, f64), note: &str) {
        let r = 4.0;
        let points = |list: &[(f64, f64)]| -> String {
            let pairs: Vec<String> = list.iter().map(|&(dx, dy)| format!("{},{}", num(x + dx), num(y + dy))).collect();
            pairs.join(" ")
        };
        self.push(&match marker {
            Marker::Disc => html! { circle class=(class) cx=(N(x)) cy=(N(y)) r="4" { (title(note)) } },
            Marker::Square => html! { rect class=(class) x=(N(x - 3.5)) y=(N(y - 3.5)) width="7" height="7" { (title(note)) } },
            Marker::Diamond => html! {
                polygon class=(class) points=(points(&[(0.0, -r - 1.0), (r + 1.0, 0.0), (0.0, r + 1.0), (-r - 1.0, 0.0)])) { (title(note)) }
            },
            Marker::Triangle => html! {
                polygon class=(class) points=(points(&[(0.0, -r - 0.5), (r + 0.5, r - 0.5), (-r - 0.5, r - 0.5)])) { (title(note)) }
            },
        });
    }

    /// Text at its baseline.
    pub(crate) fn text(&mut self, class: &str, anchor: Anchor, (x, y): (f64, f64), text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&html! { text class=(class) x=(N(x)) y=(N(y)) text-anchor=(anchor) { (text) } });
    }

    /// Text that is cut where it would be wider than `room`; whole as a tooltip.
    pub(crate) fn cut_text(&mut self, class: &str, anchor: Anchor, at: (f64, f64), text: &str, room: f64) {
        let shown = cut(text, room);
        if shown == text {
            return self.text(class, anchor, at, text);
        }
        self.body.push_str("<g>");
        self.push(&title(text));
        self.text(class, anchor, at, &shown);
        self.body.push_str("</g>");
    }

    /// What `draw` draws is of this colour class.
    pub(crate) fn group(&mut self, class: &str, draw: impl FnOnce(&mut Self)) {
        self.push(&html! { (PreEscaped("<g class=\"")) (class) (PreEscaped("\">")) });
        draw(self);
        self.body.push_str("</g>");
    }

    /// The `svg` element; `head` is put first in it.
    pub(crate) fn finish(&self, label: &str, head: &Markup) -> Markup {
        let (width, height) = (num(self.width), num(self.height));
        html! {
            svg class="figure" xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}"))
                width=(width) height=(height) role="img" aria-label=(label) {
                (head)
                (PreEscaped(&self.body))
            }
        }
    }
}

/// About how wide a text of 12 px is; fonts differ, so with a little air.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '[' | ']' | '(' | ')'
            | ' ' | '-' => 4.6,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 11.0,
            c if c.is_ascii() => 7.2,
            '\u{1100}'.. => 12.5,
            _ => 7.6,
        })
        .sum()
}

fn cut(text: &str, room: f64) -> String {
    if text_width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if text_width(&kept) + 8.0 > room {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

fn title(text: &str) -> Markup {
    html! { @if !text.is_empty() { title { (text) } } }
}

struct N(f64);

impl Render for N {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&num(self.0));
    }
}

/// Two decimals at most: a hundredth of a pixel, and no noise of the last bit.
pub(crate) fn num(x: f64) -> String {
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
