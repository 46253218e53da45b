//! What decoding costs on this machine, and what drafts would give: `logitfuse plan`.

mod probe;

use logitfuse_core::{Error, ErrorKind, Result, RoundCosts};
use logitfuse_engine::{DraftCosts, DraftLength, Request, Speculation};
use serde::Serialize;

use crate::{
    Pipeline,
    costs::{self, LONGEST},
    speculation::Drafter,
    step_profiler::StepProfiler,
};

pub use probe::Probe;

/// Acceptances that predictions are made for where none was measured.
const ACCEPTANCES: [f64; 3] = [0.5, 0.7, 0.9];
const ASSUMED: f64 = 0.7;
/// Drafts must be faster than none by this factor: predictions are not exact.
const WORTH_IT: f64 = 1.02;

/// Times, and the choice that follows from them. All times are of this machine at this moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// Sequences that are decoded at once.
    pub batch: usize,
    /// Every model, in the order in which it was opened.
    pub sources: Vec<SourceProfile>,
    /// How the models run side by side.
    pub step: StepProfile,
    /// Tokens per second without drafts.
    pub plain_tokens_per_second: f64,
    /// Every possible drafter.
    pub drafters: Vec<DrafterProfile>,
    /// Decoding of the experiment's own samples; empty without a request for it.
    pub probes: Vec<Probe>,
    /// What is best.
    pub choice: Choice,
}

/// What one model costs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SourceProfile {
    /// The sources that it is.
    pub source: String,
    /// The roles that it plays.
    pub roles: Vec<String>,
    /// The execution provider that runs it.
    pub provider: String,
    /// Its threads.
    pub threads: usize,
    /// Milliseconds of a pass that yields one row, two, … of a sequence.
    pub forward_ms: Vec<f64>,
    /// Tokens per second of generating from it alone, with these threads.
    pub tokens_per_second: f64,
}

/// What a step of all models costs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StepProfile {
    /// Models that run side by side, group after group, as planned by their sizes.
    pub waves: Vec<Vec<String>>,
    /// Milliseconds of a step that way.
    pub planned_ms: f64,
    /// Milliseconds if all run one after another, with the same threads.
    pub in_turn_ms: f64,
}

/// What the drafts of one drafter would give.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DrafterProfile {
    /// A role, a source, or `prompt_lookup`.
    pub draft: String,
    /// Costs of a round. They end where not even a draft that is accepted as a whole would speed decoding up.
    pub costs: RoundCosts,
    /// Tokens per second at assumed acceptances, and at the one that was measured.
    pub predictions: Vec<Prediction>,
    /// From this acceptance on drafts are faster than none; absent if they never are.
    pub pays_from: Option<f64>,
}

/// Tokens per second by tokens per draft.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Prediction {
    /// The probability that a drafted token is accepted if those before it are.
    pub acceptance: f64,
    /// Whether it was measured, not assumed.
    pub measured: bool,
    /// Of drafts of 1, 2, … tokens.
    pub tokens_per_second: Vec<f64>,
}

/// What to write into the experiment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// The drafter; absent if no draft speeds decoding up.
    pub draft: Option<String>,
    /// Tokens per draft that are best at this acceptance.
    pub tokens: usize,
    /// What is expected, or was measured, of drafted tokens.
    pub acceptance: Option<f64>,
    /// Whether models run in the planned waves, or one after another.
    pub in_turn: bool,
    /// Tokens per second that are expected.
    pub tokens_per_second: f64,
    /// Why.
    pub why: String,
}

/// Makes requests for the pipeline that is profiled.
pub type Requests<'a> = dyn Fn(&Pipeline) -> Result<Vec<Request>> + 'a;

impl Profile {
    /// Times the models of a pipeline: by themselves, together, with every possible drafter, `batch` sequences at once.
    /// `probe` makes the requests that are decoded to see what drafts are worth; it may make none. Open the pipeline with a
    /// fixed length of drafts, if it drafts at all: then nothing is timed before.
    ///
    /// # Errors
    /// Those of running the models.
    pub fn take(pipeline: &Pipeline, batch: usize, probe: &Requests<'_>) -> Result<Self> {
        let requests = probe(pipeline)?;
        let profiler = pipeline.profiler(batch)?;
        let (planned, in_turn) = (pipeline.thread_plan().clone(), pipeline.thread_plan().in_turn());

        let step = profiler.plain(&planned.concurrency())?;
        let step_in_turn =
            if in_turn.waves.len() == planned.waves.len() { step } else { profiler.plain(&in_turn.concurrency())? };
        if !step.round.is_finite() {
            let what = format!("{}: its context has no room for a text", pipeline.models_named().join(", "));
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("set a larger `context_length`"));
        }
        let runs_in_turn = step_in_turn.round < step.round;
        let plan = if runs_in_turn { &in_turn } else { &planned };
        let plain = if runs_in_turn { step_in_turn } else { step };
        let plain = RoundCosts { batch, round_seconds: vec![plain.round], token_seconds: plain.token };
        let plain_tokens_per_second = plain.at_acceptance(0, 0.0);

        let mut drafters = Vec::new();
        let mut probes = Vec::new();
        if !requests.is_empty() {
            probes.push(probe::alone(pipeline, batch, &requests, &profiler)?);
            probes.push(probe::fused(pipeline, plan, "fused", None, &plain, &requests)?);
        }
        for (draft, drafter) in pipeline.drafters() {
            let costs = profiler.costs(plan, drafter, LONGEST)?;
            let mut found = DrafterProfile::new(draft, costs, plain_tokens_per_second);
            if !requests.is_empty() && found.costs.round_seconds.len() > 1 {
                let (length, _) = found.costs.best_at(ASSUMED);
                let length = DraftLength::Fixed(length.max(1));
                let speculation = Speculation { draft: drafter.draft(), length };
                let name = found.draft.clone();
                let probe = probe::fused(pipeline, plan, &name, Some(speculation), &found.costs, &requests)?;
                if let Some(acceptance) = probe.acceptance {
                    found.predict(acceptance, true);
                }
                probes.push(probe);
            }
            drafters.push((drafter, found));
        }
        let choice = Choice::new(&drafters, plain_tokens_per_second, runs_in_turn);
        let chosen = drafters.iter().find(|(_, found)| Some(&found.draft) == choice.draft.as_ref());
        if let (Some((drafter, found)), false) = (chosen, requests.is_empty()) {
            let verify = found.costs.round_seconds.clone();
            let length = DraftLength::Adaptive(DraftCosts { draft: 0.0, verify });
            let speculation = Speculation { draft: drafter.draft(), length };
            let name = format!("{}, auto", found.draft);
            probes.push(probe::fused(pipeline, plan, &name, Some(speculation), &found.costs, &requests)?);
        }
        Ok(Self {
            batch,
            sources: sources(pipeline, &profiler)?,
            step: StepProfile {
                waves: planned
                    .waves
                    .iter()
                    .map(|wave| wave.iter().map(|&m| pipeline.parts().model_named(m)).collect())
                    .collect(),
                planned_ms: 1e3 * step.round,
                in_turn_ms: 1e3 * step_in_turn.round,
            },
            plain_tokens_per_second,
            drafters: drafters.into_iter().map(|(_, found)| found).collect(),
            probes,
            choice,
        })
    }
}

fn sources(pipeline: &Pipeline, profiler: &StepProfiler<'_>) -> Result<Vec<SourceProfile>> {
    let one = |model: usize| {
        let roles = pipeline.parts().roles.iter().filter(|role| role.source == model).map(|role| role.role.clone());
        let alone = profiler.alone(model)?;
        let forward = pipeline.parts().pool.with_source(model, costs::time).flatten()?;
        Ok(SourceProfile {
            source: pipeline.parts().model_named(model),
            roles: roles.collect(),
            #[cfg(feature = "onnx")]
            provider: pipeline.models().get(model).map_or_else(String::new, |report| report.provider.clone()),
            #[cfg(not(feature = "onnx"))]
            provider: String::new(),
            threads: pipeline.thread_plan().threads[model],
            forward_ms: forward[..LONGEST].iter().map(|seconds| 1e3 * seconds).collect(),
            tokens_per_second: profiler.batch as f64 / (alone.round + profiler.batch as f64 * alone.token),
        })
    };
    (0..pipeline.parts().pool.len()).map(one).collect()
}

impl DrafterProfile {
    fn new(draft: String, costs: RoundCosts, plain: f64) -> Self {
        let pays = |acceptance: f64| costs.best_at(acceptance).1 > plain && costs.best_at(acceptance).0 > 0;
        let pays_from = (1..=100).map(|percent| f64::from(percent) / 100.0).find(|&acceptance| pays(acceptance));
        let mut found = Self { draft, costs, predictions: Vec::new(), pays_from };
        for acceptance in ACCEPTANCES {
            found.predict(acceptance, false);
        }
        found
    }

    fn predict(&mut self, acceptance: f64, measured: bool) {
        let lengths = 1..self.costs.round_seconds.len();
        let tokens_per_second = lengths.map(|length| self.costs.at_acceptance(length, acceptance)).collect();
        self.predictions.push(Prediction { acceptance, measured, tokens_per_second });
    }

    /// The acceptance that is expected: as measured, or as assumed of a model. How often a text repeats itself is not known
    /// without measuring.
    fn expected(&self, drafter: Drafter) -> Option<(f64, bool)> {
        let measured = self.predictions.iter().find(|prediction| prediction.measured);
        measured.map(|m| (m.acceptance, true)).or((drafter != Drafter::Lookup).then_some((ASSUMED, false)))
    }
}

impl Choice {
    fn new(drafters: &[(Drafter, DrafterProfile)], plain: f64, in_turn: bool) -> Self {
        let expected = drafters.iter().filter_map(|(drafter, found)| {
            let (acceptance, measured) = found.expected(*drafter)?;
            let (tokens, rate) = found.costs.best_at(acceptance);
            Some((found, acceptance, measured, tokens, rate))
        });
        let best = expected.reduce(|best, next| if next.4 > best.4 { next } else { best });
        let none =
            |why: String| Self { draft: None, tokens: 0, acceptance: None, in_turn, tokens_per_second: plain, why };
        let Some((found, acceptance, measured, tokens, rate)) = best else {
            return none("there is no drafter".to_owned());
        };
        let known = if measured { "was measured" } else { "is assumed" };
        if tokens == 0 || rate < WORTH_IT * plain {
            let from = found.pays_from.map_or("never".to_owned(), |from| format!("from {from:.2} on"));
            let why = format!("an acceptance of {acceptance:.2} {known}; drafts of {} would pay {from}", found.draft);
            return none(why);
        }
        Self {
            draft: Some(found.draft.clone()),
            tokens,
            acceptance: Some(acceptance),
            in_turn,
            tokens_per_second: rate,
            why: format!("an acceptance of {acceptance:.2} {known}: {:.2} × as fast as without drafts", rate / plain),
        }
    }
}

impl Pipeline {
    fn models_named(&self) -> Vec<String> {
        self.sources().map(|info| info.name.clone()).collect()
    }

    /// Every possible drafter, by the name that `[speculation]` calls them: each model by its first role, a source
    /// without role, and the prompt.
    fn drafters(&self) -> Vec<(String, Drafter)> {
        let mut all: Vec<(String, Drafter)> = Vec::new();
        for (binding, role) in self.parts().roles.iter().enumerate() {
            // `[speculation]` names the first source of a role.
            let first = self.parts().roles.iter().position(|other| other.role == role.role) == Some(binding);
            let known = |(_, drafter): &(String, Drafter)| drafter.model() == Some(role.source);
            if first && !all.iter().any(known) {
                all.push((role.role.clone(), Drafter::Binding { binding, model: role.source }));
            }
        }
        if let (Some(speculation), Some(Drafter::Extra { model })) = (&self.options().speculation, self.drafter()) {
            all.push((speculation.draft.clone(), Drafter::Extra { model }));
        }
        all.push(("prompt_lookup".to_owned(), Drafter::Lookup));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafter(draft: &str, per_token: f64) -> DrafterProfile {
        let round_seconds = (0..=LONGEST).map(|length| 1.0 + per_token * length as f64).collect();
        DrafterProfile::new(draft.to_owned(), RoundCosts { batch: 1, round_seconds, token_seconds: 0.0 }, 1.0)
    }

    const EXPERT: Drafter = Drafter::Binding { binding: 1, model: 1 };

    #[test]
    fn the_cheaper_drafter_is_chosen_and_its_length_is_the_best() {
        let anti = Drafter::Binding { binding: 2, model: 2 };
        let choice = Choice::new(&[(EXPERT, drafter("expert", 0.3)), (anti, drafter("anti", 0.1))], 1.0, false);
        assert_eq!(choice.draft.as_deref(), Some("anti"));
        let (tokens, rate) = drafter("anti", 0.1).costs.best_at(ASSUMED);
        assert_eq!(choice.tokens, tokens);
        assert!((choice.tokens_per_second - rate).abs() < 1e-12 && rate > 1.5, "{choice:?}");
    }

    #[test]
    fn drafts_that_do_not_pay_are_left_out_with_the_acceptance_that_they_need() {
        let choice = Choice::new(&[(EXPERT, drafter("expert", 0.8))], 1.0, true);
        assert_eq!((choice.draft, choice.tokens, choice.in_turn), (None, 0, true));
        assert!(choice.why.ends_with("drafts of expert would pay from 0.81 on"), "{}", choice.why);
        assert_eq!(drafter("expert", 2.0).pays_from, None);
    }

    #[test]
    fn what_was_measured_counts_and_the_prompt_needs_it() {
        assert_eq!(Choice::new(&[(Drafter::Lookup, drafter("prompt_lookup", 0.0))], 1.0, false).draft, None);
        let mut expert = drafter("expert", 0.3);
        expert.predict(0.2, true);
        assert_eq!(Choice::new(&[(EXPERT, expert)], 1.0, false).draft, None);
        let mut lookup = drafter("prompt_lookup", 0.1);
        lookup.predict(0.6, true);
        let choice = Choice::new(&[(Drafter::Lookup, lookup), (EXPERT, drafter("expert", 0.9))], 1.0, false);
        assert_eq!((choice.draft.as_deref(), choice.acceptance), (Some("prompt_lookup"), Some(0.6)));
    }
}
