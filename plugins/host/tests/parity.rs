//! Every bundled strategy, as a library through the host and built in: the same words and the same bits.

use std::sync::Arc;

use logitfuse_core::numerics::{log_sum_exp, top_k};
use logitfuse_core::{
    CalibrationRows, FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, PromptReading, PromptScore,
    RoleBinding, RoleRow, Rows, SessionInfo, SharedVocabulary, Step, TokenId,
};
use logitfuse_plugin_host::{OnError, PluginFile};
use logitfuse_replay::SyntheticSource;
use serde_json::{Value, json};

use crate::libraries::{bundled, library};

const WIDTH: usize = 211;

fn built_in(id: &str, params: &Value) -> logitfuse_core::Result<Arc<dyn FusionStrategy>> {
    Ok(match id {
        "static-proxy" => Arc::new(logitfuse_static_proxy::StaticProxy::from_json(params)?),
        "dynamic-kl" => Arc::new(logitfuse_dynamic_kl::DynamicKl::from_json(params)?),
        "in-context" => Arc::new(logitfuse_in_context::InContext::from_json(params)?),
        "task-arithmetic" => Arc::new(logitfuse_task_arithmetic::TaskArithmetic::from_json(params)?),
        "ensemble" => Arc::new(logitfuse_ensemble::Ensemble::from_json(params)?),
        "contrastive" => Arc::new(logitfuse_ensemble::Contrastive::from_json(params)?),
        "trimix" => Arc::new(logitfuse_ensemble::TriMix::from_json(params)?),
        _ => panic!("{id} is not bundled"),
    })
}

fn both(plugin: &str, id: &str, params: &Value) -> [Arc<dyn FusionStrategy>; 2] {
    let file = PluginFile::read(library(plugin)).unwrap();
    let loaded = file.load().unwrap().strategy(id, params, OnError::Fail).unwrap();
    [built_in(id, params).unwrap(), Arc::new(loaded)]
}

#[test]
fn a_plugin_says_of_itself_what_the_built_in_strategy_says() {
    for (plugin, id, params, _) in bundled() {
        let [built_in, loaded] = both(plugin, id, &params);
        assert_eq!(format!("{:?}", built_in.info()), format!("{:?}", loaded.info()), "{id} {params}");
    }
}

#[test]
fn a_plugin_refuses_what_the_built_in_strategy_refuses_with_the_same_words() {
    for (plugin, id, ..) in bundled() {
        let file = PluginFile::read(library(plugin)).unwrap().load().unwrap();
        // What the schema can say, the host refuses in its own words; this one only the strategy knows, if it knows it.
        let params = json!({ "no_such_parameter": 1 });
        let of_plugin = file.strategy(id, &params, OnError::Fail).map(drop).unwrap_err();
        let built_in = built_in(id, &params).map(drop).unwrap_err();
        assert_eq!(of_plugin.kind(), built_in.kind());
        assert!(of_plugin.to_string().starts_with("/no_such_parameter: "), "{of_plugin}");
    }
}

/// Calibration prompts that are missing, or too few, are refused in the words of the strategy.
#[test]
fn a_plugin_refuses_bad_calibration_with_the_same_words() {
    let session = session(&["base", "expert", "expert", "anti"]);
    let [starts, few] = [(); 2].map(|()| both("dynamic-kl", "dynamic-kl", &json!({ "weights": "fingerprint" })));
    let said = starts.map(|strategy| strategy.start(&session).map(drop).unwrap_err());
    assert_eq!(said[0].to_string(), said[1].to_string());
    assert_eq!(said[0].help(), said[1].help());
    let said = few.map(|strategy| {
        let one = &mut |binding| Ok(rows_after(binding, 4, 1));
        strategy.calibrated(&session, one).map(drop).unwrap_err()
    });
    assert_eq!(said[0].to_string(), said[1].to_string());
    assert_eq!(said[0].help(), said[1].help());
}

fn session(roles: &[&str]) -> SessionInfo {
    let binding = |(i, role): (usize, &&str)| RoleBinding { role: (*role).to_owned(), source: format!("{role}-{i}") };
    let bindings = roles.iter().enumerate().map(binding);
    SessionInfo::new(bindings, SharedVocabulary::new(WIDTH, []))
}

fn sources(roles: &[&str]) -> Vec<SyntheticSource> {
    let source = |(i, role): (usize, &&str)| {
        SyntheticSource::new(&format!("{role}-{i}"), WIDTH, 11 + i as u64).related_to(11, 0.7)
    };
    roles.iter().enumerate().map(source).collect()
}

/// Rows of every binding after prompts of one binding's kind.
fn rows_after(binding: usize, bindings: usize, prompts: usize) -> CalibrationRows {
    let mut rows = CalibrationRows::new(prompts);
    for prompt in 0..prompts {
        for of in 0..bindings {
            let logit = |id: usize| ((id * (7 + binding) + 5 * prompt + 13 * of) % 31) as f32 / 4.0;
            rows.push(prompt, of, &(0..WIDTH).map(logit).collect::<Vec<f32>>());
        }
    }
    rows
}

/// The strategy fitted to its sources, if it must be.
fn fitted(strategy: &Arc<dyn FusionStrategy>, session: &SessionInfo) -> Arc<dyn FusionStrategy> {
    if strategy.info().calibration.as_ref().is_none_or(|spec| !spec.required) {
        return Arc::clone(strategy);
    }
    strategy.calibrated(session, &mut |binding| Ok(rows_after(binding, session.bindings.len(), 4))).unwrap()
}

/// Reads a prompt to a state and tells it that it is over.
fn begin(strategy: &dyn FusionStrategy, state: &mut dyn FusionState, models: &mut [Model]) {
    let prompt: [TokenId; 6] = [3, 1, 4, 1, 5, 9];
    let reading = strategy.info().prompt;
    let mut scores = vec![PromptScore::default(); models.len()];
    for at in 1..=prompt.len() {
        for model in models.iter_mut() {
            model.read(&prompt[..at]);
        }
        let rows: Vec<RoleRow<'_>> = models.iter().map(|model| model.row(0.0)).collect();
        let step = FusionStep::new(&rows, &[]);
        let Some(&next) = prompt.get(at) else {
            let told = if reading == PromptReading::End { &[][..] } else { &scores };
            state.begin(&step, told).unwrap();
            break;
        };
        if reading == PromptReading::Rows {
            state.read_prompt(&step, next).unwrap();
        }
        for (score, row) in scores.iter_mut().zip(&rows) {
            score.log_prob += f64::from(row.logits()[next as usize]) - row.log_normaliser;
            score.tokens += 1;
        }
    }
}

/// A source with one sequence and the row that it yielded last.
struct Model {
    source: SyntheticSource,
    sequence: logitfuse_core::SequenceId,
    rows: Rows,
}

impl Model {
    fn all(roles: &[&str]) -> Vec<Self> {
        let open = |mut source: SyntheticSource| {
            let sequence = source.open().unwrap();
            Self { source, sequence, rows: Rows::new() }
        };
        sources(roles).into_iter().map(open).collect()
    }

    /// Runs a text from its beginning.
    fn read(&mut self, tokens: &[TokenId]) {
        self.source.truncate(self.sequence, 0).unwrap();
        self.source.forward(&[Step { sequence: self.sequence, tokens, rows: 1 }], &mut self.rows).unwrap();
    }

    fn row(&self, sequence_log_prob: f64) -> RoleRow<'_> {
        RoleRow::new(self.rows.row(0), log_sum_exp(self.rows.row(0)), sequence_log_prob)
    }
}

/// More than a thousand steps with commits, looks at what is not committed, rollbacks and forks.
#[test]
fn rows_and_traces_have_the_same_bits_over_a_thousand_steps() {
    for (plugin, id, params, roles) in bundled() {
        let session = session(&roles);
        let strategies = both(plugin, id, &params).map(|strategy| fitted(&strategy, &session));
        let infos = strategies.each_ref().map(|strategy| format!("{:?}", strategy.info()));
        assert_eq!(infos[0], infos[1], "{id} {params}");
        let mut models = Model::all(&roles);
        let mut states = strategies.each_ref().map(|strategy| strategy.start(&session).unwrap());
        for (strategy, state) in strategies.iter().zip(&mut states) {
            begin(strategy.as_ref(), state.as_mut(), &mut models);
        }
        let mut committed: Vec<TokenId> = Vec::new();
        let mut log_probs = vec![0.0; models.len()];
        for step in 0..1_050_usize {
            let last: Vec<TokenId> = committed.iter().rev().take(4).copied().chain([7]).collect();
            for model in &mut models {
                model.read(&last);
            }
            let lent: Vec<RoleRow<'_>> = models.iter().zip(&log_probs).map(|(model, p)| model.row(*p)).collect();
            let columns = if step % 3 == 0 { 0 } else { strategies[0].info().trace.len() };
            let written = states.each_mut().map(|state| fuse(state.as_mut(), &lent, &committed, columns));
            assert!(written[0] == written[1], "{id} {params}: step {step}");
            let logits: Vec<f32> = written[0].0.iter().map(|bits| f32::from_bits(*bits)).collect();
            let best = top_k(&logits, 3);
            let token = best[step % best.len()].0;
            for (log_prob, row) in log_probs.iter_mut().zip(&lent) {
                *log_prob += f64::from(row.logits()[token as usize]) - row.log_normaliser;
            }
            committed.push(token);
            for state in &mut states {
                state.commit(&[token]).unwrap();
                if step % 50 == 49 {
                    // The token is taken back and given again, on a copy.
                    state.rollback(1).unwrap();
                    *state = state.fork().unwrap();
                    state.commit(&[token]).unwrap();
                }
            }
        }
    }
}

fn fuse(
    state: &mut dyn FusionState,
    rows: &[RoleRow<'_>],
    committed: &[TokenId],
    columns: usize,
) -> (Vec<u32>, Vec<u64>) {
    let (mut logits, mut trace) = (vec![f32::NAN; WIDTH], vec![f64::NAN; columns]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
    state.fuse(&FusionStep::new(rows, committed), &mut out).unwrap();
    (logits.iter().map(|x| x.to_bits()).collect(), trace.iter().map(|x| x.to_bits()).collect())
}

/// What is told of the prompt and learnt from calibration prompts matters: without it the same rows fuse to others.
#[test]
fn prompts_and_calibration_arrive() {
    let logits = |strategy: &Arc<dyn FusionStrategy>, roles: &[&str], told: bool| {
        let mut models = Model::all(roles);
        let mut state = strategy.start(&session(roles)).unwrap();
        if told {
            begin(strategy.as_ref(), state.as_mut(), &mut models);
        } else {
            for model in &mut models {
                model.read(&[3, 1, 4, 1, 5, 9]);
            }
            let rows: Vec<RoleRow<'_>> = models.iter().map(|model| model.row(0.0)).collect();
            state.begin(&FusionStep::new(&rows, &[]), &vec![PromptScore::default(); rows.len()]).unwrap();
        }
        let rows: Vec<RoleRow<'_>> = models.iter().map(|model| model.row(0.0)).collect();
        fuse(state.as_mut(), &rows, &[], 0).0
    };
    let roles = ["base", "expert", "anti"];
    let [_, trimix] = both("ensemble", "trimix", &json!({ "calibration": "prompt" }));
    assert_ne!(logits(&trimix, &roles, true), logits(&trimix, &roles, false));
    let roles = ["base", "expert", "expert", "anti"];
    let [_, posterior] = both("dynamic-kl", "dynamic-kl", &json!({ "posterior": { "evidence": "prompt" } }));
    assert_ne!(logits(&posterior, &roles, true), logits(&posterior, &roles, false));
    // The default is weights by posterior, or by fingerprint once there is calibration.
    let [_, plain] = both("dynamic-kl", "dynamic-kl", &json!({}));
    let session = session(&roles);
    let calibrated = plain.calibrated(&session, &mut |binding| Ok(rows_after(binding, 4, 4))).unwrap();
    assert!(calibrated.info().trace.len() > plain.info().trace.len());
    assert_ne!(logits(&calibrated, &roles, true), logits(&plain, &roles, true));
}
