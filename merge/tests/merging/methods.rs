//! Each method against its equation in f64, for each element type.

use logitfuse_onnx_graph::{ElementType, Initializer, Model};

use crate::support::{Bench, encode, floats, model, noise, recipe, tensor, values};

const TYPES: [ElementType; 3] = [ElementType::FLOAT, ElementType::FLOAT16, ElementType::BFLOAT16];
/// More than one piece, and no multiple of anything.
const N: usize = 3 * (1 << 16) + 17;

/// A base and two experts, and the numbers that their tensors hold.
fn family(bench: &Bench, element: ElementType) -> [Vec<f32>; 3] {
    let base = noise(1, N);
    let expert = |seed| base.iter().zip(noise(seed, N)).map(|(base, delta)| base + 0.1 * delta).collect::<Vec<f32>>();
    let [a, b] = [expert(2), expert(3)];
    [("base", base), ("a", a), ("b", b)].map(|(name, numbers)| {
        let w = floats(element, "w", &[N as i64], &numbers);
        let stored = values(&w);
        bench.folder(name, &model(vec![w]));
        stored
    })
}

fn assert_is(made: &Model, element: ElementType, expected: impl Iterator<Item = f64>) {
    let w = tensor(made, "w");
    assert_eq!(w.element_type(), element);
    let expected: Vec<f32> = expected.map(|number| number as f32).collect();
    assert!(w.bytes().unwrap() == encode(element, &expected), "not equal to rounding");
}

#[test]
fn linear_is_the_weighted_mean() {
    for element in TYPES {
        let bench = Bench::new();
        let [_, a, b] = family(&bench, element);
        let made = bench.merged(&recipe("method = \"linear\"", None, &[("a", "weight = 3"), ("b", "weight = 1")]));
        let mean = a.iter().zip(&b).map(|(&a, &b)| 0.75 * f64::from(a) + 0.25 * f64::from(b));
        assert_is(&made, element, mean);
        let head = "method = \"linear\"\nnormalize = false";
        let made = bench.merged(&recipe(head, None, &[("a", "weight = 0.5"), ("b", "weight = -2")]));
        let sum = a.iter().zip(&b).map(|(&a, &b)| 0.5 * f64::from(a) - 2.0 * f64::from(b));
        assert_is(&made, element, sum);
    }
}

#[test]
fn task_arithmetic_adds_deltas() {
    for element in TYPES {
        let bench = Bench::new();
        let [base, a, b] = family(&bench, element);
        let head = "method = \"task_arithmetic\"\nlambda = 0.5";
        let made = bench.merged(&recipe(head, Some("base"), &[("a", "weight = 0.25"), ("b", "")]));
        let sum = base.iter().zip(&a).zip(&b).map(|((&base, &a), &b)| {
            let [a, b] = [a - base, b - base].map(f64::from);
            f64::from(base) + 0.5 * (0.25 * a + b)
        });
        assert_is(&made, element, sum);
    }
}

#[test]
fn slerp_goes_along_the_arc() {
    for element in TYPES {
        let bench = Bench::new();
        let [base, a, _] = family(&bench, element);
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
        let theta = (dot(&base, &a) / dot(&base, &base).sqrt() / dot(&a, &a).sqrt()).acos();
        assert!(theta.cos() < 0.9995, "not the arc that is meant: {}", theta.cos());
        let made = bench.merged(&recipe("method = \"slerp\"\nt = 0.25", Some("base"), &[("a", "")]));
        let arc = base.iter().zip(&a).map(|(&base, &a)| {
            ((0.75 * theta).sin() * f64::from(base) + (0.25 * theta).sin() * f64::from(a)) / theta.sin()
        });
        let made = values(tensor(&made, "w"));
        let one_step = if element == ElementType::FLOAT { 1e-6 } else { 1e-2 };
        for (made, arc) in made.iter().zip(arc) {
            assert!((f64::from(*made) - arc).abs() <= one_step * arc.abs().max(0.1), "{made} {arc}");
        }
    }
}

/// A sort of the whole delta, as one would write it without regard for memory.
#[test]
fn ties_keeps_the_largest_of_each_delta() {
    for element in TYPES {
        let bench = Bench::new();
        let [base, a, b] = family(&bench, element);
        let trimmed = |expert: &[f32], density: f64| {
            let mut delta: Vec<f32> = base.iter().zip(expert).map(|(base, expert)| expert - base).collect();
            let mut order: Vec<usize> = (0..N).collect();
            order.sort_by(|&i, &j| delta[j].abs().total_cmp(&delta[i].abs()));
            for &i in &order[(density * N as f64) as usize..] {
                delta[i] = 0.0;
            }
            delta
        };
        let (a, b) = (trimmed(&a, 0.3), trimmed(&b, 0.2));
        let head = "method = \"ties\"\nlambda = 0.8";
        let experts = [("a", "density = 0.3\nweight = 2"), ("b", "")];
        let made = bench.merged(&recipe(head, Some("base"), &experts));
        let merged = base.iter().zip(&a).zip(&b).map(|((&base, &a), &b)| {
            let terms = [(2.0 * f64::from(a), 2.0), (f64::from(b), 1.0)];
            let positive = terms[0].0 + terms[1].0 >= 0.0;
            let agree = terms.iter().filter(|(term, _)| if positive { *term > 0.0 } else { *term < 0.0 });
            let (sum, weights) =
                agree.fold((0.0, 0.0), |(sum, weights), (term, weight)| (sum + term, weights + weight));
            f64::from(base) + 0.8 * (if weights > 0.0 { sum / weights } else { 0.0 })
        });
        assert_is(&made, element, merged);
    }
}

#[test]
fn a_density_of_one_is_task_arithmetic_and_of_zero_the_base() {
    let bench = Bench::new();
    let [base, ..] = family(&bench, ElementType::FLOAT);
    let experts = [("a", "weight = 0.5"), ("b", "weight = 0.5")];
    let sum = bench.merged(&recipe("method = \"task_arithmetic\"", Some("base"), &experts));
    let all = bench.merged(&recipe("method = \"dare_linear\"\ndensity = 1", Some("base"), &experts));
    assert!(values(tensor(&all, "w")) == values(tensor(&sum, "w")));
    for method in ["ties", "dare_linear", "dare_ties"] {
        for rescale in ["none", "density", "l1"] {
            let head = format!("method = \"{method}\"\ndensity = 0\nrescale = \"{rescale}\"");
            let none = bench.merged(&recipe(&head, Some("base"), &experts));
            assert!(values(tensor(&none, "w")) == base, "{method} {rescale}");
        }
    }
}

#[test]
fn what_is_equal_everywhere_is_copied_whatever_it_is() {
    let bench = Bench::new();
    let shared = || {
        vec![
            Initializer::int64("shape", &[2], &[3, -1]),
            Initializer::float("mask", &[2], &[f32::NEG_INFINITY, 0.0]),
            Initializer::raw("text", ElementType(2), &[5], b"bytes".to_vec()),
            Initializer::raw("doubles", ElementType(11), &[1], 2.5_f64.to_le_bytes().to_vec()),
        ]
    };
    let with = |w: [f32; 2]| model([shared(), vec![Initializer::float("w", &[2], &w)]].concat());
    bench.folder("a", &with([1.0, 2.0]));
    bench.folder("b", &with([3.0, 2.0]));
    let text = recipe("method = \"linear\"\nnormalize = false", None, &[("a", ""), ("b", "")]);
    let made = bench.merged(&text);
    for tensor in shared() {
        assert_eq!(crate::support::tensor(&made, tensor.name()).bytes().unwrap(), tensor.bytes().unwrap());
    }
    assert_eq!(values(tensor(&made, "w")), [4.0, 4.0]);
    let merged = bench.merge_into("again", &text).unwrap();
    assert_eq!((merged.merged, merged.copied, merged.requantised), (1, 4, None));
}
