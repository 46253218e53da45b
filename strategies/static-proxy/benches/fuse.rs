//! One whole step, trace included, for one base, one expert and one anti at the vocabulary sizes of the models in use.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo, SharedVocabulary};
use logitfuse_static_proxy::{Params, StaticProxy};

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

fn fuse(c: &mut Criterion) {
    let strategy = StaticProxy::new(Params::default()).expect("defaults are valid");
    let mut group = c.benchmark_group("static-proxy");
    for width in [32_768, 49_152, 131_072, 262_144] {
        let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
        let session = SessionInfo::new(["base", "expert", "anti"].map(binding), SharedVocabulary::new(width, []));
        let mut state = strategy.start(&session).expect("the roles fit");
        let rows = [1, 2, 3].map(|seed| row(width, seed));
        let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
        let (mut logits, mut trace) = (vec![0.0; width], [0.0; 4]);
        group.throughput(Throughput::Elements(width as u64));
        group.bench_function(BenchmarkId::new("fuse", width), |b| {
            b.iter(|| {
                let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
                state.fuse(black_box(&FusionStep::new(&rows, &[])), &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fuse);
criterion_main!(benches);
