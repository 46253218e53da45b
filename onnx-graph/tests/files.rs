//! Files: opened, written, damaged, hostile.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

use std::{fs, path::Path};

use logitfuse_core::ErrorKind;
use logitfuse_onnx_graph::{ElementType, Initializer, Model, TensorData, proto};
use proptest::prelude::*;
use prost::Message;

fn entry(key: &str, value: &str) -> proto::Entry {
    proto::Entry { key: Some(key.into()), value: Some(value.into()) }
}

/// `y = x + weights`, with a small and a large initializer and one of typed numbers.
fn adder() -> proto::Model {
    let tensor = |title: &str, n: i64| proto::Tensor {
        name: Some(title.into()),
        data_type: Some(1),
        dims: vec![n],
        raw_data: Some((0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()),
        ..Default::default()
    };
    let typed = proto::Tensor {
        name: Some("typed".into()),
        data_type: Some(1),
        dims: vec![3],
        float_data: vec![1.0, 2.0, 3.0],
        ..Default::default()
    };
    let value =
        |title: &str| proto::ValueInfo::tensor(title, ElementType::FLOAT, &[proto::DimensionValue::Fixed(2000)]);
    proto::Model {
        ir_version: Some(8),
        opset_import: vec![proto::OperatorSet { domain: None, version: Some(17) }],
        metadata_props: vec![entry("made by", "a test")],
        graph: Some(proto::Graph {
            name: Some("adder".into()),
            node: vec![proto::Node::new("Add", &["x", "large"], &["y"])],
            initializer: vec![tensor("small", 3), tensor("large", 2000), typed],
            input: vec![value("x")],
            output: vec![value("y")],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn write(folder: &Path, model: &proto::Model) -> std::path::PathBuf {
    let path = folder.join("model.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

fn tensors(model: &Model) -> Vec<(String, Vec<i64>, Vec<u8>)> {
    let of = |t: &Initializer| (t.name().to_owned(), t.dims().to_vec(), t.bytes().unwrap());
    model.initializers.iter().map(of).collect()
}

#[test]
fn a_file_is_the_same_after_opening_and_saving_however_its_weights_lie() {
    let folder = tempfile::tempdir().unwrap();
    let original = Model::open(&write(folder.path(), &adder())).unwrap();
    assert!(matches!(original.initializers[0].data(), TensorData::Header));
    assert!(matches!(original.initializers[1].data(), TensorData::File { length: 8000, .. }));

    for (file, embed) in [("embedded.onnx", u64::MAX), ("external.onnx", 0)] {
        let path = folder.path().join(file);
        original.save_embedding(&path, embed).unwrap();
        let again = Model::open(&path).unwrap();
        assert_eq!(again.header, original.header, "{file}");
        assert_eq!(tensors(&again), tensors(&original), "{file}");
        assert_eq!(path.with_file_name(format!("{file}_data")).exists(), embed == 0);
        // Any other reader of protobuf sees the same graph.
        let whole = proto::Model::decode(&*fs::read(&path).unwrap()).unwrap();
        assert_eq!(whole.graph.unwrap().node, original.graph().node);
    }
    let kept: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!kept.iter().any(|file| file.to_string_lossy().contains("partial")), "{kept:?}");
}

#[test]
fn typed_numbers_and_raw_bytes_are_the_same_tensor() {
    let typed = |data_type: i32, fill: &dyn Fn(&mut proto::Tensor)| {
        let mut tensor =
            proto::Tensor { name: Some("t".into()), data_type: Some(data_type), dims: vec![2], ..Default::default() };
        fill(&mut tensor);
        let mut model = adder();
        model.graph.as_mut().unwrap().initializer = vec![tensor];
        let folder = tempfile::tempdir().unwrap();
        Model::open(&write(folder.path(), &model)).unwrap().initializers[0].bytes().unwrap()
    };
    assert_eq!(typed(7, &|t| t.int64_data = vec![-1, 2]), [(-1_i64).to_le_bytes(), 2_i64.to_le_bytes()].concat());
    assert_eq!(typed(10, &|t| t.int32_data = vec![0x3c00, 0xbc00]), [0, 0x3c, 0, 0xbc]);
    assert_eq!(typed(9, &|t| t.int32_data = vec![1, 0]), [1, 0]);
    assert_eq!(typed(12, &|t| t.uint64_data = vec![7, 8]), [7, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(typed(22, &|t| t.int32_data = vec![0x21]), [0x21]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    type Damage = dyn Fn(&mut proto::Model);
    let cases: [(&str, ErrorKind, &Damage); 7] = [
        ("holds no graph", ErrorKind::InvalidData, &|model| model.graph = None),
        ("version 99", ErrorKind::Unsupported, &|model| model.ir_version = Some(99)),
        ("needs 12 bytes and has 8000", ErrorKind::InvalidData, &|model| {
            model.graph.as_mut().unwrap().initializer[1].dims = vec![3];
        }),
        ("impossible shape", ErrorKind::InvalidData, &|model| {
            model.graph.as_mut().unwrap().initializer[1].dims = vec![1 << 40, 1 << 40];
        }),
        ("impossible shape", ErrorKind::InvalidData, &|model| {
            model.graph.as_mut().unwrap().initializer[1].dims = vec![-1, -2000];
        }),
        ("`../secret` lies outside", ErrorKind::InvalidData, &|model| outside(model, "../secret")),
        ("`/dev/zero` lies outside", ErrorKind::InvalidData, &|model| outside(model, "/dev/zero")),
    ];
    for (words, kind, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut model = adder();
        damage(&mut model);
        let error = Model::open(&write(folder.path(), &model)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains("model.onnx"), "{error}");
        assert!(error.help().is_some(), "{error}");
    }
}

fn outside(model: &mut proto::Model, location: &str) {
    let tensor = &mut model.graph.as_mut().unwrap().initializer[1];
    tensor.raw_data = None;
    tensor.data_location = Some(1);
    tensor.external_data = vec![entry("location", location)];
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(folder.path().join("secret"), vec![0; 8000]).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("weights")).unwrap();
    let mut model = adder();
    outside(&mut model, "weights");
    let error = Model::open(&write(&inside, &model)).unwrap_err();
    assert!(error.to_string().contains("link that leads outside"), "{error}");
}

#[test]
fn messages_without_end_are_refused_before_they_are_decoded() {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend(bytes);
        out
    };
    // Two bytes a node: a graph of three million of them.
    let nodes = [10, 0].repeat(3_000_000);
    // A body in an attribute of a node in a body, and so on.
    let nested = (0..200).fold(Vec::new(), |body, _| field(1, &field(5, &field(6, &body))));
    for (graph, words) in [(nodes, "fields"), (nested, "deep")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        fs::write(&path, field(7, &graph)).unwrap();
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn damage_is_an_error_or_another_model_and_never_more(at in 0_usize..600, byte: u8, cut in 0_usize..9000) {
        let mut bytes = adder().encode_to_vec();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        // The first bytes are the header; the large tensor's elements cannot be wrong.
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        fs::write(&path, &bytes).unwrap();
        if let Ok(model) = Model::open(&path) {
            for tensor in &model.initializers {
                let _ = tensor.bytes();
            }
        }
    }
}
