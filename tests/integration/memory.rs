//! Long work needs no more memory than short work. Reads what Linux says of a process.

use std::ops::ControlFlow;

use logitfuse_engine::{Cancel, Request};
use logitfuse_experiment::{Config, Wired};
use serde_json::json;

use crate::support::runtime;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// Three models of the family under a strategy with memory, drafting.
fn wired() -> Wired {
    let family = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/family/models");
    let source =
        |role: &str, model: &str| format!("[sources.{role}]\nmodel = \"{family}/{model}\"\nchat_template = \"none\"\n");
    let text = format!(
        "schema = 1\n{}{}{}[strategy]\nuse = \"dynamic-kl\"\nparams = {{ ema = 0.3 }}\n[speculation]\ntokens = 2\n[run]\nignore_end_of_sequence = true\n",
        source("base", "S"),
        source("expert", "S-qa"),
        source("anti", "S-math"),
    );
    Wired::new(Config::from_toml(&text).unwrap(), &runtime(), 2).unwrap()
}

fn generate(wired: &mut Wired, sequences: usize, tokens: usize) -> usize {
    let requests: Vec<Request> = (0..sequences)
        .map(|n| {
            let fields = json!({ "prompt": format!("Question: Which river does number {n} stand on?\nAnswer:") });
            wired.request(n, &fields).unwrap().max_new_tokens(tokens)
        })
        .collect();
    let mut each = requests.into_iter().map(Ok);
    wired.engine.serve(&mut each, 8, &Cancel::new(), &mut |_| ControlFlow::Continue(())).unwrap().tokens
}

/// The most that was in memory after each of some rounds: the allocator keeps now more, now less for later, and so does each
/// thread's arena of it.
fn peak(rounds: usize, mut round: impl FnMut()) -> u64 {
    let after = |_| {
        round();
        resident()
    };
    (0..rounds).map(after).max().unwrap_or(0)
}

#[test]
fn a_thousand_sequences_and_ten_thousand_tokens_leave_memory_flat() {
    let mut wired = wired();
    let warm = peak(6, || {
        generate(&mut wired, 16, 400);
    });
    let sequences = peak(1, || assert_eq!(generate(&mut wired, 1_000, 4), 4_000));
    let tokens = peak(4, || assert_eq!(generate(&mut wired, 25, 400), 10_000));
    for (what, after) in [("a thousand sequences", sequences), ("ten thousand tokens", tokens)] {
        // What the allocator keeps moves by up to a sixth between rounds of the same work; a leak of a kilobyte a token or
        // of thirty a sequence would show.
        eprintln!("{what}: {warm} {after} {:.3}", after as f64 / warm as f64);
        assert!(after as f64 <= 1.05 * warm as f64, "{what}: {} MB became {} MB", warm >> 20, after >> 20);
    }
}
