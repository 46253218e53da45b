//! Curves with bands, one panel a task, under one legend.

use std::fmt::Write;

use super::{
    scale::Domain,
    svg::{Anchor, Canvas, Marker, num, text_width},
};
use crate::outline::class;

const LEAST_PANEL: f64 = 250.0;
const GAP: f64 = 22.0;
const AXIS: f64 = 40.0;

/// A line through points.
pub(crate) struct Curve {
    pub(crate) hue: Option<usize>,
    /// Which dashes it has, and the legend's key with it.
    pub(crate) dash: usize,
    pub(crate) points: Vec<Point>,
    /// Whether each point has a marker: where there are few, and they are what was measured.
    pub(crate) marked: bool,
}

/// A point and its band.
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) band: Option<[f64; 2]>,
}

/// One plot.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) x: Domain,
    pub(crate) y: Domain,
    pub(crate) curves: Vec<Curve>,
    /// Heights with a dashed line and a name.
    pub(crate) references: Vec<(f64, String)>,
}

/// A name in the legend.
pub(crate) struct Key {
    pub(crate) label: String,
    pub(crate) hue: Option<usize>,
}

pub(crate) fn draw(width: f64, panels: &[Panel], x_label: &str, legend: &[Key], marked: bool) -> Canvas {
    let mut canvas = Canvas::new(width);
    let top = draw_legend(&mut canvas, legend, marked);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
    let most = ((width / LEAST_PANEL) as usize).clamp(1, panels.len().max(1));
    let across = panels.len().max(1).div_ceil(panels.len().max(1).div_ceil(most));
    let panel_width = (width / across as f64).min(430.0);
    let plot_height = (panel_width * 0.52).clamp(120.0, 200.0);
    let head = if panels.iter().all(|panel| panel.note.is_empty()) { 22.0 } else { 36.0 };
    for (i, panel) in panels.iter().enumerate() {
        let left = (i % across) as f64 * panel_width + AXIS;
        let y = top + (i / across) as f64 * (plot_height + head + 48.0);
        let right = (i % across + 1) as f64 * panel_width - GAP;
        let frame = Frame { left, right, top: y + head, bottom: y + head + plot_height, x: panel.x, y: panel.y };
        canvas.cut_text("strong", Anchor::Start, (left, y + 12.0), &panel.title, right - left);
        canvas.cut_text("muted", Anchor::Start, (left, y + 27.0), &panel.note, right - left);
        draw_axes(&mut canvas, &frame, x_label);
        for curve in &panel.curves {
            canvas.group(&class(curve.hue), |canvas| draw_curve(canvas, &frame, curve));
        }
        for (value, name) in &panel.references {
            draw_reference(&mut canvas, &frame, *value, name);
        }
        canvas.reach(frame.bottom + 40.0);
    }
    canvas
}

struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Domain,
    y: Domain,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (across, up) = (self.x.place(x).clamp(0.0, 1.0), self.y.place(y).clamp(0.0, 1.0));
        (self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top))
    }
}

/// Returns where the panels begin.
fn draw_legend(canvas: &mut Canvas, legend: &[Key], marked: bool) -> f64 {
    if legend.is_empty() {
        return 0.0;
    }
    let (mut x, mut y) = (0.0, 14.0);
    for (i, key) in legend.iter().enumerate() {
        let wide = 34.0 + text_width(&key.label) + 16.0;
        if x > 0.0 && x + wide > canvas.width() {
            (x, y) = (0.0, y + 20.0);
        }
        canvas.group(&class(key.hue), |canvas| {
            canvas.line(&format!("curve {}", dash(i)), (x, y - 4.0), (x + 26.0, y - 4.0));
            if marked {
                canvas.marker("mark", Marker::of(key.hue), (x + 13.0, y - 4.0), "");
            }
        });
        let room = canvas.width() - x - 32.0;
        canvas.cut_text("", Anchor::Start, (x + 32.0, y), &key.label, room);
        x += wide;
    }
    y + 18.0
}

fn draw_axes(canvas: &mut Canvas, frame: &Frame, x_label: &str) {
    for (value, label) in frame.y.ticks(4) {
        let (_, y) = frame.at(frame.x.low, value);
        canvas.line("grid", (frame.left, y), (frame.right, y));
        canvas.text("muted", Anchor::End, (frame.left - 6.0, y + 4.0), &label);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
    let ticks = frame.x.ticks(((frame.right - frame.left) / 50.0) as usize);
    for (value, label) in ticks {
        let (x, _) = frame.at(value, frame.y.low);
        canvas.line("axis", (x, frame.bottom), (x, frame.bottom + 4.0));
        canvas.text("muted", Anchor::Middle, (x, frame.bottom + 16.0), &label);
    }
    canvas.line("axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
    canvas.text("muted", Anchor::Middle, (f64::midpoint(frame.left, frame.right), frame.bottom + 32.0), x_label);
}

fn draw_reference(canvas: &mut Canvas, frame: &Frame, value: f64, name: &str) {
    let (_, y) = frame.at(frame.x.low, value);
    canvas.line("reference", (frame.left, y), (frame.right, y));
    // Above the line, unless that is outside.
    let baseline = if y - frame.top > 16.0 { y - 4.0 } else { y + 13.0 };
    canvas.cut_text("muted halo", Anchor::End, (frame.right, baseline), name, frame.right - frame.left);
}

fn draw_curve(canvas: &mut Canvas, frame: &Frame, curve: &Curve) {
    let place = |x: f64, y: f64| {
        let (x, y) = frame.at(x, y);
        format!("{} {}", num(x), num(y))
    };
    let banded: Vec<(f64, [f64; 2])> = curve.points.iter().filter_map(|p| Some((p.x, p.band?))).collect();
    if banded.len() > 1 {
        let mut d = String::new();
        for (i, (x, [_, high])) in banded.iter().enumerate() {
            let _ = write!(d, "{}{}", if i == 0 { 'M' } else { 'L' }, place(*x, *high));
        }
        for (x, [low, _]) in banded.iter().rev() {
            let _ = write!(d, "L{}", place(*x, *low));
        }
        canvas.path("band", &(d + "Z"));
    }
    let mut d = String::new();
    for (i, point) in curve.points.iter().enumerate() {
        let _ = write!(d, "{}{}", if i == 0 { 'M' } else { 'L' }, place(point.x, point.y));
    }
    canvas.path(&format!("curve {}", dash(curve.dash)), &d);
    if curve.marked {
        for point in &curve.points {
            canvas.marker("mark", Marker::of(curve.hue), frame.at(point.x, point.y), "");
        }
    }
}

/// Dashes tell curves apart where colours do not.
fn dash(index: usize) -> &'static str {
    ["", "dash1", "dash2", "dash3"][index % 4]
}
