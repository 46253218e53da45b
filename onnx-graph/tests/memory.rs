//! Small files that would be large in memory: a program of its own, because an allocator that counts serves a whole program.

#![expect(unsafe_code, reason = "counts what is allocated")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use logitfuse_onnx_graph::{Model, Outline};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator; counting neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(held, SeqCst);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above; what `alloc` gave came from the same allocator.
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What counts all threads must not run beside another test.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that opening a file takes beyond what was there before, and whether it was a model.
fn cost(path: &Path) -> (usize, bool) {
    let before = HELD.load(SeqCst);
    PEAK.store(before, SeqCst);
    let outline = Outline::read(path).map(drop);
    let model = Model::open(path).and_then(|model| model.validate());
    (PEAK.load(SeqCst) - before, outline.is_ok() && model.is_ok())
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(number << 3 | 2, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

const MIB: usize = 1 << 20;

/// Two bytes each in the file, up to half a kilobyte in memory.
#[test]
fn a_million_empty_messages_are_refused_early() {
    let places: [(&str, &[u64]); 8] = [
        ("nodes", &[7, 1]),
        ("initializers", &[7, 5]),
        ("inputs", &[7, 11]),
        ("attributes", &[7, 1, 5]),
        ("tensors of attributes", &[7, 1, 5, 10]),
        ("places of external data", &[7, 5, 13]),
        ("functions", &[25]),
        ("notes", &[14]),
    ];
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    for (what, numbers) in places {
        let (last, around) = numbers.split_last().unwrap();
        let many = field(*last, &[]).repeat(1_000_000);
        let nested = around.iter().rev().fold(many, |inner, &number| field(number, &inner));
        fs::write(&path, [field(7, &[]), nested].concat()).unwrap();
        let (bytes, model) = cost(&path);
        assert!(!model, "{what}: refused");
        assert!(bytes < 250 * MIB, "{what}: {} MiB", bytes / MIB);
    }
}

/// Numbers of one byte that are eight in memory, and fields that say nothing.
#[test]
fn packed_numbers_and_unknown_fields_are_bounded() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let tensor = |number: u64| field(7, &field(5, &field(number, &vec![1; 40 * MIB])));
    let cases = [
        ("dimensions", tensor(1)),
        ("32-bit integers", tensor(5)),
        ("64-bit integers", tensor(7)),
        (
            "dimensions of an attribute's tensor",
            field(7, &field(1, &field(5, &field(5, &field(1, &vec![1; 40 * MIB]))))),
        ),
        ("unknown fields", [field(7, &[]), field(500, &[]).repeat(3 * MIB)].concat()),
        ("fields without a number", [field(7, &[]), vec![0; MIB]].concat()),
        ("names", field(7, &field(1, &field(1, b"name").repeat(3 * MIB)))),
    ];
    for (what, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let (bytes, model) = cost(&path);
        assert!(!model, "{what}: refused");
        assert!(bytes < 350 * MIB, "{what}: {} MiB", bytes / MIB);
    }
}

/// Announced lengths are not believed, and weights are not read: a terabyte of zeros on a disk that holds none of it.
#[test]
fn lengths_and_weights_cost_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    for length in [1_u64 << 31, 1 << 40, u64::MAX] {
        let mut bytes = vec![7 << 3 | 2];
        prost::encoding::encode_varint(length, &mut bytes);
        fs::write(&path, bytes).unwrap();
        let (bytes, model) = cost(&path);
        assert!(!model && bytes < MIB, "{bytes} bytes");
    }
    // A tensor of 2^38 floats.
    let mut head = Vec::new();
    prost::encoding::encode_varint(1 << 3, &mut head);
    prost::encoding::encode_varint(1 << 38, &mut head);
    head.extend([2 << 3, 1]);
    head.extend(field(8, b"w"));
    head.push(9 << 3 | 2);
    let raw = 1_u64 << 40;
    prost::encoding::encode_varint(raw, &mut head);
    let announce = |number: u8, length: u64| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(length, &mut bytes);
        bytes
    };
    let tensor = announce(5, head.len() as u64 + raw);
    let graph = announce(7, (tensor.len() + head.len()) as u64 + raw);
    let before = [graph, tensor, head].concat();
    fs::write(&path, &before).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(before.len() as u64 + raw).unwrap();
    let (bytes, model) = cost(&path);
    assert!(model && bytes < MIB, "{bytes} bytes");
    assert_eq!(Model::open(&path).unwrap().initializers[0].byte_length(), raw);
}
