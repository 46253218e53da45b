//! Models for tests.

use logitfuse_onnx_graph::{ElementType, Model, proto};
use prost::Message;
use proto::{Attribute, DimensionValue, Entry, Function, Graph, Node, OperatorSet, SparseTensor, Tensor, ValueInfo};

pub(crate) fn entry(key: &str, value: &str) -> Entry {
    Entry { key: Some(key.into()), value: Some(value.into()) }
}

pub(crate) fn value(name: &str) -> ValueInfo {
    ValueInfo::tensor(name, ElementType::FLOAT, &[DimensionValue::Named("n".into()), DimensionValue::Fixed(3)])
}

pub(crate) fn tensor(name: &str, elements: usize) -> Tensor {
    Tensor {
        name: Some(name.into()),
        data_type: Some(ElementType::FLOAT.0),
        dims: vec![i64::try_from(elements).unwrap()],
        raw_data: Some((0..elements).flat_map(|i| (i as f32).to_le_bytes()).collect()),
        ..Tensor::default()
    }
}

/// A tensor whose elements lie in a file.
pub(crate) fn external(name: &str, elements: usize, entries: &[(&str, &str)]) -> Tensor {
    Tensor {
        raw_data: None,
        data_location: Some(1),
        external_data: entries.iter().map(|(key, value)| entry(key, value)).collect(),
        ..tensor(name, elements)
    }
}

/// A model with something of everything: initializers of all kinds, bodies, functions, sequences, annotations.
pub(crate) fn of_everything() -> proto::Model {
    let typed = Tensor {
        name: Some("typed".into()),
        data_type: Some(7),
        dims: vec![2],
        int64_data: vec![-1, 1 << 40],
        ..Tensor::default()
    };
    let texts = Tensor {
        name: Some("texts".into()),
        data_type: Some(8),
        dims: vec![2],
        string_data: vec![b"one".to_vec(), b"two".to_vec()],
        ..Tensor::default()
    };
    let sparse = SparseTensor {
        values: Some(Box::new(tensor("sparse", 2))),
        indices: Some(Box::new(Tensor {
            data_type: Some(7),
            dims: vec![2],
            int64_data: vec![1, 3],
            ..Tensor::default()
        })),
        dims: vec![9],
    };
    let body = |read: &str| Graph {
        name: Some("body".into()),
        node: vec![Node::new("Mul", &[read, "inner"], &["picked"])],
        initializer: vec![tensor("inner", 3)],
        output: vec![value("picked")],
        ..Graph::default()
    };
    let constant = Attribute {
        name: Some("value".into()),
        r#type: Some(4),
        t: Some(Box::new(tensor("", 4))),
        ..Attribute::default()
    };
    let mut call = Node::new("Helper", &["sum"], &["helped"]);
    call.domain = Some("local".into());
    call.metadata_props = vec![entry("from", "here")];
    let sequence = proto::Type {
        value: Some(proto::TypeValue::Sequence(Box::new(proto::ElementType {
            elem_type: value("").r#type.map(Box::new),
        }))),
        denotation: None,
    };
    let graph = Graph {
        name: Some("everything".into()),
        node: vec![
            Node { attribute: vec![constant], ..Node::new("Constant", &[], &["constant"]) },
            Node::new("Sum", &["x", "large", "small", "constant"], &["sum"]),
            Node::new("If", &["x"], &["chosen"])
                .with_graph("then_branch", body("sum"))
                .with_graph("else_branch", body("x")),
            call,
            Node::new("Squeeze", &["chosen", "typed"], &["y"]).with_ints("axes", &[0]).with_int("k", -1),
        ],
        initializer: vec![tensor("small", 3), tensor("large", 2000), typed, texts],
        sparse_initializer: vec![sparse],
        input: vec![value("x")],
        output: vec![value("y"), value("helped")],
        value_info: vec![
            value("sum"),
            ValueInfo { name: Some("chosen".into()), r#type: Some(sequence), ..ValueInfo::default() },
        ],
        quantization_annotation: vec![proto::TensorAnnotation {
            tensor_name: Some("large".into()),
            quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "small")],
        }],
        ..Graph::default()
    };
    proto::Model {
        ir_version: Some(10),
        opset_import: vec![
            OperatorSet { domain: None, version: Some(17) },
            OperatorSet { domain: Some("local".into()), version: Some(1) },
        ],
        producer_name: Some("a test".into()),
        metadata_props: vec![entry("made by", "a test")],
        graph: Some(graph),
        functions: vec![Function {
            name: Some("Helper".into()),
            domain: Some("local".into()),
            input: vec!["a".into()],
            output: vec!["b".into()],
            node: vec![Node::new("Neg", &["a"], &["b"])],
            ..Function::default()
        }],
        ..proto::Model::default()
    }
}

/// All that a model says, and all elements of its tensors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    header: Vec<u8>,
    weights: Vec<Weights>,
}

#[derive(Debug, PartialEq, Eq)]
struct Weights {
    name: String,
    element: ElementType,
    dims: Vec<i64>,
    bytes: Vec<u8>,
}

pub(crate) fn content(model: &Model) -> Content {
    let weights = model.initializers.iter().map(|tensor| Weights {
        name: tensor.name().to_owned(),
        element: tensor.element_type(),
        dims: tensor.dims().to_vec(),
        bytes: tensor.bytes().unwrap_or_else(|_| tensor.header().string_data.concat()),
    });
    Content { header: model.header.encode_to_vec(), weights: weights.collect() }
}
