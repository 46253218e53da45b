//! What was answered: by the runs of `logitfuse`, and by the reference in Python for what does not ship.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use logitfuse_metrics::statistics::{Bootstrap, Estimate};
use logitfuse_rundir::{Run, SampleRecord};
use serde::Deserialize;

pub(super) const TASKS: [&str; 4] = ["qa", "math", "sum", "mc"];
/// The task that no expert was tuned for.
pub(super) const UNSEEN: &str = "cloze";

/// What one system answered to the items of one task, in their order.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) ids: Vec<String>,
    pub(super) scores: Vec<f64>,
    /// Empty where the reference kept none.
    pub(super) texts: Vec<String>,
    pub(super) prompts: Vec<String>,
    /// What was right, as the task says it.
    pub(super) targets: Vec<String>,
    /// The strength at every token of the traced items.
    pub(super) alphas: Vec<f64>,
    pub(super) tokens: usize,
    pub(super) seconds: f64,
}

impl Answers {
    pub(super) fn mean(&self) -> Result<Estimate> {
        Ok(Bootstrap::default().mean(&self.scores)?)
    }

    /// `self − other`, item by item.
    pub(super) fn minus(&self, other: &Self) -> Result<Estimate> {
        ensure!(self.ids == other.ids, "two systems answered different items, first {:?}", self.ids.first());
        Ok(Bootstrap::default().difference(&self.scores, &other.scores)?)
    }

    fn push(&mut self, sample: SampleRecord) -> Result<()> {
        let score = sample.metrics.values().find_map(serde_json::Value::as_f64).context("a sample without a score")?;
        let [response] = &sample.responses[..] else { anyhow::bail!("{}: not one response", sample.key()) };
        let alphas = response.trace.iter().filter_map(|token| token.trace.get("alpha").copied().flatten());
        self.alphas.extend(alphas);
        self.texts.push(response.text.trim().to_owned());
        self.prompts.push(sample.doc.get("prompt").and_then(|p| p.as_str()).unwrap_or_default().to_owned());
        self.targets.push(sample.target.as_str().unwrap_or_default().to_owned());
        self.scores.push(score);
        self.ids.push(sample.doc_id);
        Ok(())
    }
}

/// Systems by name, each with its answers by task.
#[derive(Default)]
pub(super) struct Study {
    pub(super) name: String,
    answers: BTreeMap<String, BTreeMap<String, Answers>>,
}

impl Study {
    /// A run directory that is complete.
    fn of_run(path: &Path) -> Result<Self> {
        let run = Run::open(path)?;
        let complete = run.metrics()?.is_some_and(|metrics| metrics.complete);
        ensure!(complete, "{}: the run is not finished; `cargo xtask results` goes on with it", path.display());
        let mut study = Self::named(path);
        for (sample, timing) in run.samples()?.zip(run.timings()?) {
            let (sample, timing) = (sample?, timing?);
            let answers = study.entry(&sample.variant, &sample.task);
            answers.tokens += timing.tokens;
            answers.seconds += timing.decode_seconds;
            answers.push(sample)?;
        }
        Ok(study)
    }

    /// What `evaluate.py` wrote.
    pub(super) fn of_reference(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            task: String,
            method: String,
            ids: Vec<String>,
            scores: Vec<f64>,
        }
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut study = Self::named(path);
        for line in text.lines() {
            let Line { task, method, ids, scores } =
                serde_json::from_str(line).with_context(|| path.display().to_string())?;
            *study.entry(&method, &task) = Answers { ids, scores, ..Answers::default() };
        }
        Ok(study)
    }

    fn named(path: &Path) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, answers: BTreeMap::new() }
    }

    fn entry(&mut self, system: &str, task: &str) -> &mut Answers {
        self.answers.entry(system.to_owned()).or_default().entry(task.to_owned()).or_default()
    }

    pub(super) fn find(&self, system: &str, task: &str) -> Option<&Answers> {
        self.answers.get(system)?.get(task)
    }

    pub(super) fn get(&self, system: &str, task: &str) -> Result<&Answers> {
        self.find(system, task).with_context(|| format!("{}: has no `{system}` on `{task}`", self.name))
    }

    /// Whether a system answered all four tasks.
    pub(super) fn has(&self, system: &str) -> bool {
        TASKS.iter().all(|task| self.find(system, task).is_some())
    }
}

/// Everything that the page is made of.
pub(super) struct Results {
    pub(super) single: Study,
    pub(super) validation: Study,
    pub(super) multi: Study,
    pub(super) in_context: Study,
    pub(super) ablations: Study,
    pub(super) merged: Study,
    /// The same few items in several rounds, for their times; none where no times were taken.
    pub(super) rounds: Vec<Study>,
    /// Runs of `drafts.toml`, for their times.
    pub(super) drafts: Vec<PathBuf>,
    /// Runs of `drafters.toml`, for the same.
    pub(super) drafters: Vec<PathBuf>,
    /// The reference's, one a training seed that there is; the first is that of the models that ship.
    pub(super) seeds: Vec<Study>,
}

impl Results {
    /// `runs` in the order of the experiments; `rounds` are those of a name, of which some or all may be missing.
    pub(super) fn read(runs: &[PathBuf; 6], rounds: impl Fn(&str) -> Vec<PathBuf>, reference: &Path) -> Result<Self> {
        let there = |name: &str| -> Vec<PathBuf> { rounds(name).into_iter().filter(|path| path.exists()).collect() };
        let [single, validation, multi, in_context, ablations, merged] =
            runs.each_ref().map(|path| Study::of_run(path));
        let files = (1..).map(|seed| reference.join(format!("seed{seed}.test.jsonl"))).take_while(|file| file.exists());
        let mut seeds: Vec<Study> = files.map(|file| Study::of_reference(&file)).collect::<Result<_>>()?;
        // A seed that is being decoded has no figures yet.
        seeds.retain(|seed| ["L", "L_t", "dynamic", "selected", "one_expert"].iter().all(|system| seed.has(system)));
        ensure!(!seeds.is_empty(), "{}: has no finished seed1.test.jsonl", reference.display());
        Ok(Self {
            single: single?,
            validation: validation?,
            multi: multi?,
            in_context: in_context?,
            ablations: ablations?,
            merged: merged?,
            drafts: there("drafts"),
            drafters: there("drafters"),
            rounds: there("speed").iter().map(|path| Study::of_run(path)).collect::<Result<_>>()?,
            seeds,
        })
    }

    /// The reference's answers with the models that ship.
    pub(super) fn reference(&self) -> &Study {
        &self.seeds[0]
    }
}
