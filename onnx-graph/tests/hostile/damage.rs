//! Sound files whose bytes were changed.

use logitfuse_onnx_graph::{Model, Outline};
use prost::Message;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{assert_said, models::of_everything, use_all, write};

/// The file of a model with something of everything, its weights inside, and where its graph ends.
fn whole() -> (Vec<u8>, usize) {
    let model = of_everything();
    let mut up_to_graph = model.clone();
    up_to_graph.opset_import.clear();
    up_to_graph.metadata_props.clear();
    up_to_graph.functions.clear();
    (model.encode_to_vec(), up_to_graph.encode_to_vec().len())
}

#[test]
fn the_whole_file_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    assert!(use_all(&write(folder.path(), &whole().0)));
}

/// Wherever a download broke off: at every byte of what is not weights, and within those.
#[test]
fn a_file_that_is_cut_is_refused() {
    let (bytes, graph_end) = whole();
    let folder = tempfile::tempdir().unwrap();
    for length in 0..bytes.len() {
        let path = write(folder.path(), &bytes[..length]);
        let (opened, outline) = (Model::open(&path), Outline::read(&path));
        for error in [opened.err(), outline.err()] {
            // Fields after the graph may all be missing.
            assert!(error.is_some() || length >= graph_end, "{length} of {} bytes", bytes.len());
            error.iter().for_each(assert_said);
        }
    }
}

/// A field of a message: where its length stands, how many bytes that takes, and where its content ends.
struct Sized {
    length_at: usize,
    content_at: usize,
    end: usize,
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than 64 bits");
}

/// The fields with a length between two places, and those inside that could be messages.
fn sized_fields(bytes: &[u8], mut at: usize, end: usize, found: &mut Vec<Sized>) -> bool {
    while at < end {
        let tag = varint(bytes, &mut at);
        match tag & 7 {
            _ if tag >> 3 == 0 || tag >> 3 > 30 => return false,
            0 => drop(varint(bytes, &mut at)),
            1 => at += 8,
            2 => {
                let length_at = at;
                let length = usize::try_from(varint(bytes, &mut at)).unwrap();
                if length > end.saturating_sub(at) {
                    return false;
                }
                found.push(Sized { length_at, content_at: at, end: at + length });
                let before = found.len();
                // Text looks like a message now and then; then a length is changed that is none, which is fine, too.
                if length > 1000 && tag >> 3 == 9 || !sized_fields(bytes, at, at + length, found) {
                    found.truncate(before);
                }
                at += length;
            }
            5 => at += 4,
            _ => return false,
        }
    }
    at == end
}

#[test]
fn lengths_that_no_file_has_are_refused() {
    let (bytes, _) = whole();
    let mut fields = Vec::new();
    assert!(sized_fields(&bytes, 0, bytes.len(), &mut fields));
    assert!(fields.len() > 150, "{}", fields.len());
    let folder = tempfile::tempdir().unwrap();
    for field in &fields {
        let content = (field.end - field.content_at) as u64;
        for length in [content + 1, 1 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 63, u64::MAX - 8, u64::MAX] {
            let mut changed = bytes[..field.length_at].to_vec();
            prost::encoding::encode_varint(length, &mut changed);
            changed.extend(&bytes[field.content_at..]);
            let path = write(folder.path(), &changed);
            // A byte more may fall on the beginning of what comes next and still be a file.
            if length > content + 1 {
                assert_said(&Model::open(&path).unwrap_err());
                assert_said(&Outline::read(&path).unwrap_err());
            } else {
                use_all(&path);
            }
        }
    }
}

/// Bytes changed, doubled, removed and cut by a generator that is the same everywhere.
#[test]
fn damage_of_every_kind_is_an_error_or_another_model() {
    let (bytes, _) = whole();
    // The large tensor's elements cannot be wrong.
    let elements = bytes.windows(8).position(|window| window == [0, 0, 0, 0, 0, 0, 128, 63]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let mut below = |n: usize| (random.next_u32() as usize) % n;
    let mut models = 0;
    for _ in 0..2000 {
        let mut changed = bytes.clone();
        for _ in 0..=below(3) {
            let at = loop {
                let at = below(changed.len());
                if !(elements..elements + 7900).contains(&at) {
                    break at;
                }
            };
            let to = (at + 1 + below(40)).min(changed.len());
            match below(6) {
                0 | 1 => changed[at] ^= 1 << below(8),
                2 => changed[at] = [0, 1, 2, 7, 8, 10, 0x7f, 0x80, 0xff][below(9)],
                3 => drop(changed.drain(at..to)),
                4 => {
                    let copy = changed[at..to].to_vec();
                    changed.splice(at..at, copy);
                }
                _ => changed.truncate(at.max(1)),
            }
        }
        models += usize::from(use_all(&write(folder.path(), &changed)));
    }
    assert!(models > 100, "{models} were still models: the damage goes deep enough to test more than the reader");
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(number << 3 | 2, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

/// The numbers of the fields that lead from a message back to one of its kind.
#[test]
fn messages_inside_messages_are_bounded() {
    let circles: [(&str, &[u64], &[u64]); 6] = [
        ("bodies", &[7], &[1, 5, 6]),
        ("lists of bodies", &[7], &[1, 5, 11]),
        ("bodies of functions", &[25, 7, 5, 6], &[1, 5, 6]),
        ("sequences", &[7, 11, 2], &[4, 1]),
        ("maps", &[7, 12, 2], &[5, 2]),
        ("optional values in attributes", &[7, 1, 5, 14], &[9, 1]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (what, begin, circle) in circles {
        for times in [120, 3000] {
            let path: Vec<u64> =
                begin.iter().copied().chain(circle.iter().copied().cycle().take(times * circle.len())).collect();
            let nested = path.iter().rev().fold(Vec::new(), |inner, &number| field(number, &inner));
            let file = write(folder.path(), &[field(7, &[]), nested].concat());
            for error in [Model::open(&file).unwrap_err(), Outline::read(&file).unwrap_err()] {
                assert_said(&error);
                assert!(error.to_string().contains("deep"), "{what}: {error}");
            }
        }
    }
}
