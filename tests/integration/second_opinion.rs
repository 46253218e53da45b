//! The numerics of dynamic fusion, judged by `tests/second_opinion/dynamic_kl.py`: numpy and scipy, float64, from the
//! definitions.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use logitfuse_conformance::generators::related_rows;
use logitfuse_core::RoleRow;
use logitfuse_core::numerics::log_sum_exp;
use logitfuse_numerics::{Bounds, Grid, Objective, Solution, Targets, TiltFamily};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::{Value, json};

use crate::support::peer_python;

const PROBLEMS: usize = 200;
const NATS: [f64; 3] = [0.01, 0.5, 4.0];

#[test]
fn numpy_and_scipy_agree() {
    // The same rows at every run, or a disagreement could not be looked at.
    let mut runner = TestRunner::deterministic();
    let rows = (64_usize..=512).prop_flat_map(|width| related_rows(3, width, 5));
    let problems: Vec<Value> =
        (0..PROBLEMS).map(|_| answered(&rows.new_tree(&mut runner).unwrap().current())).collect();
    let output = ask(&serde_json::to_vec(&problems).unwrap());
    assert!(output.contains(&format!("{PROBLEMS} problems")) && output.contains(" 0 disagreements"), "{output}");
}

/// The problem, with rows as bits, and all our answers.
fn answered(rows: &[Vec<f32>]) -> Value {
    let [base, expert, anti] = [0, 1, 2].map(|row| RoleRow::new(&rows[row], log_sum_exp(&rows[row]), 0.0));
    let mut direction = vec![0.0; base.logits().len()];
    let targets = Targets::with_direction(&expert, &anti, &mut direction);
    let mut family = TiltFamily::new(2.0);
    family.summarise(base.logits(), base.log_normaliser, &direction);
    let solutions: serde_json::Map<String, Value> = Objective::ALL
        .into_iter()
        .map(|objective| (name(objective), answer(&family.solve(objective, &targets, Bounds::default()))))
        .collect();
    let grid = Grid::default();
    let of_rows = grid.solve(base.logits(), base.log_normaliser, &direction, Objective::BothDivergences, &targets);
    let of_summary = family.solve_grid(Objective::BothDivergences, &targets, grid);
    let bits = |row: &RoleRow<'_>| row.logits().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    json!({
        "base": bits(&base),
        "expert": bits(&expert),
        "anti": bits(&anti),
        "targets": { "forward": targets.forward, "reverse": targets.reverse },
        "solutions": solutions,
        "grid": { "rows": answer(&of_rows), "summary": answer(&of_summary) },
        "nats": NATS,
        "budgets": NATS.map(|nats| answer(&family.budget(nats, Bounds::default()))),
    })
}

/// The word for an objective in parameters.
fn name(objective: Objective) -> String {
    serde_json::to_value(objective).unwrap().as_str().unwrap().to_owned()
}

fn answer(solution: &Solution) -> Value {
    json!({
        "alpha": solution.alpha,
        "kl_tilted_base": solution.kl_tilted_base,
        "kl_base_tilted": solution.kl_base_tilted,
        "saturated": solution.saturated,
        "inactive": solution.inactive,
    })
}

/// What the script prints; its standard error where it fails without a word.
fn ask(problems: &[u8]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("second_opinion/dynamic_kl.py");
    let mut python = Command::new(peer_python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The script reads everything before it prints anything, so neither side waits for the other.
    python.stdin.take().unwrap().write_all(problems).unwrap();
    let output = python.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
