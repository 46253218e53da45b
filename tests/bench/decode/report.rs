//! The table that people read and the JSON that programs compare.

use std::{fmt, fs, path::Path};

use logitfuse_core::{ErrorKind, Result, ResultExt};
use serde::Serialize;

use crate::{
    machine::{Machine, Versions},
    stats::{Ratio, Summary},
};

/// What was measured of one subject.
#[derive(Serialize)]
pub(crate) struct Row {
    /// The model and its prompt.
    case: String,
    /// Who or what.
    subject: String,
    unit: Unit,
    #[serde(flatten)]
    summary: Summary,
    /// What the ratio is a ratio of; empty without one.
    #[serde(skip_serializing_if = "str::is_empty")]
    compared: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
}

#[derive(Clone, Copy, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "ms/token")]
    MillisecondsPerToken,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "MB")]
    Megabytes,
    #[serde(rename = "share")]
    Share,
}

/// What a ratio, or a share, should be.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(crate) fn new(case: &str, subject: impl Into<String>, unit: Unit, summary: Summary) -> Self {
        Self { case: case.to_owned(), subject: subject.into(), unit, summary, compared: "", ratio: None, target: None }
    }

    pub(crate) fn compared(mut self, compared: &'static str, ratio: Ratio) -> Self {
        self.compared = compared;
        self.ratio = Some(ratio);
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// What the target is about.
    fn judged(&self) -> f64 {
        self.ratio.map_or(self.summary.median, |ratio| ratio.value)
    }
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    /// A target without a ratio is about the row's own unit.
    fn show(self, unit: Option<Unit>) -> String {
        let number =
            |bound| unit.map_or_else(|| format!("{bound}"), |unit| format!("{} {}", unit.show(bound), unit.name()));
        match self {
            Self::AtLeast(bound) => format!("≥ {}", number(bound)),
            Self::AtMost(bound) => format!("≤ {}", number(bound)),
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::MillisecondsPerToken => "ms/token",
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::Share => "%",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Share => format!("{:.2}", 100.0 * value),
            Self::Megabytes => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        }
    }
}

/// One question and its answer.
#[derive(Serialize)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Lines that explain the table.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## {}\n", self.title)?;
        writeln!(f, "| case | subject | unit | median | p10 | spread | ratio | 95 % | of | target | met |")?;
        writeln!(f, "|---|---|---|---:|---:|---:|---:|---|---|---|---|")?;
        for row in &self.rows {
            let Row { case, subject, unit, summary, compared, ratio, target } = row;
            let (median, p10) = (unit.show(summary.median), unit.show(summary.p10));
            let (value, interval) = ratio.map_or_else(Default::default, |Ratio { value, low, high }| {
                (format!("**{value:.3}**"), format!("{low:.3} … {high:.3}"))
            });
            let (target, met) = target.map_or_else(Default::default, |target| {
                (target.show(ratio.is_none().then_some(*unit)), if target.met(row.judged()) { "yes" } else { "**no**" })
            });
            let (unit, spread) = (unit.name(), format!("{:.0} %", 100.0 * summary.spread));
            writeln!(
                f,
                "| {case} | {subject} | {unit} | {median} | {p10} | {spread} | {value} | {interval} | {compared} | {target} | {met} |"
            )?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n* {note}"))?;
        writeln!(f)
    }
}

/// Everything that a run found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
    pub(crate) quick: bool,
    pub(crate) sections: Vec<Section>,
}

/// What `bench.md` says below its tables.
const READING: &str = "\
Everybody works in turn while all others rest, so that what else the machine does hits all alike. *median* and *p10* are of \
all measurements, *spread* is the distance between their quartiles as a share of the median. A *ratio* is the median of the \
rounds' own ratios, with a 95 % bootstrap interval over rounds; *of* says what was divided. A target is only judged where \
one was set.";

impl Report {
    /// Writes `bench.json` and `bench.md`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).or_err(ErrorKind::Internal, "the numbers")?;
        let write = |name: &str, text: String| fs::write(folder.join(name), text);
        fs::create_dir_all(folder)
            .and_then(|()| write("bench.json", json + "\n"))
            .and_then(|()| write("bench.md", self.to_string()))
            .or_err(ErrorKind::Io, folder.display())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Decoding\n\n* {}\n* {}", self.machine.line(), self.versions.line())?;
        if self.quick {
            writeln!(f, "* a first look (`--quick`): too few rounds to quote")?;
        }
        self.sections.iter().try_for_each(|section| section.fmt(f))?;
        writeln!(f, "\n## How to read this\n\n{READING}")
    }
}
