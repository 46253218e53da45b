//! `logitfuse plan` and the forecasts of runs that draft.

use std::path::Path;

use serde_json::Value;

use crate::{run_support::Bench, support::tiny};

#[test]
fn a_plan_has_times_predictions_and_a_choice() {
    let bench = Bench::tiny();
    let asked = ["plan", "x.toml", "-q", "--task", "words", "--probe", "3", "--batch", "2", "--format", "json"];
    let plan: Value = serde_json::from_str(&bench.succeed(&asked)).expect("stdout is JSON");
    assert_eq!(
        (&plan["schema_version"], &plan["variant"], &plan["task"], &plan["batch"]),
        (&1.into(), &"fused".into(), &"words".into(), &2.into())
    );
    let sources = plan["sources"].as_array().expect("sources are listed");
    assert_eq!(sources.len(), 2);
    for source in sources {
        assert_eq!(source["forward_ms"].as_array().map(Vec::len), Some(8), "{source}");
        assert!(source["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{source}");
    }
    assert!(plan["step"]["planned_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{plan}");
    let drafters = plan["drafters"].as_array().expect("drafters are listed");
    let names: Vec<&str> = drafters.iter().filter_map(|drafter| drafter["draft"].as_str()).collect();
    assert_eq!(names, ["base", "expert", "prompt_lookup"], "one model is both base and anti");
    for drafter in drafters {
        let lengths = drafter["costs"]["round_seconds"].as_array().map_or(0, Vec::len);
        for prediction in drafter["predictions"].as_array().expect("there are predictions") {
            assert_eq!(prediction["tokens_per_second"].as_array().map(Vec::len), Some(lengths - 1), "{drafter}");
        }
    }
    let probes = plan["probes"].as_array().expect("probes are listed");
    let ways: Vec<&str> = probes.iter().filter_map(|probe| probe["way"].as_str()).collect();
    assert_eq!(ways[..2], ["base alone", "fused"]);
    for probe in probes {
        assert_eq!(probe["samples"], 3);
        assert!(probe["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{probe}");
    }
    assert!(plan["choice"]["why"].is_string() && plan["choice"]["in_turn"].is_boolean(), "{}", plan["choice"]);
    let table = bench.succeed(&["plan", "x.toml", "-q"]);
    for words in ["fused × words, one sequence, temperature 0.7", "ms of a pass by rows", "\nchoice: "] {
        assert!(table.contains(words), "{words:?} is not in\n{table}");
    }
}

#[test]
fn a_plan_that_cannot_be_made_names_what_is_wrong() {
    let bench = Bench::tiny();
    let refused = |args: &[&str], words: &str| {
        let said = bench.fail(&[&["plan"], args].concat(), 2);
        assert!(said.contains(words) && said.contains("\nhelp: "), "{words:?} is not in {said}");
    };
    refused(&["y.toml"], "error: y.toml: ");
    refused(&["x.toml", "--variant", "fusd"], "--variant fusd: there is no such variant");
    refused(&["x.toml", "--task", "word"], "--task word: there is no such task");
    refused(&["x.toml", "--task", "choice", "--probe", "2"], "--probe: task `choice` scores texts");
    refused(&["x.toml", "--set", "sources.base.model=nowhere"], "nowhere");
    bench.write(&prompts(&[]));
    refused(&["x.toml", "--task", "words"], "x.toml: has no [tasks]");
    refused(&["x.toml", "--probe", "2"], "x.toml: nothing to probe with");
}

#[test]
fn prompts_are_probed_too() {
    let bench = Bench::tiny();
    bench.write(&prompts(&["'a b'", "'c'"]));
    let plan = bench.succeed(&["plan", "x.toml", "-q", "--probe", "2", "--format", "json"]);
    let plan: Value = serde_json::from_str(&plan).expect("stdout is JSON");
    assert_eq!((&plan["task"], &plan["probes"][0]["samples"]), (&Value::Null, &2.into()));
}

fn prompts(prompts: &[&str]) -> String {
    format!(
        "schema = 1\n[run]\nprompts = [{}]\nmax_new_tokens = 12\n[sources.base]\nmodel = '{}'\n",
        prompts.join(", "),
        tiny("gqa_fp32").display()
    )
}

#[test]
fn a_run_that_drafts_says_what_was_predicted_and_stays_the_same_run() {
    let bench = Bench::tiny();
    let plain = bench.toml().replace("temperature = 0.7", "temperature = 0.0");
    bench.write(&plain);
    bench.run("plain", &[]);
    assert!(!bench.path("plain/forecasts.jsonl").exists());
    for (directory, tokens) in [("fixed", "2"), ("auto", "'auto'")] {
        bench.write(&format!("{plain}[speculation]\ntokens = {tokens}\n"));
        let output = bench.output(&["run", "x.toml", "-o", directory]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("fused × words: expert drafts: ") && said.contains(" tokens/s predicted, "), "{said}");
        let tokens = |directory: &str| -> Vec<Value> {
            bench.samples(directory).into_iter().map(|sample| sample["responses"][0]["tokens"].clone()).collect()
        };
        assert_eq!(tokens(directory), tokens("plain"));
        let forecasts = bench.read(&format!("{directory}/forecasts.jsonl"));
        let forecast: Value =
            serde_json::from_str(forecasts.lines().next().expect("one task generates")).expect("JSON");
        assert_eq!(
            (&forecast["variant"], &forecast["task"], forecasts.lines().count()),
            (&"fused".into(), &"words".into(), 1)
        );
        let page = bench.read(&format!("{directory}/report.html"));
        assert!(page.contains("Drafted tokens and tokens per second"), "the report tells of drafts");
        assert!(Path::new(&bench.path(&format!("{directory}/timings.jsonl"))).exists());
    }
}
