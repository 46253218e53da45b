//! Every variant's score at every task.

use super::{
    Figure,
    dots::{self, Dot, Look},
    matrix::{Column, Row},
    scale::Domain,
    svg::Marker,
};
use crate::outline::{GapRole, Outline};

pub(crate) fn figure(outline: &Outline<'_>) -> Option<Figure> {
    let mut columns = Vec::new();
    let mut dots: Vec<Vec<Option<Dot>>> = vec![Vec::new(); outline.variants.len()];
    for task in &outline.tasks {
        let mut extent = Vec::new();
        for (variant, row) in outline.variants.iter().zip(&mut dots) {
            let record = outline.record(variant.name, task);
            let dot = record.and_then(|r| Some((r, r.value.filter(|v| v.is_finite())?))).map(|(record, value)| Dot {
                value,
                interval: record.interval,
                note: format!(
                    "{}, {}: {} {}",
                    variant.name,
                    task.name,
                    task.value(value),
                    record.interval.map(|interval| task.interval(interval)).unwrap_or_default()
                ),
            });
            extent.extend(dot.iter().flat_map(|dot| dot.interval.into_iter().flatten().chain([dot.value])));
            row.push(dot);
        }
        // A share is shown as one: the axis does not go where no value can be.
        let share = extent.iter().all(|v| (0.0..=1.0).contains(v));
        let domain = Domain::around(extent);
        let better = if task.higher_is_better { "" } else { ", less is better" };
        columns.push(Column {
            title: task.name.to_owned(),
            note: format!("{}{better}", task.label()),
            domain: if share { domain.clamped(0.0, 1.0) } else { domain },
            references: vec![],
        });
    }
    if columns.is_empty() || dots.iter().flatten().all(Option::is_none) {
        return None;
    }
    let rows: Vec<Row> = outline.variants.iter().map(|v| Row { label: v.name.to_owned(), class: v.class() }).collect();
    let looks: Vec<Look> = outline
        .variants
        .iter()
        .map(|v| Look { marker: Marker::of(v.hue), hollow: v.role != GapRole::Candidate })
        .collect();
    Some(Figure::new(
        "scores",
        "Scores",
        "Each variant at each task, with its 95 % interval. Hollow: the base and the ceiling.",
        |width| dots::draw(width, &rows, &looks, &columns, &dots),
    ))
}
