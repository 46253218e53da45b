//! A score against what a sweep changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Figure,
    panels::{self, Curve, Key, Panel, Point},
    scale::Domain,
};
use crate::outline::{GapRole, Outline, Task, Variant};

/// Figures at most; a sweep has one to three parameters.
const MOST: usize = 12;

/// One figure per swept parameter that has numbers, of many the first.
pub(crate) fn figures(outline: &Outline<'_>) -> Vec<Figure> {
    let mut parameters: Vec<&str> = Vec::new();
    for &(key, value) in outline.variants.iter().flat_map(|variant| &variant.swept) {
        if value.parse::<f64>().is_ok_and(f64::is_finite) && parameters.len() < MOST && !parameters.contains(&key) {
            parameters.push(key);
        }
    }
    parameters.into_iter().enumerate().filter_map(|(i, parameter)| figure(outline, i, parameter)).collect()
}

fn figure(outline: &Outline<'_>, index: usize, parameter: &str) -> Option<Figure> {
    let lines = lines(outline, parameter);
    if lines.is_empty() {
        return None;
    }
    let xs = || lines.iter().flat_map(|line| line.points.iter().map(|&(x, _)| x));
    let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    let x = if low > 0.0 && high / low >= 100.0 { Domain::log(low, high) } else { Domain::around(xs()) };
    let panels: Vec<Panel> = outline.tasks.iter().map(|task| panel(outline, task, &lines, x)).collect();
    let legend: Vec<Key> = lines.iter().map(|line| Key { label: line.label.clone(), hue: line.hue }).collect();
    let dashed = if outline.of_role(GapRole::Base).is_some() { " Dashed: the base and the ceiling." } else { "" };
    let caption =
        format!("Score against {parameter}; bands are 95 % intervals, every marker is a variant that was run.{dashed}");
    // Two sweeps of one page have two names, whatever characters their parameters are made of.
    let name = if index == 0 { "sweep".to_owned() } else { format!("sweep-{}", index + 1) };
    Some(Figure::new(&name, &format!("Sweep of {parameter}"), &caption, |width| {
        panels::draw(width, &panels, parameter, &legend, true)
    }))
}

/// Variants that differ in nothing but the parameter.
struct Line<'a> {
    label: String,
    hue: Option<usize>,
    points: Vec<(f64, &'a str)>,
}

fn lines<'a>(outline: &Outline<'a>, parameter: &str) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let value = |variant: &Variant<'a>| {
        let &(_, value) = variant.swept.iter().find(|(key, _)| *key == parameter)?;
        value.parse::<f64>().ok().filter(|x| x.is_finite())
    };
    for variant in &outline.variants {
        let Some(x) = value(variant) else { continue };
        let others: Vec<String> = variant
            .swept
            .iter()
            .filter(|(key, _)| *key != parameter)
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        let label = [vec![variant.family.to_owned()], others].concat().join(", ");
        let next = lines.len();
        let place = *places.entry(label.clone()).or_insert(next);
        if place == next {
            lines.push(Line { label, hue: variant.hue, points: Vec::new() });
        }
        // A point of the sweep may be the base or the ceiling, which have no hue.
        lines[place].hue = lines[place].hue.or(variant.hue);
        lines[place].points.push((x, variant.name));
    }
    // Two parameters swept together: the lines of one family need hues of their own.
    let mut hues = BTreeSet::new();
    let crowded = lines.iter().any(|line| !hues.insert(line.hue));
    for (i, line) in lines.iter_mut().enumerate() {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if crowded {
            line.hue = Some(i);
        }
    }
    lines.retain(|line| line.points.len() > 1);
    lines
}

fn panel(outline: &Outline<'_>, task: &Task<'_>, lines: &[Line<'_>], x: Domain) -> Panel {
    let curves: Vec<Curve> = lines
        .iter()
        .enumerate()
        .map(|(dash, line)| Curve {
            hue: line.hue,
            dash,
            marked: true,
            points: line
                .points
                .iter()
                .filter_map(|&(x, variant)| {
                    let record = outline.record(variant, task)?;
                    let y = record.value.filter(|y| y.is_finite())?;
                    Some(Point { x, y, band: record.interval })
                })
                .collect(),
        })
        .collect();
    let references: Vec<(f64, String)> = [GapRole::Base, GapRole::Ceiling]
        .into_iter()
        .filter_map(|part| {
            let variant = outline.of_role(part)?;
            Some((outline.record(variant.name, task)?.value?, variant.name.to_owned()))
        })
        .collect();
    let ys: Vec<f64> = curves
        .iter()
        .flat_map(|curve| &curve.points)
        .flat_map(|point| point.band.into_iter().flatten().chain([point.y]))
        .chain(references.iter().map(|(y, _)| *y))
        .collect();
    let share = ys.iter().all(|y| (0.0..=1.0).contains(y));
    let y = Domain::around(ys);
    let y = if share { y.clamped(0.0, 1.0) } else { y };
    Panel { title: task.name.to_owned(), note: task.label(), x, y, curves, references }
}
