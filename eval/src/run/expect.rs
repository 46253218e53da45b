//! `[[expect]]`: a run as a regression test.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::Metrics;

use logitfuse_config::{ExpectConfig, Experiment};

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one, what was found and by how much it misses: `static/qa exact_match,none: 0.62, expected at least 0.9 (0.28 short)`.
    pub what: String,
}

/// The expectations that do not hold.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for an expectation about something that the run does not have.
pub fn failures(experiment: &Experiment, metrics: &Metrics) -> Result<Vec<Failure>> {
    let mut failures = Vec::new();
    for expect in experiment.expect() {
        let mut about = 0;
        for variant in experiment.named(&expect.variant) {
            let concerned = |task: &str| expect.task.as_deref().is_none_or(|wanted| wanted == task);
            for found in metrics.metrics.iter().filter(|found| found.variant == variant && concerned(&found.task)) {
                let name = format!("{},{}", found.metric, found.filter);
                if name == expect.metric {
                    about += 1;
                    let of = format!("{variant}/{} {name}", found.task);
                    failures.extend(misses(&of, found.value, expect.at_least, expect.at_most));
                }
            }
            let of_mean = |task: &str| expect.task.is_none() || task != "mean";
            for gap in metrics.gaps.iter().filter(|gap| gap.variant == variant && concerned(&gap.task)) {
                if expect.gap_at_least.is_some() && gap.metric == expect.metric && of_mean(&gap.task) {
                    about += 1;
                    let of = format!("{variant}/{} gap closed in {}", gap.task, gap.metric);
                    failures.extend(misses(&of, gap.value, expect.gap_at_least, None));
                }
            }
        }
        if about == 0 {
            return Err(nothing(expect, metrics));
        }
    }
    Ok(failures)
}

fn misses(of: &str, value: Option<f64>, at_least: Option<f64>, at_most: Option<f64>) -> Option<Failure> {
    let bounds = || {
        let least = at_least.map(|bound| format!("at least {bound}"));
        let most = at_most.map(|bound| format!("at most {bound}"));
        least.into_iter().chain(most).collect::<Vec<_>>().join(" and ")
    };
    let Some(value) = value else {
        return bounds_exist(at_least, at_most)
            .then(|| Failure { what: format!("{of}: not defined, expected {}", bounds()) });
    };
    let (short, over) = (at_least.map(|bound| bound - value), at_most.map(|bound| value - bound));
    let by = match (short, over) {
        (Some(short), _) if short > 0.0 => format!("{short:.4} short"),
        (_, Some(over)) if over > 0.0 => format!("{over:.4} over"),
        _ => return None,
    };
    Some(Failure { what: format!("{of}: {value:.4}, expected {} ({by})", bounds()) })
}

fn bounds_exist(at_least: Option<f64>, at_most: Option<f64>) -> bool {
    at_least.is_some() || at_most.is_some()
}

fn nothing(expect: &ExpectConfig, metrics: &Metrics) -> Error {
    let of = expect.task.as_deref().map_or(String::new(), |task| format!("/{task}"));
    let message = format!("expect: the run has no `{}` of {}{of}", expect.metric, expect.variant);
    let mut known: Vec<String> =
        metrics.metrics.iter().map(|m| format!("{}/{} {},{}", m.variant, m.task, m.metric, m.filter)).collect();
    known.truncate(12);
    Error::new(ErrorKind::InvalidConfig, message).with_help(format!("it has {}", known.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_by_how_much() {
        let what = |value, least, most| misses("v/t m,none", value, least, most).map(|failure| failure.what);
        assert_eq!(what(Some(0.9), Some(0.9), Some(0.9)), None);
        assert_eq!(
            what(Some(0.62), Some(0.9), None).as_deref(),
            Some("v/t m,none: 0.6200, expected at least 0.9 (0.2800 short)")
        );
        assert_eq!(
            what(Some(2.0), Some(0.5), Some(1.5)).as_deref(),
            Some("v/t m,none: 2.0000, expected at least 0.5 and at most 1.5 (0.5000 over)")
        );
        assert_eq!(what(None, Some(0.1), None).as_deref(), Some("v/t m,none: not defined, expected at least 0.1"));
        assert_eq!(what(None, None, None), None);
    }
}
