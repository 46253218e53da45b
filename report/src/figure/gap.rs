//! How much of the way from the base to the ceiling each variant went.

use super::{
    Figure,
    dots::{self, Dot, Look},
    matrix::{Column, Row},
    scale::Domain,
    svg::Marker,
};
use crate::{
    number,
    outline::{MEAN, Outline, Variant},
};

pub(crate) fn figure(outline: &Outline<'_>) -> Option<Figure> {
    let tasks = outline.gap_tasks();
    let variants: Vec<&Variant<'_>> = outline.candidates().collect();
    let dot = |variant: &Variant<'_>, task: &str| {
        let gap = outline.gap(variant.name, task)?;
        let value = gap.value.filter(|v| v.is_finite())?;
        let interval = gap.interval.map(number::percent_interval).unwrap_or_default();
        let note = format!("{}, {task}: {} {interval}", variant.name, number::percent(value));
        Some(Dot { value, interval: gap.interval, note })
    };
    let dots: Vec<Vec<Option<Dot>>> =
        variants.iter().map(|variant| tasks.iter().map(|task| dot(variant, task)).collect()).collect();
    let all = || dots.iter().flatten().flatten();
    all().next()?;
    // One axis for all tasks, base and ceiling on it; an outlying value or interval does not squeeze the others.
    let domain = Domain::around(all().map(|dot| dot.value).chain([-0.1, 1.1])).clamped(-0.5, 1.5);
    let n = |task: &str| variants.iter().find_map(|v| outline.gap(v.name, task)).map_or(0, |gap| gap.n);
    let columns: Vec<Column> = tasks
        .iter()
        .map(|task| Column {
            title: (*task).to_owned(),
            note: if *task == MEAN { format!("over {} tasks", n(task)) } else { format!("n = {}", n(task)) },
            domain,
            references: vec![0.0, 1.0],
        })
        .collect();
    let rows: Vec<Row> = variants.iter().map(|v| Row { label: v.name.to_owned(), class: v.class() }).collect();
    let looks: Vec<Look> = variants.iter().map(|v| Look { marker: Marker::of(v.hue), hollow: false }).collect();
    let (base, ceiling) = outline.gap_ends()?;
    let caption = format!(
        "Share of the gap that each variant closes: 0 is {base}, 1 is {ceiling}, both dashed. \
         Intervals that go on past the axis have no foot. 95 % intervals from a bootstrap that draws the items of all three together; values are not clamped."
    );
    Some(Figure::new("gap", "Gap closed", &caption, |width| dots::draw(width, &rows, &looks, &columns, &dots)))
}
