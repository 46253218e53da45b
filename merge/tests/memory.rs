//! Memory of a merge does not grow with its tensors.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use logitfuse_merge::{Folder, Recipe, merge};
use logitfuse_onnx_graph::{ElementType, Initializer, Model, proto::Node};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const MIB: usize = 1 << 20;

/// 16 MiB in a tensor of floats; 4 MiB in a quantised one, which has a scale for 32 elements.
fn models(folder: &Path, quantised: bool) {
    for (seed, name) in ["base", "a", "b"].iter().enumerate() {
        let byte = |i: usize| (i.wrapping_mul(2_654_435_761 + 2 * seed) >> 7).to_le_bytes()[0];
        let mut model = Model::default();
        model.graph_mut().node = if quantised {
            let scales: Vec<f32> = (0..MIB / 4).map(|i| f32::from(byte(i)) / 1e4 + 1e-3).collect();
            model.initializers = vec![
                Initializer::raw("q", ElementType(2), &[1 << 18, 1, 16], (0..4 * MIB).map(byte).collect()),
                Initializer::float("s", &[1 << 18], &scales),
            ];
            let mut node = Node::new("MatMulNBits", &["x", "q", "s"], &["y"]);
            node.domain = Some("com.microsoft".into());
            vec![node.with_int("N", 1 << 8).with_int("K", 1 << 15).with_int("bits", 4).with_int("block_size", 32)]
        } else {
            let numbers: Vec<f32> = (0..4 * MIB).map(|i| f32::from(byte(i)) / 100.0).collect();
            model.initializers = vec![Initializer::float("w", &[1 << 22], &numbers)];
            vec![Node::new("Identity", &["w"], &["y"])]
        };
        fs::create_dir_all(folder.join(name)).unwrap();
        model.save(&folder.join(name).join("model.onnx")).unwrap();
    }
}

#[test]
fn memory_does_not_grow_with_tensors() {
    for quantised in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        models(folder.path(), quantised);
        for (method, keys) in [
            ("linear", ""),
            ("task_arithmetic", ""),
            ("ties", "rescale = \"l1\""),
            ("dare_ties", "density = 0.3\nrescale = \"l1\""),
            ("slerp", "t = 0.4"),
        ] {
            let base = if method == "linear" { "" } else { "[base]\nmodel = \"base\"" };
            let second = if method == "slerp" { "" } else { "[[expert]]\nmodel = \"b\"" };
            let text = format!("method = \"{method}\"\n{keys}\n{base}\n[[expert]]\nmodel = \"a\"\n{second}\n");
            let recipe = Recipe::parse(&folder.path().join("r.toml"), &text).unwrap();
            let locate = |path: &Path, _: Option<&str>| Ok(Folder { root: path.into(), onnx: path.join("model.onnx") });
            let before = NOW.load(Relaxed);
            PEAK.store(before, Relaxed);
            merge(&recipe, &folder.path().join(method), locate, &mut |_| Ok(())).unwrap();
            let peak = PEAK.load(Relaxed) - before;
            // Pieces of every parent; of quantised tensors the new scales, 1 MiB, which a vector doubles while it grows.
            let most = if quantised { 8 * MIB } else { 6 * MIB };
            assert!(peak <= most, "{method}: {} KiB", peak >> 10);
            fs::remove_dir_all(folder.path().join(method)).unwrap();
        }
    }
}
