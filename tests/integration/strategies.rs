//! The strategies as users find and configure them: `logitfuse strategies`, parameters that are refused.

use std::{ops::ControlFlow, process::Output};

use assert_cmd::Command;
use logitfuse_config::{Config, example};
use logitfuse_core::{ErrorKind, StrategyInfo};
use logitfuse_engine::{Cancel, Event};
use logitfuse_pipeline::{Parameter, PluginSettings, built_in, configured, parameters, strategy, wrappers};
use serde_json::{Map, Value, json};

use crate::support::{runtime, tiny};

fn strategies(args: &[&str]) -> Output {
    let mut command = Command::cargo_bin("logitfuse").expect("`cargo build` made the command");
    command.arg("strategies").args(args).output().expect("the command starts")
}

fn stdout(args: &[&str]) -> String {
    let output = strategies(args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

fn all() -> Vec<StrategyInfo> {
    built_in().into_iter().chain(wrappers()).collect()
}

#[test]
fn the_list_names_every_strategy() {
    let text = stdout(&["list"]);
    let document: Value = serde_json::from_str(&stdout(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(document["schema_version"], 1);
    let ids = |key: &str| -> Vec<&str> {
        document[key].as_array().into_iter().flatten().filter_map(|s| s["id"].as_str()).collect()
    };
    let expected =
        ["none", "static-proxy", "dynamic-kl", "in-context", "task-arithmetic", "ensemble", "contrastive", "trimix"];
    assert_eq!(ids("strategies"), expected);
    assert_eq!(ids("wrappers"), ["schedule", "gate"]);
    for info in all() {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&info.id));
        assert!(line.is_some_and(|line| line.ends_with(&info.summary)), "{}: {line:?}", info.id);
    }
}

#[test]
fn every_page_says_what_the_strategy_computes() {
    for info in all() {
        let page = stdout(&["show", &info.id]);
        let mut words = vec![info.summary.clone(), info.equation.lines().next().unwrap_or_default().to_owned()];
        words.extend(info.roles.iter().flat_map(|role| [role.name.clone(), role.summary.clone()]));
        words.extend(info.trace.iter().map(|column| column.name.clone()));
        words.extend(info.laws.iter().map(ToString::to_string));
        words.extend(parameters(&info).into_iter().flat_map(|p| [p.name, p.summary]));
        for word in words {
            assert!(page.contains(&word), "{}: no {word:?} in\n{page}", info.id);
        }
        let document: Value =
            serde_json::from_str(&stdout(&["show", &info.id, "--format", "json"])).expect("one JSON document");
        assert_eq!(document["id"], info.id);
        assert_eq!(document["example"], example(&info));
        assert_eq!(document["roles"].as_array().map(Vec::len), Some(info.roles.len()));
        assert_eq!(stdout(&["show", &info.id, "--format", "jsonl"]).lines().count(), 1);
    }
}

#[test]
fn the_page_of_proxy_tuning() {
    let page = stdout(&["show", "static-proxy"]);
    for part in [
        "Equation\n  fused = base_weight · base + alpha · Σ weights[t] · (expert[t] − anti[t])\n",
        "\nRoles\n  base    one source          the large model\n",
        "\n  base_weight: number; 0 or more; default 1.0\n      The factor of the base's logits.",
        "\n  kl_fused_base   nats\n",
        "\n  [sources.expert]\n  model = \"models/expert\"\n",
        "\n  [strategy.params]\n  alpha = 1.0\n",
    ] {
        assert!(page.contains(part), "no {part:?} in\n{page}");
    }
}

#[test]
fn nothing_is_left_unsaid() {
    for info in all() {
        assert!(!info.summary.is_empty(), "{}: no summary", info.id);
        assert!(info.roles.iter().all(|role| !role.summary.is_empty()), "{}: a role without a summary", info.id);
        assert!(info.trace.iter().all(|column| !column.unit.is_empty()), "{}: a column without a unit", info.id);
        for parameter in parameters(&info) {
            assert!(!parameter.summary.is_empty(), "{}: {} says nothing", info.id, parameter.name);
            assert!(parameter.choices.iter().all(|choice| !choice.summary.is_empty()), "{}", parameter.name);
        }
        if info.id != "none" {
            assert!(!info.equation.is_empty() && !info.reference.is_empty(), "{}: no equation or paper", info.id);
        }
    }
}

#[test]
fn a_strategy_that_does_not_exist_is_refused() {
    let output = strategies(&["show", "static-proxi"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.starts_with("error: static-proxi: no strategy and no wrapper is called that\nhelp: there are none, "),
        "{stderr}"
    );
}

#[test]
fn every_example_is_an_experiment() {
    for info in all() {
        let config = Config::from_toml(&example(&info)).unwrap_or_else(|e| panic!("{}: {e}", info.id));
        let made = configured(&config.strategy).unwrap_or_else(|e| panic!("{}: {e}", info.id));
        assert!(made.info().id == info.id || made.info().id == format!("static-proxy+{}", info.id));
        for role in &made.info().roles {
            assert!(config.sources.contains_key(&role.name), "{}: no source for role {}", info.id, role.name);
        }
    }
}

/// What is configured under this id: a strategy, or proxy tuning in a wrapper.
fn refusal(id: &str, params: &Value) -> logitfuse_core::Error {
    let made = if matches!(id, "gate" | "schedule") {
        let mut config = Config::from_toml("schema = 1\n[sources.base]\nmodel = 'x'").unwrap().strategy;
        config.id = Some("static-proxy".to_owned());
        let table = params.as_object().cloned();
        if id == "gate" {
            config.gate = table;
        } else {
            config.schedule = table;
        }
        configured(&config)
    } else {
        strategy(id, params)
    };
    made.err().unwrap_or_else(|| panic!("{id} accepts {params}"))
}

/// Parameters with one at `name`, which may have dots.
fn with(name: &str, value: Value) -> Value {
    name.rsplit('.').fold(value, |value, key| Value::Object(Map::from_iter([(key.to_owned(), value)])))
}

#[track_caller]
fn points_at(id: &str, name: &str, value: Value) {
    let params = with(name, value);
    let error = refusal(id, &params);
    let (message, pointer) = (error.to_string(), format!(": /{}", name.replace('.', "/")));
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{id} {params}: {message}");
    assert!(message.contains(&pointer), "{id} {params}: no {pointer:?} in {message:?}");
    assert!(error.help().is_some_and(|help| !help.is_empty()), "{id} {params}: {message} without help");
}

/// How long a parameter's list may be: as its default, if it has one.
fn length(parameter: &Parameter) -> usize {
    parameter.default.as_array().map_or(1, |list| list.len().max(1))
}

/// Whatever a strategy's schema says that a parameter must be, something else is refused, and the parameter is named.
#[test]
fn what_the_schema_forbids_is_refused_by_name() {
    for info in all() {
        points_at(&info.id, "no_such_parameter", json!(1));
        for p in parameters(&info) {
            let wrong_kind = match p.kind.as_str() {
                "text" | "choice" => json!(3),
                _ => json!("a word"),
            };
            points_at(&info.id, &p.name, wrong_kind);
            match (p.kind.as_str(), p.range.as_deref()) {
                ("choice", _) => points_at(&info.id, &p.name, json!("no such choice")),
                (kind, Some(range)) => {
                    let list = kind.starts_with("list");
                    for outside in outside(range) {
                        // `-1` is an integer, `-1.0` is not.
                        let integer = serde_json::from_str(&format!("{outside:.0}")).unwrap();
                        let value = if kind.contains("integer") { integer } else { json!(outside) };
                        let value = if list { Value::Array(vec![value; length(&p)]) } else { value };
                        let error = refusal(&info.id, &with(&p.name, value)).to_string();
                        let pointer = format!(": /{}", p.name.replace('.', "/"));
                        assert!(error.contains(&pointer), "{} {}: {error}", info.id, p.name);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Numbers just outside `0 or more, below 1` and the like.
fn outside(range: &str) -> Vec<f64> {
    let number = |text: &str| text.parse::<f64>().expect("a range names a number");
    range
        .split(", ")
        .map(|bound| match bound.split(' ').collect::<Vec<&str>>()[..] {
            ["above" | "below", edge] => number(edge),
            [least, "or", "more"] => number(least) - 1.0,
            [most, "or", "less"] => number(most) + 1.0,
            _ => panic!("{range}: not a range"),
        })
        .collect()
}

/// Where the allowed range is more than a schema can say, the message or the help says it.
#[test]
fn refusals_name_the_allowed_range() {
    let cases = [
        ("static-proxy", json!({ "plausibility": 0 }), "/plausibility", "above 0 and at most 1"),
        ("static-proxy", json!({ "base_weight": -0.5 }), "/base_weight", "0 or more"),
        ("static-proxy", json!({ "top_p": 1.01 }), "/top_p", "above 0 and at most 1"),
        ("in-context", json!({ "mode": "adacad", "floor": -1 }), "/floor", "0 or more"),
        ("in-context", json!({ "mode": "cad", "gamma": 1 }), "/gamma", "use alpha"),
        ("dynamic-kl", json!({ "objective": "budget", "budget_nats": -0.1 }), "/budget_nats", "0 or more"),
        ("dynamic-kl", json!({ "bounds": [1.5, 0.5] }), "/bounds", "0 <= low < high"),
        ("dynamic-kl", json!({ "objective": "papr" }), "/objective", "`paper`, `crossed`"),
        ("task-arithmetic", json!({ "strength": "dynamic", "bounds": [2.0, 1.0] }), "/bounds", "0 <= low < high"),
        ("ensemble", json!({ "weights": [0.0, 0.0] }), "/weights", "above 0"),
        ("ensemble", json!({ "mean": "power", "power": 0.0 }), "/power", "0.001 to 1000"),
        ("contrastive", json!({ "amateur_temperature": 0 }), "/amateur_temperature", "above 0"),
        ("contrastive", json!({ "plausibility": 2 }), "/plausibility", "0 to 1"),
        ("trimix", json!({ "alpha": [] }), "/alpha", "finite"),
        ("gate", json!({ "max_prob": 0 }), "/max_prob", "above 0 and at most 1"),
        ("gate", json!({}), "strategy.gate", "max_prob"),
        ("schedule", json!({ "steps": 0 }), "/steps", "1 or more"),
        ("none", json!({ "alpha": 1 }), "/alpha", "leave params out"),
    ];
    for (id, params, pointer, range) in cases {
        let error = refusal(id, &params);
        let said = format!("{error}\n{}", error.help().unwrap_or_default());
        assert!(error.to_string().contains(pointer) && said.contains(range), "{id} {params}: {said}");
    }
}

/// A whole file: demonstrations for one of two sources of one model, a schedule and a gate around the strategy.
#[test]
fn demonstrations_schedules_and_gates_run() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("the test's folder is writable");
    };
    write("shots.jsonl", "{\"q\": \"a\", \"a\": \"b\"}\n{\"q\": \"c\", \"a\": \"d\"}\n{\"q\": \"e\", \"a\": \"f\"}\n");
    write("data.jsonl", "{\"q\": \"b c\"}\n");
    let model = tiny("gqa_fp32");
    let source = format!("model = '{}'\nchat_template = 'none'\nuser = \"{{{{ q }}}} \"\n", model.display());
    let toml = format!(
        "schema = 1\n[run]\ndata = 'data.jsonl'\nmax_new_tokens = 6\nignore_end_of_sequence = true\n\
         [sources.base]\n{source}demonstrations = 'shots.jsonl'\nshots = 2\nanswer = '{{{{ a }}}}'\nseparator = '; '\n\
         [sources.anti]\n{source}[strategy]\nuse = 'in-context'\n\
         [strategy.schedule]\nshape = 'warmup'\nsteps = 2\n[strategy.gate]\nmax_prob = 0.999\n"
    );
    write("x.toml", &toml);
    let config = Config::load(&folder.path().join("x.toml")).unwrap();
    let samples = config.samples().unwrap();
    let pipeline = config.open(&runtime(), 1, &PluginSettings::default()).unwrap();
    assert_eq!(pipeline.prompts(&samples[0].fields).unwrap(), ["a b; c d; b c ", "b c "]);
    let info = pipeline.strategy().info().clone();
    assert_eq!((info.id.as_str(), info.lead_role.as_deref()), ("in-context+schedule+gate", Some("base")));
    let request = pipeline.request_for(0, &samples[0].fields).unwrap().trace();
    let mut scales: Vec<(f64, f64)> = Vec::new();
    let place = |name: &str| info.trace.iter().position(|column| column.name == name).unwrap();
    let (schedule, open) = (place("schedule"), place("gate_open"));
    let mut collect = |event: Event<'_>| {
        if let Event::Token(report) = event {
            scales.push((report.trace[schedule], report.trace[open]));
        }
        ControlFlow::Continue(())
    };
    pipeline.decoder().generate(&[request], &Cancel::new(), &mut collect).unwrap();
    assert_eq!(scales.len(), 6);
    for (position, (scale, open)) in scales.into_iter().enumerate() {
        let expected = if position < 2 { 0.0 } else { 1.0 };
        let seen = (open.to_string(), scale.to_string());
        let possible = [("1".to_owned(), expected.to_string()), ("0".to_owned(), "NaN".to_owned())];
        assert!(possible.contains(&seen), "{position}: {seen:?}");
    }
}
