//! Models saved beside links to their weights.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use logitfuse_core::ErrorKind;
use logitfuse_onnx_graph::{ElementType, Initializer, Model, TensorData, proto, rename_values};
use proto::{DimensionValue, Node, OperatorSet, ValueInfo};
use same_file::is_same_file;

/// `y = x + large + other`, with a small tensor, too.
fn sum(seed: f32) -> Model {
    let value = |title: &str| ValueInfo::tensor(title, ElementType::FLOAT, &[DimensionValue::Fixed(2000)]);
    let tensor = |title: &str, from: f32| {
        let values: Vec<f32> = (0..2000_u16).map(|i| from + f32::from(i)).collect();
        Initializer::float(title, &[2000], &values)
    };
    let mut model = Model::default();
    model.header.ir_version = Some(8);
    model.header.opset_import = vec![OperatorSet { domain: None, version: Some(17) }];
    model.graph_mut().input = vec![value("x")];
    model.graph_mut().output = vec![value("y")];
    model.graph_mut().node = vec![Node::new("Sum", &["x", "large", "other", "small"], &["y"])];
    model.initializers =
        vec![tensor("large", seed), Initializer::float("small", &[1], &[seed]), tensor("other", seed + 0.5)];
    model
}

/// The model in a file, its weights inside or outside.
fn written(folder: &Path, seed: f32, embed_bytes: u64) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join("model.onnx");
    sum(seed).save_embedding(&path, embed_bytes).unwrap();
    path
}

fn tensors(model: &Model) -> Vec<(String, Vec<u8>)> {
    model.initializers.iter().map(|t| (t.name().to_owned(), t.bytes().unwrap())).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn weights_are_the_same_file_wherever_they_lay() {
    for (embed_bytes, source) in [(u64::MAX, "model.onnx"), (0, "model.onnx_data")] {
        let folder = tempfile::tempdir().unwrap();
        let original = written(&folder.path().join("from"), 1.0, embed_bytes);
        let mut model = Model::open(&original).unwrap();
        rename_values(model.graph_mut(), &mut |name| {
            if name == "x" {
                *name = "renamed".into();
            }
        });
        let target = folder.path().join("to/new.onnx");
        fs::create_dir(target.parent().unwrap()).unwrap();
        model.save_linked(&target).unwrap();

        assert_eq!(files(target.parent().unwrap()), ["new.onnx", "new.onnx_data"]);
        let link = target.with_file_name("new.onnx_data");
        assert!(is_same_file(&link, original.with_file_name(source)).unwrap());
        assert!(!link.symlink_metadata().unwrap().is_symlink());
        assert!(fs::metadata(&target).unwrap().len() < 1000);
        let again = Model::open(&target).unwrap();
        assert_eq!(again.graph().input[0].name(), "renamed");
        assert_eq!(again.graph(), model.graph());
        assert_eq!(tensors(&again), tensors(&model));
        // The link holds the weights when the original is gone.
        fs::remove_dir_all(original.parent().unwrap()).unwrap();
        assert_eq!(tensors(&Model::open(&target).unwrap()), tensors(&sum(1.0)));
    }
}

#[test]
fn each_file_of_weights_is_linked_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::open(&written(&folder.path().join("a"), 1.0, u64::MAX)).unwrap();
    let external = Model::open(&written(&folder.path().join("b"), 2.0, 0)).unwrap();
    // The same file under another name is no second one.
    fs::hard_link(folder.path().join("a/model.onnx"), folder.path().join("same.onnx")).unwrap();
    let same = Model::open(&folder.path().join("same.onnx")).unwrap();
    for (prefix, more) in [("b", external), ("same", same)] {
        for mut tensor in more.initializers {
            tensor.rename(format!("{prefix}/{}", tensor.name()));
            model.initializers.push(tensor);
        }
    }
    model.initializers.push(Initializer::float("made", &[2000], &[7.0; 2000]));
    let target = folder.path().join("to");
    fs::create_dir(&target).unwrap();
    model.save_linked(&target.join("m.onnx")).unwrap();
    assert_eq!(files(&target), ["m.onnx", "m.onnx_data", "m.onnx_data_1"]);
    assert_eq!(tensors(&Model::open(&target.join("m.onnx")).unwrap()), tensors(&model));
}

#[test]
fn a_model_is_saved_over_itself_and_over_another() {
    for embed_bytes in [0, u64::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 1.0, embed_bytes);
        // Twice: the second time its weights lie in the link already.
        for round in 0..2 {
            let mut model = Model::open(&path).unwrap();
            model.header.producer_name = Some(format!("round {round}"));
            model.save_linked(&path).unwrap();
            let again = Model::open(&path).unwrap();
            assert_eq!(again.header, model.header);
            assert_eq!(tensors(&again), tensors(&sum(1.0)));
        }
        assert_eq!(files(folder.path()), ["model.onnx", "model.onnx_data"]);

        let other = Model::open(&written(&folder.path().join("other"), 5.0, embed_bytes)).unwrap();
        fs::write(folder.path().join("model.onnx_data_mine"), "not ours").unwrap();
        other.save_linked(&path).unwrap();
        assert_eq!(tensors(&Model::open(&path).unwrap()), tensors(&sum(5.0)));
        let names = files(folder.path());
        assert!(!names.contains(&"model.onnx_data".to_owned()), "of the model that was replaced: {names:?}");
        assert!(names.contains(&"model.onnx_data_1".to_owned()), "{names:?}");
        assert!(names.contains(&"model.onnx_data_mine".to_owned()), "{names:?}");
    }
}

#[test]
fn a_file_that_changed_since_it_was_opened_is_not_linked() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder.path().join("from"), 1.0, 0);
    let model = Model::open(&path).unwrap();
    assert!(matches!(model.initializers[0].data(), TensorData::File { .. }));
    fs::write(path.with_file_name("model.onnx_data"), [0; 100]).unwrap();
    let error = model.save_linked(&folder.path().join("new.onnx")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("model.onnx_data: was changed") && error.help().is_some(), "{error}");
    assert!(!folder.path().join("new.onnx").exists());
}

#[cfg(unix)]
#[test]
fn the_link_of_a_cache_is_followed() {
    // As in the cache of Hugging Face: names that are symbolic links to files called by their digests.
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    let written = written(&blobs, 1.0, 0);
    let snapshot = folder.path().join("snapshot");
    fs::create_dir(&snapshot).unwrap();
    for (name, blob) in [("model.onnx", "0a"), ("model.onnx_data", "0b")] {
        fs::rename(written.with_file_name(name), blobs.join(blob)).unwrap();
        std::os::unix::fs::symlink(blobs.join(blob), snapshot.join(name)).unwrap();
    }
    let target = folder.path().join("new.onnx");
    Model::open(&snapshot.join("model.onnx")).unwrap().save_linked(&target).unwrap();
    let link = folder.path().join("new.onnx_data");
    assert!(!link.symlink_metadata().unwrap().is_symlink());
    assert!(is_same_file(&link, blobs.join("0b")).unwrap());
    assert_eq!(tensors(&Model::open(&target).unwrap()), tensors(&sum(1.0)));
}

/// Where another file system is at hand, weights are copied over to it.
#[cfg(target_os = "linux")]
#[test]
fn another_file_system_gets_a_copy() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_ne!(folder.path().metadata().unwrap().dev(), memory.path().metadata().unwrap().dev(), "one file system");
    let path = written(folder.path(), 1.0, u64::MAX);
    let target = memory.path().join("new.onnx");
    for _ in 0..2 {
        Model::open(&path).unwrap().save_linked(&target).unwrap();
        assert_eq!(tensors(&Model::open(&target).unwrap()), tensors(&sum(1.0)));
        assert_eq!(files(memory.path()).len(), 2, "{:?}", files(memory.path()));
    }
}
