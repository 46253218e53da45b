//! Neither batch nor threads change a byte of a run.

use crate::run_support::Bench;

/// Generation with sampling, two repeats and full traces, and scoring.
fn same_whatever_runs_beside_it(model: &str, variant: Option<&str>) {
    let bench = Bench::of_model(model, variant);
    bench.run("1", &["--batch", "1", "--threads", "1"]);
    assert_eq!(bench.samples("1").len(), 9 * 2 + 9);
    for (batch, threads) in [("4", "1"), ("8", "1"), ("1", "2"), ("4", "2"), ("8", "2")] {
        let directory = format!("{batch}-{threads}");
        bench.run(&directory, &["--batch", batch, "--threads", threads]);
        bench.assert_equal("1", &directory);
    }
}

#[test]
fn batch_and_threads_change_no_byte_in_full_precision() {
    same_whatever_runs_beside_it("gqa_fp32", None);
}

#[test]
fn batch_and_threads_change_no_byte_in_four_bits() {
    same_whatever_runs_beside_it("hf_variants", Some("q4"));
}

#[test]
fn batch_and_threads_change_no_byte_in_eight_bits() {
    same_whatever_runs_beside_it("gqa_int8", None);
}
