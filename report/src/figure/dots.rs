//! Values with their intervals, as dots on lines: what both the scores and the gaps are drawn as.

use super::{
    matrix::{self, Column, Frame, Row},
    svg::{Anchor, Canvas, Marker},
};

/// A value and how sure it is.
#[derive(Clone)]
pub(crate) struct Dot {
    pub(crate) value: f64,
    pub(crate) interval: Option<[f64; 2]>,
    /// The value in words, as a tooltip.
    pub(crate) note: String,
}

/// How a row's dots look.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) marker: Marker,
    pub(crate) hollow: bool,
}

/// `dots[row][column]`, on the axes of `columns`.
pub(crate) fn draw(width: f64, rows: &[Row], looks: &[Look], columns: &[Column], dots: &[Vec<Option<Dot>>]) -> Canvas {
    matrix::draw(width, rows, columns, 22.0, &|canvas, row, column, frame| {
        let middle = (f64::midpoint(frame.left, frame.right), frame.middle() + 4.0);
        match &dots[row][column] {
            Some(dot) => draw_dot(canvas, looks[row], dot, frame),
            None => canvas.text("muted", Anchor::Middle, middle, "–"),
        }
    })
}

fn draw_dot(canvas: &mut Canvas, look: Look, dot: &Dot, frame: &Frame) {
    let y = frame.middle();
    if let Some([low, high]) = dot.interval.filter(|ends| ends.iter().all(|end| end.is_finite())) {
        canvas.line("whisker", (frame.x(low), y), (frame.x(high), y));
        // An interval that ends on the axis has a foot; one that goes on has none.
        for end in [low, high].into_iter().filter(|&end| frame.holds(end)) {
            canvas.line("whisker", (frame.x(end), y - 3.0), (frame.x(end), y + 3.0));
        }
    }
    let class = if look.hollow { "hollow" } else { "mark" };
    canvas.marker(class, look.marker, (frame.x(dot.value), y), &dot.note);
    if !frame.holds(dot.value) {
        let (sign, at) = if dot.value > 0.0 { ("›", frame.right + 6.0) } else { ("‹", frame.left - 6.0) };
        canvas.text("muted", Anchor::Middle, (at, y + 4.0), sign);
    }
}
