//! Files that were damaged or made to do harm: refused with their name, whatever they are, or another model that holds together.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

mod damage;
mod graphs;
mod models;
mod weights;

use std::{
    fs,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{Joined, Model, Outline, Part, proto};
use prost::Message;

use tempfile::TempDir;

use crate::models::{content, of_everything};

fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("model.onnx");
    fs::write(&path, bytes).unwrap();
    path
}

/// Checks that an error is fit for a person.
#[track_caller]
fn assert_said(error: &Error) {
    let said = error.to_string();
    assert!(matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::NotFound | ErrorKind::Unsupported), "{error:?}");
    assert!(said.contains("model.onnx: ") && said.len() < 3000 && !said.contains('\n'), "{said}");
    assert!(error.help().is_some_and(|help| !help.is_empty()), "{said}");
}

/// Everything that is done to a file. True if it is a model.
#[track_caller]
fn use_all(path: &Path) -> bool {
    if let Err(error) = Outline::read(path).and_then(|outline| outline.external_files(path)) {
        assert_said(&error);
    }
    let model = match Model::open(path) {
        Ok(model) => model,
        Err(error) => {
            assert_said(&error);
            return false;
        }
    };
    if model.validate().is_err() {
        return false;
    }
    let target = path.with_file_name("target.onnx");
    for embed_bytes in [0, u64::MAX] {
        model.save_embedding(&target, embed_bytes).unwrap();
        assert_eq!(content(&Model::open(&target).unwrap()), content(&model));
    }
    model.save_linked(&target).unwrap();
    assert_eq!(content(&Model::open(&target).unwrap()), content(&model));
    let mut joined = Joined::new("joined");
    let parts = ["a", "b"].map(|prefix| joined.add(model.clone(), &Part::new(prefix)));
    if parts.iter().all(Result::is_ok) {
        let joined = joined.finish();
        joined.save(&target).unwrap();
        assert_eq!(content(&Model::open(&target).unwrap()), content(&joined));
    }
    true
}

fn saved(change: impl FnOnce(&mut proto::Model)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut model = of_everything();
    change(&mut model);
    let path = write(folder.path(), &model.encode_to_vec());
    (folder, path)
}

#[track_caller]
fn refused(change: impl FnOnce(&mut proto::Model), kind: ErrorKind, words: &str) {
    let (_folder, path) = saved(change);
    // A model that is joined is checked, and its name is said.
    let joined = Model::open(&path)
        .and_then(|model| Joined::new("joined").add(model, &Part::new("a")).map_err(|e| e.context(path.display())));
    let error = joined.unwrap_err();
    assert_said(&error);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

fn graph(model: &mut proto::Model) -> &mut proto::Graph {
    model.graph.as_mut().unwrap()
}
