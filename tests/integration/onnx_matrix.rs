//! Every way in which exporters write a decoder, against the laws of a source.
//!
//! The tiny decoders differ in form, most of them not in mathematics: same weights, same rotations, same rows. So a
//! model is held to the laws by itself, bit for bit where bits are promised, and then to the others.

use logitfuse_conformance::source_laws;
use logitfuse_core::{ErrorKind, LogitSource, Rows, SequenceId, Step, TokenId};
use logitfuse_onnx::{KvChoice, KvPolicy, ModelFolder, OnnxOptions, OnnxSource};

use crate::support::{runtime, tiny};

/// Longer than the sliding windows.
const TEXT: &[TokenId] = &[1, 17, 42, 8, 96, 33, 5, 64, 71, 29, 50, 12];
const OTHER: &[TokenId] = &[3, 90, 2, 55, 7];
const CONTEXT: usize = 128;

/// Kernels sum in another order for one token than for several.
const SINGLE: f32 = 1e-4;
/// Logits of size 8 as halves are 1/128 apart.
const HALF: f32 = 0.05;

/// One model of the matrix.
#[derive(Clone, Copy)]
struct Model {
    folder: &'static str,
    variant: Option<&'static str>,
    policy: KvPolicy,
    tolerance: f32,
}

macro_rules! matrix {
    ($($name:ident: $folder:literal $([$variant:literal])?, $policy:ident, $tolerance:ident;)*) => {$(
        mod $name {
            use super::*;

            const MODEL: Model = Model {
                folder: $folder,
                variant: [$(Some($variant),)? None][0],
                policy: KvPolicy::$policy,
                tolerance: $tolerance,
            };

            #[test]
            fn obeys_the_laws_of_a_source() {
                obeys_the_laws(MODEL);
            }

            #[test]
            fn ragged_batches_give_the_bits_of_single_sequences() {
                ragged_batches_equal_singles(MODEL);
            }

            #[test]
            fn forks_and_truncations_give_the_bits_of_a_fresh_sequence() {
                forks_and_truncations_equal_fresh(MODEL);
            }

            #[test]
            fn thread_counts_give_the_same_bits() {
                threads_change_nothing(MODEL);
            }

            #[test]
            fn chunk_sizes_agree() {
                chunk_sizes_agree_for(MODEL);
            }

            #[test]
            fn growing_buffers_keep_what_they_hold() {
                growing_keeps(MODEL);
            }

            #[test]
            fn an_overflowing_context_changes_nothing() {
                overflow_changes_nothing(MODEL);
            }
        }
    )*};
}

matrix! {
    plain_fp32: "plain_fp32", PassThrough, SINGLE;
    plain_fp16: "plain_fp16", PassThrough, HALF;
    plain_position_ids: "plain_position_ids", PassThrough, SINGLE;
    plain_learned_no_mask: "plain_learned_no_mask", PassThrough, SINGLE;
    plain_sliding_window: "plain_sliding_window", PassThrough, SINGLE;
    plain_no_cache: "plain_no_cache", Recompute, SINGLE;
    plain_joint_cache: "plain_joint_cache", PassThrough, SINGLE;
    plain_merged: "plain_merged", PassThrough, SINGLE;
    plain_int32_ids: "plain_int32_ids", PassThrough, SINGLE;
    plain_last_row: "plain_last_row", PassThrough, SINGLE;
    gqa_fp32: "gqa_fp32", InPlace, SINGLE;
    gqa_fp16: "gqa_fp16", InPlace, HALF;
    gqa_position_ids: "gqa_position_ids", InPlace, SINGLE;
    gqa_int8: "gqa_int8", InPlace, SINGLE;
    gqa_symbolic_head: "gqa_symbolic_head", InPlace, SINGLE;
    gqa_padded_vocab: "gqa_padded_vocab", InPlace, SINGLE;
    gqa_two_eos: "gqa_two_eos", InPlace, SINGLE;
    gqa_sliding_window: "gqa_sliding_window", InPlace, SINGLE;
    gqa_last_row: "gqa_last_row", InPlace, SINGLE;
    gqa_chosen_rows: "gqa_chosen_rows", InPlace, SINGLE;
    genai_external: "genai_external", InPlace, SINGLE;
    hf_default: "hf_variants", PassThrough, SINGLE;
    hf_fp16: "hf_variants"["fp16"], PassThrough, HALF;
    hf_q4: "hf_variants"["q4"], PassThrough, SINGLE;
    hf_int8: "hf_variants"["int8"], PassThrough, SINGLE;
}

type Row = Vec<f32>;

impl Model {
    fn open(self, options: &OnnxOptions) -> OnnxSource {
        let folder = ModelFolder::open(&tiny(self.folder), self.variant).unwrap();
        OnnxSource::open(&runtime(), &folder, options).unwrap()
    }

    /// The policy that is chosen, and pass-through wherever that is another.
    fn under_each_policy(self, mut check: impl FnMut(&mut OnnxSource)) {
        let mut source = self.open(&OnnxOptions::default());
        assert_eq!(source.report().kv, self.policy, "{}", source.report().kv_reason);
        check(&mut source);
        if self.policy == KvPolicy::InPlace {
            let mut pass_through = self.open(&OnnxOptions { kv: KvChoice::PassThrough, ..OnnxOptions::default() });
            assert_eq!(pass_through.report().kv, KvPolicy::PassThrough);
            check(&mut pass_through);
        }
    }
}

fn obeys_the_laws(model: Model) {
    model.under_each_policy(|source| source_laws::all(source, TEXT, OTHER, model.tolerance).unwrap());
}

/// Sequences of different lengths step together, one leaves and comes back, one takes a chunk meanwhile.
fn ragged_batches_equal_singles(model: Model) {
    let texts: [&[TokenId]; 4] = [&TEXT[..1], &TEXT[..9], OTHER, &TEXT[3..10]];
    model.under_each_policy(|source| {
        let batched = texts.map(|_| source.open().unwrap());
        let alone = texts.map(|_| source.open().unwrap());
        let prompts: Vec<_> = texts.iter().zip(batched).map(|(&text, id)| (id, text)).collect();
        let together = forward(source, &prompts);
        let apart: Vec<Row> = texts.iter().zip(alone).flat_map(|(&text, id)| forward(source, &[(id, text)])).collect();
        assert_same_bits("prompts", &together, &apart);

        for round in 0..8_u32 {
            let token = [10 + round];
            let chunk = [40 + round, 41, 42];
            let feed = |i: usize| if round == 5 && i == 2 { &chunk[..] } else { &token[..] };
            // All, then three of them, then all in reverse: the order and the company change.
            let mut members: Vec<usize> = (0..texts.len()).filter(|&i| round != 3 || i != 1).collect();
            if round > 5 {
                members.reverse();
            }
            let steps: Vec<_> = members.iter().map(|&i| (batched[i], feed(i))).collect();
            let together = forward(source, &steps);
            let apart: Vec<Row> = members.iter().flat_map(|&i| forward(source, &[(alone[i], feed(i))])).collect();
            assert_same_bits(&format!("round {round}"), &together, &apart);
        }
        batched.into_iter().chain(alone).for_each(|id| source.close(id));
    });
}

/// What a fork or a truncation leaves is the very cache that the same calls would have built.
fn forks_and_truncations_equal_fresh(model: Model) {
    let (prompt, left, right) = (&TEXT[..7], [20, 21, 22], [30, 31, 32, 33]);
    model.under_each_policy(|source| {
        let mut fresh = |tail: &[TokenId]| {
            let id = source.open().unwrap();
            forward(source, &[(id, prompt)]);
            let rows = one_by_one(source, id, tail);
            source.close(id);
            rows
        };
        let (expected_left, expected_right) = (fresh(&left), fresh(&right));

        let original = source.open().unwrap();
        forward(source, &[(original, prompt)]);
        let fork = source.fork(original).unwrap();
        assert_same_bits("fork", &one_by_one(source, fork, &right), &expected_right);
        assert_same_bits("original", &one_by_one(source, original, &left), &expected_left);
        source.truncate(original, prompt.len()).unwrap();
        let late_fork = source.fork(original).unwrap();
        assert_same_bits("cut, other way", &one_by_one(source, original, &right), &expected_right);
        source.close(original);
        assert_same_bits("fork of what was cut", &one_by_one(source, late_fork, &left), &expected_left);
        source.truncate(fork, prompt.len()).unwrap();
        assert_same_bits("fork, cut", &one_by_one(source, fork, &left), &expected_left);
        source.close(fork);
        source.close(late_fork);
    });
}

fn threads_change_nothing(model: Model) {
    let rows = [1, 2].map(|threads| {
        let mut source = model.open(&OnnxOptions { threads, ..OnnxOptions::default() });
        assert_eq!(source.report().threads, threads);
        let ids = [source.open().unwrap(), source.open().unwrap()];
        let mut rows = forward(&mut source, &[(ids[0], TEXT), (ids[1], OTHER)]);
        for token in 60..65 {
            rows.extend(forward(&mut source, &[(ids[0], &[token]), (ids[1], &[token + 1])]));
        }
        rows
    });
    assert_same_bits("two threads", &rows[1], &rows[0]);
}

fn chunk_sizes_agree_for(model: Model) {
    let text = long_text(40);
    let mut expected: Option<Vec<Row>> = None;
    for chunk_tokens in [None, Some(1), Some(7), Some(16)] {
        let mut source = model.open(&OnnxOptions { chunk_tokens, ..OnnxOptions::default() });
        let id = source.open().unwrap();
        let mut rows = forward(&mut source, &[(id, &text)]);
        // Rows that straddle a chunk's border, and none at all.
        source.truncate(id, 5).unwrap();
        rows.extend(forward_rows(&mut source, id, &text[5..], 10));
        source.truncate(id, 0).unwrap();
        assert!(forward_rows(&mut source, id, &text[..39], 0).is_empty());
        rows.extend(forward(&mut source, &[(id, &text[39..])]));
        let expected = expected.get_or_insert_with(|| rows.clone());
        assert_close(&format!("chunks of {chunk_tokens:?}"), &rows, expected, model.tolerance);
    }
}

/// One token at a time to the very end of the context, with the room announced and without.
fn growing_keeps(model: Model) {
    let text = long_text(CONTEXT);
    model.under_each_policy(|source| {
        let surprised = source.open().unwrap();
        let prepared = source.open().unwrap();
        source.reserve(prepared, CONTEXT).unwrap();
        let grown = one_by_one(source, surprised, &text);
        let reserved = one_by_one(source, prepared, &text);
        source.close(surprised);
        source.truncate(prepared, 0).unwrap();
        let at_once = forward(source, &[(prepared, &text)]);
        source.close(prepared);
        assert_same_bits("reserved", &reserved, &grown);
        assert_close("at once", &at_once, &grown, model.tolerance);
    });
}

fn overflow_changes_nothing(model: Model) {
    let text = long_text(CONTEXT);
    model.under_each_policy(|source| {
        assert_eq!(source.info().context_length, Some(CONTEXT));
        let (id, bystander) = (source.open().unwrap(), source.open().unwrap());
        forward_rows(source, id, &text[..CONTEXT - 2], 0);
        let steps = [(bystander, OTHER), (id, &text[..3])].map(|(sequence, tokens)| Step { sequence, tokens, rows: 1 });
        let error = source.forward(&steps, &mut Rows::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ContextOverflow);
        let message = error.to_string();
        assert!(["129", "128", &source.info().name].iter().all(|word| message.contains(word)), "{message}");
        assert!(error.help().is_some());
        assert_eq!((source.len(id), source.len(bystander)), (Some(CONTEXT - 2), Some(0)));

        // What fits to the last token still does.
        let rows = one_by_one(source, id, &text[CONTEXT - 2..]);
        let fresh = source.open().unwrap();
        forward_rows(source, fresh, &text[..CONTEXT - 2], 0);
        assert_same_bits("after the refusal", &rows, &one_by_one(source, fresh, &text[CONTEXT - 2..]));
        assert!(source.forward(&[Step { sequence: id, tokens: &[1], rows: 1 }], &mut Rows::new()).is_err());
        assert_eq!(source.len(id), Some(CONTEXT));
        for id in [id, bystander, fresh] {
            source.close(id);
        }
    });
}

#[test]
fn forms_of_the_same_mathematics_give_the_same_rows() {
    let alike: [(&[&str], f32); 4] = [
        (
            &[
                "plain_fp32",
                "plain_position_ids",
                "plain_no_cache",
                "plain_joint_cache",
                "plain_merged",
                "plain_int32_ids",
                "plain_last_row",
                "gqa_fp32",
                "gqa_position_ids",
                "gqa_symbolic_head",
                "gqa_padded_vocab",
                "gqa_two_eos",
                "gqa_last_row",
                "gqa_chosen_rows",
                "genai_external",
                "hf_variants",
            ],
            SINGLE,
        ),
        (&["plain_sliding_window", "gqa_sliding_window"], SINGLE),
        (&["plain_fp32", "plain_fp16", "gqa_fp16"], HALF),
        // Quantisation is another mathematics, of a known size.
        (&["plain_fp32", "gqa_int8"], 0.2),
    ];
    for (names, tolerance) in alike {
        let expected = rows_of(names[0]);
        for name in &names[1..] {
            let mut rows = rows_of(name);
            for row in &mut rows {
                row.truncate(expected[0].len());
            }
            assert_close(name, &rows, &expected, tolerance);
        }
    }
}

/// That the comparison above can fail: other weights, a window or quantisation show.
#[test]
fn other_mathematics_gives_other_rows() {
    let expected = rows_of("plain_fp32");
    for name in ["gqa_expert", "gqa_anti", "plain_learned_no_mask", "plain_sliding_window", "gqa_int8"] {
        let last = |rows: &[Row]| rows.last().unwrap().clone();
        let (a, b) = (last(&rows_of(name)), last(&expected));
        assert!(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 10.0 * SINGLE), "{name}");
    }
}

#[test]
fn configuration_is_read_and_the_graph_believed() {
    let source = |name: &str| open_default(name);
    assert_eq!(source("gqa_two_eos").info().end_of_sequence, [2, 4]);
    assert_eq!(source("gqa_fp32").info().end_of_sequence, [2]);
    assert_eq!(source("plain_fp32").info().end_of_sequence, [2]);
    assert_eq!(source("gqa_padded_vocab").info().logit_width, 128);
    assert_eq!(source("gqa_fp32").info().logit_width, 97);
    // 2 layers, key and value, 2 heads of 16 entries.
    assert_eq!(source("gqa_symbolic_head").info().kv_bytes_per_token, 2 * 2 * 2 * 16 * 4);
    assert_eq!(source("gqa_fp16").info().kv_bytes_per_token, 2 * 2 * 2 * 16 * 2);
    assert_eq!(source("plain_joint_cache").info().kv_bytes_per_token, 2 * 2 * 2 * 16 * 4);
    assert_eq!(source("plain_no_cache").info().kv_bytes_per_token, 0);
    assert_eq!(source("gqa_fp32").info().name, "gqa_fp32");
}

#[test]
fn folders_tell_what_they_hold() {
    let folder = |name: &str| ModelFolder::open(&tiny(name), None).unwrap();
    let variants = folder("hf_variants");
    assert_eq!(variants.variants(), ["fp16", "int8", "q4"]);
    assert!(variants.onnx().ends_with("onnx/model.onnx"), "{}", variants.onnx().display());
    let size = |path: &std::path::Path| std::fs::metadata(path).unwrap().len();
    let external = folder("genai_external");
    assert_eq!(external.weight_bytes(), size(external.onnx()) + size(&external.root().join("model.onnx.data")));
    assert_eq!(folder("gqa_sliding_window").config().sliding_window, Some(6));
    assert!(folder("plain_merged").onnx().ends_with("decoder_model_merged.onnx"));
    let direct = ModelFolder::open(&tiny("hf_variants").join("onnx/model_q4.onnx"), None).unwrap();
    assert_eq!(direct.config().end_of_sequence, [2]);
}

fn open_default(name: &str) -> OnnxSource {
    let folder = ModelFolder::open(&tiny(name), None).unwrap();
    OnnxSource::open(&runtime(), &folder, &OnnxOptions::default()).unwrap()
}

/// All rows of the text, from a model of this name.
fn rows_of(name: &str) -> Vec<Row> {
    let mut source = open_default(name);
    let id = source.open().unwrap();
    forward(&mut source, &[(id, TEXT)])
}

/// Appends the tokens to their sequences, in one call, and gives back all rows.
fn forward(source: &mut OnnxSource, batch: &[(SequenceId, &[TokenId])]) -> Vec<Row> {
    let steps: Vec<Step<'_>> =
        batch.iter().map(|&(sequence, tokens)| Step { sequence, tokens, rows: tokens.len() }).collect();
    let mut rows = Rows::new();
    source.forward(&steps, &mut rows).unwrap();
    (0..rows.len()).map(|index| rows.row(index).to_vec()).collect()
}

fn forward_rows(source: &mut OnnxSource, sequence: SequenceId, tokens: &[TokenId], rows: usize) -> Vec<Row> {
    let mut out = Rows::new();
    source.forward(&[Step { sequence, tokens, rows }], &mut out).unwrap();
    (0..out.len()).map(|index| out.row(index).to_vec()).collect()
}

fn one_by_one(source: &mut OnnxSource, sequence: SequenceId, tokens: &[TokenId]) -> Vec<Row> {
    tokens.iter().flat_map(|token| forward(source, &[(sequence, std::slice::from_ref(token))])).collect()
}

fn long_text(tokens: usize) -> Vec<TokenId> {
    (0..97).map(|i| (i * 31 + 7) % 97).cycle().take(tokens).collect()
}

fn assert_same_bits(what: &str, rows: &[Row], expected: &[Row]) {
    assert_rows(what, rows, expected, |a, b| a.to_bits() == b.to_bits());
}

fn assert_close(what: &str, rows: &[Row], expected: &[Row], tolerance: f32) {
    assert_rows(what, rows, expected, |a, b| (a - b).abs() <= tolerance);
}

fn assert_rows(what: &str, rows: &[Row], expected: &[Row], equal: impl Fn(f32, f32) -> bool) {
    assert_eq!(rows.len(), expected.len(), "{what}: rows");
    for (index, (row, expected)) in rows.iter().zip(expected).enumerate() {
        assert_eq!(row.len(), expected.len(), "{what}: width of row {index}");
        if let Some(id) = row.iter().zip(expected).position(|(&a, &b)| !equal(a, b)) {
            panic!("{what}: row {index}, id {id} is {}, not {}", row[id], expected[id]);
        }
    }
}
