//! What is written comes back, what is damaged is found, and what is left out is bounded.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]
#![expect(clippy::float_cmp, reason = "bits are kept, or a mask is one")]
#![expect(clippy::cast_possible_truncation, reason = "widths and files here are tiny, and rows are f32")]

use std::{fs, io::Cursor, path::Path};

use logitfuse_conformance::generators::related_rows;
use logitfuse_core::{
    ErrorKind, PromptScore, RoleRow, SharedVocabulary, TokenId,
    numerics::{log_sum_exp, softmax},
};
use logitfuse_replay::{Rest, RowKind, Tape, TapeHeader, TapeSource, TapeVocabulary, TapeWriter, TextInfo};
use proptest::prelude::*;

const WIDTH: usize = 40;
const SOURCES: usize = 3;
/// An id in the middle that no source defines.
const HOLE: TokenId = 7;

/// One position: its token and a row per source.
type Position = (TokenId, Vec<Vec<f32>>);

fn vocabulary() -> SharedVocabulary {
    SharedVocabulary::new(WIDTH, [HOLE])
}

fn header(rows: RowKind) -> TapeHeader {
    let source = |name: &str| TapeSource {
        name: name.to_owned(),
        session: name.to_owned(),
        roles: vec![name.to_owned()],
        model: "toy".to_owned(),
        sha256: "0".repeat(64),
    };
    TapeHeader {
        schema: 1,
        rows,
        sources: ["base", "expert", "anti"].map(source).to_vec(),
        vocabulary: TapeVocabulary::new(&vocabulary()),
        tokenizer: "toy".to_owned(),
        reference: "answer".to_owned(),
        config: String::new(),
    }
}

fn info(id: &str, tokens: usize) -> TextInfo {
    let id = id.to_owned();
    TextInfo { id, choice: None, gold: false, bytes: 4 * tokens, characters: tokens, tokens, sha256: String::new() }
}

#[test]
fn a_row_that_is_no_distribution_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [RowKind::F32, RowKind::F16, RowKind::TopK(3)] {
        let mut writer = TapeWriter::open(&folder.path().join(format!("{kind:?}.lftape")), &header(kind)).unwrap();
        for id in (0..WIDTH).filter(|&id| id != HOLE as usize) {
            for (wrong, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "+inf")] {
                let good: Vec<f32> = (0..WIDTH).map(|id| id as f32 / 7.0).collect();
                let mut bad = good.clone();
                bad[id] = wrong;
                writer.begin(info("a", 2)).unwrap();
                writer.push(0, &[RoleRow::new(&good, log_sum_exp(&good), 0.0); SOURCES]).unwrap();
                let rows = [&good, &bad, &good].map(|row| RoleRow::new(row, 1.0, 0.0));
                let error = writer.push(1, &rows).unwrap_err();
                let what = format!("token 1 of `a`: source 1: entry {id} is {name}");
                assert!(error.to_string().ends_with(&what), "{error}");
                assert_eq!(error.kind(), ErrorKind::Numeric);
            }
        }
    }
}

fn write(writer: &mut TapeWriter, id: &str, positions: &[Position]) {
    writer.begin(info(id, positions.len())).unwrap();
    writer.prompts(&[PromptScore { log_prob: -1.0 / 3.0, tokens: 5 }; SOURCES]);
    for (token, rows) in positions {
        let rows: Vec<RoleRow<'_>> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
        writer.push(*token, &rows).unwrap();
    }
    writer.finish().unwrap();
}

fn record(path: &Path, rows: RowKind, texts: &[(&str, &[Position])]) {
    let mut writer = TapeWriter::open(path, &header(rows)).unwrap();
    for (id, positions) in texts {
        write(&mut writer, id, positions);
    }
}

/// Rows of some positions, masked to the vocabulary.
fn positions(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Position>> {
    let one = (related_rows(SOURCES, WIDTH, 5), 0..TokenId::try_from(WIDTH).unwrap()).prop_map(|(mut rows, token)| {
        for row in &mut rows {
            vocabulary().mask(row);
        }
        (if token == HOLE { 0 } else { token }, rows)
    });
    prop::collection::vec(one, count)
}

/// All rows of a text, `[position][source]`, with their normalisers.
fn played(path: &Path, text: usize, rest: Rest) -> Vec<Vec<(Vec<f32>, f64)>> {
    let mut tape = Tape::open(path).unwrap();
    let mut all = Vec::new();
    let mut number = 0;
    while let Some(block) = tape.block(text, number).unwrap() {
        for position in 0..block.tokens().len() {
            let row = |source| {
                let mut row = vec![0.0; WIDTH];
                let log_normaliser = tape.row(&block, source, position, rest, &mut row).unwrap();
                (row, log_normaliser)
            };
            all.push((0..SOURCES).map(row).collect());
        }
        number += 1;
    }
    all
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #[test]
    fn dense_rows_come_back(a in positions(1..9), b in positions(1..9)) {
        let folder = tempfile::tempdir().unwrap();
        let (wide, half) = (folder.path().join("wide"), folder.path().join("half"));
        let texts: [(&str, &[Position]); 2] = [("a", &a), ("b", &b)];
        record(&wide, RowKind::F32, &texts);
        record(&half, RowKind::F16, &texts);
        for (number, (_, positions)) in texts.iter().enumerate() {
            let (exact, rounded) = (played(&wide, number, Rest::Spread), played(&half, number, Rest::Spread));
            prop_assert_eq!(exact.len(), positions.len());
            for (((_, rows), exact), rounded) in positions.iter().zip(&exact).zip(&rounded) {
                for ((row, exact), (half, log_normaliser)) in rows.iter().zip(exact).zip(rounded) {
                    let z = log_sum_exp(row);
                    prop_assert_eq!(bits(row), bits(&exact.0));
                    prop_assert_eq!(z.to_bits(), exact.1.to_bits());
                    prop_assert!(log_normaliser.abs() < 2e-3, "{}", log_normaliser);
                    for (x, half) in row.iter().zip(half) {
                        let log_prob = f64::from(*x) - z;
                        // Half of the last of eleven bits; what is below 2^-14 has none to lose.
                        let allowed = log_prob.abs() * 2_f64.powi(-11) + 1e-6;
                        prop_assert!(*x == *half || (log_prob - f64::from(*half)).abs() <= allowed, "{log_prob} {half}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_best_are_exact_and_rows_stay_distributions(text in positions(1..6), k in 1_u32..50) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        record(&path, RowKind::TopK(k), &[("a", &text)]);
        let (spread, masked) = (played(&path, 0, Rest::Spread), played(&path, 0, Rest::Masked));
        let block = Tape::open(&path).unwrap().block(0, 0).unwrap().unwrap();
        prop_assert_eq!(block.prompts().unwrap()[2].log_prob.to_bits(), (-1.0_f64 / 3.0).to_bits());
        for (at, (token, rows)) in text.iter().enumerate() {
            let known = block.known(at).unwrap();
            prop_assert!(known.binary_search(token).is_ok() && known.len() <= SOURCES * k as usize + 1);
            for (source, row) in rows.iter().enumerate() {
                let z = log_sum_exp(row);
                let ((spread, log_normaliser), (masked, _)) = (&spread[at][source], &masked[at][source]);
                prop_assert!(log_normaliser.abs() < 1e-5, "{}", log_normaliser);
                prop_assert_eq!(spread[HOLE as usize], f32::NEG_INFINITY);
                for id in 0..WIDTH {
                    let log_prob = (f64::from(row[id]) - z) as f32;
                    if known.contains(&(id as TokenId)) {
                        prop_assert!((spread[id] - log_prob).abs() <= 1e-5 * log_prob.abs().max(1.0) || spread[id] == log_prob);
                        prop_assert_eq!(spread[id].to_bits(), masked[id].to_bits());
                    } else {
                        prop_assert_eq!(masked[id], f32::NEG_INFINITY);
                    }
                }
            }
        }
    }

    /// The bound of docs/tape.md. A weighted geometric mean gives unknown ids at most what it gives them when each row spreads
    /// its rest evenly (Hölder), so of what is known nothing is overrated; and if they had nothing at all, the known would
    /// gain `-ln(1 - q)`, where q is what they have on the tape. An arithmetic mean is exact.
    #[test]
    fn what_is_left_out_is_bounded(text in positions(1..5), k in 1_u32..12, w in prop::array::uniform3(0.0..1.0_f64)) {
        let total: f64 = w.iter().sum();
        prop_assume!(total > 1e-3);
        let w = w.map(|x| x / total);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        record(&path, RowKind::TopK(k), &[("a", &text)]);
        let block = Tape::open(&path).unwrap().block(0, 0).unwrap().unwrap();
        let mix = |rows: &[(Vec<f32>, f64)], geometric: bool| -> Vec<f64> {
            let probs: Vec<Vec<f32>> = rows.iter().map(|(row, z)| {
                let mut p = vec![0.0; WIDTH];
                softmax(row, *z, &mut p);
                p
            }).collect();
            let one = |id: usize| {
                let of = |source: usize| f64::from(probs[source][id]);
                if geometric { (0..SOURCES).map(|s| of(s).powf(w[s])).product() } else { (0..SOURCES).map(|s| w[s] * of(s)).sum() }
            };
            let mixed: Vec<f64> = (0..WIDTH).map(one).collect();
            let sum: f64 = mixed.iter().sum();
            mixed.into_iter().map(|p| p / sum).collect()
        };
        for ((at, (token, rows)), taped) in text.iter().enumerate().zip(played(&path, 0, Rest::Spread)) {
            let full: Vec<_> = rows.iter().map(|row| (row.clone(), log_sum_exp(row))).collect();
            let id = *token as usize;
            let (exact, taped_geometric) = (mix(&full, true), mix(&taped, true));
            let known: f64 = block.known(at).unwrap().iter().map(|&id| taped_geometric[id as usize]).sum();
            // Where nothing can be said of a token by any mean, logarithms say nothing either.
            if taped_geometric[id] > 1e-30 {
                let gain = exact[id].ln() - taped_geometric[id].ln();
                prop_assert!(gain > -1e-4 && gain < -known.ln() + 1e-4, "{gain} against {}", -known.ln());
            }
            let (exact, taped) = (mix(&full, false)[id], mix(&taped, false)[id]);
            prop_assert!((exact - taped).abs() <= 1e-5 * exact.max(1e-6), "{exact} {taped}");
        }
    }
}

/// A tape of two texts, one of which takes several blocks, and where each of them ends.
fn sample_tape(path: &Path) -> Vec<u8> {
    let row = |seed: usize| {
        (0..WIDTH).map(move |id| if id == HOLE as usize { f32::NEG_INFINITY } else { ((id * seed) % 11) as f32 })
    };
    let position = |at: usize| (at as TokenId % 7, (1..=SOURCES).map(|s| row(at + s).collect()).collect());
    let long: Vec<Position> = (0..1500).map(position).collect();
    let short: Vec<Position> = (0..3).map(position).collect();
    record(path, RowKind::TopK(2), &[("short", &short), ("long", &long), ("last", &short)]);
    fs::read(path).unwrap()
}

fn ids(path: &Path) -> Vec<String> {
    Tape::open(path).unwrap().texts().iter().map(|text| text.info.id.clone()).collect()
}

#[test]
fn a_tape_that_was_cut_anywhere_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let whole = sample_tape(&folder.path().join("whole"));
    assert!(
        Tape::open(&folder.path().join("whole")).unwrap().block(1, 1).unwrap().is_some(),
        "the long text has blocks"
    );
    let path = folder.path().join("cut");
    let mut tails = 0;
    for cut in (0..whole.len()).step_by(61) {
        fs::write(&path, &whole[..cut]).unwrap();
        let Ok(tape) = Tape::open(&path) else {
            // The header is not whole: there is nothing to go on with, which an error says, and an empty file is no error.
            assert_eq!(TapeWriter::open(&path, &header(RowKind::TopK(2))).is_ok(), cut == 0, "{cut}");
            continue;
        };
        assert!(tape.texts().len() < 3);
        let whole_texts = tape.texts().len();
        tails += usize::from(tape.tail().is_some());
        let writer = TapeWriter::open(&path, &header(RowKind::TopK(2))).unwrap();
        assert_eq!(writer.done().len(), whole_texts);
        drop(writer);
        let tape = Tape::open(&path).unwrap();
        assert_eq!((tape.tail(), tape.texts().len()), (None, whole_texts), "what was left is cut off");
    }
    assert!(tails > 20, "{tails} unfinished tails were seen");
}

#[test]
fn going_on_writes_the_bytes_that_were_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tape");
    let whole = sample_tape(&path);
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(ids(&path), ["short", "long"]);
    let tail = Tape::open(&path).unwrap().tail().unwrap().clone();
    assert!(tail.what.contains("is cut off"), "{}", tail.what);
    let again = folder.path().join("again");
    sample_tape(&again);
    let mut tape = Tape::open(&again).unwrap();
    let block = tape.block(2, 0).unwrap().unwrap();
    let mut writer = TapeWriter::open(&path, &header(RowKind::TopK(2))).unwrap();
    // The rows as the tape has them are normalised, so their normalisers differ; texts and ids may not.
    writer.begin(block.text.clone()).unwrap();
    for position in 0..block.tokens().len() {
        let rows: Vec<Vec<f32>> = (0..SOURCES)
            .map(|source| {
                let mut row = vec![0.0; WIDTH];
                tape.row(&block, source, position, Rest::Spread, &mut row).unwrap();
                row
            })
            .collect();
        let rows: Vec<RoleRow<'_>> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
        writer.push(block.tokens()[position], &rows).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(ids(&path), ["short", "long", "last"]);
    assert_eq!(fs::read(&path).unwrap()[..tail.offset as usize], whole[..tail.offset as usize]);
}

#[test]
fn every_damaged_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let whole = sample_tape(&folder.path().join("whole"));
    for at in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        let read = |bytes: Vec<u8>| {
            let mut tape = Tape::read("x.lftape", Cursor::new(bytes))?;
            let mut number = 0;
            for text in 0..tape.texts().len() {
                while tape.block(text, number)?.is_some() {
                    number += 1;
                }
                number = 0;
            }
            Ok::<_, logitfuse_core::Error>(tape.tail().cloned())
        };
        match read(bytes) {
            Err(e) => assert!(e.kind() == ErrorKind::InvalidData && e.to_string().starts_with("x.lftape: "), "{e}"),
            // A length that grew past the end looks like a block that was cut off.
            Ok(tail) => assert!(tail.is_some(), "byte {at}"),
        }
    }
}

#[test]
fn a_tape_is_of_one_experiment_and_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.lftape");
    sample_tape(&path);
    let refused = |header: &TapeHeader| TapeWriter::open(&path, header).err().expect("it is another experiment");
    let other = refused(&header(RowKind::TopK(3)));
    assert_eq!(other.kind(), ErrorKind::Incompatible);
    assert!(other.to_string().ends_with("its rows is top-k=2, not top-k=3"), "{other}");
    let mut model = header(RowKind::TopK(2));
    model.sources[1].sha256 = "1".repeat(64);
    assert!(refused(&model).to_string().contains("its models is "));
    model = header(RowKind::TopK(2));
    model.sources[1].roles.clear();
    let mut writer = TapeWriter::open(&path, &model).unwrap();
    assert!(refused(&model).to_string().ends_with("another process writes to it"));
    assert!(writer.begin(info("long", 3)).unwrap_err().to_string().ends_with("text `long` is on the tape already"));
    assert!(writer.begin(info("none", 0)).is_err());
}

#[test]
fn what_is_no_tape_is_told() {
    for bytes in [&b""[..], b"x", b"\x93LFTAPE\r\n and more", b"\x93LFTAPE\n"] {
        let e = Tape::read("x", Cursor::new(bytes)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidData);
        assert!(e.help().is_some());
    }
    assert_eq!(Tape::open(Path::new("no/such.lftape")).unwrap_err().kind(), ErrorKind::NotFound);
    for text in ["f64", "top-k", "top-k=0", "top-k=-1", "top-k=x"] {
        assert_eq!(text.parse::<RowKind>().unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    assert_eq!("top-k=64".parse::<RowKind>().unwrap(), RowKind::TopK(64));
}
