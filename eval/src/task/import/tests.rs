use std::path::Path;

use logitfuse_core::{ErrorKind, Result};

use super::import;
use logitfuse_config::{Sampler, TaskConfig};

fn imported(files: &[(&str, &str)]) -> Result<String> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("the test's folder is writable");
    }
    import(&folder.path().join(files[0].0), None)
}

fn task(toml: &str) -> TaskConfig {
    let document: toml::Table = toml::from_str(toml).expect("the import writes TOML");
    let tasks = document["tasks"].as_table().expect("a table of tasks");
    let (_, task) = tasks.iter().next().expect("one task");
    let mut task = task.as_table().expect("a table").clone();
    task.remove("with");
    toml::Value::Table(task).try_into().expect("a task's keys")
}

const GSM8K: &str = r#"
tag: [math_word_problems]
task: gsm8k
dataset_path: openai/gsm8k
dataset_name: main
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: "{{answer}}" # "{{answer.split('### ')[-1].rstrip()}}"
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\$", '(?s).*#### ', "\\.$"]
generation_kwargs:
  until: ["Question:", "</s>"]
  do_sample: false
  temperature: 0.0
repeats: 1
num_fewshot: 5
filter_list:
  - name: strict-match
    filter:
      - function: regex
        regex_pattern: '#### (\-?[0-9\.\,]+)'
      - function: take_first
metadata: {version: 3.0}
"#;

#[test]
fn a_generation_keeps_its_stops_filters_and_demonstrations() {
    let toml = imported(&[("gsm8k.yaml", GSM8K)]).expect("a declarative task");
    let config = task(&toml);
    assert_eq!(config.prompt.as_deref(), Some("Question: {{question}}\nAnswer:"));
    assert_eq!(config.stop, Some(vec!["Question:".to_owned(), "</s>".to_owned()]));
    assert_eq!((config.max_new_tokens, config.filters.len()), (Some(256), 1));
    let fewshot = config.fewshot.expect("five are shown");
    assert_eq!((fewshot.n, fewshot.sampler, fewshot.seed), (5, Sampler::Seeded, 1234));
    assert_eq!(fewshot.data.as_deref(), Some(Path::new("gsm8k.train.jsonl")));
    let how = r#"#   load_dataset("openai/gsm8k", "main", split="train").to_json("gsm8k.train.jsonl")"#;
    assert!(toml.starts_with("# From gsm8k.yaml.\n") && toml.contains(how), "{toml}");
}

#[test]
fn included_files_are_overridden() {
    let base = "output_type: multiple_choice\ndoc_to_text: 'Q: {{q}}'\ndoc_to_choice: '{{choices.text}}'\ndoc_to_target: gold\n";
    let files = [("one.yaml", "include: base.yaml\ntask: one\ndoc_to_text: 'Ask: {{q}}'\n"), ("base.yaml", base)];
    let config = task(&imported(&files).expect("a declarative task"));
    assert_eq!(config.prompt.as_deref(), Some("Ask: {{q}}"));
    assert_eq!(config.target.as_deref(), Some("gold"));
    let cycle = imported(&[("one.yaml", "include: one.yaml\ntask: one\n")]).expect_err("it has no end");
    assert!(cycle.to_string().contains("files that include each other"), "{cycle}");
}

#[test]
fn sampling_is_what_the_task_changes_in_the_run() {
    let yaml =
        "task: t\ndoc_to_text: q\ndoc_to_target: a\ngeneration_kwargs: {until: x, do_sample: true, temperature: 0.7}\n";
    let toml = imported(&[("t.yaml", yaml)]).expect("a declarative task");
    let document: toml::Table = toml::from_str(&toml).expect("the import writes TOML");
    assert_eq!(document["tasks"]["t"]["with"]["run"]["temperature"].as_float(), Some(0.7));
    assert_eq!(task(&toml).prompt.as_deref(), Some("{{ q }}"));
}

#[test]
fn python_is_refused_with_its_line() {
    let e = imported(&[("t.yaml", "task: t\ndoc_to_text: !function utils.text\n")]).expect_err("it is Python");
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().ends_with("t.yaml:2: doc_to_text is Python code (utils.text)"), "{e}");
}

#[test]
fn what_has_no_counterpart_is_named() {
    for (yaml, message, help) in [
        ("task: t\ndoc_to_txt: q\n", "doc_to_txt: has no counterpart", "did you mean `doc_to_text`?"),
        ("task: t\ngen_prefix: q\n", "gen_prefix: has no counterpart", "at the end of doc_to_text"),
        ("task: [a, b]\n", "task: this is a group", "one by one"),
        ("doc_to_text: q\n", "task: missing", "name the task"),
        ("task: t\nmetric_list: [{metric: mcc}]\n", "metric_list[0]: unknown metric `mcc`", ""),
        (
            "task: t\nnum_fewshot: 2\nfewshot_config: {sampler: balanced}\n",
            "fewshot_config.sampler: balanced",
            "first_n",
        ),
        ("- a list\n", "not a task file", "YAML mapping"),
    ] {
        let e = imported(&[("t.yaml", yaml)]).expect_err(yaml);
        assert!(e.to_string().contains(message), "{e}");
        assert!(e.help().is_some_and(|text| text.contains(help)), "{e}: {:?}", e.help());
    }
}
