//! Models that `logitfuse-onnx-graph` wrote: ONNX Runtime loads them, and they say what they said before, bit for bit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use logitfuse_core::{LogitSource, Rows, Step};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource};
use logitfuse_onnx_graph::Model;

use crate::{runtime, tiny};

/// The rows of a few tokens.
fn logits(folder: &Path) -> Vec<u32> {
    let folder = ModelFolder::open(folder, None).unwrap();
    let mut source = OnnxSource::open(&runtime(), &folder, &OnnxOptions::default()).unwrap();
    let (mut rows, mut bits) = (Rows::new(), Vec::new());
    let sequence = source.open().unwrap();
    for tokens in [&[1, 2, 3, 4, 5][..], &[6]] {
        source.forward(&[Step { sequence, tokens, rows: 1 }], &mut rows).unwrap();
        bits.extend(rows.row(0).iter().map(|logit| logit.to_bits()));
    }
    bits
}

fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/family/models").join(name)
}

/// Weights inside and outside, GroupQueryAttention and plain, branches, 8-bit and 16-bit.
fn models() -> Vec<PathBuf> {
    let tiny = ["genai_external", "gqa_fp16", "gqa_int8", "plain_merged", "plain_fp32", "plain_no_cache"].map(tiny);
    tiny.into_iter().chain([family("S"), family("L")]).collect()
}

#[test]
fn a_model_says_the_same_however_it_was_saved() {
    type Save = fn(&Model, &Path) -> logitfuse_core::Result<()>;
    let ways: [(&str, Save); 3] = [
        ("linked", Model::save_linked),
        ("apart", |model, path| model.save_embedding(path, 0)),
        ("embedded", |model, path| model.save_embedding(path, u64::MAX)),
    ];
    for folder in models() {
        let expected = logits(&folder);
        let found = ModelFolder::open(&folder, None).unwrap();
        let mut model = Model::open(found.onnx()).unwrap();
        model.validate().unwrap();
        // ONNX Runtime does not mind the order, and sorting restores one.
        model.graph_mut().node.reverse();
        model.sort().unwrap();
        for (way, save) in ways {
            let copy = tempfile::tempdir().unwrap();
            for (file, _) in found.files().iter().filter(|(_, kind)| *kind != "model") {
                fs::copy(file, copy.path().join(file.file_name().unwrap())).unwrap();
            }
            let path = copy.path().join(found.onnx().file_name().unwrap());
            save(&model, &path).unwrap();
            assert_eq!(logits(copy.path()), expected, "{}, {way}", folder.display());
        }
    }
}

/// The same file, not another one of the same bytes.
#[cfg(unix)]
#[test]
fn a_linked_model_reads_the_weights_of_the_first() {
    use std::os::unix::fs::MetadataExt;
    for (original, weights) in [(family("L"), "model.onnx"), (tiny("genai_external"), "model.onnx.data")] {
        let folder = tempfile::tempdir().unwrap();
        for file in ["model.onnx", weights] {
            fs::copy(original.join(file), folder.path().join(file)).unwrap();
        }
        let target = folder.path().join("linked.onnx");
        Model::open(&folder.path().join("model.onnx")).unwrap().save_linked(&target).unwrap();
        let inode = |file: &str| fs::metadata(folder.path().join(file)).unwrap().ino();
        assert_eq!(inode("linked.onnx_data"), inode(weights));
        assert!(fs::metadata(target).unwrap().len() < 100_000);
    }
}
