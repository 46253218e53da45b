//! Tests a strategy plugin: the library behind `logitfuse plugin check`.
//!
//! # Why processes
//!
//! A plugin that writes past a buffer, calls `exit` or loops for ever ends its process. So every case runs in a child
//! process, with a limit on its time, and proves that it came to its end by a record: an exit status proves nothing, because
//! a plugin that calls `exit(0)` would pass every test. [`run`] plans the cases and starts the children; a child calls
//! [`serve`].
//!
//! # Groups
//!
//! | group | finds |
//! |---|---|
//! | static | what the file and its metadata say, without running anything |
//! | load | constructors, the entry, the table, capabilities that are not there |
//! | config | good parameters refused, bad ones accepted, errors that do not point at the key |
//! | memory | writes past rows, writes into inputs, entries never written, pointers kept, memory that grows |
//! | numeric | NaN and worse on extreme, masked, constant, tiny and huge rows |
//! | state-laws | `fuse` with side effects, `rollback` that is no replay or undoes `begin`, forks that share, calibration that is not repeatable |
//! | claimed-laws | metadata that promise more than the code holds |
//! | threads | states that disturb one another, objects tied to a thread |
//! | environment | rounding mode, locale, variables, working directory, signals, descriptors, umask, limits, timers, threads, processes, exit handlers, stdout |
//! | perf | slowness; warnings only |
//! | fuzz | all laws on random parameters and rows, for as long as asked |
//!
//! Random cases are drawn from a seed that the report names, so a finding can be had again. One fault breaks many cases, so
//! findings of one cause are told as one ([`Report::causes`]). After two cases that did not end no more are tried.
//!
//! # Processes
//!
//! The process of a case leads a group of its own, with limits on processes, files and core dumps. A plugin that starts
//! processes is ended with all of them, also those that left the group (where `/proc` tells), and that is a finding.

mod cause;
mod child;
mod claimed;
mod config;
mod context;
mod environment;
mod family;
mod files;
mod fuzz;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(unix)]
mod guard_page;
mod laws;
mod load;
mod memory;
#[cfg(target_os = "linux")]
mod no_fork;
mod numeric;
mod parent;
mod perf;
mod report;
mod sample_params;
mod snapshot;
mod subject;
mod threads;

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cause::Cause;
pub use child::serve;
pub use parent::run;
pub use report::Report;

/// What a case looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the table of the module says it")]
pub enum Group {
    Static,
    Load,
    Config,
    Memory,
    Numeric,
    StateLaws,
    ClaimedLaws,
    Threads,
    Environment,
    Perf,
    Fuzz,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Static => "static",
            Self::Load => "load",
            Self::Config => "config",
            Self::Memory => "memory",
            Self::Numeric => "numeric",
            Self::StateLaws => "state-laws",
            Self::ClaimedLaws => "claimed-laws",
            Self::Threads => "threads",
            Self::Environment => "environment",
            Self::Perf => "perf",
            Self::Fuzz => "fuzz",
        })
    }
}

/// Which cases to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only the strategy with this id; all of the plugin's if absent.
    pub strategy: Option<String>,
    /// The parameters that the cases run with; those that the schema makes of nothing if absent.
    pub params: Option<Value>,
    /// Where random rows and parameters come from.
    pub seed: u64,
    /// Random cases for each law.
    pub cases: u32,
    /// Only cases whose `group/name` contains this.
    pub filter: Option<String>,
    /// How long to go on with random parameters and rows after the cases.
    pub fuzz: Option<Duration>,
    /// The time limit of a case.
    pub timeout: Duration,
    /// Children at the same time; 0 is one for each core.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: None,
            params: None,
            seed: 0,
            cases: 64,
            filter: None,
            fuzz: None,
            timeout: Duration::from_mins(1),
            jobs: 0,
        }
    }
}

/// Whether cases run in processes of their own.
#[derive(Clone, Debug)]
pub enum Isolation {
    /// Each in a process of its own: this program with these arguments, to which the paths of the request and of the record
    /// are added. It must call [`serve`] with them.
    Process {
        /// The program.
        program: PathBuf,
        /// What leads it to [`serve`].
        arguments: Vec<String>,
    },
    /// In this process, for a debugger. What a plugin breaks is broken.
    None,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing was found.
    Passed,
    /// It does not apply, or could not be tried; the detail says why.
    Skipped,
    /// Worth knowing, and no reason to refuse the plugin.
    Warning,
    /// A rule was broken.
    Failed,
    /// The process ended before the case did.
    Crashed,
    /// The case did not end in time.
    Hung,
}

impl Verdict {
    /// Whether it speaks against the plugin.
    pub fn is_finding(self) -> bool {
        matches!(self, Self::Failed | Self::Crashed | Self::Hung)
    }
}

/// The result of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// What it looks at.
    pub group: Group,
    /// Its name within the group.
    pub name: String,
    /// The strategy that it is about; `None` for the plugin as a whole.
    pub strategy: Option<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, in one line; empty if there is nothing to say.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

/// A case, as it is sent to a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    plugin: PathBuf,
    sha256: String,
    strategy: Option<String>,
    group: Group,
    name: String,
    params: Option<Value>,
    seed: u64,
    cases: u32,
    fuzz_ms: u64,
    /// Comes back in the record, so that no other file passes for one.
    nonce: String,
}

/// What a case found.
#[derive(Clone, Debug)]
enum Outcome {
    Passed(String),
    Skipped(String),
    Warning(String),
    Failed(String),
}

impl Outcome {
    fn passed() -> Self {
        Self::Passed(String::new())
    }

    fn parts(self) -> (Verdict, String) {
        match self {
            Self::Passed(detail) => (Verdict::Passed, detail),
            Self::Skipped(detail) => (Verdict::Skipped, detail),
            Self::Warning(detail) => (Verdict::Warning, detail),
            Self::Failed(detail) => (Verdict::Failed, detail),
        }
    }
}

/// For cases that end with their first finding.
impl<E: fmt::Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|e| Self::Failed(e.to_string()), |()| Self::passed())
    }
}
