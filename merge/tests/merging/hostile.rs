//! Parents that do not go together, damaged files, weights that are no numbers.

use std::fs;

use logitfuse_core::ErrorKind;
use logitfuse_merge::{Progress, Recipe, merge};
use logitfuse_onnx_graph::{
    ElementType, Initializer, Model,
    proto::{self, DimensionValue, Node, ValueInfo},
};

use crate::support::{Bench, floats, locate, model, names, noise, recipe};

fn linear() -> String {
    recipe("method = \"linear\"", None, &[("a", ""), ("b", "")])
}

fn plain(seed: u32) -> Model {
    model(vec![Initializer::float("v", &[600], &noise(seed, 600)), Initializer::int64("ids", &[2], &[1, 2])])
}

/// Two models, the second one changed.
fn refused(change: impl FnOnce(&mut Model)) -> (ErrorKind, String) {
    let bench = Bench::new();
    bench.folder("a", &plain(1));
    let mut other = plain(2);
    change(&mut other);
    bench.folder("b", &other);
    let error = bench.refused(&linear());
    (error.kind(), error.to_string())
}

type Change = Box<dyn FnOnce(&mut Model)>;

#[test]
fn what_differs_in_the_architecture_is_named() {
    let batch = || vec![DimensionValue::Named("batch".into())];
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(|m| m.graph_mut().node[0].op_type = Some("Neg".into())),
            "a and b: node 0, Identity `v/out`: the other is Neg",
        ),
        (
            Box::new(|m| m.graph_mut().node[1].input = vec!["v".into()]),
            "a and b: node 1, Identity `ids/out`: reads [\"ids\"], the other [\"v\"]",
        ),
        (
            Box::new(|m| {
                let node = m.graph_mut().node[0].clone();
                m.graph_mut().node[0] = node.with_int("axis", 1);
            }),
            "a and b: node 0, Identity `v/out`: attribute `axis` differs",
        ),
        (Box::new(|m| drop(m.graph_mut().node.pop())), "a and b have 2 and 1 nodes"),
        (Box::new(|m| drop(m.initializers.pop())), "b lacks the tensor `ids`"),
        (Box::new(|m| m.initializers.push(Initializer::float("more", &[1], &[1.0]))), "a lacks the tensor `more`"),
        (
            Box::new(|m| m.initializers[0] = Initializer::float("v", &[20, 30], &noise(2, 600))),
            "a and b: `v` is [600] of type 1 and [20, 30] of type 1",
        ),
        (
            Box::new(|m| m.initializers[0] = floats(ElementType::FLOAT16, "v", &[600], &noise(2, 600))),
            "a and b: `v` is [600] of type 1 and [600] of type 10",
        ),
        (
            Box::new(|m| m.initializers[1] = Initializer::int64("ids", &[2], &[1, 3])),
            "`ids` of a, b differs and is no tensor of fp32, fp16 or bf16 (element type 7)",
        ),
        (Box::new(|m| m.header.opset_import[0].version = Some(19)), "a and b are of different opsets"),
        (
            Box::new(move |m| m.graph_mut().input = vec![ValueInfo::tensor("x", ElementType::FLOAT, &batch())]),
            "a and b have different inputs: `x`",
        ),
    ];
    for (change, message) in cases {
        let (kind, text) = refused(change);
        assert_eq!(kind, ErrorKind::Incompatible, "{text}");
        assert!(text.starts_with(message), "{text}");
    }
}

/// What is not the graph may differ: who made it, notes, names of nodes, the order of its tensors.
#[test]
fn what_does_not_matter_may_differ() {
    let bench = Bench::new();
    bench.folder("a", &plain(1));
    let mut other = plain(2);
    other.header.producer_name = Some("another exporter".into());
    other.header.ir_version = Some(8);
    other.graph_mut().name = Some("another".into());
    other.graph_mut().node[0].name = Some("another".into());
    other.initializers.reverse();
    bench.folder("b", &other);
    assert_eq!(bench.merge(&linear()).unwrap().merged, 1);
}

#[test]
fn weights_inside_of_nodes_are_told() {
    let constant = |value: f32| {
        let mut graph = plain(1);
        let tensor = Initializer::float("c", &[1], &[value]).header().clone();
        let attribute =
            proto::Attribute { name: Some("value".into()), t: Some(Box::new(tensor)), ..Default::default() };
        let mut node = Node::new("Constant", &[], &["c"]);
        node.attribute.push(attribute);
        graph.graph_mut().node.push(node);
        graph
    };
    let bench = Bench::new();
    bench.folder("a", &constant(1.0));
    bench.folder("b", &constant(2.0));
    let text = bench.refused(&linear()).to_string();
    assert_eq!(
        text,
        "a and b: node 2, Constant `c`: attribute `value` differs, and weights inside of nodes are not merged"
    );
}

#[test]
fn rotary_tables_are_no_weights() {
    let with = |theta: f32| {
        let mut graph =
            model(vec![Initializer::float("cos", &[300], &vec![theta; 300]), Initializer::float("sin", &[1], &[0.0])]);
        let mut node = Node::new("GroupQueryAttention", &["q", "k", "v", "pk", "pv", "s", "t", "cos", "sin"], &["y"]);
        node.domain = Some("com.microsoft".into());
        graph.graph_mut().node = vec![node];
        graph
    };
    let bench = Bench::new();
    bench.folder("a", &with(0.5));
    bench.folder("b", &with(0.25));
    assert_eq!(bench.refused(&linear()).to_string(), "the tables of positions `cos` of a, b differ");
}

#[test]
fn weights_that_are_no_numbers_are_told() {
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let bench = Bench::new();
        bench.folder("a", &plain(1));
        let mut numbers = noise(2, 600);
        numbers[123] = bad;
        bench.folder(
            "b",
            &model(vec![Initializer::float("v", &[600], &numbers), Initializer::int64("ids", &[2], &[1, 2])]),
        );
        let error = bench.refused(&linear());
        assert_eq!(error.kind(), ErrorKind::Numeric);
        assert_eq!(error.to_string(), format!("b: `v` holds {shown} at element 123"));
    }
    // One that all parents share, and that would be copied.
    let bench = Bench::new();
    for name in ["a", "b"] {
        bench.folder(name, &model(vec![Initializer::float("v", &[2], &[1.0, f32::NAN])]));
    }
    assert_eq!(bench.refused(&linear()).to_string(), "a: `v` holds NaN at element 1");
}

#[test]
fn what_grows_too_large_is_told() {
    let bench = Bench::new();
    for (name, value) in [("a", 60_000.0), ("b", 50_000.0)] {
        bench.folder(name, &model(vec![floats(ElementType::FLOAT16, "v", &[2], &[0.5, value])]));
    }
    let head = "method = \"linear\"\nnormalize = false";
    let error = bench.refused(&recipe(head, None, &[("a", ""), ("b", "")]));
    assert_eq!(error.to_string(), "`v`: the merged element 1 is too large for fp16");
    for (name, value) in [("a", f32::MAX), ("b", f32::MAX / 2.0)] {
        bench.folder(name, &model(vec![Initializer::float("v", &[2], &[0.5, value])]));
    }
    let error = bench.refused(&recipe(head, None, &[("a", ""), ("b", "")]));
    assert_eq!(error.to_string(), "`v`: the merged element 1 is too large for fp32");
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let bench = Bench::new();
    bench.folder("a", &plain(1));
    fs::create_dir(bench.path("b")).unwrap();
    let path = bench.path("b/model.onnx");
    plain(2).save_embedding(&path, 0).unwrap();
    bench.merge_into("whole", &linear()).unwrap();

    let data = bench.path("b/model.onnx_data");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    let error = bench.refused(&linear()).to_string();
    assert!(error.contains("recipe.toml:6:9") && error.contains("has 2399 of 2400 bytes"), "{error}");
    fs::remove_file(&data).unwrap();
    bench.refused(&linear());
    // A file of somebody else, by a path and by a link.
    fs::write(bench.path("secret"), &bytes).unwrap();
    let bad = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bad).into_owned();
    assert!(text.contains("model.onnx_data"));
    let at = bad.windows(15).position(|w| w == b"model.onnx_data").unwrap();
    let mut outside = bad.clone();
    outside[at..at + 15].copy_from_slice(b"../../../secret");
    fs::write(&path, &outside).unwrap();
    let error = bench.refused(&linear()).to_string();
    assert!(error.contains("`../../../secret` lies outside of the model's folder"), "{error}");
    #[cfg(unix)]
    {
        fs::write(&path, &bad).unwrap();
        std::os::unix::fs::symlink(bench.path("secret"), &data).unwrap();
        let error = bench.refused(&linear()).to_string();
        assert!(error.contains("is a link that leads outside"), "{error}");
    }
    for junk in [&b""[..], b"no protobuf", &bad[..bad.len() / 2]] {
        fs::write(&path, junk).unwrap();
        assert!(bench.refused(&linear()).to_string().contains("recipe.toml:6:9"));
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(bench.refused(&linear()).kind(), ErrorKind::NotFound);
}

#[test]
fn configurations_and_vocabularies_have_to_agree() {
    let bench = Bench::new();
    bench.folder("a", &plain(1));
    bench.folder("b", &plain(2));
    let write = |file: &str, text: &str| fs::write(bench.path(file), text).unwrap();
    write("a/config.json", r#"{"rope_theta": 10000.0, "_name_or_path": "a"}"#);
    write("b/config.json", r#"{"rope_theta": 500000.0, "_name_or_path": "b"}"#);
    let error = bench.refused(&linear()).to_string();
    assert!(error.contains("`rope_theta` = 10000.0") && error.contains("500000.0"), "{error}");
    write("b/config.json", "{");
    assert_eq!(bench.refused(&linear()).kind(), ErrorKind::InvalidData);
    write("b/config.json", r#"{"rope_theta": 10000.0}"#);
    write("a/tokenizer.json", r#"{"model": {"vocab": {"x": 0, "y": 1}}}"#);
    write("b/tokenizer.json", r#"{"model": {"vocab": {"x": 1, "y": 0}}}"#);
    let error = bench.refused(&linear()).to_string();
    assert!(error.ends_with("have different tokens: \"x\" is 0 and 1"), "{error}");
    write("b/tokenizer.json", r#"{"model": {"vocab": {"x": 0, "y": 1}}, "version": "2"}"#);
    bench.merge(&linear()).unwrap();
}

#[test]
fn a_merge_that_is_cancelled_leaves_nothing() {
    let bench = Bench::new();
    bench.folder("a", &plain(1));
    bench.folder("b", &plain(2));
    let before = names(&bench.path("."));
    let parsed = Recipe::parse(&bench.path("recipe.toml"), &linear()).unwrap();
    for phase in ["reading", "comparing", "merging"] {
        let mut tell = |progress: Progress<'_>| match progress {
            Progress::Bytes { phase: now, .. } if now == phase => {
                Err(logitfuse_core::Error::new(ErrorKind::Cancelled, "interrupted"))
            }
            _ => Ok(()),
        };
        let error = merge(&parsed, &bench.path("merged"), locate, &mut tell).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{phase}");
        assert_eq!(names(&bench.path(".")), before, "{phase}");
    }
}
