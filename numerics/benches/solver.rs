//! Dynamic fusion of one step against what no method can do without, at the vocabulary sizes of the models in use.
//!
//! * `stream` reads base, expert and anti and writes one row, and does nothing but add: memory speed.
//! * `static` is the fusion with a fixed strength: three rows in, one out.
//! * `bound` computes the three log-normalisers and the two divergences of expert and anti: every dynamic method needs
//!   them before it can begin.
//! * `exact` is all of a step: log-normalisers, targets and direction, summary, solution, fused row. `exact/…` are its
//!   parts.
//! * `moments` is one call of `tilt_moments`, which `exact` has no need of.
//! * `grid/rows` is the published search as one would write it with fast kernels: for each of 21 strengths the fused row,
//!   its log-normaliser, and both divergences. `grid/moments` saves the row, `grid/geometric` the exponentials.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{Contrast, kl_both, linear_combination, log_sum_exp};
use logitfuse_numerics::{
    Bounds, Grid, Objective, Targets, TiltFamily, exponential_tilt, exponential_tilt_in_place, tilt_moments,
};

const WIDTHS: [usize; 4] = [32_000, 128_256, 151_936, 262_144];

struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    fn below(&mut self, n: usize) -> usize {
        self.uniform();
        (self.0 >> 33) as usize % n
    }
}

/// Base, expert and anti as language models yield them: a Zipfian background in no order of the ids, a head of some
/// contested tokens, models of one family that differ by a nat, an expert that moves everything a little and one token in
/// a hundred a lot.
fn rows(width: usize) -> [Vec<f32>; 3] {
    let mut random = Random(width as u64);
    let mut anti: Vec<f32> = (0..width).map(|rank| -1.1 * (rank as f32 + 3.0).ln() + 0.8 * random.normal()).collect();
    for token in &mut anti[..6] {
        *token = 4.0 + 4.0 * random.uniform();
    }
    for id in (1..width).rev() {
        anti.swap(id, random.below(id + 1));
    }
    let base = anti.iter().map(|x| x + random.normal()).collect();
    let expert = anti
        .iter()
        .map(|x| {
            let strength = if random.below(100) == 0 { 3.0 } else { 0.8 };
            x + strength * random.normal()
        })
        .collect();
    [base, expert, anti]
}

/// Reads three entries and writes one, and does nothing but add: what fusing costs where arithmetic is free.
fn stream([base, expert, anti]: [&[f32]; 3], out: &mut [f32]) {
    for (((out, base), expert), anti) in out.iter_mut().zip(base).zip(expert).zip(anti) {
        *out = base + expert + anti;
    }
}

fn with_normaliser(logits: &[f32]) -> RoleRow<'_> {
    RoleRow::new(logits, log_sum_exp(logits), 0.0)
}

fn solver(c: &mut Criterion) {
    for width in WIDTHS {
        let rows = rows(width);
        let rows @ [base, expert, anti] = rows.each_ref().map(Vec::as_slice);
        let [of_base, of_expert, of_anti] = rows.map(with_normaliser);
        let z = of_base.log_normaliser;
        let (mut out, mut direction) = (vec![0.0; width], vec![0.0; width]);
        let targets = Targets::with_direction(&of_expert, &of_anti, &mut direction);
        let known = direction.clone();
        let mut family = TiltFamily::new(2.0);

        let mut group = c.benchmark_group("solver");
        group.throughput(Throughput::Elements(width as u64));
        let mut bench = |name: &str, f: &mut dyn FnMut()| {
            group.bench_function(BenchmarkId::new(name, width), |b| b.iter(&mut *f));
        };

        bench("stream", &mut || stream(black_box(rows), black_box(&mut out)));
        bench("static", &mut || {
            let contrast = Contrast::between(1.0, &of_expert, &of_anti);
            linear_combination(black_box(base), 1.0, &[contrast], black_box(&mut out));
        });
        bench("bound", &mut || {
            let [_, e, a] = black_box(rows).map(log_sum_exp);
            black_box(kl_both(expert, e, anti, a));
        });
        bench("exact", &mut || {
            let [base, expert, anti] = black_box(rows).map(with_normaliser);
            // As dynamic-kl does it: the direction stands where the fused row will.
            let targets = Targets::with_direction(&expert, &anti, &mut out);
            family.summarise(base.logits(), base.log_normaliser, &out);
            let alpha = family.solve(Objective::BothDivergences, &targets, Bounds::default()).alpha;
            exponential_tilt_in_place(base.logits(), black_box(&mut out), alpha);
        });
        bench("exact/normalisers", &mut || _ = black_box(black_box(rows).map(log_sum_exp)));
        bench("exact/targets", &mut || {
            black_box(Targets::with_direction(black_box(&of_expert), &of_anti, &mut direction));
        });
        bench("exact/summary", &mut || family.summarise(black_box(base), z, &known));
        bench("exact/solution", &mut || {
            black_box(family.solve(Objective::BothDivergences, black_box(&targets), Bounds::default()));
        });
        bench("moments", &mut || _ = black_box(tilt_moments(black_box(base), z, &known, 0.3)));
        bench("exact/tilt", &mut || exponential_tilt(black_box(base), &known, 1.25, black_box(&mut out)));
        bench("grid/rows", &mut || {
            black_box(by_hand(black_box(&targets), |alpha| {
                exponential_tilt(base, &known, alpha, &mut out);
                let (forward, reverse) = kl_both(&out, log_sum_exp(&out), base, z);
                [forward, reverse]
            }));
        });
        bench("grid/moments", &mut || {
            let resting = tilt_moments(base, z, &known, 0.0).mean;
            black_box(by_hand(black_box(&targets), |alpha| {
                let tilted = tilt_moments(base, z, &known, alpha);
                [alpha * tilted.mean - tilted.log_partition, tilted.log_partition - alpha * resting]
            }));
        });
        bench("grid/geometric", &mut || {
            black_box(Grid::default().solve(black_box(base), z, &known, Objective::BothDivergences, &targets));
        });
        group.finish();
    }
}

/// The published loop, around what computes the two divergences at a strength.
fn by_hand(targets: &Targets, mut at: impl FnMut(f64) -> [f64; 2]) -> f64 {
    let mut best = (0.0, f64::INFINITY);
    for alpha in Grid::default().points() {
        let [forward, reverse] = at(alpha);
        let loss = Objective::BothDivergences.loss(forward, reverse, targets);
        if loss < best.1 {
            best = (alpha, loss);
        }
    }
    best.0
}

criterion_group!(benches, solver);
criterion_main!(benches);
