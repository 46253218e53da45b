//! One whole step, trace included: one expert with both solvers, and a pool of four.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo, SharedVocabulary};
use logitfuse_dynamic_kl::{DynamicKl, Experts, Params, Pool, Solver};

/// A row shaped like a language model's: a steep head, a long flat tail, nothing in the order of the ids.
fn row(width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let entry = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 40) as f32 / (1u64 << 24) as f32;
        -2.5 * (uniform + 1e-5).ln() - 8.0
    };
    (0..width).map(entry).collect()
}

/// Base, experts, anti: the experts are their anti and a move of about a nat, as tuning makes it.
fn rows(width: usize, experts: usize) -> Vec<Vec<f32>> {
    let anti = row(width, 1);
    let tuned = |seed| anti.iter().zip(row(width, seed)).map(|(x, by)| x + 0.3 * (by + 8.0)).collect();
    let base: Vec<f32> = anti.iter().zip(row(width, 2)).map(|(x, by)| x + 0.2 * by).collect();
    [base].into_iter().chain((3..).take(experts).map(tuned)).chain([anti.clone()]).collect()
}

fn fuse(c: &mut Criterion) {
    let grid = Params { solver: Solver::Grid, ..Params::default() };
    let arithmetic = Params { pool: Some(Pool::Arithmetic), ..Params::default() };
    let one_expert = Params { experts: Experts::OneExpert, ..Params::default() };
    let cases = [
        ("exact", 1, Params::default()),
        ("grid", 1, grid),
        ("pool of 4", 4, Params::default()),
        ("arithmetic pool of 4", 4, arithmetic),
        ("one of 4", 4, one_expert),
    ];
    let mut group = c.benchmark_group("dynamic-kl");
    for width in [32_000, 128_256, 151_936, 262_144] {
        for (name, experts, params) in &cases {
            let strategy = DynamicKl::new(params.clone()).expect("the parameters are valid");
            let roles = [("base", 1), ("expert", *experts), ("anti", 1)];
            let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
            let bindings = roles.iter().flat_map(|&(role, count)| (0..count).map(move |_| binding(role)));
            let session = SessionInfo::new(bindings, SharedVocabulary::new(width, []));
            let mut state = strategy.start(&session).expect("the roles fit");
            let rows = rows(width, *experts);
            let rows: Vec<RoleRow<'_>> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
            let (mut logits, mut trace) = (vec![0.0; width], vec![0.0; strategy.info().trace.len()]);
            group.throughput(Throughput::Elements(width as u64));
            group.bench_function(BenchmarkId::new(*name, width), |b| {
                b.iter(|| {
                    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
                    state.fuse(black_box(&FusionStep::new(&rows, &[])), &mut out)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fuse);
criterion_main!(benches);
