//! The programs of `examples/rust` do what their readers are told, with the family that ships.

use std::{path::Path, process::Command};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a program prints. A test build makes the programs, too.
fn output(example: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples").join(example);
    let output = Command::new(&program).current_dir(ROOT).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}; build it with `cargo test`", program.display()));
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn proxy_tuning_solves_the_problem() {
    assert_eq!(output("proxy_tuning").trim(), "99 - 38 = 61. 61 - 29 = 32. 32 + 12 = 44. The answer is 44.");
}

#[test]
fn the_readme_shows_the_program_that_runs() {
    let read = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let program = read("examples/rust/proxy_tuning.rs");
    let (_, program) = program.split_once("\n\n").unwrap();
    assert!(read("README.md").contains(program.trim()), "README.md shows another program than examples/rust");
}

#[test]
fn a_stream_has_the_tokens_of_its_text() {
    let output = output("stream");
    let (tokens, beside): (Vec<&str>, Vec<&str>) = output.lines().partition(|line| line.contains("alpha"));
    assert!(tokens.len() > 3 && tokens.iter().all(|line| line.starts_with('"')), "{output}");
    assert!(beside.len() == 1 && beside[0] == "beside it: The answer is Pesk.", "{output}");
}

#[test]
fn a_rule_of_ones_own_answers() {
    assert_eq!(output("custom_strategy").trim(), "The answer is Pesk.");
}

#[test]
fn scores_are_of_the_answers() {
    let output = output("score");
    assert_eq!(output.lines().filter(|line| line.contains("nats")).count(), 3, "{output}");
    assert!(output.lines().last().unwrap().starts_with("alpha = 2:"), "{output}");
}
