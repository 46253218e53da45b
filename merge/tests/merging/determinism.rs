//! DARE: how many elements stay, and on what that depends.

use logitfuse_merge::arithmetic::dare::Mask;
use logitfuse_onnx_graph::Initializer;
use proptest::prelude::*;

use crate::support::{Bench, model, noise, recipe, tensor, values};

const N: usize = 200_000;

#[test]
fn so_many_elements_stay_as_the_density_says() {
    for density in [0.0, 0.01, 0.1, 0.5, 0.9, 1.0] {
        let mut keep = vec![false; N];
        Mask::new(3, "parent", "tensor", density).draw(0, &mut keep);
        let kept = keep.iter().filter(|keep| **keep).count() as f64;
        // Five standard deviations of a binomial distribution.
        let slack = 5.0 * (N as f64 * density * (1.0 - density)).sqrt();
        assert!((kept - density * N as f64).abs() <= slack, "{kept} of {N} at {density}");
        // Neighbours stay independently of each other.
        let pairs = keep.windows(2).filter(|pair| pair[0] && pair[1]).count() as f64;
        let square = density * density;
        assert!((pairs - square * N as f64).abs() <= 8.0 * (N as f64 * square * (1.0 - square)).sqrt() + 1.0);
    }
}

/// These bits are what recipes with this seed mean, on every machine and in every version.
#[test]
fn a_seed_means_the_same_everywhere() {
    let bits = |seed, parent, tensor| {
        let mut keep = [false; 32];
        Mask::new(seed, parent, tensor, 0.5).draw(0, &mut keep);
        keep.map(|keep| if keep { '1' } else { '0' }).iter().collect::<String>()
    };
    let known = bits(0, "S-qa", "layers.0.qkv.half");
    assert_eq!(known, "00010001010000101101110110011111");
    for (seed, parent, tensor) in [
        (1, "S-qa", "layers.0.qkv.half"),
        (0, "S-mc", "layers.0.qkv.half"),
        (0, "S-qa", "layers.1.qkv.half"),
        (0, "S-q", "alayers.0.qkv.half"),
    ] {
        assert_ne!(bits(seed, parent, tensor), known);
    }
}

proptest! {
    #[test]
    fn a_mask_does_not_depend_on_how_it_is_cut(at in 0_usize..1000, n in 0_usize..300, density in 0.0..1.0) {
        let mut whole = vec![false; 1300];
        Mask::new(1, "p", "t", density).draw(0, &mut whole);
        let mut mask = Mask::new(1, "p", "t", density);
        let mut piece = vec![false; n];
        mask.draw(700, &mut [false; 3]);
        mask.draw(at, &mut piece);
        prop_assert_eq!(&whole[at..at + n], &piece[..]);
    }
}

/// Order of tensors and of experts: neither changes what an expert's tensor loses.
#[test]
fn the_order_of_experts_and_tensors_does_not_matter() {
    let bench = Bench::new();
    let tensors = |seed: u32, turned: bool| {
        let of = |name, seed| Initializer::float(name, &[5000], &noise(seed, 5000));
        let (v, w) = (of("v", seed), of("w", seed + 100));
        model(if turned { vec![w, v] } else { vec![v, w] })
    };
    for (i, name) in ["base", "a", "b"].iter().enumerate() {
        bench.folder(name, &tensors(i as u32, false));
        let mut turned = tensors(i as u32, true);
        // The nodes stay as they were: only where tensors stand in the file is another.
        turned.graph_mut().node.reverse();
        bench.folder(&format!("turned/{name}"), &turned);
    }
    for method in ["dare_linear", "dare_ties"] {
        let head = format!("method = \"{method}\"\ndensity = 0.3\nseed = 9");
        let one = bench.merged(&recipe(&head, Some("base"), &[("a", ""), ("b", "weight = 0.5")]));
        let other =
            bench.merged(&recipe(&head, Some("turned/base"), &[("turned/b", "weight = 0.5"), ("turned/a", "")]));
        for name in ["v", "w"] {
            let (one, other) = (values(tensor(&one, name)), values(tensor(&other, name)));
            let difference = one.iter().zip(&other).position(|(one, other)| one != other);
            assert_eq!(difference.map(|i| (i, one[i], other[i])), None, "{method} {name}");
        }
        let reseeded =
            bench.merged(&recipe(&head.replace('9', "8"), Some("base"), &[("a", ""), ("b", "weight = 0.5")]));
        assert!(values(tensor(&one, "v")) != values(tensor(&reseeded, "v")));
    }
}

/// The kept elements of a delta are as large as the paper says.
#[test]
fn what_stays_is_divided_by_the_density() {
    let bench = Bench::new();
    bench.folder("base", &model(vec![Initializer::float("w", &[N as i64], &vec![0.0; N])]));
    bench.folder("a", &model(vec![Initializer::float("w", &[N as i64], &vec![1.0; N])]));
    for (rescale, kept) in [("none", 1.0), ("density", 4.0), ("l1", 4.0)] {
        let head = format!("method = \"dare_linear\"\ndensity = 0.25\nrescale = \"{rescale}\"");
        let made = values(tensor(&bench.merged(&recipe(&head, Some("base"), &[("a", "")])), "w"));
        assert!(made.iter().all(|&value| value == 0.0 || (value - kept).abs() < 0.05), "{rescale}");
        let sum: f64 = made.iter().map(|&value| f64::from(value)).sum();
        match rescale {
            "l1" => assert!((sum - N as f64).abs() < 1.0, "{sum}"),
            "density" => assert!((sum / N as f64 - 1.0).abs() < 0.02, "{sum}"),
            _ => assert!((sum / N as f64 - 0.25).abs() < 0.01, "{sum}"),
        }
    }
}
