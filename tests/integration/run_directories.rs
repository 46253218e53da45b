//! Run directories as their users meet them: refused, split, verified, compared.

use std::fs;

use serde_json::Value;

use crate::run_support::Bench;

#[test]
fn a_run_ends_in_a_table_and_in_files_that_can_be_believed() {
    let bench = Bench::family();
    let table = bench.run("x", &[]);
    for words in ["qa: exact_match of filter strict (n = 6;", "  steered ", "mc: acc (n = 4;"] {
        assert!(table.contains(words), "{words:?} is not in\n{table}");
    }
    let manifest: Value = serde_json::from_str(&bench.read("x/manifest.json")).expect("the manifest is JSON");
    let files = manifest["identity"]["files"].as_array().expect("files are listed");
    let kinds: Vec<&str> = files.iter().filter_map(|file| file["kind"].as_str()).collect();
    for kind in ["model", "tokenizer", "data", "config"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let samples = bench.samples("x");
    assert_eq!(samples.len(), 2 * (6 + 4));
    let traced = samples.iter().filter(|sample| sample["responses"][0]["trace"].is_array()).count();
    assert_eq!(traced, 2 * 2 * 2, "two samples of each variant and task");
    let fused = samples.iter().find(|sample| sample["variant"] == "steered").expect("there are fused samples");
    let token = &fused["responses"][0]["trace"][0];
    assert_eq!(token["trace"]["alpha"], 1.0);
    assert_eq!(token["roles"].as_array().map(Vec::len), Some(3));
    assert_eq!(token["roles"][1]["top_logprobs"].as_array().map(Vec::len), Some(5));
    let json: Value = serde_json::from_str(&bench.run("x", &["--format", "json"])).expect("stdout is JSON");
    let stored: Value = serde_json::from_str(&bench.read("x/metrics.json")).expect("metrics are JSON");
    assert_eq!(json, stored);
    assert_eq!(json["complete"], true);
}

#[test]
fn a_limited_run_says_so_and_is_another_run() {
    let bench = Bench::family();
    let table = bench.run("x", &["--limit", "2"]);
    assert!(table.starts_with("limited to 2 items a task: not for reporting\n"), "{table}");
    assert!(bench.read("x/metrics.json").contains("\"limit\": 2"));
    let said = bench.fail(&["run", "x.toml", "-o", "x"], 2);
    assert!(said.contains("x: holds another run: it holds --limit 2, and all items was asked for"), "{said}");
}

#[test]
fn a_changed_experiment_or_model_is_refused_and_named() {
    let bench = Bench::tiny();
    bench.run("x", &[]);
    let toml = bench.toml();
    bench.write(&toml.replace("temperature = 0.7", "temperature = 0.8"));
    let said = bench.fail(&["run", "x.toml", "-o", "x"], 2);
    assert!(said.contains("temperature = 0.7") && said.contains("temperature = 0.8"), "{said}");
    // What only reads results may change.
    bench.write(&format!("{toml}[[expect]]\nvariant = 'fused'\nmetric = 'exact_match,none'\nat_least = 2.0\n"));
    let before = bench.read("x/samples.jsonl");
    let said = bench.fail(&["run", "x.toml", "-q", "--no-report", "-o", "x"], 1);
    assert!(said.contains("expectation failed: fused/words exact_match,none: "), "{said}");
    assert!(said.contains("expected at least 2 (") && said.contains(" short)"), "{said}");
    assert_eq!(bench.read("x/samples.jsonl"), before);
    bench.write(&toml);
    let model = bench.path("base/model.onnx");
    let bytes = fs::read(&model).expect("the model can be read");
    fs::write(&model, [&bytes[..], &[0x32, 0]].concat()).expect("the test's folder is writable");
    let said = bench.fail(&["run", "x.toml", "-o", "x"], 2);
    assert!(said.contains("x: holds another run: the model base/model.onnx changed (sha256 "), "{said}");
    fs::write(&model, bytes).expect("the test's folder is writable");
    let mut words = bench.read("words.jsonl");
    words.push_str("{\"prompt\": \"c c\"}\n");
    fs::write(bench.path("words.jsonl"), words).expect("the test's folder is writable");
    let said = bench.fail(&["run", "x.toml", "-o", "x"], 2);
    assert!(said.contains("the data words.jsonl changed (sha256 "), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let bench = Bench::tiny();
    fs::write(bench.path("file"), "").expect("the test's folder is writable");
    for directory in ["file", "file/below", "/proc/logitfuse"] {
        let said = bench.fail(&["run", "x.toml", "-o", directory], 2);
        assert!(said.starts_with("error: ") && said.contains(directory) && said.contains("\nhelp: "), "{said}");
        assert!(said.contains("-o"), "{said}");
    }
    assert_eq!(bench.read("file"), "");
}

/// What reads the table may have read enough.
#[cfg(unix)]
#[test]
fn a_closed_pipe_loses_no_report() {
    let bench = Bench::tiny();
    let run = bench.logitfuse(&["run", "x.toml", "-q", "-o", "x"]);
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", "\"$0\" \"$@\" | true"])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(bench.path(""));
    run.get_envs().for_each(|(key, value)| match value {
        Some(value) => drop(command.env(key, value)),
        None => drop(command.env_remove(key)),
    });
    let output = command.output().expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(bench.path("x/report.html").exists() && bench.path("x/metrics.json").exists(), "{said}");
}

/// The limit on a file's size stands for a full disk: both fail a write in its middle.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_what_was_finished() {
    let bench = Bench::tiny();
    bench.run("whole", &[]);
    let run = bench.logitfuse(&["run", "x.toml", "-q", "--no-report", "-o", "x"]);
    let quoted: Vec<String> = run.get_args().map(|arg| format!("'{}'", arg.to_string_lossy())).collect();
    // In kilobytes; half of the samples fit.
    let room = bench.read("whole/samples.jsonl").len() / 2048;
    let script = format!("ulimit -f {room}; exec '{}' {}", run.get_program().to_string_lossy(), quoted.join(" "));
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script]).current_dir(bench.path(""));
    run.get_envs().for_each(|(key, value)| match value {
        Some(value) => drop(command.env(key, value)),
        None => drop(command.env_remove(key)),
    });
    let output = command.output().expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("samples.jsonl: cannot be written: ") && said.contains(" samples before it are safe"),
        "{said}"
    );
    assert!(said.contains("help: make room, then the same command goes on"), "{said}");
    let (cut, whole) = (bench.read("x/samples.jsonl"), bench.read("whole/samples.jsonl"));
    assert!(!cut.is_empty() && whole.starts_with(&cut) && cut.ends_with('\n') && cut.len() < whole.len());
    bench.run("x", &[]);
    bench.assert_equal("whole", "x");
}

#[test]
fn shards_merge_into_the_whole() {
    let bench = Bench::tiny();
    bench.run("whole", &[]);
    for shard in ["1/3", "2/3", "3/3"] {
        bench.run(&shard[..1], &["--shard", shard]);
        assert!(!bench.path(&shard[..1]).join("metrics.json").exists(), "a shard's figures mean nothing");
    }
    let table = bench.succeed(&["merge-shards", "-q", "1", "2", "3", "-o", "merged"]);
    assert!(table.contains("words: exact_match"), "{table}");
    bench.assert_equal("whole", "merged");
    assert_eq!(bench.succeed(&["merge-shards", "-q", "1", "2", "3", "-o", "merged"]), table, "once more");
    bench.assert_equal("whole", "merged");
    let part = bench.output(&["merge-shards", "3", "1", "-o", "part"]);
    let part = String::from_utf8_lossy(&part.stderr).into_owned();
    assert!(part.contains("part: 18 of 27 samples\n  shard 2/3: none of these directories holds it\n"), "{part}");
    bench.run("part", &[]);
    // What was missing stands at the end; the samples and what they are worth are the same.
    let sorted = |directory: &str| {
        let mut lines: Vec<String> =
            bench.read(&format!("{directory}/samples.jsonl")).lines().map(str::to_owned).collect();
        lines.sort();
        (lines, bench.read(&format!("{directory}/metrics.json")))
    };
    assert_eq!(sorted("whole"), sorted("part"));
    let said = bench.fail(&["run", "x.toml", "-o", "1", "--shard", "2/3"], 2);
    assert!(said.contains("it holds --shard 1/3, and --shard 2/3 was asked for"), "{said}");
    assert!(bench.fail(&["run", "x.toml", "--shard", "4/3"], 2).contains("1 ≤ I ≤ N"));
}

#[test]
fn a_run_can_be_verified_and_a_forged_one_is_found_out() {
    let bench = Bench::tiny();
    bench.run("x", &["--batch", "3"]);
    assert_eq!(bench.succeed(&["verify", "-q", "x"]), "27 samples are the same\n");
    // Two repeats of some items.
    let some = bench.succeed(&["verify", "-q", "x", "--samples", "4", "--format", "json"]);
    let some: Value = serde_json::from_str(&some).expect("stdout is JSON");
    assert!((4..27).contains(&some["same"].as_u64().expect("a count")), "{some}");
    bench.succeed(&["rerun", "-q", "x", "-o", "y"]);
    bench.assert_equal("x", "y");

    let honest = bench.read("x/samples.jsonl");
    let mut sample: Value = serde_json::from_str(honest.lines().nth(2).expect("there are samples")).expect("JSON");
    let source = sample["responses"][0]["trace"][1]["roles"][1]["source"].as_str().expect("a source").to_owned();
    let log_prob = &mut sample["responses"][0]["trace"][1]["roles"][1]["log_prob"];
    *log_prob = (log_prob.as_f64().expect("a number") - 1e-9).into();
    let forged: Vec<String> =
        honest.lines().enumerate().map(|(i, line)| if i == 2 { sample.to_string() } else { line.to_owned() }).collect();
    fs::write(bench.path("x/samples.jsonl"), forged.join("\n") + "\n").expect("the test's folder is writable");
    let output = bench.output(&["verify", "-q", "x"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("2 samples are the same, then fused/words/1/0 differs: response 0, step 1, source "),
        "{said}"
    );
    assert!(said.contains(&format!("source {source} as expert, the log-probability: ")), "{said}");

    fs::write(bench.path("words.jsonl"), "{\"prompt\": \"c\"}\n").expect("the test's folder is writable");
    let said = bench.fail(&["verify", "x"], 2);
    assert!(said.contains("the data words.jsonl changed"), "{said}");
}

#[test]
fn variants_are_compared_item_by_item() {
    let bench = Bench::family();
    bench.run("x", &[]);
    let table = bench.succeed(&["compare", "x", "x", "--variant", "base=steered"]);
    let line = table.lines().find(|line| line.contains("exact_match,strict")).expect("the metric has a row");
    assert!(line.contains("base → steered") && table.contains("McNemar"), "{table}");
    let json = bench.succeed(&["compare", "x", "x", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect("stdout is JSON");
    let rows = json["rows"].as_array().expect("rows");
    assert!(rows.len() >= 4 && rows.iter().all(|row| row["difference"] == 0.0 && row["p_holm"] == 1.0), "{json}");
    let said = bench.fail(&["compare", "x", "x", "--variant", "base=steerd"], 2);
    assert!(said.contains("its variants are base, steered"), "{said}");
}

#[test]
fn two_processes_do_not_write_one_directory() {
    let bench = Bench::tiny();
    bench.run("x", &[]);
    let lock = fs::File::options().write(true).open(bench.path("x/.lock")).expect("a run leaves its lock");
    lock.lock().expect("nobody holds it any more");
    let said = bench.fail(&["run", "x.toml", "-o", "x"], 2);
    assert!(said.contains("x: another process writes to it"), "{said}");
}
