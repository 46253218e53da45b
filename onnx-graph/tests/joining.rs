//! Models joined: names, shared inputs, equal weights, versions of operators, functions.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]

use logitfuse_core::ErrorKind;
use logitfuse_onnx_graph::{ElementType, Initializer, Joined, Model, Part, proto};
use proto::{DimensionValue, Graph, Node, ValueInfo};

fn dims() -> [DimensionValue; 2] {
    [DimensionValue::Named("batch".into()), DimensionValue::Named("width".into())]
}

/// `logits = Op(ids + weights)` with a body that reads from outside.
fn model(opset: i64, weights: f32) -> Model {
    let mut model = Model::default();
    model.header.ir_version = Some(8);
    model.header.opset_import = vec![proto::OperatorSet { domain: None, version: Some(opset) }];
    let branch = |value: &str| Graph {
        node: vec![Node::new("Identity", &[value], &["picked"])],
        output: vec![ValueInfo { name: Some("picked".into()), ..Default::default() }],
        ..Graph::default()
    };
    *model.graph_mut() = Graph {
        input: vec![ValueInfo::tensor("ids", ElementType::FLOAT, &dims())],
        output: vec![ValueInfo::tensor("logits", ElementType::FLOAT, &dims())],
        node: vec![
            Node::new("Add", &["ids", "weights"], &["sum"]),
            Node::new("Constant", &[], &["truth"]),
            Node::new("If", &["truth"], &["logits"])
                .with_graph("then_branch", branch("sum"))
                .with_graph("else_branch", branch("ids")),
            Node::new("Clip", &["logits", "", "limit"], &["clipped"]),
        ],
        ..Graph::default()
    };
    model.initializers =
        vec![Initializer::float("weights", &[1, 400], &[weights; 400]), Initializer::float("limit", &[], &[1.0])];
    model
}

fn join(models: impl IntoIterator<Item = (&'static str, Model)>) -> Model {
    let mut joined = Joined::new("joined");
    for (role, model) in models {
        let part = Part::new(role).share("ids").rename_dimension("batch", "batch");
        joined.add(model, &part).unwrap();
    }
    joined.finish()
}

#[test]
fn every_name_but_the_shared_ones_is_prefixed_in_bodies_too() {
    let joined = join([("base", model(17, 1.0)), ("expert", model(17, 2.0))]);
    let graph = joined.graph();
    let names: Vec<_> = graph.output.iter().map(ValueInfo::name).collect();
    assert_eq!(names, ["base/logits", "expert/logits"]);
    assert_eq!(graph.input.len(), 1, "ids are shared");
    let expert_if = &graph.node[6];
    assert_eq!((expert_if.op_type(), &*expert_if.input[0]), ("If", "expert/truth"));
    let body = expert_if.attribute("then_branch").unwrap().g.as_ref().unwrap();
    assert_eq!((&*body.node[0].input[0], body.output[0].name()), ("expert/sum", "expert/picked"));
    let body = expert_if.attribute("else_branch").unwrap().g.as_ref().unwrap();
    assert_eq!(body.node[0].input[0], "ids");
    assert_eq!(graph.node[7].input, ["expert/logits", "", "expert/limit"], "an input that is left out stays out");
    let (_, shape) = graph.output[1].tensor_type().unwrap();
    let named = |name: &str| Some(DimensionValue::Named(name.into()));
    assert_eq!(shape, [named("batch"), named("expert/width")]);
}

#[test]
fn equal_weights_stand_once() {
    let joined = join([("base", model(17, 1.0)), ("expert", model(17, 1.0)), ("anti", model(17, 3.0))]);
    let names: Vec<_> = joined.initializers.iter().map(Initializer::name).collect();
    // Small tensors are not worth a search.
    assert_eq!(names, ["base/weights", "base/limit", "expert/limit", "anti/weights", "anti/limit"]);
    assert_eq!(joined.graph().node[4].input, ["ids", "base/weights"]);
}

#[test]
fn operators_of_different_versions_are_raised_or_refused() {
    let mut old = model(17, 1.0);
    old.graph_mut()
        .node
        .push(Node::new("ReduceMax", &["logits"], &["top"]).with_ints("axes", &[-1]).with_int("keepdims", 0));
    old.graph_mut().node.push(Node::new("Split", &["logits"], &["left", "right"]));
    for order in [[("old", old.clone()), ("new", model(21, 2.0))], [("new", model(21, 2.0)), ("old", old.clone())]] {
        let joined = join(order);
        assert_eq!(joined.opset(""), Some(21));
        let node = |op: &str| joined.graph().node.iter().find(|node| node.op_type() == op).unwrap();
        let top = node("ReduceMax");
        assert!(top.attribute("axes").is_none() && top.attribute("keepdims").is_some());
        let axes = joined.graph().node.iter().find(|node| node.output.contains(&top.input[1])).unwrap();
        assert_eq!(axes.attribute("value_ints").unwrap().ints, [-1]);
        assert_eq!(node("Split").attribute("num_outputs").unwrap().i, Some(2));
    }

    let mut changed = model(17, 1.0);
    changed.graph_mut().node.push(Node::new("DFT", &["logits"], &["spectrum"]));
    let mut joined = Joined::new("joined");
    joined.add(model(21, 1.0), &Part::new("new")).unwrap();
    let error = joined.add(changed, &Part::new("old")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("old: node `spectrum`: `DFT`"), "{error}");
}

#[test]
fn one_name_for_two_things_is_refused() {
    let mut joined = Joined::new("joined");
    joined.add(model(17, 1.0), &Part::new("same")).unwrap();
    let error = joined.add(model(17, 2.0), &Part::new("same")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("`same/") && error.to_string().contains("is made twice"), "{error}");

    let mut other = model(17, 1.0);
    other.graph_mut().input = vec![ValueInfo::tensor("ids", ElementType::INT64, &dims())];
    let mut joined = Joined::new("joined");
    joined.add(model(17, 1.0), &Part::new("a").share("ids")).unwrap();
    let error = joined.add(other, &Part::new("b").share("ids")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[test]
fn functions_of_the_same_name_do_not_replace_each_other() {
    let with_function = |op: &str| {
        let mut model = model(17, 1.0);
        model.header.opset_import.push(proto::OperatorSet { domain: Some("local".into()), version: Some(1) });
        model.header.functions = vec![proto::Function {
            name: Some("Helper".into()),
            domain: Some("local".into()),
            input: vec!["x".into()],
            output: vec!["y".into()],
            node: vec![Node::new(op, &["x"], &["y"])],
            ..Default::default()
        }];
        let mut call = Node::new("Helper", &["logits"], &["helped"]);
        call.domain = Some("local".into());
        model.graph_mut().node.push(call);
        model
    };
    let joined = join([("a", with_function("Exp")), ("b", with_function("Exp")), ("c", with_function("Log"))]);
    let functions: Vec<_> = joined.header.functions.iter().map(|f| (f.domain(), f.node[0].op_type())).collect();
    assert_eq!(functions, [("local", "Exp"), ("local.c", "Log")]);
    let calls: Vec<_> =
        joined.graph().node.iter().filter(|node| node.op_type() == "Helper").map(Node::domain).collect();
    assert_eq!(calls, ["local", "local", "local.c"]);
    assert_eq!(joined.opset("local.c"), Some(1));
}
