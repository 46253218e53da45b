//! How a trace column is distributed over tokens.

use super::{
    Figure,
    matrix::{self, Column, Frame, Row},
    scale::{Domain, Kind},
    svg::Canvas,
};
use crate::{
    columns::{Columns, label_with_unit},
    number,
    outline::{Outline, Variant},
    quantile::Sorted,
};

const BINS: usize = 28;

pub(crate) fn figure(
    outline: &Outline<'_>,
    columns: &Columns<'_>,
    variants: &[&Variant<'_>],
    index: usize,
) -> Option<Figure> {
    let column = columns.names()[index];
    let variants: Vec<&Variant<'_>> = variants.iter().copied().filter(|v| columns.varies(column, v.name)).collect();
    let cells: Vec<Vec<Sorted>> = variants
        .iter()
        .map(|v| outline.tasks.iter().map(|task| columns.pooled(column, v.name, task.name)).collect())
        .collect();
    let all = Sorted::new(cells.iter().flatten().flat_map(|cell| cell.values().iter().copied()));
    let domain = domain(&all)?;
    let title = format!("{} over tokens", label_with_unit(column));
    let plots: Vec<Column> = outline
        .tasks
        .iter()
        .map(|task| Column { title: task.name.to_owned(), note: String::new(), domain, references: vec![] })
        .collect();
    let rows: Vec<Row> = variants.iter().map(|v| Row { label: v.name.to_owned(), class: v.class() }).collect();
    let scale = if domain.kind == Kind::Log { " on a logarithmic axis, what is smaller at its left end" } else { "" };
    let caption = format!(
        "Share of the traced tokens by {}{scale}; each histogram has its own height, the dark line is its median.",
        label_with_unit(column)
    );
    Some(Figure::new(&super::file_stem("distribution", column, index), &title, &caption, |width| {
        matrix::draw(width, &rows, &plots, 44.0, &|canvas, row, plot, frame| {
            histogram(canvas, &cells[row][plot], frame);
        })
    }))
}

/// From the smallest value to the largest; by powers of ten where values range over many of them.
fn domain(all: &Sorted) -> Option<Domain> {
    let (low, high) = (all.at(0.0)?, all.at(1.0)?);
    let (early, late) = (all.at(0.2)?, all.at(0.95)?);
    if low >= 0.0 && late > 0.0 && early < late / 100.0 {
        // Six powers of ten below the largest: beyond, divergences are rounding.
        return Some(Domain::log(all.at(0.02)?.max(high * 1e-6), high));
    }
    Some(Domain { low, high: if high > low { high } else { low + 1.0 }, kind: Kind::Linear })
}

fn histogram(canvas: &mut Canvas, values: &Sorted, frame: &Frame) {
    if values.len() == 0 {
        return;
    }
    let mut counts = [0_usize; BINS];
    let width = (frame.right - frame.left) / BINS as f64;
    for &value in values.values() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "x lies between left and right")]
        let bin = ((frame.x(value.max(f64::MIN_POSITIVE)) - frame.left) / width) as usize;
        counts[bin.min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    for (i, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
        let height = (frame.bottom - frame.top - 6.0) * count as f64 / most as f64;
        let share = number::percent(count as f64 / values.len() as f64);
        let note = format!("{share} of {} tokens", values.len());
        let at = (frame.left + i as f64 * width, frame.bottom - height);
        canvas.rect("bar", at, (width - 0.75, height), &note);
    }
    if let Some(median) = values.at(0.5) {
        let x = frame.x(median.max(f64::MIN_POSITIVE));
        canvas.line("median", (x, frame.top + 5.0), (x, frame.bottom));
    }
    canvas.line("grid", (frame.left, frame.bottom), (frame.right, frame.bottom));
}
