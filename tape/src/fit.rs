//! Which parameters suit the texts of a tape best.

use std::{collections::BTreeMap, fmt, str::FromStr};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, SharedVocabulary};
use logitfuse_engine::Cancel;
use logitfuse_metrics::statistics::{Bootstrap, Interval};
use logitfuse_replay::{Tape, TapeHeader};
use serde::Serialize;

use super::{
    Outcome, Range, Replay, Setting, Summary,
    brent::{Minimum, minimise},
    grid::tidy,
    outcome::Unit,
};
use logitfuse_config::Config;
use logitfuse_pipeline::PluginSettings;

/// What a fit makes as good as it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Negative log-probability per token, in nats: small is good.
    #[default]
    Nll,
    /// The part of the tokens that greedy decoding would have chosen.
    GreedyAgreement,
    /// The part of the texts that greedy decoding would have written as they are.
    ExactPath,
    /// The part of the samples whose right choice is the most probable.
    Acc,
    /// The same per character of the choice.
    AccNorm,
}

impl Metric {
    const ALL: [Self; 5] = [Self::Nll, Self::GreedyAgreement, Self::ExactPath, Self::Acc, Self::AccNorm];

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nll => "nll",
            Self::GreedyAgreement => "greedy_agreement",
            Self::ExactPath => "exact_path",
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
        }
    }

    /// What one sample adds to the mean: above and below the line.
    fn parts(self, unit: &Unit) -> (f64, f64) {
        let of_samples = |score: f64| if score.is_nan() { (0.0, 0.0) } else { (score, 1.0) };
        match self {
            Self::Nll => (unit.nll, unit.tokens),
            Self::GreedyAgreement => (unit.agreed, unit.tokens),
            Self::ExactPath => (unit.exact, unit.texts),
            Self::Acc => of_samples(unit.acc),
            Self::AccNorm => of_samples(unit.acc_norm),
        }
    }

    /// What is minimised.
    fn cost(self, value: f64) -> f64 {
        if self == Self::Nll { value } else { -value }
    }

    /// Counts jump from one value to the next: there is nothing between two points of a scan to look for.
    fn is_smooth(self) -> bool {
        self == Self::Nll
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("{text}: no metric of a tape"))
                .with_help(format!("there are {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

/// A fit: which parameters, between which ends, for which metric.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// The parameters, with the ends between which each may lie.
    pub parameters: Vec<(String, Range)>,
    /// What is made as good as it gets.
    pub metric: Metric,
    /// Points of the scan over a parameter's range; 3 at least.
    pub points: usize,
    /// How samples are drawn for the intervals.
    pub bootstrap: Bootstrap,
}

/// What a fit found.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// What was made as good as it gets.
    pub metric: Metric,
    /// The parameters.
    pub parameters: Vec<FittedParameter>,
    /// All texts at the optimum.
    pub summary: Summary,
    /// The same elsewhere: at 0 and 1, and with what the experiment says.
    pub baselines: Vec<Baseline>,
    /// How often the strategy was run over the tape.
    pub passes: usize,
}

/// A parameter of a fit.
#[derive(Clone, Debug, Serialize)]
pub struct FittedParameter {
    /// Its path: `strategy.params.alpha`.
    pub path: String,
    /// Its best value.
    pub value: f64,
    /// Where the best value lies when the samples are drawn anew, the other parameters held at their best.
    pub low: f64,
    /// The upper end of that interval.
    pub high: f64,
    /// Whether the best value is an end of its range: a better one may lie beyond.
    pub at_end: bool,
    /// The metric over the range, the other parameters held at their best.
    pub curve: Vec<(f64, f64)>,
}

impl Fit {
    /// The values that were found.
    pub fn settings(&self) -> Vec<Setting> {
        self.parameters.iter().map(|found| Setting { path: found.path.clone(), value: found.value }).collect()
    }

    /// What has to be changed in an experiment's TOML: tables with the keys that were found, whole lists where an entry was.
    ///
    /// # Errors
    /// As [`Setting::apply`].
    pub fn patch(&self, config: &Config) -> Result<String> {
        let mut strategy = config.strategy.clone();
        self.settings().iter().try_for_each(|setting| setting.apply(&mut strategy))?;
        let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for setting in self.settings() {
            let (table, key) = setting.place();
            let params = match table.as_str() {
                "strategy.schedule" => strategy.schedule.as_ref(),
                "strategy.gate" => strategy.gate.as_ref(),
                _ => Some(&strategy.params),
            };
            let value = params.and_then(|params| params.get(&key)).cloned().unwrap_or_default();
            let value = toml::Value::try_from(value).or_err(ErrorKind::Internal, &setting)?;
            tables.entry(table).or_default().insert(key, value.to_string());
        }
        let table = |(table, keys): (&String, &BTreeMap<String, String>)| {
            let lines: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            format!("[{table}]\n{}", lines.concat())
        };
        Ok(tables.iter().map(table).collect::<Vec<_>>().join("\n"))
    }
}

/// What other values would have given.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// The values, in the order of the parameters.
    pub values: Vec<f64>,
    /// Whether they are those of the experiment.
    pub configured: bool,
    /// All texts there.
    pub summary: Summary,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            parameters: Vec::new(),
            metric: Metric::default(),
            points: 41,
            bootstrap: Bootstrap { draws: 1000, ..Bootstrap::default() },
        }
    }
}

impl FitOptions {
    /// Finds the best values: one parameter after the other, until none gains anything, by a scan and, for `nll`, Brent's
    /// method between the neighbours of the best point.
    ///
    /// # Errors
    /// Those of the tape and of the strategy; [`ErrorKind::InvalidConfig`] for a metric that the tape has nothing for.
    pub fn run(&self, config: &Config, replay: &Replay, plugins: &PluginSettings, cancel: &Cancel) -> Result<Fit> {
        let tape = Tape::open(&replay.path)?;
        let (head, vocabulary) = (tape.header().clone(), tape.vocabulary().clone());
        drop(tape);
        let mut search = Search { task: self, config, replay, plugins, cancel, head, vocabulary, passes: 0 };
        search.run()
    }
}

struct Search<'a> {
    task: &'a FitOptions,
    config: &'a Config,
    replay: &'a Replay,
    plugins: &'a PluginSettings,
    cancel: &'a Cancel,
    head: TapeHeader,
    vocabulary: SharedVocabulary,
    passes: usize,
}

impl Search<'_> {
    fn run(&mut self) -> Result<Fit> {
        /// One cycle finds the optimum of one parameter; several that pull at each other are done long before.
        const MOST_CYCLES: usize = 12;
        if self.task.parameters.is_empty() || self.task.points < 3 {
            return Err(Error::new(ErrorKind::InvalidConfig, "--param: nothing to find")
                .with_help("name a parameter and its range: --param alpha --range 0:2"));
        }
        let start = |(path, range): &(String, Range)| {
            let middle = 0.5 * (range.low + range.high);
            let now = Setting::current(path, &self.config.strategy);
            now.map_or(middle, |x| x.clamp(range.low, range.high))
        };
        let mut values: Vec<f64> = self.task.parameters.iter().map(start).collect();
        let mut best = f64::INFINITY;
        let alone = values.len() == 1;
        let mut curves: Vec<Scan> = Vec::new();
        for _ in 0..if alone { 1 } else { MOST_CYCLES } {
            let before = best;
            curves.clear();
            for which in 0..values.len() {
                let scan = self.scan(&values, which)?;
                let found = self.refine(&values, which, &scan)?;
                values[which] = found.x;
                best = found.value;
                curves.push(scan);
            }
            // A thousandth of a nat in a thousand tokens.
            if before - best < 1e-6 {
                break;
            }
        }
        if !alone {
            // Those of the last cycle were made with other values of the parameters after them.
            curves = (0..values.len()).map(|which| self.scan(&values, which)).collect::<Result<_>>()?;
        }
        let summary = self.summary(&values)?;
        let mut parameters = Vec::new();
        for (((path, range), &value), scan) in self.task.parameters.iter().zip(&values).zip(curves) {
            let interval = self.interval(&scan)?;
            let near = 1e-3 * (range.high - range.low);
            parameters.push(FittedParameter {
                path: path.clone(),
                value,
                // Found between the points of the scan, which the interval is made of.
                low: interval.low.min(value),
                high: interval.high.max(value),
                at_end: value - range.low < near || range.high - value < near,
                curve: scan.points.iter().copied().zip(scan.values()).collect(),
            });
        }
        let baselines = self.baselines(&values)?;
        Ok(Fit { metric: self.task.metric, parameters, summary, baselines, passes: self.passes })
    }

    fn settings(&self, values: &[f64]) -> Vec<Setting> {
        let setting = |((path, _), &value): (&(String, Range), &f64)| Setting { path: path.clone(), value };
        self.task.parameters.iter().zip(values).map(setting).collect()
    }

    /// The strategy at several points, in one pass over the tape.
    fn outcomes(&mut self, points: &[Vec<f64>]) -> Result<Vec<Outcome>> {
        let candidate = |values: &Vec<f64>| {
            let settings = self.settings(values);
            self.replay.candidate(self.config, &self.head, &self.vocabulary, &settings, self.plugins)
        };
        let candidates = points.iter().map(candidate).collect::<Result<Vec<_>>>()?;
        self.passes += candidates.len();
        self.replay.run(&candidates, self.cancel)
    }

    fn summary(&mut self, values: &[f64]) -> Result<Summary> {
        let outcomes = self.outcomes(&[values.to_vec()])?;
        outcomes
            .first()
            .map(Outcome::summary)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "one point gave no outcome"))
    }

    /// One parameter over its range, the others held.
    fn scan(&mut self, values: &[f64], which: usize) -> Result<Scan> {
        let Range { low, high } = self.task.parameters[which].1;
        let last = self.task.points - 1;
        let points: Vec<f64> = (0..=last).map(|i| tidy(low + (high - low) * i as f64 / last as f64)).collect();
        let with = |&point: &f64| {
            let mut values = values.to_vec();
            values[which] = point;
            values
        };
        let outcomes = self.outcomes(&points.iter().map(with).collect::<Vec<_>>())?;
        let metric = self.task.metric;
        let parts = |outcome: &Outcome| outcome.units().iter().map(|unit| metric.parts(unit)).collect();
        let scan = Scan { points, parts: outcomes.iter().map(parts).collect() };
        let costs = scan.values();
        if costs.iter().all(|value| value.is_nan()) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("--metric {metric}: the tape holds no right choice"),
            )
            .with_help("record it with --choices FIELD --gold FIELD"));
        }
        if costs.iter().all(|value| !value.is_finite()) {
            return Err(Error::new(
                ErrorKind::Numeric,
                "the strategy gives some token no probability at all, everywhere in the range",
            )
            .with_help("--metric greedy_agreement can bear that, or choose parameters that mask nothing"));
        }
        Ok(scan)
    }

    /// From the best point of a scan to the best value.
    fn refine(&mut self, values: &[f64], which: usize, scan: &Scan) -> Result<Minimum> {
        let metric = self.task.metric;
        let costs: Vec<f64> = scan.values().into_iter().map(|value| metric.cost(value)).collect();
        let at = plateau(&costs);
        let start = Minimum { x: scan.points[at], value: costs[at] };
        if !metric.is_smooth() {
            return Ok(start);
        }
        let (low, high) = (scan.points[at.saturating_sub(1)], scan.points[(at + 1).min(scan.points.len() - 1)]);
        let range = self.task.parameters[which].1;
        // Half a digit more than anybody writes down.
        let tolerance = 5e-5 * (range.high - range.low);
        let mut cost = |x: f64| -> Result<f64> {
            let mut values = values.to_vec();
            values[which] = x;
            Ok(metric.cost(self.summary(&values)?.nll))
        };
        let found = minimise(low, high, start, tolerance, &mut cost)?;
        let x = rounded(found.x, tolerance);
        Ok(Minimum { x, value: cost(x)? })
    }

    /// Where the best value lies when samples are drawn anew.
    fn interval(&self, scan: &Scan) -> Result<Interval> {
        let metric = self.task.metric;
        let samples = scan.parts.first().map_or(0, Vec::len);
        let best = |drawn: &[usize]| {
            let cost = |parts: &Vec<(f64, f64)>| metric.cost(ratio(drawn.iter().map(|&i| parts[i])));
            let costs: Vec<f64> = scan.parts.iter().map(cost).collect();
            if costs.iter().all(|cost| cost.is_nan()) {
                return f64::NAN;
            }
            let at = plateau(&costs);
            if metric.is_smooth() { vertex(&scan.points, &costs, at) } else { scan.points[at] }
        };
        let interval = self.task.bootstrap.interval(samples, best)?;
        interval.ok_or_else(|| Error::new(ErrorKind::Numeric, format!("--metric {metric}: undefined on every draw")))
    }

    /// 0 and 1 for all parameters, and what the experiment says; those that the strategy refuses are left out.
    fn baselines(&mut self, best: &[f64]) -> Result<Vec<Baseline>> {
        let current = |(path, _): &(String, Range)| Setting::current(path, &self.config.strategy);
        let configured: Option<Vec<f64>> = self.task.parameters.iter().map(current).collect();
        let mut points = vec![(vec![0.0; best.len()], false), (vec![1.0; best.len()], false)];
        if let Some(values) = configured {
            points.retain(|(point, _)| *point != values);
            points.push((values, true));
        }
        let mut baselines = Vec::new();
        for (values, configured) in points {
            match self.summary(&values) {
                Ok(summary) => baselines.push(Baseline { values, configured, summary }),
                Err(e) if e.kind() == ErrorKind::InvalidConfig && !configured => {}
                Err(e) => return Err(e),
            }
        }
        Ok(baselines)
    }
}

/// A metric over the range of a parameter.
struct Scan {
    points: Vec<f64>,
    /// `[point][sample]`: what each sample adds above and below the line.
    parts: Vec<Vec<(f64, f64)>>,
}

impl Scan {
    fn values(&self) -> Vec<f64> {
        self.parts.iter().map(|parts| ratio(parts.iter().copied())).collect()
    }
}

fn ratio(parts: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (above, below) = parts.fold((0.0, 0.0), |(above, below), (a, b)| (above + a, below + b));
    above / below
}

/// The place of the smallest cost; of several in a row the middle of the first longest one, far from where it ends.
fn plateau(costs: &[f64]) -> usize {
    let smallest = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let (mut best, mut run) = ((0, 0), 0);
    for (at, &cost) in costs.iter().enumerate() {
        run = if cost.total_cmp(&smallest).is_eq() { run + 1 } else { 0 };
        if run > best.1 {
            best = (at + 1 - run, run);
        }
    }
    best.0 + best.1.saturating_sub(1) / 2
}

/// Without the digits that a tolerance says nothing of.
fn rounded(x: f64, tolerance: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 12")]
    let digits = (-tolerance.log10()).ceil().clamp(0.0, 12.0) as usize;
    format!("{x:.digits$}").parse().unwrap_or(x)
}

/// Where the parabola through a point and its neighbours is smallest; the point itself at an end.
fn vertex(points: &[f64], costs: &[f64], at: usize) -> f64 {
    let (Some(before), Some(after)) = (at.checked_sub(1), points.get(at + 1).map(|_| at + 1)) else {
        return points[at];
    };
    let (down, up) = (costs[before] - costs[at], costs[after] - costs[at]);
    let half = 0.5 * (points[after] - points[at]);
    let shift = half * (down - up) / (down + up);
    // Both are 0 or more; on a plain there is no vertex, at a wall it is the point.
    if shift.is_finite() { points[at] + shift } else { points[at] }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_is_met_in_its_middle() {
        assert_eq!(plateau(&[3.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0]), 4);
        assert_eq!(plateau(&[2.0, 1.0]), 1);
        assert_eq!(plateau(&[f64::INFINITY, f64::NAN, 1.0]), 2);
    }

    #[test]
    fn values_keep_the_digits_that_are_known() {
        assert_eq!(rounded(0.615_601_655, 1e-4), 0.6156);
        assert_eq!(rounded(1234.5, 50.0), 1234.0);
    }

    #[test]
    fn a_vertex_is_that_of_the_parabola() {
        let points = [0.0, 0.5, 1.0];
        let costs = points.map(|x: f64| 3.0 * (x - 0.6).powi(2));
        assert!((vertex(&points, &costs, 1) - 0.6).abs() < 1e-12);
        assert_eq!(vertex(&points, &costs, 0), 0.0);
        assert_eq!(vertex(&points, &[1.0; 3], 1), 0.5);
        assert_eq!(vertex(&points, &[f64::INFINITY, 1.0, f64::INFINITY], 1), 0.5);
    }
}
