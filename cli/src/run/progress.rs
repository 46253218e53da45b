//! Progress of a run: bars on a terminal, lines elsewhere.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use logitfuse_eval::run::Progress;

use crate::{args::Global, decode, output};

/// Lines come this often where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);
/// So many samples that failed are named while a run is at work.
const FAILURES_SAID: usize = 5;

/// Reports a run's progress on stderr.
pub(crate) struct ProgressReporter<'a> {
    global: &'a Global,
    bar: ProgressBar,
    cell: String,
    samples: usize,
    made: usize,
    tokens: usize,
    begun: Instant,
    said: Instant,
    /// What was said once, and holds for several cells.
    warned: BTreeSet<String>,
    /// Over all cells.
    pub(crate) total: usize,
    /// Samples of these that failed.
    pub(crate) failed: usize,
}

impl<'a> ProgressReporter<'a> {
    pub(crate) fn new(global: &'a Global) -> Self {
        let (bar, now) = (ProgressBar::hidden(), Instant::now());
        Self {
            global,
            bar,
            cell: String::new(),
            samples: 0,
            made: 0,
            tokens: 0,
            begun: now,
            said: now,
            warned: BTreeSet::new(),
            total: 0,
            failed: 0,
        }
    }

    pub(crate) fn on(&mut self, progress: &Progress<'_>) {
        match *progress {
            Progress::Warning(what) => {
                let help = what.help().map_or_else(String::new, |help| format!("\nhelp: {help}"));
                let text = format!("warning: {what}{help}");
                if self.warned.insert(text.clone()) {
                    self.bar.suspend(|| output::say(self.global.quiet, &text));
                }
            }
            Progress::Opened(pipeline) => self.bar.suspend(|| decode::notes(self.global, pipeline)),
            Progress::Cell { variant, task, index, of, samples, kept } => {
                self.bar.finish_and_clear();
                self.cell = format!("{variant} × {task} [{}/{of}]", index + 1);
                (self.samples, self.made, self.tokens) = (samples, 0, 0);
                (self.begun, self.said) = (Instant::now(), Instant::now());
                self.bar = self.new_bar();
                if self.bar.is_hidden() {
                    let there = if kept > 0 { format!(", {kept} are there") } else { String::new() };
                    output::say(self.global.quiet, &format!("{}: {samples} samples to make{there}", self.cell));
                }
            }
            Progress::Sample { key, tokens, error } => {
                if let Some(error) = error {
                    self.failed(key, error);
                }
                self.made += 1;
                self.total += 1;
                self.tokens += tokens;
                self.bar.set_message(format!("{:.0} tokens/s", self.speed()));
                self.bar.inc(1);
                let last = self.made == self.samples;
                if self.bar.is_hidden() && (last || self.said.elapsed() >= PAUSE) {
                    self.said = Instant::now();
                    self.line(last);
                }
            }
            _ => {}
        }
    }

    /// The first ones are said as they come; the table counts all.
    fn failed(&mut self, key: &str, error: &str) {
        self.failed += 1;
        if self.failed <= FAILURES_SAID {
            let quiet = self.global.quiet;
            self.bar.suspend(|| output::say(quiet, &format!("{key}: failed: {error}")));
        }
    }

    /// Takes the bar away; what was said in lines stays.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn new_bar(&self) -> ProgressBar {
        if self.global.quiet || self.samples == 0 {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len}, {msg}, {elapsed} gone, {eta} left");
        let bar = ProgressBar::with_draw_target(Some(self.samples as u64), ProgressDrawTarget::stderr());
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_prefix(self.cell.clone());
        bar.with_message("opening models")
    }

    fn speed(&self) -> f64 {
        self.tokens as f64 / self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    fn line(&self, last: bool) {
        let gone = self.begun.elapsed().as_secs_f64();
        let time = if last {
            format!("{gone:.1} s")
        } else {
            format!("{:.0} s left", gone / self.made as f64 * (self.samples - self.made) as f64)
        };
        let (cell, made, samples, speed) = (&self.cell, self.made, self.samples, self.speed());
        output::say(self.global.quiet, &format!("{cell}: {made}/{samples} samples, {speed:.0} tokens/s, {time}"));
    }
}
