//! What a run is made of, seen by the reader: variants that belong together, tasks with the metric that speaks for each.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_rundir::{GapRecord, MetricRecord, Metrics};

use crate::{number, palette::HUES};

/// The task under which gaps are given for the mean over all tasks.
pub(crate) const MEAN: &str = "mean";
/// So many curves can still be told apart.
const MOST_REPRESENTATIVES: usize = 24;

/// Variants and tasks in the experiment's order.
pub(crate) struct Outline<'a> {
    metrics: &'a Metrics,
    /// Of every variant and task, the record that speaks for the task.
    records: BTreeMap<(&'a str, &'a str), &'a MetricRecord>,
    /// Of every variant and task, or [`MEAN`].
    gaps: BTreeMap<(&'a str, &'a str), &'a GapRecord>,
    /// Of every task, the place of its best candidate.
    best: BTreeMap<&'a str, usize>,
    pub(crate) variants: Vec<Variant<'a>>,
    pub(crate) tasks: Vec<Task<'a>>,
}

/// A variant and where it belongs.
pub(crate) struct Variant<'a> {
    pub(crate) name: &'a str,
    /// The name without the swept values: what shares a colour.
    pub(crate) family: &'a str,
    /// What a sweep changed, as the name says it: `static[alpha=0.5]`.
    pub(crate) swept: Vec<(&'a str, &'a str)>,
    pub(crate) role: GapRole,
    /// Which hue and marker its family has; none for the base and the ceiling.
    pub(crate) hue: Option<usize>,
}

/// What a variant is for in the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapRole {
    Base,
    Ceiling,
    Candidate,
}

/// A task and the metric that the plots and the verdict use.
pub(crate) struct Task<'a> {
    pub(crate) name: &'a str,
    pub(crate) metric: &'a str,
    pub(crate) filter: &'a str,
    pub(crate) higher_is_better: bool,
    /// As many as its values deserve, the same for all of them.
    decimals: usize,
}

impl Task<'_> {
    pub(crate) fn value(&self, x: f64) -> String {
        number::fixed(x, self.decimals)
    }

    pub(crate) fn interval(&self, interval: [f64; 2]) -> String {
        number::interval_with(interval, self.decimals)
    }

    /// The metric's name in a sample.
    pub(crate) fn key(&self) -> String {
        format!("{},{}", self.metric, self.filter)
    }

    /// The metric in words; the filter where it is not the text as it is.
    pub(crate) fn label(&self) -> String {
        metric_label(self.metric, self.filter)
    }
}

/// `exact_match,strict` as `exact match (strict)`.
pub(crate) fn metric_label(metric: &str, filter: &str) -> String {
    let words = metric.replace('_', " ");
    if filter == "none" || filter.is_empty() { words } else { format!("{words} ({filter})") }
}

impl<'a> Outline<'a> {
    pub(crate) fn of(metrics: &'a Metrics) -> Self {
        let ends = metrics.gaps.first().map(|gap| (gap.base.as_str(), gap.ceiling.as_str()));
        let mut variants: Vec<Variant<'a>> = Vec::new();
        let mut hues: BTreeMap<&str, usize> = BTreeMap::new();
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for record in &metrics.metrics {
            if !known.insert(&record.variant) {
                continue;
            }
            let (family, swept) = parse_name(&record.variant);
            let role = match ends {
                Some((base, _)) if base == record.variant => GapRole::Base,
                Some((_, ceiling)) if ceiling == record.variant => GapRole::Ceiling,
                _ => GapRole::Candidate,
            };
            let next = hues.len();
            let hue = (role == GapRole::Candidate).then(|| *hues.entry(family).or_insert(next));
            variants.push(Variant { name: &record.variant, family, swept, role, hue });
        }
        let mut gaps: BTreeMap<(&str, &str), &GapRecord> = BTreeMap::new();
        let mut of_gap: BTreeMap<&str, &str> = BTreeMap::new();
        for gap in &metrics.gaps {
            gaps.entry((&gap.variant, &gap.task)).or_insert(gap);
            of_gap.entry(&gap.task).or_insert(&gap.metric);
        }
        // The gap's own metric speaks for a task where there is one, else the task's first.
        let mut speaking: BTreeMap<&str, &MetricRecord> = BTreeMap::new();
        let mut order: Vec<&MetricRecord> = Vec::new();
        for record in &metrics.metrics {
            let wanted = of_gap.get(&*record.task).is_some_and(|key| is_called(record, key));
            match speaking.get(&*record.task) {
                None => {
                    order.push(record);
                    speaking.insert(&record.task, record);
                }
                Some(first) if wanted && !of_gap.get(&*record.task).is_some_and(|key| is_called(first, key)) => {
                    speaking.insert(&record.task, record);
                }
                Some(_) => {}
            }
        }
        let mut records: BTreeMap<(&str, &str), &MetricRecord> = BTreeMap::new();
        let mut intervals: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
        for record in &metrics.metrics {
            let speaks = speaking[&*record.task];
            if (&record.metric, &record.filter) == (&speaks.metric, &speaks.filter) {
                records.entry((&record.variant, &record.task)).or_insert(record);
                intervals.entry(&record.task).or_default().extend(record.interval);
            }
        }
        let task = |first: &MetricRecord| {
            let speaks: &'a MetricRecord = speaking[&*first.task];
            Task {
                name: &speaks.task,
                metric: &speaks.metric,
                filter: &speaks.filter,
                higher_is_better: speaks.higher_is_better,
                decimals: number::common_decimals(intervals.remove(&*first.task).into_iter().flatten()),
            }
        };
        let tasks: Vec<Task<'a>> = order.into_iter().map(task).collect();
        let mut outline = Self { metrics, records, gaps, best: BTreeMap::new(), variants, tasks };
        outline.best = outline.tasks.iter().filter_map(|task| Some((task.name, outline.find_best(task)?))).collect();
        outline
    }

    /// The cell of the table.
    pub(crate) fn record(&self, variant: &str, task: &Task<'_>) -> Option<&'a MetricRecord> {
        self.records.get(&(variant, task.name)).copied()
    }

    /// How much of a task's gap a variant closed; `task` may be [`MEAN`].
    pub(crate) fn gap(&self, variant: &str, task: &str) -> Option<&'a GapRecord> {
        self.gaps.get(&(variant, task)).copied()
    }

    pub(crate) fn of_role(&self, role: GapRole) -> Option<&Variant<'a>> {
        self.variants.iter().find(|variant| variant.role == role)
    }

    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Variant<'a>> {
        self.variants.iter().filter(|variant| variant.role == GapRole::Candidate)
    }

    /// What 0 and 1 stand for.
    pub(crate) fn gap_ends(&self) -> Option<(&'a str, &'a str)> {
        self.metrics.gaps.first().map(|gap| (gap.base.as_str(), gap.ceiling.as_str()))
    }

    /// Tasks for which gaps are given, the mean last.
    pub(crate) fn gap_tasks(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for gap in &self.metrics.gaps {
            if gap.task != MEAN && known.insert(gap.task.as_str()) {
                names.push(&gap.task);
            }
        }
        if names.len() > 1 && self.metrics.gaps.iter().any(|gap| gap.task == MEAN) {
            names.push(MEAN);
        }
        names
    }

    /// The candidate with the best value of the task's metric; the first of equals.
    pub(crate) fn best(&self, task: &Task<'_>) -> Option<(&Variant<'a>, &'a MetricRecord)> {
        let variant = &self.variants[*self.best.get(task.name)?];
        Some((variant, self.record(variant.name, task)?))
    }

    fn find_best(&self, task: &Task<'_>) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (place, variant) in self.variants.iter().enumerate().filter(|(_, v)| v.role == GapRole::Candidate) {
            let value = self.record(variant.name, task).and_then(|record| record.value);
            let Some(found) = value.filter(|value| value.is_finite()) else { continue };
            let better = |before: f64| if task.higher_is_better { found > before } else { found < before };
            if best.is_none_or(|(_, before)| better(before)) {
                best = Some((place, found));
            }
        }
        best.map(|(place, _)| place)
    }

    /// The best candidate of each family, of many families the first: what plots of traces show, where a sweep would be a tangle.
    pub(crate) fn representatives(&self) -> Vec<&Variant<'a>> {
        let mut best: Vec<(&Variant<'a>, f64)> = Vec::new();
        for variant in self.candidates() {
            let merit = self.merit(variant);
            match best.iter_mut().find(|(known, _)| known.family == variant.family) {
                Some(known) if merit > known.1 => *known = (variant, merit),
                Some(_) => {}
                None => best.push((variant, merit)),
            }
        }
        best.into_iter().map(|(variant, _)| variant).take(MOST_REPRESENTATIVES).collect()
    }

    /// How good a candidate is over all tasks: by the gap where there is one.
    pub(crate) fn merit(&self, variant: &Variant<'_>) -> f64 {
        let mean = |values: Vec<f64>| {
            if values.is_empty() { f64::NEG_INFINITY } else { values.iter().sum::<f64>() / values.len() as f64 }
        };
        if let Some(value) = self.gap(variant.name, MEAN).and_then(|gap| gap.value) {
            return value;
        }
        let gaps: Vec<f64> = self.tasks.iter().filter_map(|task| self.gap(variant.name, task.name)?.value).collect();
        if !gaps.is_empty() {
            return mean(gaps);
        }
        let signed = |task: &Task<'_>| {
            let value = self.record(variant.name, task)?.value.filter(|v| v.is_finite())?;
            Some(if task.higher_is_better { value } else { -value })
        };
        mean(self.tasks.iter().filter_map(signed).collect())
    }

    /// The candidate that closes most of a gap.
    pub(crate) fn best_gap(&self, task: &str) -> Option<(&Variant<'a>, &'a GapRecord, f64)> {
        let mut best: Option<(&Variant<'a>, &'a GapRecord, f64)> = None;
        for variant in self.candidates() {
            let Some((gap, value)) = self.gap(variant.name, task).and_then(|gap| Some((gap, gap.value?))) else {
                continue;
            };
            if value.is_finite() && best.as_ref().is_none_or(|&(_, _, before)| value > before) {
                best = Some((variant, gap, value));
            }
        }
        best
    }
}

impl Variant<'_> {
    /// The class of its colour.
    pub(crate) fn class(&self) -> String {
        class(self.hue)
    }
}

/// The class of a hue; ink where there is none.
pub(crate) fn class(hue: Option<usize>) -> String {
    hue.map_or_else(|| "h-none".to_owned(), |hue| format!("h{}", hue % HUES))
}

fn is_called(record: &MetricRecord, key: &str) -> bool {
    key.strip_prefix(&*record.metric).and_then(|rest| rest.strip_prefix(',')) == Some(&*record.filter)
}

/// `static[alpha=0.5, bounds=[0, 1]]` as `static` with its swept values.
fn parse_name(name: &str) -> (&str, Vec<(&str, &str)>) {
    let whole = (name, Vec::new());
    let Some((family, rest)) = name.split_once('[') else { return whole };
    let Some(list) = rest.strip_suffix(']') else { return whole };
    let mut depth = 0_i32;
    let mut pairs = Vec::new();
    let mut from = 0;
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                let Some((key, value)) = list[from..at].split_once('=') else { return whole };
                pairs.push((key.trim(), value.trim()));
                from = at + 1;
            }
            _ => {}
        }
    }
    if family.is_empty() || from <= list.len() { whole } else { (family, pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sweep_points() {
        assert_eq!(parse_name("static[alpha=0.5]"), ("static", vec![("alpha", "0.5")]));
        assert_eq!(parse_name("d[bounds=[0, 1],ema=0.1]"), ("d", vec![("bounds", "[0, 1]"), ("ema", "0.1")]));
        for plain in ["dynamic", "odd[name", "odd[]", "[a=1]", "odd[x]", "odd[a=[1]"] {
            assert_eq!(parse_name(plain), (plain, vec![]), "{plain}");
        }
    }
}
