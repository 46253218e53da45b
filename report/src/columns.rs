//! The strategies' trace columns, gathered over traced samples.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_rundir::SampleRecord;

use crate::{data::Data, quantile::Sorted};

/// So many columns are drawn: no strategy of ours has more than a dozen.
const MOST: usize = 48;

/// Trace values by column, variant and task.
pub(crate) struct Columns<'a> {
    /// `alpha` first: it is what fusion is about.
    names: Vec<&'a str>,
    /// For each column, variant and task: of every response, its values in the order of tokens; the longest response first.
    values: BTreeMap<(&'a str, &'a str, &'a str), Vec<Row>>,
}

/// One response's values, token by token.
type Row = Vec<Option<f64>>;

impl<'a> Columns<'a> {
    pub(crate) fn of(data: &'a Data) -> Self {
        let responses = || {
            let of = |sample: &'a SampleRecord| sample.responses.iter().map(move |response| (sample, response));
            data.samples.iter().flat_map(of).filter(|(_, response)| !response.trace.is_empty())
        };
        let tokens = responses().flat_map(|(_, response)| &response.trace);
        let names: BTreeSet<&str> = tokens.flat_map(|token| token.trace.keys().map(String::as_str)).collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_by_key(|name| *name != "alpha");
        names.truncate(MOST);
        let mut values: BTreeMap<_, Vec<Row>> = BTreeMap::new();
        for (sample, response) in responses() {
            for &name in &names {
                if response.trace.iter().any(|token| token.trace.contains_key(name)) {
                    let finite = |x: &Option<f64>| x.filter(|x| x.is_finite());
                    let row = response.trace.iter().map(|token| token.trace.get(name).and_then(finite)).collect();
                    values.entry((name, sample.variant.as_str(), sample.task.as_str())).or_default().push(row);
                }
            }
        }
        for rows in values.values_mut() {
            rows.sort_by_key(|row| std::cmp::Reverse(row.len()));
        }
        Self { names, values }
    }

    pub(crate) fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// All values of a cell.
    pub(crate) fn pooled(&self, column: &str, variant: &str, task: &str) -> Sorted {
        Sorted::new(self.rows(column, variant, task).iter().flatten().flatten().copied())
    }

    /// The values at each position, from the first token on.
    pub(crate) fn by_position(&self, column: &str, variant: &str, task: &str) -> Vec<Sorted> {
        let rows = self.rows(column, variant, task);
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let at = |i: usize| Sorted::new(rows.iter().map_while(|row| row.get(i)).copied().flatten());
        (0..longest).map(at).collect()
    }

    /// Whether a variant's values differ from one another: a column that is one number needs no plot.
    pub(crate) fn varies(&self, column: &str, variant: &str) -> bool {
        let from = self.values.range((column, variant, "")..);
        let of_variant = from.take_while(|((c, v, _), _)| *c == column && *v == variant);
        let mut values = of_variant.flat_map(|(_, rows)| rows.iter().flatten().flatten());
        values.next().is_some_and(|first| values.any(|value| (value - first).abs() > 1e-9))
    }

    fn rows<'b>(&'b self, column: &'b str, variant: &'b str, task: &'b str) -> &'b [Row] {
        self.values.get(&(column, variant, task)).map_or(&[], Vec::as_slice)
    }
}

/// A column as a reader says it: `kl_base_fused` is KL(base‖fused).
pub(crate) fn label(column: &str) -> String {
    if column == "alpha" {
        return "α".to_owned();
    }
    let pair = column.strip_prefix("kl_").and_then(|rest| rest.split_once('_'));
    match pair {
        Some((p, q)) if !q.is_empty() && !q.contains('_') => format!("KL({p}‖{q})"),
        _ => column.replace('_', " "),
    }
}

/// The same with its unit.
pub(crate) fn label_with_unit(column: &str) -> String {
    let unit = if column.starts_with("kl") || column.ends_with("_nats") { " in nats" } else { "" };
    label(column) + unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(label_with_unit("kl_base_fused"), "KL(base‖fused) in nats");
        assert_eq!(label_with_unit("alpha"), "α");
        assert_eq!(label("gate_open"), "gate open");
        assert_eq!(label("kl_"), "kl ");
    }
}
