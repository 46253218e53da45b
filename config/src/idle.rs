//! Settings that change nothing.
//!
//! Why: who writes `top_p = 0.9` believes that it counts. Under greedy decoding it does not, and a result that was made
//! without it would seem to have been made with it. A value is told of if it is not the default and counts in no cell.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_core::StrategyInfo;
use logitfuse_pipeline::{RunConfig, SourceConfig, built_in};

use super::{
    Cell, Config, ConfigOrigin, Experiment, OutputType, Place, Sampler, TaskConfig, Tokenization,
    diagnostic::Diagnostic,
    document::{Entry, get},
};

/// Why a setting does not count, and what to do.
type Reason = (&'static str, &'static str);

const GREEDY: Reason = (
    "decoding is greedy, so the most probable token is taken in any case",
    "set a temperature above 0, or leave it out",
);
const ONE_TOKEN: Reason = ("top_k = 1 leaves one token to choose", "raise top_k, or leave it out");
const SCORES: Reason = ("nothing is generated: continuations are scored as they are", "leave it out");
const NO_TASKS: Reason = ("only samples of tasks keep a trace", "use `run --trace`, or leave it out");
const NO_STRATEGY: Reason = ("no strategy is used", "set `use`, or leave it out");
const BUILT_IN: Reason = ("every strategy is built in", "set strategy.use = \"plugin:ID\", or leave it out");
const NO_ROLE: Reason = ("the source plays no role", "name it in strategy.roles, or leave it out");
const NO_DEMONSTRATIONS: Reason = ("there are no demonstrations", "name a file in `demonstrations`, or leave it out");
const NO_CHAT: Reason = ("there is no chat template that could show it", "leave it out");
const NOT_FITTED: Reason = ("the strategy asks for no calibration prompts of this source", "leave it out");
const ONE_FILE: Reason = ("`model` names the file itself", "leave it out");

/// What is said of one value of the files, over all cells that have it.
#[derive(Default)]
struct Said {
    counts: bool,
    reason: Option<(String, Reason)>,
}

impl Experiment {
    /// What an experiment sets and has no use for, one for each key. None of it is an error.
    ///
    /// ```
    /// use logitfuse_config::{Experiment, Overrides};
    ///
    /// let text = "schema = 1\n[run]\ntop_p = 0.9\n[sources.base]\nmodel = 'L'\n";
    /// let idle = Experiment::from_toml(text, &Overrides::default())?.idle_settings();
    /// assert!(idle[0].message.starts_with("run.top_p changes nothing: decoding is greedy"));
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn idle_settings(&self) -> Vec<Diagnostic> {
        let strategies = built_in();
        let mut said: BTreeMap<(usize, usize), Said> = BTreeMap::new();
        for cell in self.cells() {
            let generates = cell.task_config.output_type == OutputType::GenerateUntil;
            note(&mut said, &cell.config, generates, &strategies);
        }
        if self.cells().is_empty()
            && let Ok(alone) = self.config()
        {
            note(&mut said, &alone, true, &strategies);
            if alone.run.traced_samples != RunConfig::default().traced_samples
                && let Some(entry) = alone.origin.entry(&["run", "traced_samples"])
            {
                let reason = Some(("run.traced_samples".to_owned(), NO_TASKS));
                said.insert((entry.node.span.start, entry.node.span.end), Said { counts: false, reason });
            }
        }
        let mut found = Vec::new();
        let mut names = BTreeSet::new();
        for ((start, end), said) in said {
            let Some((path, (why, help))) = said.reason.filter(|_| !said.counts) else { continue };
            let place = self.texts().place(&(start..end));
            // Files that are extended hold models for several experiments.
            let own = |place: &Place| {
                place.name().starts_with("--") || self.texts().first().is_some_and(|first| first.name == place.name())
            };
            let shared = !path.starts_with("run.") && !place.as_ref().is_none_or(own);
            // A value that is swept is told of once.
            if !shared && names.insert(path.clone()) {
                found.push(Diagnostic::new(format!("{path} changes nothing: {why}"), place).help(help));
            }
        }
        self.tasks_with(&mut found);
        self.twins(&mut found);
        found
    }

    /// What the tasks themselves set.
    fn tasks_with(&self, found: &mut Vec<Diagnostic>) {
        let mut seen = BTreeSet::new();
        for cell in self.cells().iter().filter(|cell| seen.insert(&cell.task)) {
            // Repeats are alike only where every variant decodes greedily.
            let mut of_task = self.cells().iter().filter(|other| other.task == cell.task);
            let greedy = of_task.all(|cell| cell.config.run.temperature == 0.0);
            for (key, why) in idle_of_task(&cell.task_config, greedy) {
                let path: Vec<&str> = ["tasks", &cell.task].into_iter().chain(key.split('.')).collect();
                let entry = get(self.document(), &path);
                let place = entry.and_then(|entry| self.texts().place(entry.underline()));
                let what = format!("{} changes nothing: {}", path.join("."), why.0);
                found.push(Diagnostic::new(what, place).help(why.1));
            }
        }
    }

    /// Variants that are the same in everything.
    fn twins(&self, found: &mut Vec<Diagnostic>) {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        let Some(first) = self.cells().first().map(|cell| &cell.task) else { return };
        let of_variant = |variant: &str| {
            let cells = self.cells().iter().filter(|cell| cell.variant == variant);
            cells.map(|cell| serde_json::to_string(&cell.config).unwrap_or_default()).collect::<String>()
        };
        // Where the first task is the same, the others have to be looked at.
        let mut alike: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
        for cell in self.cells().iter().filter(|cell| cell.task == *first) {
            alike.entry(serde_json::to_string(&cell.config).unwrap_or_default()).or_default().push(cell);
        }
        let several: BTreeSet<&str> =
            alike.values().filter(|cells| cells.len() > 1).flatten().map(|cell| cell.variant.as_str()).collect();
        for variant in self.variants().iter().filter(|variant| several.contains(variant.as_str())).take(MOST_TWINS) {
            if let Some(other) = known.insert(of_variant(variant), variant) {
                let stem = variant.split('[').next().unwrap_or(variant);
                let place = get(self.document(), &["variants", stem]).and_then(|entry| self.texts().place(&entry.key));
                let what = format!("variant `{variant}` is the same as `{other}` in everything");
                found.push(Diagnostic::new(what, place).help("change something in it, or leave it out"));
            }
        }
    }
}

/// Every pair of them costs a look at all tasks.
const MOST_TWINS: usize = 100;

/// Notes, for every value that a configuration sets, whether it counts there.
fn note(said: &mut BTreeMap<(usize, usize), Said>, config: &Config, generates: bool, strategies: &[StrategyInfo]) {
    let mut of = |path: &[&str], reason: Option<Reason>| {
        let Some(entry) = config.origin.entry(path).filter(|entry| !entry.inherited) else { return };
        let span = entry.underline();
        let said = said.entry((span.start, span.end)).or_default();
        match reason {
            None => said.counts = true,
            Some(reason) => said.reason = Some((path.join("."), reason)),
        }
    };
    let run = &config.run;
    let greedy = || (run.temperature == 0.0).then_some(GREEDY).or((run.top_k == 1).then_some(ONE_TOKEN));
    let scores = (!generates).then_some(SCORES);
    for (key, is_set, reason) in [
        ("max_new_tokens", true, None),
        ("stop", !run.stop.is_empty(), None),
        ("ignore_end_of_sequence", run.ignore_end_of_sequence, None),
        ("repetition_penalty", (run.repetition_penalty - 1.0).abs() > 0.0, None),
        ("presence_penalty", run.presence_penalty != 0.0, None),
        ("frequency_penalty", run.frequency_penalty != 0.0, None),
        ("logit_bias", !run.logit_bias.is_empty(), None),
        ("temperature", run.temperature != 0.0, greedy()),
        ("seed", run.seed != 0, greedy()),
        ("top_k", run.top_k > 1, greedy()),
        ("top_p", run.top_p < 1.0, greedy()),
        ("min_p", run.min_p > 0.0, greedy()),
    ] {
        if is_set {
            of(&["run", key], scores.or(reason));
        }
    }
    if config.speculation.is_some() {
        of(&["speculation"], scores);
    }
    let id = config.strategy.id.as_deref().unwrap_or("none");
    for wrapper in ["schedule", "gate"] {
        of(&["strategy", wrapper], (id == "none").then_some(NO_STRATEGY));
    }
    let info = strategies.iter().find(|info| info.id == id);
    for name in config.plugins.keys() {
        of(&["plugins", name], info.map(|_| BUILT_IN));
    }
    // What a plugin reads is not known without it.
    let roles = info.map(|info| (info, config.assign(info).unwrap_or_default()));
    for (name, source) in &config.sources {
        sources_of(&mut of, name, source, config, roles.as_ref());
    }
}

fn sources_of(
    of: &mut dyn FnMut(&[&str], Option<Reason>),
    name: &str,
    source: &SourceConfig,
    config: &Config,
    roles: Option<&(&StrategyInfo, Vec<(String, String)>)>,
) {
    let drafts = config.speculation.as_ref().is_some_and(|speculation| speculation.draft == *name);
    let plays = |role: Option<&str>| {
        let playing = |(_, roles): &(&StrategyInfo, Vec<(String, String)>)| {
            roles.iter().any(|(played, source)| source == name && role.is_none_or(|role| role == played))
        };
        roles.is_none_or(playing)
    };
    if roles.is_some_and(|(_, roles)| !roles.is_empty()) {
        of(&["sources", name], (!plays(None) && !drafts).then_some(NO_ROLE));
    }
    let default = SourceConfig::new(&source.model);
    let shown = source.demonstrations.is_none().then_some(NO_DEMONSTRATIONS);
    let asked = roles.is_none_or(|(info, _)| info.calibration.as_ref().is_some_and(|spec| plays(Some(&spec.role))));
    let file = source.model.extension().is_some_and(|ending| ending == "onnx");
    for (key, is_set, reason) in [
        ("answer", source.answer != default.answer, shown),
        ("separator", source.separator != default.separator, shown),
        ("date", source.date.is_some(), (source.chat_template == "none").then_some(NO_CHAT)),
        ("calibration", source.calibration.is_some(), (!asked).then_some(NOT_FITTED)),
        ("variant", source.variant.is_some(), file.then_some(ONE_FILE)),
    ] {
        if is_set {
            of(&["sources", name, key], reason);
        }
    }
}

/// The keys of a task that change nothing.
fn idle_of_task(task: &TaskConfig, greedy: bool) -> Vec<(&'static str, Reason)> {
    const NO_PROMPT: Reason = ("a whole text is scored, without a prompt", "leave it out");
    let default = TaskConfig::new(&task.data);
    let generates = task.output_type == OutputType::GenerateUntil;
    let rolling = task.output_type == OutputType::LoglikelihoodRolling;
    let chooses = task.output_type == OutputType::MultipleChoice;
    let shots = task.fewshot.as_ref().filter(|fewshot| fewshot.n > 0);
    let mut idle = Vec::new();
    let mut note = |key: &'static str, is_idle: bool, why: &'static str, help: &'static str| {
        if is_idle {
            idle.push((key, (why, help)));
        }
    };
    let alike = "decoding is greedy, so all answers to an item are the same";
    note("repeats", task.repeats > 1 && generates && greedy, alike, "set a temperature, or leave repeats out");
    note(
        "target_delimiter",
        task.target_delimiter != default.target_delimiter && !chooses && shots.is_none(),
        "there are no choices that are scored, and no demonstrations",
        "write it into `prompt`, or leave it out",
    );
    let whole = "there is no prompt with something scored after it";
    note("tokenization", task.tokenization != Tokenization::Joint && (generates || rolling), whole, "leave it out");
    for (key, is_set) in [("prompt", task.prompt.is_some()), ("description", task.description.is_some())] {
        note(key, is_set && rolling, NO_PROMPT.0, NO_PROMPT.1);
    }
    if let Some(fewshot) = &task.fewshot {
        note("fewshot", fewshot.n == 0, "no demonstration is shown", "raise n, or leave it out");
        let drawn = fewshot.sampler == Sampler::Seeded;
        note("fewshot.seed", fewshot.seed != 0 && !drawn, "the first items are shown", "set sampler = \"seeded\"");
    }
    idle
}

impl ConfigOrigin {
    /// What the files say at a path.
    fn entry(&self, path: &[&str]) -> Option<&Entry> {
        get(self.document(), path)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Experiment, Overrides};

    fn idle(text: &str) -> Vec<String> {
        let text = format!("schema = 1\n{text}");
        let experiment = Experiment::from_toml(&text, &Overrides::default()).expect("it is sound");
        experiment.idle_settings().into_iter().map(|one| one.to_string()).collect()
    }

    const BASE: &str = "[sources.base]\nmodel = 'L'\n";

    #[track_caller]
    fn says(text: &str, expected: &[&str]) {
        let found = idle(text);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn what_greedy_decoding_has_no_use_for() {
        says(
            &format!("[run]\ntop_p = 0.9\ntop_k = 5\nmin_p = 0.1\nseed = 3\n{BASE}"),
            &[
                "3:9: run.top_p changes nothing: decoding is greedy",
                "run.top_k changes",
                "run.min_p changes",
                "run.seed changes",
            ],
        );
        says(&format!("[run]\ntop_p = 0.9\ntemperature = 1.0\nseed = 3\n{BASE}"), &[]);
        says(&format!("[run]\ntop_k = 1\ntemperature = 1.0\n{BASE}"), &["run.temperature changes nothing: top_k = 1"]);
        says(
            &format!("[run]\ntraced_samples = 2\n{BASE}"),
            &["run.traced_samples changes nothing: only samples of tasks"],
        );
        // Defaults that are written down claim nothing.
        says(&format!("[run]\ntop_p = 1.0\ntemperature = 0.0\nseed = 0\n{BASE}"), &[]);
    }

    #[test]
    fn a_value_counts_where_one_cell_has_a_use_for_it() {
        let variants = "[tasks.t]\ndata = 'd'\ntarget = 'x'\n[variants.a]\n[variants.b]\nrun = { temperature = 1.0 }\n";
        says(&format!("[run]\ntop_p = 0.9\n{BASE}{variants}"), &[]);
        says(&format!("{BASE}{variants}[variants.c]\nrun = {{ top_p = 0.5 }}\n"), &["run.top_p changes nothing"]);
        let swept = "[tasks.t]\ndata = 'd'\ntarget = 'x'\n[sweep]\n\"run.top_p\" = [0.5, 0.6, 0.7]\n";
        says(&format!("{BASE}{swept}"), &["run.top_p changes nothing"]);
    }

    #[test]
    fn what_scores_have_no_use_for() {
        let scores =
            "[tasks.t]\ndata = 'd'\ntarget = 'x'\noutput_type = 'loglikelihood'\nstop = ['x']\nmax_new_tokens = 3\n";
        says(
            &format!("[run]\ntemperature = 1.0\nlogit_bias = {{ \"1\" = 1.0 }}\n{BASE}{scores}"),
            &[
                "3:15: run.temperature changes nothing: nothing is generated",
                "run.logit_bias changes",
                "run.stop changes",
                "run.max_new_tokens changes",
            ],
        );
    }

    #[test]
    fn sources_and_what_belongs_to_them() {
        says(
            &format!("{BASE}answer = 'x'\ndate = '2025-01-31'\nchat_template = 'none'\n[sources.other]\nmodel = 'S'\n"),
            &[
                "sources.base.answer changes nothing: there are no demonstrations",
                "sources.base.date changes nothing: there is no chat template",
                "sources.other changes nothing: the source plays no role",
            ],
        );
        says(
            &format!("{BASE}calibration = 'c.jsonl'\n[strategy.gate]\nmax_prob = 0.3\n"),
            &["sources.base.calibration changes nothing", "strategy.gate changes nothing: no strategy is used"],
        );
        says(
            &format!("{BASE}[plugins.mine]\npath = 'x.so'\n"),
            &["plugins.mine changes nothing: every strategy is built in"],
        );
        says("[sources.base]\nmodel = 'x/model.onnx'\nvariant = 'q4'\n", &["sources.base.variant changes nothing"]);
    }

    #[test]
    fn what_a_task_has_no_use_for() {
        let task = |keys: &str| format!("{BASE}[tasks.t]\ndata = 'd'\ntarget = 'x'\n{keys}");
        says(&task("repeats = 3\n"), &["7:11: tasks.t.repeats changes nothing: decoding is greedy"]);
        says(&task("repeats = 3\nwith = { run = { temperature = 0.5 } }\n"), &[]);
        says(&task("tokenization = 'separate'\n"), &["tasks.t.tokenization changes nothing"]);
        says(&task("target_delimiter = ''\n"), &["tasks.t.target_delimiter changes nothing"]);
        says(&task("target_delimiter = ''\nfewshot = { n = 1 }\n"), &[]);
        says(&task("fewshot = { n = 0 }\n"), &["tasks.t.fewshot changes nothing"]);
        says(&task("fewshot = { n = 1, seed = 3 }\n"), &["tasks.t.fewshot.seed changes nothing"]);
        says(&task("output_type = 'loglikelihood_rolling'\nprompt = 'x'\n"), &["tasks.t.prompt changes nothing"]);
    }

    #[test]
    fn variants_that_are_the_same() {
        let variants = "[tasks.t]\ndata = 'd'\ntarget = 'x'\n[variants.a]\n[variants.b]\nrun = { max_new_tokens = 128 }\n[variants.c]\nrun = { max_new_tokens = 9 }\n";
        says(&format!("{BASE}{variants}"), &["variant `b` is the same as `a` in everything"]);
    }
}
