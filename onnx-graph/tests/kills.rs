//! Savings that are killed: the model that is there afterwards is whole, or there is none.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use logitfuse_core::{ErrorKind, Result};
use logitfuse_onnx_graph::{ElementType, Initializer, Model, proto};
use proto::{DimensionValue, Node, ValueInfo};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

const KILLS: usize = 80;

const SOURCES: [&str; 3] = ["source0.onnx", "source1.onnx", "source2.onnx"];

/// Where a child saves its models.
const FOLDER: &str = "LOGITFUSE_TEST_SAVES_TO";

/// A model whose header and weights both say which one it is.
fn numbered(number: u16) -> Model {
    let value = |name: &str| ValueInfo::tensor(name, ElementType::FLOAT, &[DimensionValue::Fixed(1 << 16)]);
    let names: Vec<String> = (0..8).map(|n| format!("w{n}")).collect();
    let mut model = Model::default();
    model.header.ir_version = Some(8);
    model.header.model_version = Some(i64::from(number));
    model.graph_mut().input = vec![value("x")];
    model.graph_mut().output = vec![value("y")];
    let inputs: Vec<&str> = ["x"].into_iter().chain(names.iter().map(String::as_str)).collect();
    model.graph_mut().node = vec![Node::new("Sum", &inputs, &["y"])];
    let weights = vec![f32::from(number); 1 << 16];
    model.initializers = names.iter().map(|name| Initializer::float(name, &[1 << 16], &weights)).collect();
    model
}

/// The number of a model that is whole.
fn number_of(model: &Model) -> i64 {
    let number = model.header.model_version.unwrap();
    model.validate().unwrap();
    assert_eq!(model.initializers.len(), 8);
    for weights in &model.initializers {
        let bytes = weights.bytes().unwrap();
        assert_eq!(bytes.len(), 4 << 16);
        let expected = (number as f32).to_le_bytes();
        assert!(bytes.chunks(4).all(|element| element == expected), "`{}` is of another model", weights.name());
    }
    number
}

/// One model after the other under one name, in all ways, until killed.
fn save_without_end(folder: &Path) -> Result<()> {
    let sources: Vec<Model> =
        SOURCES.map(|source| Model::open(&folder.join(source))).into_iter().collect::<Result<_>>()?;
    fs::write(folder.join("ready"), "").unwrap();
    let target = folder.join("model.onnx");
    for (round, source) in sources.iter().cycle().enumerate() {
        match round % 4 {
            0 => source.save_embedding(&target, u64::MAX)?,
            1 | 2 => source.save_embedding(&target, 0)?,
            _ => source.save_linked(&target)?,
        }
    }
    Ok(())
}

fn child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_model_is_whole_or_absent_whenever_saving_is_killed"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The test starts itself anew as the process that is killed.
#[test]
fn a_model_is_whole_or_absent_whenever_saving_is_killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        save_without_end(Path::new(&folder)).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (number, source) in (0..).zip(SOURCES) {
        let embed_bytes = if number == 0 { u64::MAX } else { 0 };
        numbered(number).save_embedding(&folder.path().join(source), embed_bytes).unwrap();
    }
    let target = folder.path().join("model.onnx");
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut whole, mut absent, mut leftovers) = (0, 0, 0);
    for _ in 0..KILLS {
        let ready = folder.path().join("ready");
        let _ = fs::remove_file(&ready);
        let mut child = child(folder.path());
        while !ready.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it saved");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 60_000)));
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();
        match Model::open(&target) {
            Ok(model) => {
                assert!((0..3).contains(&number_of(&model)));
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                assert!(!target.exists());
                absent += 1;
            }
        }
        leftovers += usize::from(names(folder.path()).iter().any(|name| name.ends_with(".partial")));
    }
    assert!(whole > 0 && leftovers > 0, "{whole} whole, {absent} absent, {leftovers} with something left over");

    // What is left over is in nobody's way: the next one writes over it.
    numbered(7).save_embedding(&target, 0).unwrap();
    assert_eq!(number_of(&Model::open(&target).unwrap()), 7);
    let mut linked = Model::open(&folder.path().join("source0.onnx")).unwrap();
    linked.header.producer_name = Some("linked".into());
    linked.save_linked(&target).unwrap();
    assert_eq!(number_of(&Model::open(&target).unwrap()), 0);
    let left: Vec<String> = names(folder.path())
        .into_iter()
        .filter(|name| name.starts_with("model.onnx") && name.ends_with(".partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
