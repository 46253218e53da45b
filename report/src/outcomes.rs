//! Where a fused model is right and its parts are wrong, and the reverse.

use std::collections::BTreeMap;

use logitfuse_rundir::SampleRecord;
use serde_json::Value;

use crate::{
    data::Data,
    outline::{GapRole, Outline, Task, Variant},
};

/// A fused variant beside the variants that run its base and its experts alone.
pub(crate) struct AloneComparison<'a> {
    pub(crate) fused: &'a str,
    pub(crate) base: &'a str,
    /// One at least.
    pub(crate) experts: Vec<&'a str>,
    pub(crate) task: &'a str,
    pub(crate) items: Vec<Item<'a>>,
}

/// One item as all of them answered it.
pub(crate) struct Item<'a> {
    pub(crate) fused: &'a SampleRecord,
    pub(crate) base: &'a SampleRecord,
    pub(crate) experts: Vec<&'a SampleRecord>,
    pub(crate) fused_right: bool,
    pub(crate) base_right: bool,
    /// Whether any expert alone is.
    pub(crate) expert_right: bool,
}

impl<'a> AloneComparison<'a> {
    /// Items by whether the base and an expert are right alone, and of those how many the fused model gets right.
    pub(crate) fn count(&self, base_right: bool, expert_right: bool) -> (usize, usize) {
        let of = self.items.iter().filter(|i| i.base_right == base_right && i.expert_right == expert_right);
        of.fold((0, 0), |(right, n), item| (right + usize::from(item.fused_right), n + 1))
    }

    /// Right where base and experts are all wrong.
    pub(crate) fn gained(&self) -> impl Iterator<Item = &Item<'a>> {
        self.items.iter().filter(|i| i.fused_right && !i.base_right && !i.expert_right)
    }

    /// Wrong where base and an expert are both right.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &Item<'a>> {
        self.items.iter().filter(|i| !i.fused_right && i.base_right && i.expert_right)
    }
}

/// Whether a sample is right: a score of one half at least, so that shares of an answer count as well as all or nothing.
/// None for what is no share, such as a perplexity.
pub(crate) fn right(sample: &SampleRecord, task: &Task<'_>) -> Option<bool> {
    let score = match sample.metrics.get(&task.key())? {
        Value::Bool(right) => return Some(*right),
        value => value.as_f64()?,
    };
    (task.higher_is_better && (0.0..=1.0).contains(&score)).then_some(score >= 0.5)
}

/// Every representative that fuses, at every task whose scores say right or wrong.
pub(crate) fn comparisons<'a>(
    data: &'a Data,
    outline: &'a Outline<'a>,
    representatives: &[&'a Variant<'a>],
) -> Vec<AloneComparison<'a>> {
    let mut cells: BTreeMap<(&str, &str), Vec<&SampleRecord>> = BTreeMap::new();
    for sample in &data.samples {
        cells.entry((&sample.variant, &sample.task)).or_default().push(sample);
    }
    let alone = alone(data, outline);
    let mut found = Vec::new();
    for variant in representatives {
        for task in &outline.tasks {
            let Some(roles) = roles(data, variant.name, task.name) else { continue };
            let named = |source: &str| alone.get(source).copied();
            let base = outline
                .of_role(GapRole::Base)
                .map(|base| base.name)
                .or_else(|| roles.iter().find(|(role, _)| role == "base").and_then(|(_, source)| named(source)));
            let experts: Vec<&str> = roles
                .iter()
                .filter(|(role, _)| role != "base" && role != "anti")
                .filter_map(|(_, source)| named(source))
                .collect();
            let Some(base) = base.filter(|base| *base != variant.name) else { continue };
            if experts.is_empty() || experts.contains(&base) {
                continue;
            }
            let items = items(&cells, variant.name, base, &experts, task);
            if !items.is_empty() {
                found.push(AloneComparison { fused: variant.name, base, experts, task: task.name, items });
            }
        }
    }
    found
}

/// Roles and their sources, from a traced sample; none where only one source takes part.
fn roles(data: &Data, variant: &str, task: &str) -> Option<Vec<(String, String)>> {
    let sample = data.traced(variant, task).next()?;
    let token = sample.responses.iter().find_map(|response| response.trace.first())?;
    let sources = token.roles.iter().map(|role| &role.source);
    let several = sources.clone().zip(sources.skip(1)).any(|(a, b)| a != b);
    several.then(|| token.roles.iter().map(|role| (role.role.clone(), role.source.clone())).collect())
}

/// For each source, the first variant that runs nothing else. The ceiling is no part of what is fused, even where its
/// source has the name of one that is.
fn alone<'a>(data: &Data, outline: &Outline<'a>) -> BTreeMap<String, &'a str> {
    let mut alone = BTreeMap::new();
    for variant in outline.variants.iter().filter(|variant| variant.role != GapRole::Ceiling) {
        for task in &outline.tasks {
            let first = data.traced(variant.name, task.name).next();
            let token = first.and_then(|sample| sample.responses.iter().find_map(|r| r.trace.first()));
            if let Some([only]) = token.map(|token| token.roles.as_slice()) {
                alone.entry(only.source.clone()).or_insert(variant.name);
            }
        }
    }
    alone
}

fn items<'a>(
    cells: &BTreeMap<(&str, &str), Vec<&'a SampleRecord>>,
    fused: &str,
    base: &str,
    experts: &[&str],
    task: &Task<'_>,
) -> Vec<Item<'a>> {
    let by_item = |variant: &str| -> BTreeMap<(&'a str, usize), &'a SampleRecord> {
        let samples = cells.get(&(variant, task.name)).map_or(&[][..], Vec::as_slice);
        samples.iter().map(|sample| ((sample.doc_id.as_str(), sample.repeat), *sample)).collect()
    };
    let base = by_item(base);
    let experts: Vec<_> = experts.iter().map(|expert| by_item(expert)).collect();
    let fused = cells.get(&(fused, task.name)).map_or(&[][..], Vec::as_slice);
    let item = |sample: &&'a SampleRecord| {
        let key = (sample.doc_id.as_str(), sample.repeat);
        let base = *base.get(&key)?;
        let experts: Vec<&SampleRecord> = experts.iter().map(|of| of.get(&key).copied()).collect::<Option<_>>()?;
        let rights: Vec<bool> = experts.iter().map(|sample| right(sample, task)).collect::<Option<_>>()?;
        Some(Item {
            fused_right: right(sample, task)?,
            base_right: right(base, task)?,
            expert_right: rights.contains(&true),
            fused: sample,
            base,
            experts,
        })
    };
    fused.iter().filter_map(item).collect()
}
