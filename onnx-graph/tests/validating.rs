//! Graphs that do not hang together, and those that do in other orders.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

use logitfuse_core::ErrorKind;
use logitfuse_onnx_graph::{ElementType, Initializer, Joined, Model, Part, proto};
use proto::{DimensionValue, Function, Graph, Node, OperatorSet, SparseTensor, Tensor, ValueInfo};

fn value(name: &str) -> ValueInfo {
    ValueInfo::tensor(name, ElementType::FLOAT, &[DimensionValue::Named("n".into())])
}

/// `y = Neg(x + w)`.
fn sound() -> Model {
    let mut model = Model::default();
    model.header.ir_version = Some(8);
    model.header.opset_import = vec![OperatorSet { domain: None, version: Some(17) }];
    *model.graph_mut() =
        graph(&["x"], &["y"], vec![Node::new("Add", &["x", "w"], &["s"]), Node::new("Neg", &["s"], &["y"])]);
    model.initializers = vec![Initializer::float("w", &[1], &[1.0])];
    model
}

fn graph(inputs: &[&str], outputs: &[&str], node: Vec<Node>) -> Graph {
    let values = |names: &[&str]| names.iter().map(|name| value(name)).collect();
    Graph { node, input: values(inputs), output: values(outputs), ..Graph::default() }
}

fn refused(model: &Model, words: &str) {
    let error = model.validate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert_eq!(error.to_string(), words);
    assert!(error.help().is_some());
}

#[test]
fn what_does_not_hang_together_is_named() {
    type Damage = dyn Fn(&mut Model);
    let push = |node: Node| move |model: &mut Model| model.graph_mut().node.push(node.clone());
    let cases: Vec<(&str, Box<Damage>)> = vec![
        (
            "node `s` (`Add`) reads `w`, which is no input, no initializer and no node's result",
            Box::new(|m| m.initializers.clear()),
        ),
        ("nothing makes the output `z`", Box::new(|m| m.graph_mut().output.push(value("z")))),
        (
            "`y` is made twice: by node `y` (`Neg`) and by node `y` (`Abs`)",
            Box::new(push(Node::new("Abs", &["x"], &["y"]))),
        ),
        ("`x` is made twice: by an input and by node `x` (`Abs`)", Box::new(push(Node::new("Abs", &["y"], &["x"])))),
        (
            "`w` is made twice: by an initializer and by node `w` (`Abs`)",
            Box::new(push(Node::new("Abs", &["y"], &["w"]))),
        ),
        ("`x` is made twice: by an input and by an input", Box::new(|m| m.graph_mut().input.push(value("x")))),
        (
            "`w` is made twice: by an initializer and by an initializer",
            Box::new(|m| {
                m.initializers.push(Initializer::float("w", &[1], &[2.0]));
            }),
        ),
        ("has an input or an initializer without a name", Box::new(|m| m.graph_mut().input.push(ValueInfo::default()))),
        ("node `a` (`Neg`) waits for its own result", Box::new(push(Node::new("Neg", &["a"], &["a"])))),
        (
            "node `s` (`Add`) and node `y` (`Neg`) wait for each other's results",
            Box::new(|m| {
                m.graph_mut().node[0].input[1] = "y".into();
            }),
        ),
        (
            "node `y` (`Neg`): has the attribute `k` twice",
            Box::new(|m| {
                let node = m.graph_mut().node.remove(1);
                m.graph_mut().node.push(node.with_int("k", 1).with_int("k", 2));
            }),
        ),
        (
            "value `x` has an impossible shape",
            Box::new(|m| {
                let half = DimensionValue::Fixed(1 << 39);
                m.graph_mut().input[0] = ValueInfo::tensor("x", ElementType::FLOAT, &[half, DimensionValue::Fixed(4)]);
            }),
        ),
        (
            "value `x` has an impossible shape",
            Box::new(|m| {
                m.graph_mut().input[0] = ValueInfo::tensor("x", ElementType::FLOAT, &[DimensionValue::Fixed(-7)]);
            }),
        ),
        (
            "initializer `v` needs 8 bytes and has 4",
            Box::new(|m| {
                m.initializers.push(Initializer::raw("v", ElementType::FLOAT, &[2], vec![0; 4]));
            }),
        ),
        (
            "sparse tensor `v` lacks its values or their places",
            Box::new(|m| {
                let values = Some(Box::new(Tensor { name: Some("v".into()), ..Tensor::default() }));
                m.graph_mut().sparse_initializer.push(SparseTensor { values, ..SparseTensor::default() });
            }),
        ),
    ];
    sound().validate().unwrap();
    for (words, damage) in cases {
        let mut model = sound();
        damage(&mut model);
        refused(&model, words);
    }
}

#[test]
fn nodes_in_any_order_are_sorted_and_those_in_order_stay() {
    let mut model = sound();
    let sorted = model.graph().node.clone();
    model.sort().unwrap();
    assert_eq!(model.graph().node, sorted);
    model.graph_mut().node.reverse();
    model.validate().unwrap();
    model.sort().unwrap();
    assert_eq!(model.graph().node, sorted);
}

/// A body that reads what a later node makes holds up the node around it; its own nodes are sorted, too.
#[test]
fn bodies_read_from_around_them() {
    let mut model = sound();
    let body = |read: &str| {
        graph(&[], &["out"], vec![Node::new("Abs", &["in"], &["out"]), Node::new("Neg", &[read], &["in"])])
    };
    let choose =
        Node::new("If", &["x"], &["chosen"]).with_graph("then_branch", body("y")).with_graph("else_branch", body("x"));
    model.graph_mut().node.insert(0, choose);
    model.sort().unwrap();
    let ops: Vec<_> = model.graph().node.iter().map(Node::op_type).collect();
    assert_eq!(ops, ["Add", "Neg", "If"]);
    for branch in ["then_branch", "else_branch"] {
        let body = model.graph().node[2].attribute(branch).unwrap().g.as_ref().unwrap();
        assert_eq!(body.node.iter().map(Node::op_type).collect::<Vec<_>>(), ["Neg", "Abs"]);
    }

    let with_body = |body: Graph| {
        let mut model = sound();
        model.graph_mut().node.insert(0, Node::new("If", &["x"], &["chosen"]).with_graph("then_branch", body));
        model
    };
    let unknown = with_body(graph(&[], &["out"], vec![Node::new("Neg", &["nowhere"], &["out"])]));
    let around = "in a body of node `chosen` (`If`): ";
    refused(
        &unknown,
        &format!("{around}node `out` (`Neg`) reads `nowhere`, which is no input, no initializer and no node's result"),
    );
    // What a body makes is not seen outside of it, and it may have a name that there is around it.
    let mut leaks = with_body(graph(&[], &["out"], vec![Node::new("Neg", &["x"], &["out"])]));
    leaks.validate().unwrap();
    leaks.graph_mut().node.push(Node::new("Neg", &["out"], &["leaked"]));
    refused(&leaks, "node `leaked` (`Neg`) reads `out`, which is no input, no initializer and no node's result");
    let hides = with_body(graph(&[], &["s"], vec![Node::new("Neg", &["x"], &["s"])]));
    hides.validate().unwrap();
    // A body that waits for the node that it is a part of.
    let circle = with_body(graph(&[], &["out"], vec![Node::new("Neg", &["chosen"], &["out"])]));
    refused(&circle, "node `chosen` (`If`) waits for its own result");
    // Through a body, and a node after it.
    let mut circle = with_body(graph(&[], &["out"], vec![Node::new("Neg", &["s"], &["out"])]));
    circle.graph_mut().node[1].input[1] = "chosen".into();
    refused(&circle, "node `chosen` (`If`) and node `s` (`Add`) wait for each other's results");
    let impossible = Tensor { name: Some("t".into()), data_type: Some(1), dims: vec![1 << 41], ..Tensor::default() };
    let mut body = graph(&[], &["t"], Vec::new());
    body.initializer = vec![impossible];
    refused(&with_body(body), &format!("{around}tensor `t` has an impossible shape"));

    let mut deep = graph(&[], &["x"], Vec::new());
    for _ in 0..60 {
        deep = graph(&[], &["o"], vec![Node::new("If", &["x"], &["o"]).with_graph("then_branch", deep)]);
    }
    let error = with_body(deep).validate().unwrap_err().to_string();
    assert!(error.contains("bodies nest more than 40 deep"), "{error}");
}

fn function(name: &str, node: Vec<Node>) -> Function {
    Function {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node,
        ..Function::default()
    }
}

fn call(name: &str, input: &str, output: &str) -> Node {
    Node { domain: Some("local".into()), ..Node::new(name, &[input], &[output]) }
}

fn with_functions(functions: Vec<Function>) -> Model {
    let mut model = sound();
    model.header.functions = functions;
    model.graph_mut().node.push(call("F0", "y", "called"));
    model
}

#[test]
fn functions_see_their_own_values_and_do_not_call_themselves() {
    let mut model =
        with_functions(vec![function("F0", vec![Node::new("Neg", &["t"], &["b"]), Node::new("Abs", &["a"], &["t"])])]);
    model.sort().unwrap();
    assert_eq!(model.header.functions[0].node[0].op_type(), "Abs");

    refused(
        &with_functions(vec![function("F0", vec![Node::new("Neg", &["x"], &["b"])])]),
        "function `F0`: node `b` (`Neg`) reads `x`, which is no input, no initializer and no node's result",
    );
    refused(&with_functions(vec![function("F0", Vec::new())]), "function `F0`: nothing makes the output `b`");
    refused(&with_functions(vec![function("F0", vec![call("F0", "a", "b")])]), "function `F0` calls itself");
    refused(
        &with_functions(vec![function("F0", vec![call("F1", "a", "b")]), function("F1", vec![call("F0", "a", "b")])]),
        "functions `F0` and `F1` call each other",
    );
    let once = function("F0", vec![Node::new("Neg", &["a"], &["b"])]);
    refused(&with_functions(vec![once.clone(), once.clone()]), "function `F0` of domain `local` is there twice");
    // Each calls the next one twice: 2^60 nodes for sixty of a hundred bytes.
    let doubling = |n: usize| {
        let next = format!("F{}", n + 1);
        function(&format!("F{n}"), vec![call(&next, "a", "t"), call(&next, "t", "b")])
    };
    let mut functions: Vec<Function> = (0..60).map(doubling).collect();
    functions.push(Function { name: Some("F60".into()), ..once });
    let model = with_functions(functions);
    refused(&model, "its functions call each other until there are more than 10000000 nodes");
}

/// A chain of nodes as long as a file can hold, in the worst order.
#[test]
fn long_chains_take_no_stack() {
    let count = 200_000;
    let name = |n: usize| format!("v{n}");
    let mut model = sound();
    model.graph_mut().input = vec![value("v0")];
    model.graph_mut().output = vec![value(&name(count))];
    let links = (0..count).rev().map(|n| Node::new("Neg", &[&name(n)], &[&name(n + 1)]));
    model.graph_mut().node = links.collect();
    model.sort().unwrap();
    assert_eq!(model.graph().node[0].input, ["v0"]);
    model.graph_mut().node[0].input[0] = name(count);
    let error = model.validate().unwrap_err().to_string();
    assert!(error.contains("wait for each other's results"), "{error}");
}

#[test]
fn parts_that_do_not_hang_together_are_not_joined() {
    let mut torn = sound();
    torn.initializers.clear();
    let error = Joined::new("joined").add(torn, &Part::new("base")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().starts_with("base: node `s` (`Add`) reads `w`"), "{error}");

    // Sound parts whose names were chosen so that each waits for the other.
    let mut joined = Joined::new("joined");
    joined.add(sound(), &Part::new("a").rename("x", "b/y")).unwrap();
    let error = joined.add(sound(), &Part::new("b").rename("x", "a/y")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("`b/y` is made twice"), "{error}");

    // Two values of a part under one name.
    let error = Joined::new("joined").add(sound(), &Part::new("a").rename("s", "t").rename("y", "t")).unwrap_err();
    assert!(error.to_string().contains("`t` is made twice"), "{error}");

    // One part after the other is fine, in any order of nodes.
    let mut joined = Joined::new("joined");
    let mut first = sound();
    first.graph_mut().node.reverse();
    joined.add(first, &Part::new("a")).unwrap();
    joined.add(sound(), &Part::new("b").rename("x", "a/y")).unwrap();
    let joined = joined.finish();
    assert_eq!(joined.graph().input.len(), 1);
    joined.validate().unwrap();
}
