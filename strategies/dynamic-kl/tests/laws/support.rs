//! Steps by the traits alone, named trace columns, and rows without extremes.

use logitfuse_conformance::generators::{RowKind, row_of};
use logitfuse_core::numerics::{log_sum_exp, softmax};
use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, PromptScore, RoleBinding, RoleRow, SessionInfo,
    SharedVocabulary, TokenId,
};
use logitfuse_dynamic_kl::{DynamicKl, Params};
use proptest::prelude::*;

/// The fused row of a step, and its trace by name.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    pub logits: Vec<f32>,
    trace: Vec<(String, f64)>,
}

/// By bits: a trace may hold NaN.
impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        let bits = |fused: &Self| -> (Vec<u32>, Vec<u64>) {
            (fused.logits.iter().map(|x| x.to_bits()).collect(), fused.trace.iter().map(|x| x.1.to_bits()).collect())
        };
        bits(self) == bits(other)
    }
}

impl Fused {
    pub(crate) fn new(logits: Vec<f32>, trace: impl IntoIterator<Item = (String, f64)>) -> Self {
        Self { logits, trace: trace.into_iter().collect() }
    }

    pub(crate) fn get(&self, column: &str) -> f64 {
        self.trace.iter().find(|(name, _)| name == column).map(|(_, value)| *value).expect("a column of the trace")
    }

    pub(crate) fn probabilities(&self) -> Vec<f64> {
        probabilities(&self.logits)
    }
}

pub(crate) fn probabilities(row: &[f32]) -> Vec<f64> {
    let mut p = vec![0.0; row.len()];
    softmax(row, log_sum_exp(row), &mut p);
    p.into_iter().map(f64::from).collect()
}

pub(crate) fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    0.5 * a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>()
}

pub(crate) fn strategy(params: Params) -> DynamicKl {
    DynamicKl::new(params).expect("parameters of a test are valid")
}

/// A session of one base, so many experts and so many antis.
pub(crate) fn session(experts: usize, antis: usize, width: usize) -> SessionInfo {
    let bindings = [("base", 1), ("expert", experts), ("anti", antis)].into_iter().flat_map(|(role, count)| {
        (0..count).map(move |i| RoleBinding { role: role.to_owned(), source: format!("{role}-{i}") })
    });
    SessionInfo::new(bindings, SharedVocabulary::new(width, []))
}

/// One sequence under a strategy, fed by hand.
pub(crate) struct Sequence<'a> {
    strategy: &'a DynamicKl,
    pub(crate) state: Box<dyn FusionState>,
    /// Under every row, of the committed tokens.
    log_probs: Vec<f64>,
    /// What every row gives the prompt, once it is known; a prompt of eight tokens.
    pub(crate) prompt: Vec<PromptScore>,
    begun: bool,
    tokens: Vec<TokenId>,
}

impl<'a> Sequence<'a> {
    pub(crate) fn new(strategy: &'a DynamicKl, session: &SessionInfo) -> Self {
        let rows = session.bindings.len();
        let prompt = (0..rows).map(|row| PromptScore { log_prob: -9.0 - row as f64, tokens: 8 }).collect();
        let state = strategy.start(session).expect("the roles fit");
        Self { strategy, state, log_probs: vec![0.0; rows], prompt, begun: false, tokens: Vec::new() }
    }

    pub(crate) fn fuse(&mut self, rows: &[Vec<f32>]) -> Fused {
        let info = self.strategy.info();
        let views: Vec<RoleRow<'_>> =
            rows.iter().zip(&self.log_probs).map(|(row, &lp)| RoleRow::new(row, log_sum_exp(row), lp)).collect();
        let (mut logits, mut trace) = (vec![f32::NAN; rows[0].len()], vec![f64::NAN; info.trace.len()]);
        let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
        if !std::mem::replace(&mut self.begun, true) {
            self.state.begin(&FusionStep::new(&views, &[]), &self.prompt).expect("a prompt's end");
        }
        self.state.fuse(&FusionStep::new(&views, &self.tokens), &mut out).expect("rows of a test are valid");
        Fused::new(logits, info.trace.iter().map(|column| column.name.clone()).zip(trace))
    }

    pub(crate) fn commit(&mut self, rows: &[Vec<f32>], token: TokenId) {
        for (log_prob, row) in self.log_probs.iter_mut().zip(rows) {
            *log_prob += f64::from(row[token as usize]) - log_sum_exp(row);
        }
        self.tokens.push(token);
        self.state.commit(&[token]).expect("a token of the vocabulary");
    }
}

/// The first position of a fresh sequence: base, experts, antis.
pub(crate) fn fuse_once(strategy: &DynamicKl, rows: &[Vec<f32>], experts: usize) -> Fused {
    let session = session(experts, rows.len() - 1 - experts, rows[0].len());
    Sequence::new(strategy, &session).fuse(rows)
}

/// Rows as models give them: nothing masked, nothing of absurd scale.
pub(crate) fn plain_rows(count: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let kind = prop_oneof![3 => Just(RowKind::Ordinary), 1 => Just(RowKind::Half), 1 => Just(RowKind::Ties)];
    (2..60_usize).prop_flat_map(move |width| {
        prop::collection::vec(kind.clone().prop_flat_map(move |kind| row_of(kind, width, 0)), count)
    })
}

/// Experts that moved a little from their anti, as tuning does: base, experts, one anti.
pub(crate) fn tuned_rows(experts: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    plain_rows(2).prop_flat_map(move |rows| {
        let width = rows[0].len();
        let moves = prop::collection::vec(prop::collection::vec(-3.0_f32..3.0, width), experts);
        moves.prop_map(move |moves| {
            let anti = &rows[1];
            let tuned = moves.iter().map(|by| anti.iter().zip(by).map(|(x, by)| x + by).collect());
            [rows[0].clone()].into_iter().chain(tuned).chain([anti.clone()]).collect()
        })
    })
}
