//! What the C interface costs: one step of static-proxy, built in and as the bundled library, at V = 49 152.
//!
//! The library is built before (`cargo build --release -p logitfuse-plugin-static-proxy`) and lies beside the benchmark's
//! profile; `LOGITFUSE_BENCH_PLUGIN` names another.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing else to say")]

use std::{hint::black_box, path::PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo, SharedVocabulary};
use logitfuse_plugin_host::{OnError, PluginFile};
use logitfuse_static_proxy::StaticProxy;
use serde_json::json;

const WIDTH: usize = 49_152;

fn library() -> PathBuf {
    std::env::var_os("LOGITFUSE_BENCH_PLUGIN").map_or_else(
        || {
            let bench = std::env::current_exe().unwrap();
            let profile = bench.parent().and_then(|deps| deps.parent()).unwrap();
            profile.join(format!("liblogitfuse_plugin_static_proxy.{}", std::env::consts::DLL_EXTENSION))
        },
        PathBuf::from,
    )
}

fn row(seed: usize) -> Vec<f32> {
    (0..WIDTH).map(|i| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 1000.0 - 5.0).collect()
}

fn overhead(c: &mut Criterion) {
    let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
    let session = SessionInfo::new(["base", "expert", "anti"].map(binding), SharedVocabulary::new(WIDTH, []));
    let rows = [row(1), row(2), row(3)];
    let lent: Vec<RoleRow<'_>> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
    let params = json!({});
    let plugin = PluginFile::read(&library()).unwrap().load().unwrap();
    let loaded = plugin.strategy("static-proxy", &params, OnError::Fail).unwrap();
    let built_in = StaticProxy::from_json(&params).unwrap();
    let mut group = c.benchmark_group("static-proxy-49152");
    for (name, strategy) in [("built-in", &built_in as &dyn FusionStrategy), ("plugin", &loaded)] {
        for columns in [0, strategy.info().trace.len()] {
            let mut state = strategy.start(&session).unwrap();
            let (mut logits, mut trace) = (vec![0.0; WIDTH], vec![f64::NAN; columns]);
            let id = format!("{name}{}", if columns == 0 { "" } else { "-traced" });
            group.bench_function(id, |b| {
                b.iter(|| {
                    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
                    state.fuse(&FusionStep::new(black_box(&lent), &[]), &mut out).unwrap();
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, overhead);
criterion_main!(benches);
