//! Every kernel against one pass over the same rows at memory speed, at the vocabulary sizes of the models in use.
//!
//! `pass/1` to `pass/3` read one to three rows and do nothing but add: no kernel that reads as many rows can be
//! faster, and the quotient is what the arithmetic costs.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logitfuse_core::numerics::{
    Contrast, argmax, check_row, entropy, kl_both, kl_divergence,
    lanes::{exp, max, sums},
    linear_combination, log_softmax, log_sum_exp, mask_implausible, softmax, top_k,
};
use pulp::{Arch, NullaryFnOnce};

const WIDTHS: [usize; 4] = [32_768, 49_152, 131_072, 262_144];

/// A row shaped like a language model's: a steep head, a long flat tail, nothing in the order of the ids.
fn row(width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..width)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f32 / (1u64 << 24) as f32;
            -2.5 * (uniform + 1e-5).ln() - 8.0
        })
        .collect()
}

/// Reads every entry once, sixteen running sums, so that memory and not the latency of an addition is the limit.
fn pass(rows: &[&[f32]]) -> f32 {
    let mut lanes = [0.0_f32; 64];
    for row in rows {
        for chunk in row.as_chunks::<64>().0 {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x;
            }
        }
    }
    lanes.iter().sum()
}

fn kernels(c: &mut Criterion) {
    for width in WIDTHS {
        let rows: [Vec<f32>; 3] = [1, 2, 3].map(|seed| row(width, seed));
        let [base, expert, anti] = rows.each_ref().map(Vec::as_slice);
        let [zb, ze] = [base, expert].map(log_sum_exp);
        let mut out = vec![0.0; width];
        let contrast = Contrast { weight: 1.0, towards: expert, away: anti, where_masked: 0.0 };

        let mut group = c.benchmark_group("numerics");
        group.throughput(Throughput::Elements(width as u64));
        let mut bench = |name: &str, f: &mut dyn FnMut()| {
            group.bench_function(BenchmarkId::new(name, width), |b| b.iter(&mut *f));
        };

        bench("pass/1", &mut || _ = black_box(pass(&[black_box(base)])));
        bench("check_row", &mut || _ = black_box(check_row(black_box(base))));
        bench("argmax", &mut || _ = black_box(argmax(black_box(base))));
        bench("top_k/50", &mut || _ = black_box(top_k(black_box(base), 50)));
        bench("log_sum_exp", &mut || _ = black_box(log_sum_exp(black_box(base))));
        bench("entropy", &mut || _ = black_box(entropy(black_box(base), zb)));
        bench("softmax", &mut || softmax(black_box(base), zb, black_box(&mut out)));
        bench("log_softmax", &mut || log_softmax(black_box(base), zb, black_box(&mut out)));
        bench("mask_implausible", &mut || mask_implausible(black_box(base), 0.1, black_box(&mut out)));

        bench("pass/2", &mut || _ = black_box(pass(&[black_box(base), black_box(expert)])));
        bench("kl_divergence", &mut || _ = black_box(kl_divergence(black_box(base), zb, black_box(expert), ze)));
        bench("kl_both", &mut || _ = black_box(kl_both(black_box(base), zb, black_box(expert), ze)));

        bench("pass/3", &mut || _ = black_box(pass(&[black_box(base), expert, anti])));
        bench("linear_combination", &mut || linear_combination(black_box(base), 1.0, &[contrast], black_box(&mut out)));
        group.finish();
    }
}

/// A normaliser that does not look at what it sums up: what seeing a NaN costs is the difference to `log_sum_exp`.
struct Unseeing<'a>(&'a [f32]);

impl NullaryFnOnce for Unseeing<'_> {
    type Output = f64;

    #[expect(
        clippy::inline_always,
        reason = "only what is inlined into the dispatched function uses the wide registers"
    )]
    #[inline(always)]
    fn call(self) -> f64 {
        let max = max([self.0], |[x]| x);
        if max == f32::NEG_INFINITY {
            return f64::NEG_INFINITY;
        }
        let [sum] = sums([self.0], |[x]| [exp(x - max)]);
        f64::from(max) + sum.ln()
    }
}

/// Three rounds each, one after the other, so that a machine that slows down slows both.
fn normalisers(c: &mut Criterion) {
    for width in [32_000, 151_936] {
        let row = row(width, 1);
        let mut group = c.benchmark_group("normaliser");
        group.throughput(Throughput::Elements(width as u64));
        for round in 1..=3 {
            let seeing = BenchmarkId::new(format!("log_sum_exp/{width}"), round);
            group.bench_function(seeing, |b| b.iter(|| black_box(log_sum_exp(black_box(&row)))));
            let unseeing = BenchmarkId::new(format!("unseeing/{width}"), round);
            group.bench_function(unseeing, |b| b.iter(|| black_box(Arch::new().dispatch(Unseeing(black_box(&row))))));
        }
        group.finish();
    }
}

criterion_group!(benches, kernels, normalisers);
criterion_main!(benches);
