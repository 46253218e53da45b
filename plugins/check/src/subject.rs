//! What a case works on: a loaded plugin, a strategy of it, its parameters, a seed.

use std::sync::Arc;

use logitfuse_conformance::{Case, generators};
use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, Result, RoleBinding, SessionInfo, SharedVocabulary, StrategyInfo,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::Request;
use logitfuse_plugin_host::{OnError, Plugin, PluginFile, PluginStrategy, StrategyMetadata};

/// How many sources play each role.
pub(crate) type RoleCounts = Vec<(String, usize)>;

pub(crate) struct Subject {
    pub(crate) plugin: Plugin,
    pub(crate) index: usize,
    pub(crate) described: StrategyMetadata,
    pub(crate) params: Value,
    pub(crate) seed: u64,
    pub(crate) cases: u32,
    pub(crate) fuzz_ms: u64,
}

impl Subject {
    /// Loads the plugin of a request, and picks the strategy.
    pub(crate) fn load(file: &PluginFile, request: &Request) -> Result<Self> {
        let plugin = file.load()?;
        let strategies = &plugin.metadata().strategies;
        let wanted = request.strategy.as_deref();
        let index = strategies.iter().position(|s| wanted.is_none_or(|id| s.info.id == id)).unwrap_or(0);
        let described = strategies[index].clone();
        let params = request.params.clone().unwrap_or_else(|| crate::sample_params::least(described.schema()));
        let Request { seed, cases, fuzz_ms, .. } = *request;
        Ok(Self { plugin, index, described, params, seed, cases, fuzz_ms })
    }

    /// The strategy with the parameters of this check.
    pub(crate) fn strategy(&self) -> Result<PluginStrategy> {
        self.plugin.strategy(&self.described.info.id, &self.params, OnError::Fail)
    }

    /// As the plugin takes them, whatever the schema says.
    pub(crate) fn create(&self, params: &Value) -> Result<PluginStrategy> {
        self.plugin.strategy_unchecked(&self.described.info.id, params)
    }

    /// A runner whose random numbers come from the seed and `salt`.
    pub(crate) fn runner(&self, salt: u64) -> TestRunner {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&salt.to_le_bytes());
        let config =
            Config { cases: self.cases, failure_persistence: None, max_shrink_iters: 512, ..Config::default() };
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }
}

/// The numbers of sources that the strategy accepts: as few as it allows, and more.
///
/// The error says that it accepts none.
pub(crate) fn role_counts(strategy: &dyn FusionStrategy) -> Result<Vec<RoleCounts>, String> {
    let mut refusal = String::new();
    let mut accepted: Vec<RoleCounts> = Vec::new();
    for counts in proposals(strategy.info()) {
        match Case::accepts(strategy, &session(&counts, 7)) {
            Ok(()) if !accepted.contains(&counts) => accepted.push(counts),
            Ok(()) => {}
            Err(e) => refusal = e.to_string(),
        }
    }
    if accepted.is_empty() {
        Err(format!("no number of sources for its roles is accepted: {refusal}"))
    } else {
        Ok(accepted)
    }
}

/// Few sources, all sources, all sources and several where several may be.
fn proposals(info: &StrategyInfo) -> Vec<RoleCounts> {
    let with = |count: &dyn Fn(usize, usize) -> usize| -> RoleCounts {
        let counts = info.roles.iter().map(|role| {
            let most = role.arity.max.unwrap_or(usize::MAX);
            (role.name.clone(), count(role.arity.min, most).min(most))
        });
        counts.filter(|(_, n)| *n > 0).collect()
    };
    let all = [
        with(&|least, _| least),
        with(&|least, _| least.max(1)),
        with(&|least, most| if most > 1 { least.max(2) } else { least.max(1) }),
    ];
    all.into_iter().filter(|counts| !counts.is_empty()).collect()
}

pub(crate) fn session(counts: &RoleCounts, width: usize) -> SessionInfo {
    let bindings = counts.iter().flat_map(|(role, count)| {
        (0..*count).map(move |i| RoleBinding { role: role.clone(), source: format!("{role}-{i}") })
    });
    SessionInfo::new(bindings, SharedVocabulary::new(width, []))
}

/// A case of the generators of the laws.
pub(crate) fn draw(counts: &RoleCounts, runner: &mut TestRunner) -> Result<Case, String> {
    let roles: Vec<(&str, usize)> = counts.iter().map(|(role, count)| (role.as_str(), *count)).collect();
    generators::case(&roles).new_tree(runner).map(|tree| tree.current()).map_err(|e| e.to_string())
}

/// What was written at one position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepOutput {
    pub(crate) logits: Vec<u32>,
    pub(crate) trace: Vec<u64>,
}

/// Fuses one position of a case.
pub(crate) fn fuse(state: &mut dyn FusionState, case: &Case, step: usize, columns: usize) -> Result<StepOutput> {
    let rows = case.rows(step);
    let (mut logits, mut trace) = (vec![f32::NAN; case.width()], vec![f64::NAN; columns]);
    state.fuse(
        &FusionStep::new(&rows, &case.tokens[..step]),
        &mut FusedRow { logits: &mut logits, trace: &mut trace },
    )?;
    Ok(StepOutput {
        logits: logits.iter().map(|x| x.to_bits()).collect(),
        trace: trace.iter().map(|x| x.to_bits()).collect(),
    })
}

/// Fuses and commits all of a case with a fresh state, of a strategy that is calibrated if it must be.
pub(crate) fn play(strategy: &dyn FusionStrategy, case: &Case) -> Result<Vec<StepOutput>> {
    let fitted = fitted(strategy, case)?;
    let strategy = fitted.as_deref().unwrap_or(strategy);
    let mut state = case.start(strategy)?;
    let columns = strategy.info().trace.len();
    let play = |step: usize| {
        let written = fuse(state.as_mut(), case, step, columns)?;
        state.commit(&case.tokens[step..=step])?;
        Ok(written)
    };
    (0..case.steps.len()).map(play).collect()
}

/// The calibrated strategy, if it cannot run otherwise.
pub(crate) fn fitted(strategy: &dyn FusionStrategy, case: &Case) -> Result<Option<Arc<dyn FusionStrategy>>> {
    let required = strategy.info().calibration.as_ref().is_some_and(|spec| spec.required);
    if required { case.calibrated(strategy) } else { Ok(None) }
}
