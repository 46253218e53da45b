//! Random programs of opens, forks, truncations, closings and ragged batches, against a source that remembers nothing.
//!
//! A cache is an optimisation: whatever was done before, a row is a function of the tokens that its sequence holds. The
//! oracle is another export of the same weights, fed each sequence's tokens from the start.

use std::{cell::RefCell, collections::BTreeMap};

use logitfuse_core::{LogitSource, Rows, SequenceId, Step, TokenId};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};

use crate::{runtime, tiny};

#[derive(Clone, Debug)]
enum Operation {
    Open,
    Fork(Index),
    /// Keeps this share of the tokens.
    Truncate(Index, f64),
    Close(Index),
    Reserve(Index, usize),
    /// Some sequences with their new tokens; of each the last rows are wanted, as many as fit.
    Forward(Vec<(Index, Vec<TokenId>, usize)>),
}

fn operation() -> impl Strategy<Value = Operation> {
    let tokens = prop_oneof![3 => vec(0..97_u32, 1), 1 => vec(0..97_u32, 2..9)];
    let step = (any::<Index>(), tokens, 0..4_usize);
    prop_oneof![
        3 => Just(Operation::Open),
        2 => any::<Index>().prop_map(Operation::Fork),
        2 => (any::<Index>(), 0.0..=1.0).prop_map(|(of, share)| Operation::Truncate(of, share)),
        1 => any::<Index>().prop_map(Operation::Close),
        1 => (any::<Index>(), 0..128_usize).prop_map(|(of, tokens)| Operation::Reserve(of, tokens)),
        8 => vec(step, 1..5).prop_map(Operation::Forward),
    ]
}

/// A source under test, and what every open sequence must hold.
struct Machine<'a> {
    source: &'a mut OnnxSource,
    oracle: &'a mut OnnxSource,
    held: BTreeMap<SequenceId, Vec<TokenId>>,
    limit: usize,
}

impl Machine<'_> {
    fn pick(&self, index: Index) -> Option<SequenceId> {
        let open: Vec<SequenceId> = self.held.keys().copied().collect();
        (!open.is_empty()).then(|| open[index.index(open.len())])
    }

    fn run(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Open => {
                let id = self.source.open().unwrap();
                prop_assert!(self.held.insert(id, Vec::new()).is_none(), "{id:?} was given out twice");
            }
            Operation::Forward(steps) => return self.forward(steps),
            Operation::Fork(of) | Operation::Truncate(of, _) | Operation::Close(of) | Operation::Reserve(of, _) => {
                let Some(id) = self.pick(*of) else { return Ok(()) };
                self.change(id, operation);
            }
        }
        for (&id, held) in &self.held {
            prop_assert_eq!(self.source.len(id), Some(held.len()));
        }
        Ok(())
    }

    fn change(&mut self, id: SequenceId, operation: &Operation) {
        let held = self.held.get_mut(&id).unwrap();
        match operation {
            Operation::Fork(_) => {
                let copy = held.clone();
                self.held.insert(self.source.fork(id).unwrap(), copy);
            }
            Operation::Truncate(_, share) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
                held.truncate((held.len() as f64 * share) as usize);
                self.source.truncate(id, held.len()).unwrap();
            }
            Operation::Close(_) => {
                self.held.remove(&id);
                self.source.close(id);
            }
            Operation::Reserve(_, tokens) => self.source.reserve(id, *tokens).unwrap(),
            Operation::Open | Operation::Forward(_) => {}
        }
    }

    fn forward(&mut self, steps: &[(Index, Vec<TokenId>, usize)]) -> Result<(), TestCaseError> {
        let mut batch: Vec<Step<'_>> = Vec::new();
        for (index, tokens, rows) in steps {
            let Some(sequence) = self.pick(*index) else { continue };
            let fits = self.held[&sequence].len() + tokens.len() <= self.limit;
            if fits && !batch.iter().any(|step| step.sequence == sequence) {
                batch.push(Step { sequence, tokens, rows: (*rows).min(tokens.len()) });
            }
        }
        let mut seen = Rows::new();
        self.source.forward(&batch, &mut seen).unwrap();
        let mut row = 0;
        for step in &batch {
            let held = self.held.get_mut(&step.sequence).unwrap();
            held.extend_from_slice(step.tokens);
            let expected = rows_afresh(self.oracle, held, step.rows);
            for index in 0..expected.len() {
                let pairs = seen.row(row).iter().zip(expected.row(index));
                let far = pairs.clone().position(|(a, b)| (a - b).abs() > 1e-4);
                prop_assert_eq!(far, None, "row {} of {:?} after {:?}", index, step.sequence, held);
                row += 1;
            }
        }
        prop_assert_eq!(seen.len(), row);
        Ok(())
    }
}

/// The last rows of a text, from a sequence that lives for this question only.
fn rows_afresh(oracle: &mut OnnxSource, tokens: &[TokenId], rows: usize) -> Rows {
    let mut out = Rows::new();
    let sequence = oracle.open().unwrap();
    oracle.forward(&[Step { sequence, tokens, rows }], &mut out).unwrap();
    oracle.close(sequence);
    out
}

fn check(name: &str, oracle: &str) {
    let open = |name: &str| {
        let folder = ModelFolder::open(&tiny(name), None).unwrap();
        let options = OnnxOptions { threads: 1, ..OnnxOptions::default() };
        // One source serves all programs; proptest wants a closure that changes nothing.
        RefCell::new(OnnxSource::open(&runtime(), &folder, &options).unwrap())
    };
    let (source, oracle) = (open(name), open(oracle));
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    proptest!(config, |(program in vec(operation(), 1..40))| {
        let (source, oracle) = (&mut *source.borrow_mut(), &mut *oracle.borrow_mut());
        let limit = source.info().context_length.unwrap();
        let mut machine = Machine { source, oracle, held: BTreeMap::new(), limit };
        let outcome = program.iter().try_for_each(|operation| machine.run(operation));
        for &id in machine.held.keys() {
            machine.source.close(id);
        }
        outcome?;
    });
}

#[test]
fn in_place_caches_forget_nothing_and_mix_nothing() {
    check("gqa_fp32", "plain_no_cache");
}

#[test]
fn in_place_caches_with_positions_from_outside() {
    check("gqa_position_ids", "plain_no_cache");
}

#[test]
fn in_place_caches_with_a_sliding_window() {
    check("gqa_sliding_window", "plain_sliding_window");
}

#[test]
fn in_place_caches_of_a_graph_that_yields_last_rows() {
    check("gqa_last_row", "plain_no_cache");
}

#[test]
fn pass_through_caches() {
    check("plain_fp32", "plain_no_cache");
}

#[test]
fn pass_through_caches_of_a_merged_graph() {
    check("plain_merged", "plain_no_cache");
}

#[test]
fn pass_through_caches_in_one_tensor() {
    check("plain_joint_cache", "plain_no_cache");
}
