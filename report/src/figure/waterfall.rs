//! Where the time of a token goes: each stage begins where the one before it ended.

use super::{
    Figure,
    matrix::{self, Column, Frame, Row},
    scale::{Domain, Kind},
    svg::{Anchor, Canvas, text_width},
};
use crate::{
    number,
    outline::{Outline, Variant},
    time::Cost,
};

const WALL: &str = "wall clock";

pub(crate) fn figure(costs: &[Cost], outline: &Outline<'_>, representatives: &[&Variant<'_>]) -> Option<Figure> {
    // A sweep costs the same at all its points.
    let swept = |cost: &&Cost| {
        outline.candidates().any(|v| v.name == cost.variant) && !representatives.iter().any(|v| v.name == cost.variant)
    };
    let costs: Vec<&Cost> = costs.iter().filter(|cost| !swept(cost)).collect();
    let mut names: Vec<&str> = Vec::new();
    for stage in costs.iter().flat_map(|cost| &cost.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    // Sources of any variant come first, whichever variant named them.
    let common = ["fusing", "sampling", crate::time::REST];
    names.sort_by_key(|name| common.iter().position(|known| known == name).map_or(0, |i| i + 1));
    names.push(WALL);
    let most = costs.iter().copied().map(reach).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let domain = Domain { low: 0.0, high: most * 1.02, kind: Kind::Linear };
    let columns: Vec<Column> = costs
        .iter()
        .map(|cost| Column {
            title: cost.variant.clone(),
            note: format!("{} ms a token", number::significant(cost.wall)),
            domain,
            references: vec![],
        })
        .collect();
    let rows: Vec<Row> = names.iter().map(|name| Row { label: (*name).to_owned(), class: String::new() }).collect();
    let caption = "Mean milliseconds of a generated token. Stages are stacked one after the other; a dashed rest \
                   runs backwards where sources worked at the same time. Samples of one batch share its time.";
    Some(Figure::new("time", "Time per token", caption, |width| {
        matrix::draw(width, &rows, &columns, 20.0, &|canvas, row, column, frame| {
            canvas.group(&costs[column].class, |canvas| bar(canvas, costs[column], &names, row, frame));
        })
    }))
}

/// The farthest that the stages get, before the rest takes some back.
fn reach(cost: &Cost) -> f64 {
    let counted: f64 = cost.stages.iter().map(|stage| stage.milliseconds.max(0.0)).sum();
    counted.max(cost.wall)
}

fn bar(canvas: &mut Canvas, cost: &Cost, names: &[&str], row: usize, frame: &Frame) {
    if names[row] == WALL {
        return draw(canvas, "mark", frame, 0.0, cost.wall);
    }
    let length = |name: &&str| cost.stages.iter().find(|stage| stage.name == **name).map(|stage| stage.milliseconds);
    let Some(own) = length(&names[row]) else { return };
    let before: f64 = names[..row].iter().filter_map(length).sum();
    draw(canvas, if own < 0.0 { "back" } else { "bar" }, frame, before, before + own);
}

/// A bar from one moment to another, its length written where there is room.
fn draw(canvas: &mut Canvas, class: &str, frame: &Frame, from: f64, to: f64) {
    let (left, right) = (frame.x(from.min(to)), frame.x(from.max(to)));
    let label = number::significant(to - from);
    let size = ((right - left).max(1.0), frame.bottom - frame.top - 8.0);
    canvas.rect(class, (left, frame.top + 4.0), size, &format!("{label} ms"));
    let room = text_width(&label) + 6.0;
    if right + room <= frame.right {
        canvas.text("muted", Anchor::Start, (right + 4.0, frame.middle() + 4.0), &label);
    } else if left - room >= frame.left {
        canvas.text("muted", Anchor::End, (left - 4.0, frame.middle() + 4.0), &label);
    }
}
