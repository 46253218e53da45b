//! Findings of one cause, told as one.

use serde::Serialize;

use crate::{CaseResult, Group, Report, Verdict};

/// What is behind one finding or many.
#[derive(Clone, Debug, Serialize)]
pub struct Cause<'a> {
    /// The finding that says most.
    pub telling: &'a CaseResult,
    /// The others, in the report's order.
    pub others: Vec<&'a CaseResult>,
}

impl Report {
    /// The findings by what caused them, that from which others follow first: a library that cannot be loaded before a row that
    /// is none, and that before a law that does not hold.
    pub fn causes(&self) -> Vec<Cause<'_>> {
        let mut causes: Vec<(String, Vec<&CaseResult>)> = Vec::new();
        for finding in self.findings() {
            let key = finding.cause();
            match causes.iter_mut().find(|(known, _)| *known == key) {
                Some((_, all)) => all.push(finding),
                None => causes.push((key, vec![finding])),
            }
        }
        let mut causes: Vec<Cause<'_>> = causes.into_iter().filter_map(|(_, all)| cause(all)).collect();
        causes.sort_by_key(|cause| (rank(cause.telling.group), std::cmp::Reverse(cause.others.len())));
        causes
    }
}

fn cause(mut all: Vec<&CaseResult>) -> Option<Cause<'_>> {
    let at = (0..all.len()).min_by_key(|&at| (rank(all[at].group), at))?;
    let telling = all.remove(at);
    Some(Cause { telling, others: all })
}

/// What looks at one thing alone says more than what plays whole texts.
fn rank(group: Group) -> usize {
    let order = [
        Group::Static,
        Group::Load,
        Group::Config,
        Group::Memory,
        Group::Numeric,
        Group::Environment,
        Group::ClaimedLaws,
        Group::StateLaws,
        Group::Threads,
        Group::Perf,
        Group::Fuzz,
    ];
    order.iter().position(|&known| known == group).unwrap_or(order.len())
}

impl CaseResult {
    /// What two findings of one cause have in common: what was found, without where and with which numbers.
    pub fn cause(&self) -> String {
        let said = match self.verdict {
            Verdict::Hung => return "hung".to_owned(),
            Verdict::Crashed => self.detail.split(';').next().unwrap_or_default(),
            _ => found(&self.detail),
        };
        let mut text = String::new();
        for c in said.chars() {
            match c {
                '0'..='9' if text.ends_with('#') => {}
                '0'..='9' => text.push('#'),
                c => text.push(c),
            }
        }
        text
    }
}

/// The fault in a message such as `width 3: plugin org.x/y: fuse at position 2: entry 1 is NaN (width 3, 2 positions)`.
fn found(detail: &str) -> &str {
    let mut said = detail;
    if let Some((_, of_plugin)) = detail.split_once("plugin ") {
        // Behind its name, and the call.
        let mut parts = of_plugin.splitn(3, ": ");
        said = parts.nth(2).unwrap_or(detail);
    }
    let said = said.split(" (width").next().unwrap_or(said);
    said.split(", nor were").next().unwrap_or(said)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn finding(group: Group, name: &str, verdict: Verdict, detail: &str) -> CaseResult {
        CaseResult { group, name: name.to_owned(), strategy: None, verdict, detail: detail.to_owned(), seconds: 0.0 }
    }

    #[test]
    fn one_fault_is_one_cause_and_the_telling_finding_comes_first() {
        let mut report = Report::new(Path::new("x.so"), 0);
        let at = |width: usize| {
            format!("width {width}: plugin a.b/c: fuse at position {width}: entry 0 of {width} was never written")
        };
        report.results = vec![
            finding(Group::Numeric, "ordinary", Verdict::Failed, &at(1)),
            finding(Group::Numeric, "wide", Verdict::Failed, &(at(12) + ", nor were 3 others")),
            finding(Group::Config, "valid", Verdict::Warning, "some are refused"),
            finding(
                Group::StateLaws,
                "valid-output",
                Verdict::Failed,
                "valid-output: plugin a.b/c: fuse at position 0: entry 2 of 5 was never written (width 5, 1 positions)",
            ),
            finding(
                Group::Memory,
                "guard-page-after",
                Verdict::Failed,
                "plugin a.b/c: fuse at position 0: entry 2 of 3 was never written",
            ),
            finding(Group::Threads, "made-everywhere", Verdict::Hung, "did not end within 60 s"),
            finding(Group::Fuzz, "seed-0", Verdict::Hung, "did not end within 70 s"),
            finding(Group::Environment, "unchanged", Verdict::Failed, "changed: the locale"),
        ];
        let causes = report.causes();
        let told: Vec<(&str, usize)> =
            causes.iter().map(|cause| (cause.telling.name.as_str(), cause.others.len())).collect();
        assert_eq!(told, [("guard-page-after", 3), ("unchanged", 0), ("made-everywhere", 1)]);
    }
}
