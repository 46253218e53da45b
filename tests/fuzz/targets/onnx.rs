//! Any bytes as an ONNX model, and a sound model with other bytes in some places: refused with words, or a model that keeps all
//! it says when it is saved, linked, sorted and joined.

#![no_main]

#[path = "../../../onnx-graph/tests/hostile/models.rs"]
mod models;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use logitfuse_core::Error;
use logitfuse_onnx_graph::{Joined, Model, Outline, Part, Staging};
use models::{content, of_everything};
use prost::Message;

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut model = of_everything();
    let graph = model.graph.as_mut().expect("a model has a graph");
    graph.initializer.push(models::external("apart", 4, &[("location", "weights"), ("offset", "0"), ("length", "16")]));
    model.encode_to_vec()
});

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    let bytes = if kind % 2 == 0 { rest.to_vec() } else { edited(rest) };
    let root = PathBuf::from(std::env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into()))
        .join(format!("logitfuse-fuzz-onnx-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let source = root.join("source");
    fs::create_dir_all(&source).expect("a folder can be made");
    let path = source.join("model.onnx");
    fs::write(&path, bytes).expect("a file can be written");
    fs::write(source.join("weights"), [0x40; 64]).expect("a file can be written");
    if let Err(error) = use_all(&path, &root.join("target")) {
        let said = error.to_string();
        assert!(said.len() < 3000 && !said.contains('\n') && error.help().is_some(), "{said:?}");
    }
    let mut made: Vec<_> = fs::read_dir(&root).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
    made.retain(|name| name != "source" && name != "target");
    assert!(made.is_empty(), "written outside of the target: {made:?}");
    let _ = fs::remove_dir_all(&root);
});

/// The sound file after up to a hundred edits of six bytes: where, what, and with what.
fn edited(edits: &[u8]) -> Vec<u8> {
    let mut bytes = SOUND.clone();
    for edit in edits.chunks_exact(6).take(100) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        let end = (at + usize::from(edit[3])).min(bytes.len());
        match edit[2] % 5 {
            0 if at < bytes.len() => bytes[at] = edit[4],
            1 => bytes.insert(at, edit[4]),
            2 => drop(bytes.drain(at..end)),
            // A message or its half twice over.
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = usize::from(u16::from_le_bytes([edit[4], edit[5]])) % (bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            // The ends of what a number can be.
            _ => {
                let varint: &[u8] = if edit[4] % 2 == 0 { &[0xff, 0xff, 0xff, 0xff, 0x0f] } else { &[0xff; 9] };
                bytes.splice(at..end, varint.iter().copied().chain((edit[4] % 2 == 1).then_some(1)));
            }
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

fn use_all(path: &Path, target: &Path) -> Result<(), Error> {
    let outline = Outline::read(path).and_then(|outline| outline.external_files(path));
    let mut model = Model::open(path)?;
    outline?;
    model.validate()?;
    fs::create_dir_all(target).expect("a folder can be made");
    let saved = target.join("model.onnx");
    for embed_bytes in [0, u64::MAX] {
        model.save_embedding(&saved, embed_bytes)?;
        assert_eq!(content(&Model::open(&saved)?), content(&model));
    }
    model.save_linked(&saved)?;
    assert_eq!(content(&Model::open(&saved)?), content(&model));
    let mut joined = Joined::new("joined");
    let parts = ["a", "b"].map(|prefix| joined.add(model.clone(), &Part::new(prefix)));
    if parts.iter().all(Result::is_ok) {
        let joined = joined.finish();
        joined.save(&saved)?;
        assert_eq!(content(&Model::open(&saved)?), content(&joined));
    }
    model.sort()?;
    model.validate()?;
    drop(Staging::begin(&target.join("staged"), &mut |_| {})?);
    Ok(())
}
