//! Well-formed files of graphs that are none.

use std::fs;

use logitfuse_core::ErrorKind;
use logitfuse_onnx_graph::{Joined, Model, Part, proto};
use proto::{Function, Node, Tensor};

use crate::{
    assert_said, graph,
    models::{external, of_everything, tensor},
    refused, saved,
};

#[test]
fn circles_are_refused_with_two_of_their_nodes() {
    refused(
        |model| graph(model).node[1].input[1] = "chosen".into(),
        ErrorKind::InvalidData,
        "node `sum` (`Sum`) and node `chosen` (`If`) wait for each other's results",
    );
    let long = |model: &mut proto::Model| {
        let name = |n: usize| format!("c{}", n % 10_000);
        graph(model).node.extend((0..10_000).map(|n| Node::new("Neg", &[&name(n)], &[&name(n + 1)])));
    };
    refused(long, ErrorKind::InvalidData, "wait for each other's results");
    let call = |name: &str| Node { domain: Some("local".into()), ..Node::new(name, &["a"], &["b"]) };
    let function = |name: &str, calls: &str| Function {
        name: Some(name.into()),
        node: vec![call(calls)],
        ..of_everything().functions.remove(0)
    };
    refused(
        |model| model.functions.extend([function("F", "G"), function("G", "F")]),
        ErrorKind::InvalidData,
        "functions `F` and `G` call each other",
    );
}

#[test]
fn missing_initializers_are_named() {
    refused(
        |model| drop(graph(model).initializer.remove(1)),
        ErrorKind::InvalidData,
        "node `sum` (`Sum`) reads `large`, which is no input, no initializer and no node's result",
    );
    refused(
        |model| {
            let branch = graph(model).node[2].attribute[1].g.as_mut().unwrap();
            branch.initializer.clear();
        },
        ErrorKind::InvalidData,
        "in a body of node `chosen` (`If`): node `picked` (`Mul`) reads `inner`",
    );
    refused(|model| graph(model).sparse_initializer[0].values = None, ErrorKind::InvalidData, "lacks its values");
}

#[test]
fn absurd_shapes_are_refused() {
    let shapes: [&[i64]; 8] = [
        &[-1],
        &[-4, -500],
        &[i64::MIN],
        &[i64::MAX],
        &[1 << 41],
        &[1 << 20, 1 << 21],
        &[1 << 32, 1 << 32],
        // The product is 0 with 64 bits that wrap.
        &[1 << 32, 1 << 32, 1 << 32],
    ];
    for dims in shapes {
        let words = "has an impossible shape";
        // With their elements in the header, in the file, and elsewhere.
        for index in 0..4 {
            refused(|model| graph(model).initializer[index].dims = dims.to_vec(), ErrorKind::InvalidData, words);
        }
        let (folder, path) = saved(|model| {
            let far =
                Tensor { dims: dims.to_vec(), ..external("far", 3, &[("location", "weights"), ("length", "12")]) };
            graph(model).initializer.push(far);
        });
        fs::write(folder.path().join("weights"), [0; 64]).unwrap();
        let error = Model::open(&path).unwrap_err();
        assert_said(&error);
        assert!(error.to_string().contains(words), "{error}");
        refused(
            |model| graph(model).node[0].attribute[0].t.as_mut().unwrap().dims = dims.to_vec(),
            ErrorKind::InvalidData,
            words,
        );
        refused(|model| graph(model).sparse_initializer[0].dims = dims.to_vec(), ErrorKind::InvalidData, words);
    }
    // A count that does not fit the shape.
    refused(|model| graph(model).initializer[0].dims = vec![4], ErrorKind::InvalidData, "needs 16 bytes and has 12");
    refused(|model| graph(model).initializer[2].dims = vec![3], ErrorKind::InvalidData, "needs 24 bytes and has 16");
    refused(|model| graph(model).initializer[3].dims = vec![1 << 39], ErrorKind::InvalidData, "texts and has 2");
    refused(|model| graph(model).initializer[1].data_type = Some(99), ErrorKind::InvalidData, "of unknown type 99");
    refused(
        |model| graph(model).node[0].attribute[0].t.as_mut().unwrap().dims = vec![1 << 39],
        ErrorKind::InvalidData,
        "needs 2199023255552 bytes and has 16",
    );
    refused(|model| graph(model).initializer[1].dims = vec![1; 65], ErrorKind::InvalidData, "more than 64 dimensions");
}

/// Sound files that are made to collide with one another.
#[test]
fn hostile_parts_do_not_become_one_graph() {
    let (_folder, path) = saved(|_| {});
    let model = Model::open(&path).unwrap();
    let join = |parts: &[Part]| {
        let mut joined = Joined::new("joined");
        parts.iter().try_for_each(|part| joined.add(model.clone(), part)).map(|()| joined.finish())
    };
    join(&[Part::new("a"), Part::new("b")]).unwrap().validate().unwrap();
    let clashes = [
        vec![Part::new("a"), Part::new("a")],
        // `a/b` and `c`, `a` and `b/c`.
        vec![Part::new("a/b"), Part::new("a").rename("y", "a/b/y")],
        vec![Part::new("a"), Part::new("b").rename("large", "a/typed")],
        vec![Part::new("a"), Part::new("b").rename("sum", "a/x")],
        vec![Part::new("a").rename("x", "sum").rename("sum", "sum")],
        vec![Part::new("a").rename("x", "b/y"), Part::new("b").rename("x", "a/y")],
    ];
    for parts in clashes {
        let error = join(&parts).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{parts:?}: {error}");
        assert!(error.to_string().contains("is made twice"), "{parts:?}: {error}");
    }
    // Versions that nobody has.
    for version in [i64::MIN, -1, 0, i64::MAX] {
        let mut other = model.clone();
        other.header.opset_import[0].version = Some(version);
        let mut joined = Joined::new("joined");
        joined.add(model.clone(), &Part::new("a")).unwrap();
        let error = joined.add(other, &Part::new("b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let mut twice = model.clone();
    twice.header.opset_import.push(proto::OperatorSet { domain: Some("ai.onnx".into()), version: Some(21) });
    let error = Joined::new("joined").add(twice, &Part::new("a")).unwrap_err();
    assert!(error.to_string().contains("version of the operators of domain `ai.onnx` twice"), "{error}");
}

/// A name is repeated in an error, and is as long as a file has room for.
#[test]
fn errors_stay_short() {
    let name = "n".repeat(1 << 20);
    refused(|model| graph(model).node[1].input[1] = name.clone(), ErrorKind::InvalidData, "…");
    refused(
        |model| graph(model).initializer[1] = Tensor { dims: vec![-1], ..tensor(&name, 0) },
        ErrorKind::InvalidData,
        "…",
    );
    refused(
        |model| graph(model).initializer.push(external(&name, 16, &[("location", &name)])),
        ErrorKind::NotFound,
        "…",
    );
}
