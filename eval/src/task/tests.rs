use std::path::Path;

use logitfuse_core::{Error, Result};
use logitfuse_rundir::{Response, SampleRecord};
use serde_json::{Value, json};

use super::{Doc, Outcome, Task};
use logitfuse_config::{Choices, FewshotConfig, MetricConfig, OutputType, Sampler, TaskConfig};

/// A task over these items.
fn task(items: &[Value], change: impl FnOnce(&mut TaskConfig)) -> Result<Task> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = write(folder.path(), items);
    let mut config = TaskConfig::new(path);
    change(&mut config);
    Task::load("t", &config)
}

fn write(folder: &Path, items: &[Value]) -> std::path::PathBuf {
    let lines = items.iter().fold(String::new(), |lines, item| lines + &item.to_string() + "\n");
    let path = folder.join("items.jsonl");
    std::fs::write(&path, lines).expect("the test's folder is writable");
    path
}

fn metric(name: &str) -> MetricConfig {
    MetricConfig { metric: name.to_owned(), ..MetricConfig::default() }
}

fn said(text: &str) -> Response {
    Response { text: text.to_owned(), ..Response::default() }
}

fn scored(log_prob: f64) -> Response {
    Response { log_prob, is_greedy: Some(false), ..Response::default() }
}

fn outcome(task: &Task, doc: usize, responses: &[Response]) -> Outcome {
    task.outcome(&task.docs()[doc], &[responses]).expect("sound responses")
}

fn sample(doc: &Doc, outcome: &Outcome) -> SampleRecord {
    let record = json!({
        "schema_version": 1, "variant": "v", "task": "t", "doc_id": doc.id, "doc_index": doc.index, "repeat": 0,
        "doc": doc.fields, "target": outcome.target, "prompt_sha256": "", "responses": [],
        "filtered": outcome.filtered, "metrics": outcome.metrics,
    });
    serde_json::from_value(record).expect("the fields of a sample")
}

fn message(result: Result<Task>) -> (String, String) {
    let e: Error = result.map(|_| ()).expect_err("it is wrong");
    (e.to_string(), e.help().unwrap_or_default().to_owned())
}

const SUMS: [(&str, &str); 4] = [("1+1", "2"), ("2+2", "4"), ("3+3", "6"), ("4+4", "8")];

fn sums() -> Vec<Value> {
    SUMS.iter().map(|(question, answer)| json!({ "question": question, "answer": answer })).collect()
}

fn shown(task: &Task, doc: usize) -> String {
    let fields = task.fields(&task.docs()[doc]).expect("sound templates");
    fields["prompt"].as_str().expect("a text").to_owned()
}

#[test]
fn demonstrations_are_written_as_lm_eval_writes_them() {
    let own = |sampler, n| {
        task(&sums(), |c| {
            c.description = Some("Sums.\n".to_owned());
            c.prompt = Some("Q: {{ question }}\nA:".to_owned());
            c.target = Some("answer".to_owned());
            c.fewshot = Some(FewshotConfig { data: None, n, sampler, seed: 1234, separator: "\n\n".to_owned() });
        })
        .expect("a sound task")
    };
    let first = own(Sampler::FirstN, 2);
    // An item is not shown to itself.
    assert_eq!(shown(&first, 0), "Sums.\nQ: 2+2\nA: 4\n\nQ: 3+3\nA: 6\n\nQ: 1+1\nA:");
    assert_eq!(shown(&first, 3), "Sums.\nQ: 1+1\nA: 2\n\nQ: 2+2\nA: 4\n\nQ: 4+4\nA:");
    let seeded = own(Sampler::Seeded, 3);
    for (doc, (question, _)) in SUMS.iter().enumerate() {
        let prompt = shown(&seeded, doc);
        assert_eq!(prompt.matches(question).count(), 1, "{prompt}");
        assert_eq!(prompt.matches("A: ").count(), 3, "{prompt}");
    }
    let (few, help) = message(task(&sums(), |c| {
        c.target = Some("answer".to_owned());
        c.fewshot =
            Some(FewshotConfig { data: None, n: 4, sampler: Sampler::Seeded, seed: 0, separator: String::new() });
    }));
    assert_eq!(few, "tasks.t: fewshot.n: 4 are wanted and there are 3 for item `0`");
    assert!(help.contains("never shown to itself"));
}

#[test]
fn an_item_that_is_there_twice_is_shown_neither_time() {
    let twice = [sums(), sums()[..1].to_vec(), sums()[..1].to_vec()].concat();
    for sampler in [Sampler::FirstN, Sampler::Seeded] {
        for seed in 0..20 {
            let task = task(&twice, |c| {
                c.prompt = Some("{{ question }} =".to_owned());
                c.target = Some("answer".to_owned());
                c.fewshot = Some(FewshotConfig { data: None, n: 3, sampler, seed, separator: ", ".to_owned() });
            })
            .expect("a sound task");
            assert_eq!(shown(&task, 0).matches("1+1").count(), 1, "{sampler:?} {seed}");
        }
    }
}

#[test]
fn filters_see_all_answers_to_an_item() {
    let vote = json!({ "name": "maj@3", "filter": [{ "function": "majority_vote" }, { "function": "take_first" }] });
    let task = task(&sums(), |c| {
        c.target = Some("{{ answer }}".to_owned());
        c.repeats = 3;
        c.filters = vec![serde_json::from_value(vote).expect("a sound filter")];
    })
    .expect("a sound task");
    let answers = [[said("3")], [said("2")], [said("2")]];
    let so_far: Vec<&[Response]> = answers.iter().map(<[Response; 1]>::as_slice).collect();
    let doc = &task.docs()[0];
    let before = task.outcome(doc, &so_far[..2]).expect("sound responses");
    assert!(before.metrics.is_empty() && before.filtered.is_empty());
    let last = task.outcome(doc, &so_far).expect("sound responses");
    assert_eq!(json!(last.metrics), json!({ "exact_match,maj@3": 1.0 }));
    assert_eq!(last.filtered["maj@3"], "2");
}

#[test]
fn the_best_reference_counts() {
    let item = [json!({ "question": "?", "answers": ["the red cat", "a dog"] })];
    let task = task(&item, |c| {
        c.target = Some("answers".to_owned());
        c.metrics = ["exact_match", "f1", "rouge1", "bleu"].map(metric).to_vec();
    })
    .expect("a sound task");
    let outcome = outcome(&task, 0, &[said("dog")]);
    assert_eq!(outcome.target, json!(["the red cat", "a dog"]));
    assert_eq!(outcome.metrics["exact_match,none"], 0.0);
    // SQuAD takes the article off.
    assert_eq!(outcome.metrics["f1,none"], 1.0);
    assert_eq!(outcome.metrics["rouge1,none"], 2.0 / 3.0);
    assert_eq!(outcome.metrics["bleu,none"], json!(["dog", ["the red cat", "a dog"]]));
}

fn choosing(metrics: &[&str], target: &str, items: &[Value]) -> Result<Task> {
    task(items, |c| {
        c.output_type = OutputType::MultipleChoice;
        c.choices = Some(Choices::Field("options".to_owned()));
        c.target = Some(target.to_owned());
        c.metrics = metrics.iter().map(|name| metric(name)).collect();
    })
}

#[test]
fn targets_are_indices_texts_or_lists() {
    let items =
        [json!({ "options": ["3", "1", "2"], "index": 1, "text": "1", "list": [0, 2], "labels": ["a", "b", "c"] })];
    let right = |target: &str| {
        let task = choosing(&["acc"], target, &items).expect("a sound task");
        (0..3)
            .filter(|&best| {
                let mut responses = [scored(-2.0), scored(-2.0), scored(-2.0)];
                responses[best].log_prob = -1.0;
                outcome(&task, 0, &responses).metrics["acc,none"] == 1.0
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(right("index"), [1]);
    assert_eq!(right("2"), [2]);
    assert_eq!(right("list"), [0, 2]);
    // A field's text is a choice's, a template's digits are an index: as in lm-eval.
    assert_eq!(right("text"), [1]);
    assert_eq!(right("{{ text }}"), [1]);
    assert_eq!(right("{{ labels.index('c') }}"), [2]);
    assert_eq!(right("{{ list }}"), [0, 2]);
}

#[test]
fn all_accuracies_come_from_one_item() {
    let items = [json!({ "options": ["no", "certainly not"], "gold": 1 })];
    let task = choosing(&["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"], "gold", &items);
    let task = task.expect("a sound task");
    let mut responses = [scored(-2.0), scored(-4.0), scored(-1.0), scored(-9.0)];
    responses[1].is_greedy = Some(true);
    let outcome = outcome(&task, 0, &responses);
    let expected = json!({
        "acc,none": 0.0, "acc_norm,none": 1.0, "acc_bytes,none": 1.0, "acc_mutual_info,none": 1.0, "exact_match,none": 1.0
    });
    assert_eq!(json!(outcome.metrics), expected);
    assert_eq!((outcome.filtered["none"].as_str(), outcome.target.as_str()), (Some("no"), Some("certainly not")));
}

#[test]
fn perplexities_are_of_the_corpus() {
    let items = [json!({ "text": "to be or not" }), json!({ "text": "to be" })];
    let rolling = task(&items, |c| {
        c.output_type = OutputType::LoglikelihoodRolling;
        c.target = Some("{{ text }}".to_owned());
    })
    .expect("a sound task");
    let first = outcome(&rolling, 0, &[scored(-3.0), scored(-5.0)]);
    assert_eq!(first.metrics["word_perplexity,none"], json!([-8.0, 4]));
    let second = outcome(&rolling, 1, &[scored(-4.0)]);
    let samples = [sample(&rolling.docs()[0], &first), sample(&rolling.docs()[1], &second)];
    let figures = rolling.aggregate("v", &samples.iter().collect::<Vec<_>>()).expect("its own samples");
    let values: Vec<(&str, Option<f64>)> = figures.iter().map(|f| (f.metric.as_str(), f.value)).collect();
    let word = Some((12.0_f64 / 6.0).exp());
    let (byte, bits) = (Some((12.0_f64 / 17.0).exp()), Some(12.0 / 17.0 / std::f64::consts::LN_2));
    assert_eq!(values, [("word_perplexity", word), ("byte_perplexity", byte), ("bits_per_byte", bits)]);
    assert!(figures.iter().all(|f| !f.higher_is_better && f.n == 2 && f.interval.is_some()));
}

#[test]
fn what_cannot_be_is_infinitely_surprising() {
    let items = [json!({ "prompt": "a", "target": "b" })];
    let task = task(&items, |c| {
        c.output_type = OutputType::Loglikelihood;
        c.target = Some("target".to_owned());
    })
    .expect("a sound task");
    let impossible = outcome(&task, 0, &[scored(f64::NEG_INFINITY)]);
    assert_eq!(impossible.metrics["item_perplexity,none"], json!([null]));
    let figures = task.aggregate("v", &[&sample(&task.docs()[0], &impossible)]).expect("its own sample");
    // exp(inf) is no number that JSON has.
    assert_eq!((figures[0].metric.as_str(), figures[0].value), ("item_perplexity", None));
    assert_eq!(figures[0].interval_method, "none: 1 of 1 targets have no probability at all");
    assert_eq!((figures[1].metric.as_str(), figures[1].value), ("acc", Some(0.0)));
}

#[test]
fn means_have_an_interval_that_fits_them() {
    let task = task(&sums(), |c| {
        c.target = Some("answer".to_owned());
        c.metrics = ["exact_match", "f1"].map(metric).to_vec();
    })
    .expect("a sound task");
    let texts = ["2", "2 4", "7", "8"];
    let samples: Vec<SampleRecord> = task
        .docs()
        .iter()
        .zip(texts)
        .map(|(doc, text)| sample(doc, &outcome(&task, doc.index, &[said(text)])))
        .collect();
    let figures = task.aggregate("v", &samples.iter().collect::<Vec<_>>()).expect("its own samples");
    assert_eq!((figures[0].n, figures[0].value, figures[0].interval_method.as_str()), (4, Some(0.5), "Wilson"));
    let f1 = (1.0 + 2.0 * 0.5 / 1.5 + 0.0 + 1.0) / 4.0;
    assert!((figures[1].value.expect("a mean") - f1).abs() < 1e-12);
    assert_eq!(figures[1].interval_method, "bootstrap over items, 10000 draws");
    assert!(task.aggregate("v", &[]).expect("nothing").iter().all(|f| f.n == 0 && f.value.is_none()));
}

#[test]
fn what_is_wrong_is_named() {
    let generate = |change: fn(&mut TaskConfig)| {
        message(task(&sums(), |c| {
            c.target = Some("answer".to_owned());
            change(c);
        }))
    };
    let near = generate(|c| c.metrics = vec![metric("exact_mach")]);
    assert_eq!(near.0, "tasks.t: metrics[0]: unknown metric `exact_mach`");
    assert_eq!(near.1, "did you mean `exact_match`?");
    let other = generate(|c| c.metrics = vec![metric("acc_norm")]);
    assert_eq!(other.0, "tasks.t: metrics[0]: metric `acc_norm` does not score this output type");
    assert!(other.1.contains("rouge2"), "{}", other.1);
    let option = generate(|c| c.metrics = vec![MetricConfig { ignore_case: true, ..metric("f1") }]);
    assert_eq!(option.0, "tasks.t: metrics[0]: metric `f1` ignores nothing");
    assert_eq!(generate(|c| c.target = None).0, "tasks.t: target: missing");
    assert_eq!(generate(|c| c.repeats = 0).0, "tasks.t: repeats: must be 1 or more");
    let choice = choosing(&["acc"], "gold", &[json!({ "options": ["a"], "gold": 3 })]).expect("a sound task");
    let e = choice.outcome(&choice.docs()[0], &[&[scored(-1.0)]]).expect_err("there is one choice");
    assert_eq!(e.to_string(), "tasks.t: item `0`: target: 3 is not the index of a choice");
    assert_eq!(e.help(), Some("indices are 0 to 0"));
    let template = task(&sums(), |c| {
        c.prompt = Some("{{ q }}".to_owned());
        c.target = Some("answer".to_owned());
    });
    let template = template.expect("templates are filled later");
    let e = template.fields(&template.docs()[0]).expect_err("there is no field q");
    assert_eq!(e.to_string(), "prompt: line 1: undefined value: there is no field `q`");
    assert_eq!(e.help(), Some("there are `answer`, `question`"));
    assert_eq!(
        message(task(&[], |c| c.target = Some("x".to_owned()))).0.split(": ").last(),
        Some("there are no items")
    );
}

#[test]
fn a_target_that_is_no_text_is_pythons_str() {
    let golds = [json!(true), json!(1.0), json!(1e-7), json!({ "a": 1 }), json!(-3), json!(null), json!([1.5, "x"])];
    let items: Vec<Value> = golds.iter().map(|gold| json!({ "gold": gold })).collect();
    let expected = [
        json!("True"),
        json!("1.0"),
        json!("1e-07"),
        json!("{'a': 1}"),
        json!("-3"),
        json!("None"),
        json!(["1.5", "x"]),
    ];
    for target in ["gold", "{{ gold }}"] {
        let task = task(&items, |c| c.target = Some(target.to_owned())).expect("a sound task");
        for (place, expected) in expected.iter().enumerate() {
            assert_eq!(outcome(&task, place, &[said("x")]).target, *expected, "{target}");
        }
    }
}

#[test]
fn truth_is_an_index_in_a_field_and_a_text_in_a_template() {
    let items = [json!({ "options": ["False", "x", "True"], "gold": true, "float": 2.0 })];
    let index = |target: &str| {
        let task = choosing(&["acc"], target, &items).expect("a sound task");
        outcome(&task, 0, &[scored(-1.0), scored(-2.0), scored(-3.0)]).target
    };
    assert_eq!((index("gold"), index("{{ gold }}"), index("float")), (json!("x"), json!("True"), json!("True")));
}

#[test]
fn a_word_that_is_no_field_is_refused() {
    let refused = |target: &str| message(task(&sums(), |c| c.target = Some(target.to_owned())));
    let (what, help) = refused("anwser");
    assert_eq!(what, "tasks.t: target: there is no field `anwser`");
    assert_eq!(
        help,
        "did you mean `answer`? there are `answer`, `question`; a text that is the same for all items is written \
         `{{ 'anwser' }}`"
    );
    assert!(refused("the answer").0.ends_with("no field `the answer`"));
    let literal = task(&sums(), |c| c.target = Some("{{ 'yes' }}".to_owned())).expect("a literal text");
    assert_eq!(outcome(&literal, 0, &[said("yes")]).metrics["exact_match,none"], 1.0);
    let prompt = message(task(&sums(), |c| {
        c.target = Some("answer".to_owned());
        c.prompt = Some("question".to_owned());
    }));
    assert_eq!(prompt.0, "tasks.t: prompt: `question` is the name of a field, and would be shown as this word");
    let choices = message(task(&sums(), |c| {
        c.output_type = OutputType::MultipleChoice;
        c.target = Some("answer".to_owned());
        c.choices = Some(Choices::Field("optoins".to_owned()));
    }));
    assert_eq!(choices.0, "tasks.t: choices: there is no field `optoins`");
    // What only some of the items lack is told with the first of them.
    let some = [json!({ "question": "?", "answer": "!" }), json!({ "question": "?" })];
    let (what, help) = message(task(&some, |c| c.target = Some("answer".to_owned())));
    assert_eq!(
        (what.as_str(), help.as_str()),
        ("tasks.t: target: there is no field `answer`", "item 2 has `question`")
    );
}

#[test]
fn a_choice_of_all_items_is_a_target() {
    let items = [json!({ "question": "?" })];
    let task = task(&items, |c| {
        c.output_type = OutputType::MultipleChoice;
        c.choices = Some(Choices::Templates(vec!["no".to_owned(), "yes".to_owned()]));
        c.target = Some("yes".to_owned());
    });
    assert_eq!(outcome(&task.expect("a sound task"), 0, &[scored(-1.0), scored(-2.0)]).target, "yes");
}

#[test]
fn what_has_no_end_of_samples_is_refused() {
    let many = message(task(&sums(), |c| {
        c.target = Some("answer".to_owned());
        c.repeats = 4_294_967_295;
    }));
    assert_eq!(many.0, "tasks.t: repeats: 4 items with 4294967295 answers each are more than 5000000 samples");
}
