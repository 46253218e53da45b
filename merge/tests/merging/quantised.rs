//! Weights of a few bits: dequantised as their operators do it, merged, and quantised again.

use std::{fs, path::Path};

use logitfuse_core::ErrorKind;
use logitfuse_merge::{Merged, Requantised};
use logitfuse_onnx_graph::{ElementType, Initializer, Model, proto::Node};

use crate::support::{Bench, encode, model, noise, recipe, tensor, values};

const MICROSOFT: &str = "com.microsoft";
const UINT8: ElementType = ElementType(2);
const INT8: ElementType = ElementType(3);
const INT4: ElementType = ElementType(22);

fn microsoft(mut node: Node) -> Node {
    node.domain = Some(MICROSOFT.into());
    node
}

/// Bytes that look random.
fn codes(seed: u32, n: usize) -> Vec<u8> {
    noise(seed, n).iter().map(|x| ((x + 1.0) * 127.5) as u8).collect()
}

fn scales(element: ElementType, name: &str, seed: u32, dims: &[i64]) -> Initializer {
    let n = dims.iter().product::<i64>() as usize;
    let numbers: Vec<f32> = noise(seed, n).iter().map(|x| 0.02 + 0.01 * x).collect();
    Initializer::raw(name, element, dims, encode(element, &numbers))
}

/// An integer of so many bits at a place, counted from the lowest bits of the first byte.
fn code(bytes: &[u8], bits: usize, place: usize, signed: bool) -> f32 {
    let value = i32::from(bytes[place * bits / 8]) >> (place * bits % 8) & ((1 << bits) - 1);
    (if signed && value >= 1 << (bits - 1) { value - (1 << bits) } else { value }) as f32
}

/// A scheme: a graph with random weights, and the numbers and steps that its operator makes of them.
struct Case {
    name: &'static str,
    make: fn(u32) -> Model,
    numbers: fn(&Model) -> Vec<(f32, f32)>,
}

const CASES: [Case; 8] = [
    Case {
        name: "MatMulNBits, 4 bits in blocks of 32",
        // 70 columns are three blocks, the last one short; three zero points are two bytes.
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[6, 3, 16], codes(seed, 6 * 3 * 16)),
                scales(ElementType::FLOAT, "s", seed + 50, &[18]),
                Initializer::raw("z", UINT8, &[12], codes(seed + 90, 12)),
            ]);
            let node = microsoft(Node::new("MatMulNBits", &["x", "q", "s", "z"], &["y"]));
            graph.graph_mut().node =
                vec![node.with_int("N", 6).with_int("K", 70).with_int("bits", 4).with_int("block_size", 32)];
            graph
        },
        numbers: |model| {
            let [q, z] = ["q", "z"].map(|name| tensor(model, name).bytes().unwrap());
            let s = values(tensor(model, "s"));
            let of = |(n, k): (usize, usize)| {
                let block = n * 3 + k / 32;
                let number = code(&q, 4, block * 32 + k % 32, false) - code(&z, 4, n * 4 + k / 32, false);
                (number * s[block], s[block])
            };
            (0..6).flat_map(|n| (0..70).map(move |k| (n, k))).map(of).collect()
        },
    },
    Case {
        name: "MatMulNBits, 8 bits in blocks of 16",
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[5, 4, 16], codes(seed, 5 * 64)),
                scales(ElementType::FLOAT16, "s", seed + 50, &[5, 4]),
            ]);
            let node = microsoft(Node::new("MatMulNBits", &["x", "q", "s"], &["y"]));
            graph.graph_mut().node =
                vec![node.with_int("N", 5).with_int("K", 64).with_int("bits", 8).with_int("block_size", 16)];
            graph
        },
        numbers: |model| {
            let (q, s) = (tensor(model, "q").bytes().unwrap(), values(tensor(model, "s")));
            (0..320).map(|i| ((f32::from(q[i]) - 128.0) * s[i / 16], s[i / 16])).collect()
        },
    },
    Case {
        name: "MatMulNBits, 2 bits in blocks of 16",
        // The zero points are numbers, between two codes.
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[2, 2, 4], codes(seed, 16)),
                scales(ElementType::FLOAT, "s", seed + 50, &[4]),
                Initializer::float("z", &[4], &noise(seed + 90, 4).iter().map(|x| 1.5 + x).collect::<Vec<f32>>()),
            ]);
            let node = microsoft(Node::new("MatMulNBits", &["x", "q", "s", "z"], &["y"]));
            graph.graph_mut().node =
                vec![node.with_int("N", 2).with_int("K", 32).with_int("bits", 2).with_int("block_size", 16)];
            graph
        },
        numbers: |model| {
            let q = tensor(model, "q").bytes().unwrap();
            let [s, z] = ["s", "z"].map(|name| values(tensor(model, name)));
            (0..64).map(|i| ((code(&q, 2, i, false) - z[i / 16]) * s[i / 16], s[i / 16])).collect()
        },
    },
    Case {
        name: "GatherBlockQuantized, 4 bits in blocks of 32",
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[7, 32], codes(seed, 7 * 32)),
                scales(ElementType::FLOAT, "s", seed + 50, &[7, 2]),
            ]);
            let node = microsoft(Node::new("GatherBlockQuantized", &["q", "ids", "s"], &["y"]));
            graph.graph_mut().node = vec![node.with_int("block_size", 32)];
            graph
        },
        numbers: |model| {
            let (q, s) = (tensor(model, "q").bytes().unwrap(), values(tensor(model, "s")));
            (0..7 * 64).map(|i| ((code(&q, 4, i, false) - 8.0) * s[i / 32], s[i / 32])).collect()
        },
    },
    Case {
        name: "DequantizeLinear, 8 bits, a scale a column",
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", INT8, &[4, 10], codes(seed, 40)),
                scales(ElementType::BFLOAT16, "s", seed + 50, &[4]),
                Initializer::raw("z", INT8, &[4], codes(seed + 90, 4)),
            ]);
            graph.graph_mut().node = vec![Node::new("DequantizeLinear", &["q", "s", "z"], &["y"]).with_int("axis", -2)];
            graph
        },
        numbers: |model| {
            let [q, z] = ["q", "z"].map(|name| tensor(model, name).bytes().unwrap());
            let s = values(tensor(model, "s"));
            (0..40).map(|i| ((code(&q, 8, i, true) - code(&z, 8, i / 10, true)) * s[i / 10], s[i / 10])).collect()
        },
    },
    Case {
        name: "DequantizeLinear, 4 bits, blocks of 4",
        // Blocks along the first axis; the last one is short.
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", INT4, &[10, 3], codes(seed, 15)),
                scales(ElementType::FLOAT, "s", seed + 50, &[3, 3]),
            ]);
            let node = Node::new("DequantizeLinear", &["q", "s"], &["y"]);
            graph.graph_mut().node = vec![node.with_int("axis", 0).with_int("block_size", 4)];
            graph
        },
        numbers: |model| {
            let (q, s) = (tensor(model, "q").bytes().unwrap(), values(tensor(model, "s")));
            let step = |i: usize| s[i / 3 / 4 * 3 + i % 3];
            (0..30).map(|i| (code(&q, 4, i, true) * step(i), step(i))).collect()
        },
    },
    Case {
        name: "MatMulInteger, 8 bits, one scale a tensor",
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[8, 6], codes(seed, 48)),
                scales(ElementType::FLOAT, "s", seed + 50, &[]),
                Initializer::raw("z", UINT8, &[], codes(seed + 90, 1)),
            ]);
            graph.graph_mut().node = vec![
                Node::new("DynamicQuantizeLinear", &["x"], &["xq", "xs", "xz"]),
                Node::new("MatMulInteger", &["xq", "q", "xz", "z"], &["product"]),
                Node::new("Mul", &["xs", "s"], &["factor"]),
                Node::new("Cast", &["product"], &["cast"]).with_int("to", 1),
                Node::new("Mul", &["cast", "factor"], &["y"]),
            ];
            graph
        },
        numbers: |model| {
            let [q, z] = ["q", "z"].map(|name| tensor(model, name).bytes().unwrap());
            let s = values(tensor(model, "s"))[0];
            (0..48).map(|i| ((f32::from(q[i]) - f32::from(z[0])) * s, s)).collect()
        },
    },
    Case {
        name: "DynamicQuantizeMatMul, 8 bits, a scale a column",
        make: |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", INT8, &[8, 6], codes(seed, 48)),
                scales(ElementType::FLOAT, "s", seed + 50, &[6]),
            ]);
            graph.graph_mut().node = vec![microsoft(Node::new("DynamicQuantizeMatMul", &["x", "q", "s"], &["y"]))];
            graph
        },
        numbers: |model| {
            let (q, s) = (tensor(model, "q").bytes().unwrap(), values(tensor(model, "s")));
            (0..48).map(|i| (code(&q, 8, i, true) * s[i % 6], s[i % 6])).collect()
        },
    },
];

#[test]
fn merged_weights_are_within_half_a_step_of_the_mean() {
    for case in &CASES {
        let bench = Bench::new();
        let parents = [1, 2].map(case.make);
        bench.folder("a", &parents[0]);
        bench.folder("b", &parents[1]);
        let text = recipe("method = \"linear\"", None, &[("a", ""), ("b", "weight = 3")]);
        let merged = bench.merge(&text).unwrap();
        let made = Model::open(&merged.onnx).unwrap();
        let ([a, b], new) = (parents.each_ref().map(case.numbers), (case.numbers)(&made));
        let wanted: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.25 * f64::from(a.0) + 0.75 * f64::from(b.0)).collect();

        let lost = merged.requantised.clone().unwrap();
        let misses: Vec<f64> = wanted.iter().zip(&new).map(|(wanted, new)| (wanted - f64::from(new.0)).abs()).collect();
        for (miss, (_, step)) in misses.iter().zip(&new) {
            assert!(*miss <= 0.501 * f64::from(step.abs()), "{}: {miss} of a step of {step}", case.name);
        }
        let squares = |list: &[f64]| list.iter().map(|x| x * x).sum::<f64>();
        let relative = (squares(&misses) / squares(&wanted)).sqrt();
        assert!((lost.relative_rms / relative - 1.0).abs() < 1e-3, "{}: {lost:?}, {relative}", case.name);
        let largest = misses.iter().copied().fold(0.0, f64::max);
        assert!((lost.largest / largest - 1.0).abs() < 1e-3, "{}: {lost:?}, {largest}", case.name);
        assert_eq!(lost.schemes.keys().collect::<Vec<_>>(), [case.name]);
        assert_eq!(lost.worst.0, "q");
        assert_eq!((merged.merged, merged.copied), (1, 0), "{}", case.name);
    }
}

#[test]
fn what_does_not_change_keeps_its_bits() {
    for case in &CASES {
        let bench = Bench::new();
        for (name, seed) in [("base", 1), ("a", 2)] {
            bench.folder(name, &(case.make)(seed));
        }
        let text = recipe("method = \"task_arithmetic\"\nlambda = 0", Some("base"), &[("a", "")]);
        let Merged { requantised, .. } = bench.merge(&text).unwrap();
        let Requantised { relative_rms, largest, .. } = requantised.unwrap();
        assert_eq!((relative_rms, largest), (0.0, 0.0), "{}", case.name);
        let (base, made) = ((case.make)(1), bench.merged(&text));
        assert_eq!((case.numbers)(&base), (case.numbers)(&made), "{}", case.name);
    }
}

/// The models that ship: eight bits in blocks, an embedding that is read by two operators.
#[test]
fn the_helper_of_smollm2_is_merged() {
    let bench = Bench::new();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/smollm2-helper/models");
    for name in ["base", "expert"] {
        fs::create_dir(bench.path(name)).unwrap();
        for file in ["model.onnx", "config.json"] {
            fs::copy(ours.join(name).join(file), bench.path(name).join(file)).unwrap();
        }
    }
    let same = bench.merged(&recipe("method = \"task_arithmetic\"\nlambda = 0", Some("base"), &[("expert", "")]));
    let base = Model::open(&ours.join("base/model.onnx")).unwrap();
    for (ours, theirs) in same.initializers.iter().zip(&base.initializers) {
        assert!(ours.bytes().unwrap() == theirs.bytes().unwrap(), "{}", ours.name());
    }
    let half = recipe("method = \"task_arithmetic\"\nlambda = 0.5", Some("base"), &[("expert", "")]);
    let merged = bench.merge_into("half", &half).unwrap();
    let lost = merged.requantised.unwrap();
    assert_eq!(lost.schemes.keys().collect::<Vec<_>>(), ["MatMulNBits, 8 bits in blocks of 32"]);
    // Uniform rounding to 255 steps of a block's largest weight: about a third of a percent of its root mean square.
    assert!((0.001..0.01).contains(&lost.relative_rms), "{lost:?}");
}

fn refused(make: impl Fn(u32) -> Model) -> (ErrorKind, String) {
    let bench = Bench::new();
    bench.folder("a", &make(1));
    bench.folder("b", &make(2));
    let error = bench.refused(&recipe("method = \"linear\"", None, &[("a", ""), ("b", "")]));
    (error.kind(), error.to_string())
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let with = |node: fn() -> Node| {
        move |seed| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[2, 2, 16], codes(seed, 64)),
                scales(ElementType::FLOAT, "s", seed + 50, &[4]),
                Initializer::int64("order", &[64], &[0; 64]),
            ]);
            graph.graph_mut().node = vec![node()];
            graph
        }
    };
    let unknown =
        |op: &str| (ErrorKind::Unsupported, format!("`q` is read by {op}, whose quantisation is not known here"));
    let linear = with(|| Node::new("QLinearMatMul", &["x", "xs", "xz", "q", "s", "z", "ys", "yz"], &["y"]));
    assert_eq!(refused(linear), unknown("QLinearMatMul"));
    let four = with(|| microsoft(Node::new("MatMulBnb4", &["x", "q", "s"], &["y"])));
    assert_eq!(refused(four), unknown("MatMulBnb4"));
    // Columns in another order.
    let ordered = with(|| {
        let node = microsoft(Node::new("MatMulNBits", &["x", "q", "s", "", "order"], &["y"]));
        node.with_int("N", 2).with_int("K", 64).with_int("bits", 4).with_int("block_size", 32)
    });
    assert_eq!(refused(ordered), unknown("MatMulNBits"));
}

#[test]
fn tensors_that_do_not_go_together_are_refused() {
    let nbits = |k: i64, scale: &'static str, more: bool| {
        move |seed: u32| {
            let mut graph = model(vec![
                Initializer::raw("q", UINT8, &[2, 2, 16], codes(seed, 64)),
                scales(ElementType::FLOAT, "s", seed + 50, &[4]),
                scales(ElementType::FLOAT, "t", seed + 51, &[4]),
                Initializer::raw("p", UINT8, &[2, 2, 16], codes(seed + 7, 64)),
            ]);
            let node = |codes: &str, scale: &str, out: &str| {
                let node = microsoft(Node::new("MatMulNBits", &["x", codes, scale], &[out]));
                node.with_int("N", 2).with_int("K", k).with_int("bits", 4).with_int("block_size", 32)
            };
            graph.graph_mut().node = vec![node("q", scale, "y")];
            if more {
                graph.graph_mut().node.push(node("q", "t", "z"));
            } else {
                graph.graph_mut().node.push(node("p", "s", "z"));
            }
            graph
        }
    };
    let (kind, text) = refused(nbits(96, "s", false));
    assert_eq!(kind, ErrorKind::InvalidData);
    assert!(text.ends_with("MatMulNBits `y`: `q` has 64 bytes and 96 are needed"), "{text}");
    for k in [0, -1, i64::MAX] {
        assert_eq!(refused(nbits(k, "s", false)).0, ErrorKind::InvalidData);
    }
    let (kind, text) = refused(nbits(64, "s", false));
    assert_eq!((kind, &*text), (ErrorKind::Unsupported, "`s` scales two tensors, `p` and `q`"));
    let (kind, text) = refused(nbits(64, "s", true));
    assert_eq!((kind, &*text), (ErrorKind::Unsupported, "a: `q` is read with different scales, `s` and `t`"));
}
