//! Long work needs no more memory than short work. Reads what Linux says of a process.

use std::ops::ControlFlow;

use logitfuse_config::Config;
use logitfuse_engine::{Cancel, Request};
use logitfuse_pipeline::{Pipeline, PluginSettings};
use serde_json::json;

use crate::support::runtime;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// Three models of the family under a strategy with memory, drafting.
fn pipeline() -> Pipeline {
    let family = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/family/models");
    let source =
        |role: &str, model: &str| format!("[sources.{role}]\nmodel = \"{family}/{model}\"\nchat_template = \"none\"\n");
    let text = format!(
        "schema = 1\n{}{}{}[strategy]\nuse = \"dynamic-kl\"\nparams = {{ ema = 0.3 }}\n[speculation]\ntokens = 2\n[run]\nignore_end_of_sequence = true\n",
        source("base", "S"),
        source("expert", "S-qa"),
        source("anti", "S-math"),
    );
    Config::from_toml(&text).unwrap().open(&runtime(), 2, &PluginSettings::default()).unwrap()
}

fn generate(pipeline: &mut Pipeline, sequences: usize, tokens: usize) -> usize {
    let requests: Vec<Request> = (0..sequences)
        .map(|n| {
            let fields = json!({ "prompt": format!("Question: Which river does number {n} stand on?\nAnswer:") });
            pipeline.request_for(n, &fields).unwrap().max_new_tokens(tokens)
        })
        .collect();
    let mut each = requests.into_iter().map(Ok);
    pipeline.decoder().generate_stream(&mut each, 8, &Cancel::new(), &mut |_| ControlFlow::Continue(())).unwrap().tokens
}

/// The most that was in memory after each of some rounds.
fn peak(rounds: usize, mut round: impl FnMut()) -> u64 {
    let after = |_| {
        round();
        resident()
    };
    (0..rounds).map(after).max().unwrap_or(0)
}

const KEEP: &str = "MALLOC_MMAP_THRESHOLD_";

/// glibc raises the size from which a buffer is given back to the system at once as buffers are freed, so that by default up to
/// a sixth more or less is kept for later between rounds of the same work. Held where it begins, what is resident is what
/// is in use; a program of its own, because glibc reads the variable when a program starts.
#[test]
fn a_thousand_sequences_and_ten_thousand_tokens_leave_memory_flat() {
    if std::env::var_os(KEEP).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::a_thousand_sequences_and_ten_thousand_tokens_leave_memory_flat", "--nocapture"])
            .env(KEEP, "131072")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "nothing was measured");
        return;
    }
    let mut pipeline = pipeline();
    let warm = peak(4, || {
        generate(&mut pipeline, 16, 400);
    });
    let sequences = peak(1, || assert_eq!(generate(&mut pipeline, 1_000, 4), 4_000));
    let tokens = peak(2, || assert_eq!(generate(&mut pipeline, 25, 400), 10_000));
    for (what, after) in [("a thousand sequences", sequences), ("ten thousand tokens", tokens)] {
        assert!(after as f64 <= 1.05 * warm as f64, "{what}: {} kB became {} kB", warm >> 10, after >> 10);
    }
}
