//! The same tensors in mergekit, whose answers `tests/peers/mergekit_golden.py` wrote down.

use std::fmt::Write;

use logitfuse_merge::arithmetic::{Magnitudes, dare, delta, scale, task_arithmetic, ties};
use logitfuse_onnx_graph::ElementType;
use serde_json::Value;

use crate::support::{Bench, encode, floats, model, recipe, tensor, values};

const GOLDEN: &str = include_str!("../golden/mergekit.json");
const EXPERTS: [&str; 3] = ["a", "b", "c"];

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().map_or_else(Vec::new, |list| list.iter().map(|number| number.as_f64().unwrap()).collect())
}

fn element(case: &Value) -> ElementType {
    match case["dtype"].as_str().unwrap() {
        "fp32" => ElementType::FLOAT,
        "fp16" => ElementType::FLOAT16,
        _ => ElementType::BFLOAT16,
    }
}

/// Rounding alone may differ: sums are f32 there and f64 here.
fn assert_equal(case: &Value, ours: &[f32]) {
    let theirs = numbers(&case["merged"]);
    let (what, parameters) = (&case["method"], &case["parameters"]);
    let one_step = match element(case) {
        ElementType::FLOAT => 4.0 * f32::EPSILON,
        ElementType::FLOAT16 => 1.0 / 1024.0,
        _ => 1.0 / 128.0,
    };
    assert_eq!(ours.len(), theirs.len());
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let tolerance = one_step * theirs.abs().max(if element(case) == ElementType::FLOAT { 0.3 } else { 1e-4 });
        assert!(
            (ours - theirs).abs() <= tolerance,
            "{what} {parameters}: element {i} is {ours}, mergekit has {theirs}"
        );
    }
    if element(case) != ElementType::FLOAT {
        let equal = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours == theirs).count();
        assert!(equal * 100 >= ours.len() * 97, "{what} {parameters}: {equal} of {} are equal", ours.len());
    }
}

#[test]
fn merges_are_those_of_mergekit() {
    let golden = golden();
    let bench = Bench::new();
    let mut cases = 0;
    for case in golden["cases"].as_array().unwrap() {
        let (method, element, parameters) = (case["method"].as_str().unwrap(), element(case), &case["parameters"]);
        let inputs = &golden["inputs"][case["dtype"].as_str().unwrap()];
        if method.starts_with("dare") {
            continue;
        }
        let shape = [8, 12];
        bench.folder("base", &model(vec![floats(element, "w", &shape, &numbers(&inputs["base"]))]));
        for (name, expert) in EXPERTS.iter().zip(inputs["experts"].as_array().unwrap()) {
            bench.folder(name, &model(vec![floats(element, "w", &shape, &numbers(expert))]));
        }
        let mut head = format!("method = \"{method}\"\n");
        for key in ["lambda", "normalize", "t"] {
            if let Some(value) = parameters.get(key) {
                let _ = writeln!(head, "{key} = {value}");
            }
        }
        if parameters["rescale"] == true {
            head += "rescale = \"l1\"\n";
        }
        let (weights, densities) = (list(&parameters["weight"]), list(&parameters["density"]));
        let keys: Vec<String> = (0..EXPERTS.len())
            .map(|i| {
                let key = |name: &str, list: &[f64]| list.get(i).map_or(String::new(), |x| format!("{name} = {x:?}\n"));
                key("weight", &weights) + &key("density", &densities)
            })
            .collect();
        let experts: Vec<(&str, &str)> = EXPERTS.iter().zip(&keys).map(|(name, keys)| (*name, &**keys)).collect();
        let experts = if method == "slerp" { &experts[..1] } else { &experts };
        let base = (method != "linear").then_some("base");
        let merged = bench.merged(&recipe(&head, base, experts));
        assert_equal(case, &values(tensor(&merged, "w")));
        cases += 1;
    }
    assert_eq!(cases, 3 * 12);
}

/// Masks are drawn by other generators, so mergekit's are given to our arithmetic.
#[test]
fn dare_with_the_masks_of_mergekit_is_that_of_mergekit() {
    let golden = golden();
    let mut cases = 0;
    for case in golden["cases"].as_array().unwrap().iter().filter(|case| case.get("masks").is_some()) {
        let inputs = &golden["inputs"][case["dtype"].as_str().unwrap()];
        let parameters = &case["parameters"];
        let base = numbers(&inputs["base"]);
        let restored = parameters["rescale"] != false;
        let densities = list(&parameters["density"]);
        let masks = case["masks"].as_array().unwrap();
        let deltas: Vec<Vec<f32>> = inputs["experts"]
            .as_array()
            .unwrap()
            .iter()
            .zip(masks)
            .zip(densities)
            .map(|((expert, mask), density)| {
                let mask: Vec<bool> = mask.as_str().unwrap().bytes().map(|bit| bit == b'1').collect();
                let mut whole = vec![0.0; base.len()];
                delta(&base, &numbers(expert), &mut whole);
                let mut thinned = whole.clone();
                dare::drop_out(&mut thinned, &mask);
                let mut sums = Magnitudes::default();
                sums.add(&whole, &thinned);
                if restored && density < 1.0 {
                    scale(&mut thinned, sums.factor());
                }
                thinned
            })
            .collect();
        let deltas: Vec<&[f32]> = deltas.iter().map(Vec::as_slice).collect();
        let weights = list(&parameters["weight"]);
        let lambda = parameters["lambda"].as_f64().unwrap_or(1.0);
        let normalize = parameters["normalize"] == true;
        let mut merged = vec![0.0; base.len()];
        if case["method"] == "dare_ties" {
            ties::elect(&base, &deltas, &weights, lambda, normalize, &mut merged);
        } else {
            let factor = task_arithmetic::factor(&weights, lambda, normalize);
            task_arithmetic::add(&base, &deltas, &weights, factor, &mut merged);
        }
        let stored = floats(element(case), "w", &[8, 12], &merged);
        assert_eq!(stored.bytes().unwrap(), encode(element(case), &merged));
        assert_equal(case, &values(&stored));
        cases += 1;
    }
    assert_eq!(cases, 3 * 4);
}
