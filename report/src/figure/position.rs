//! A trace column over the position in the text.

use super::{
    Figure,
    panels::{self, Curve, Key, Panel, Point},
    scale::{Domain, Kind},
};
use crate::{
    columns::{Columns, label_with_unit},
    outline::{Outline, Variant},
    quantile::Sorted,
};

/// Fewer texts than this say nothing of a position.
const LEAST: usize = 3;

pub(crate) fn figure(
    outline: &Outline<'_>,
    columns: &Columns<'_>,
    variants: &[&Variant<'_>],
    index: usize,
) -> Option<Figure> {
    let column = columns.names()[index];
    let variants: Vec<&Variant<'_>> = variants.iter().copied().filter(|v| columns.varies(column, v.name)).collect();
    let curve = |(dash, variant): (usize, &&Variant<'_>), task: &str| {
        let positions = columns.by_position(column, variant.name, task);
        let most = positions.first().map_or(0, Sorted::len);
        let points =
            positions.iter().enumerate().take_while(|(_, values)| values.len() >= LEAST.min(most).max(1)).filter_map(
                |(i, values)| {
                    let band = Some([values.at(0.25)?, values.at(0.75)?]);
                    Some(Point { x: i as f64 + 1.0, y: values.at(0.5)?, band })
                },
            );
        Curve { hue: variant.hue, dash, points: points.collect(), marked: false }
    };
    let curves = |task: &str| -> Vec<Curve> {
        variants.iter().enumerate().map(|v| curve(v, task)).filter(|curve| curve.points.len() > 1).collect()
    };
    let each: Vec<Vec<Curve>> = outline.tasks.iter().map(|task| curves(task.name)).collect();
    // One height for all tasks, and 0 on it: these are divergences and strengths.
    let points = each.iter().flatten().flat_map(|curve| &curve.points);
    let ends = points.flat_map(|point| point.band.into_iter().flatten().chain([point.y]));
    let y = Domain::around(ends.chain([0.0]));
    let y = if y.low > -0.05 * y.high { y.clamped(0.0, f64::INFINITY) } else { y };
    let panels: Vec<Panel> = outline
        .tasks
        .iter()
        .zip(each)
        .filter_map(|(task, curves)| {
            let last = curves.iter().flat_map(|curve| &curve.points).map(|point| point.x).reduce(f64::max)?;
            let x = Domain { low: 1.0, high: last, kind: Kind::Linear };
            let title = task.name.to_owned();
            Some(Panel { title, note: String::new(), x, y, curves, references: vec![] })
        })
        .collect();
    if panels.is_empty() {
        return None;
    }
    let legend: Vec<Key> = variants.iter().map(|v| Key { label: v.name.to_owned(), hue: v.hue }).collect();
    let caption = format!(
        "Median of {} at each token of the traced samples, with the middle half as a band, as far as at least \
         {LEAST} texts go.",
        label_with_unit(column)
    );
    let title = format!("{} over position", label_with_unit(column));
    Some(Figure::new(&super::file_stem("position", column, index), &title, &caption, |width| {
        panels::draw(width, &panels, "token", &legend, false)
    }))
}
