//! Tapes against the models that they were made of, on the small family of `examples/family`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use logitfuse_config::Config;
use logitfuse_core::ErrorKind;
use logitfuse_engine::{Cancel, Score, ScoreRequest};
use logitfuse_pipeline::PluginSettings;
use logitfuse_replay::{Rest, RowKind, Tape};
use logitfuse_tape::{
    Feeding, FitOptions, Grid, Metric, Outcome, Range, RecordOptions, Recorded, Reference, Replay, Setting, record,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{peer_python, runtime};

fn family(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family").join(path)
}

/// Three sources and another small one, over the validation questions of a task.
fn config(task: &str) -> Config {
    let source = |name: &str, model: &str| {
        let model = family(&format!("models/{model}"));
        format!("[sources.{name}]\nmodel = '{}'\nchat_template = 'none'\n", model.display())
    };
    let text = [
        "schema = 1\n[run]\nmax_new_tokens = 16\n".to_owned(),
        format!("data = '{}'\n", family(&format!("data/{task}.validation.jsonl")).display()),
        source("base", "L"),
        source("expert", &format!("S-{task}")),
        source("anti", "S"),
        "[strategy]\nuse = 'static-proxy'\nparams = { alpha = 1.0 }\n".to_owned(),
    ];
    Config::from_toml(&text.concat()).unwrap()
}

fn recorded(config: &Config, path: &Path, options: &RecordOptions) -> Recorded {
    let plugins = PluginSettings::default();
    record(config, &runtime(), 1, &plugins, options, path, &Cancel::new(), &mut |_, _| {}).unwrap()
}

fn options(rows: RowKind, limit: usize) -> RecordOptions {
    RecordOptions { rows, limit: Some(limit), ..RecordOptions::default() }
}

fn replayed(config: &Config, replay: &Replay, grid: &[&str]) -> Vec<Outcome> {
    let tape = Tape::open(&replay.path).unwrap();
    let grids: Vec<Grid> = grid.iter().map(|grid| grid.parse().unwrap()).collect();
    let candidate = |settings: &Vec<Setting>| {
        replay.candidate(config, tape.header(), tape.vocabulary(), settings, &PluginSettings::default()).unwrap()
    };
    let candidates: Vec<_> = Grid::product(&grids).unwrap().iter().map(candidate).collect();
    replay.run(&candidates, &Cancel::new()).unwrap()
}

/// The same by the models themselves.
fn scored(config: &Config, alpha: f64, samples: usize, field: &str) -> Vec<Score> {
    let mut config = config.clone();
    Setting { path: "alpha".to_owned(), value: alpha }.apply(&mut config.strategy).unwrap();
    let pipeline = config.open(&runtime(), 1, &PluginSettings::default()).unwrap();
    let score = |(index, sample): (usize, &logitfuse_pipeline::Sample)| {
        let prompts = pipeline.request_for(index, &sample.fields).unwrap().prompts;
        let tokens = pipeline.tokenizer().encode(sample.fields[field].as_str().unwrap(), false).unwrap();
        pipeline.decoder().score(&ScoreRequest::new(prompts, [tokens]), &Cancel::new()).unwrap().remove(0)
    };
    config.samples().unwrap()[..samples].iter().enumerate().map(score).collect()
}

#[test]
fn exact_rows_give_the_bits_of_scoring_and_others_come_close() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("math");
    let made = |rows: RowKind| {
        let path = folder.path().join(rows.to_string());
        assert_eq!(recorded(&config, &path, &options(rows, 6)).texts, 6);
        Replay { tokens: true, ..Replay::new(path) }
    };
    let (wide, half, best) = (made(RowKind::F32), made(RowKind::F16), made(RowKind::TopK(64)));
    let grid = ["alpha=0,0.7,1.3"];
    let outcomes = [&wide, &half, &best].map(|replay| replayed(&config, replay, &grid));
    for (at, alpha) in [0.0, 0.7, 1.3].into_iter().enumerate() {
        for (number, score) in scored(&config, alpha, 6, "answer").iter().enumerate() {
            let [wide, half, best] = [0, 1, 2].map(|kind: usize| &outcomes[kind][at].texts[number]);
            assert_eq!(wide.log_prob.to_bits(), score.log_prob.to_bits(), "alpha {alpha}, {}", wide.info);
            assert_eq!(wide.left.is_none(), score.is_greedy);
            for (ours, token) in wide.tokens.iter().zip(&score.tokens) {
                assert_eq!((ours.token, ours.greedy), (token.token, token.greedy));
                assert_eq!(ours.log_prob.to_bits(), token.log_prob.to_bits());
            }
            let count = score.tokens.len() as f64;
            assert!((half.log_prob - score.log_prob).abs() < 2e-3 * count * (1.0 + 2.0 * alpha), "{half:?}");
            assert!(
                (best.log_prob - score.log_prob).abs() < 2e-2 * (1.0 + alpha) * count,
                "alpha {alpha}: {best:?} {score:?}"
            );
            // Whatever the unknown ids have, they have it at the cost of the known ones.
            assert!(score.log_prob <= best.log_prob + best.slack + 1e-3, "{best:?}");
        }
    }
    // At alpha 0 only the base counts, and of one distribution the rest's mass is known.
    let (wide, best) = (&outcomes[0][0], &outcomes[2][0]);
    for (wide, best) in wide.texts.iter().zip(&best.texts) {
        assert!((wide.log_prob - best.log_prob).abs() < 1e-4, "{wide:?} {best:?}");
    }
    let masked = replayed(&config, &Replay { rest: Rest::Masked, ..best_of(folder.path()) }, &grid);
    for (masked, spread) in masked.iter().zip(&outcomes[2]) {
        assert!(masked.summary().nll <= spread.summary().nll + 1e-6);
        assert!(masked.summary().unknown_mass < 1e-6);
    }
}

fn best_of(folder: &Path) -> Replay {
    Replay::new(folder.join("top-k=64"))
}

/// Forty strengths by decoding and on a tape: where decoding goes the recorded way it scores what the tape says, and where
/// the tape says that it leaves, it leaves, at that token for that one.
#[test]
fn a_sweep_on_a_tape_is_the_sweep_by_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("math");
    let replay = Replay { tokens: true, ..Replay::new(folder.path().join("generated")) };
    let reference = RecordOptions { reference: Reference::Generated, ..options(RowKind::F32, 3) };
    recorded(&config, &replay.path, &reference);
    let outcomes = replayed(&config, &replay, &["alpha=0.05:2:0.05"]);
    assert_eq!(outcomes.len(), 40);
    let (mut stayed, mut left) = (0, 0);
    for outcome in &outcomes {
        let mut config = config.clone();
        outcome.settings[0].apply(&mut config.strategy).unwrap();
        let pipeline = config.open(&runtime(), 1, &PluginSettings::default()).unwrap();
        for (index, (sample, text)) in config.samples().unwrap().iter().zip(&outcome.texts).enumerate() {
            let request = pipeline.request_for(index, &sample.fields).unwrap();
            let decoded = pipeline.decoder().generate_one(&request).unwrap();
            let taped: Vec<u32> = text.tokens.iter().map(|token| token.token).collect();
            let place = format!("{}, {}", outcome.settings[0], text.info);
            match text.left {
                None => {
                    stayed += 1;
                    assert_eq!(decoded.tokens, taped, "{place}");
                    // Rows of several positions at once may round otherwise than rows one by one.
                    assert!((decoded.log_prob - text.log_prob).abs() < 1e-3, "{place}");
                }
                Some((at, token)) => {
                    left += 1;
                    assert_eq!(decoded.tokens[..at], taped[..at], "{place}");
                    assert_eq!(decoded.tokens[at], token, "{place}");
                }
            }
        }
    }
    let own = outcomes.iter().find(|outcome| outcome.settings[0].to_string() == "alpha=1").unwrap();
    assert!(own.texts.iter().all(|text| text.left.is_none()), "what alpha 1 generated is what alpha 1 would generate");
    assert!(stayed > 10 && left > 10, "{stayed} stayed, {left} left");
}

#[test]
fn a_recording_that_was_interrupted_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("qa");
    for reference in [Reference::Field("answer".to_owned()), Reference::Generated] {
        let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(format!("{name} {reference}")));
        let all = RecordOptions { reference, end_of_sequence: true, ..options(RowKind::TopK(8), 5) };
        assert_eq!(recorded(&config, &whole, &all).texts, 5);
        recorded(&config, &parts, &RecordOptions { limit: Some(2), ..all.clone() });
        let two = std::fs::read(&parts).unwrap();
        std::fs::write(&parts, &two[..two.len() - 7]).unwrap();
        let rest = recorded(&config, &parts, &all);
        assert_eq!((rest.texts, rest.there), (4, 1));
        assert!(std::fs::read(&parts).unwrap() == std::fs::read(&whole).unwrap(), "{}", all.reference);
        let cancel = Cancel::new();
        cancel.cancel();
        let plugins = PluginSettings::default();
        let none = record(&config, &runtime(), 1, &plugins, &all, &folder.path().join("x"), &cancel, &mut |_, _| {});
        assert!(none.unwrap().cancelled);
        // Other prompts are another tape.
        let mut other = config.clone();
        other.sources.get_mut("base").unwrap().user = "{{ prompt }} Well:".to_owned();
        let e = record(&other, &runtime(), 1, &plugins, &all, &whole, &Cancel::new(), &mut |_, _| {}).unwrap_err();
        assert!(e.to_string().contains("was recorded with another prompt or text"), "{e}");
    }
}

#[test]
fn numpy_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("qa");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("second_opinion/tape.py");
    for rows in [RowKind::F32, RowKind::F16, RowKind::TopK(16)] {
        let path = folder.path().join("tape");
        let _ = std::fs::remove_file(&path);
        recorded(&config, &path, &options(rows, 3));
        let output = Command::new(peer_python()).arg(&script).arg("--check").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut tape = Tape::open(&path).unwrap();
        let mut row = vec![0.0; tape.vocabulary().width()];
        for text in 0..3 {
            let block = tape.block(text, 0).unwrap().unwrap();
            for (position, &token) in block.tokens().iter().enumerate() {
                let cells = &theirs[&block.text.id][position];
                for source in 0..3 {
                    let z = tape.row(&block, source, position, Rest::Spread, &mut row).unwrap();
                    // Theirs are not normalised anew after rounding.
                    let slack = if rows == RowKind::F16 { 5e-3 } else { 1e-4 };
                    let ours = f64::from(row[token as usize]) - z;
                    assert!((ours - cells[source].as_f64().unwrap()).abs() < slack, "{rows}: {ours} {cells}");
                    assert!((cells[3 + source].as_f64().unwrap() - 1.0).abs() < slack, "{rows}: {cells}");
                }
            }
        }
    }
}

#[test]
fn what_is_found_is_the_optimum() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("math");
    let replay = Replay::new(folder.path().join("tape"));
    recorded(&config, &replay.path, &options(RowKind::TopK(64), 24));
    let task = FitOptions {
        parameters: vec![("alpha".to_owned(), Range { low: 0.0, high: 2.0 })],
        points: 21,
        ..FitOptions::default()
    };
    let plugins = PluginSettings::default();
    let fit = task.run(&config, &replay, &plugins, &Cancel::new()).unwrap();
    let found = &fit.parameters[0];
    assert!(found.low < found.value && found.value < found.high && !found.at_end, "{found:?}");
    assert!(fit.baselines.iter().all(|baseline| baseline.summary.nll >= fit.summary.nll));
    assert!(found.curve.iter().all(|&(_, nll)| nll >= fit.summary.nll - 1e-12));
    let around = replayed(&config, &replay, &[&format!("alpha={},{}", found.value - 0.01, found.value + 0.01)]);
    assert!(around.iter().all(|outcome| outcome.summary().nll > fit.summary.nll), "a neighbour is better");

    let patch: toml::Table = fit.patch(&config).unwrap().parse().unwrap();
    let mut patched = config.clone();
    let alpha = patch["strategy"]["params"]["alpha"].as_float().unwrap();
    patched.strategy.params["alpha"] = alpha.into();
    let again = replayed(&patched, &replay, &[]);
    assert_eq!(again[0].summary().nll.to_bits(), fit.summary.nll.to_bits());

    // Two parameters that undo each other: one alone cannot be worse than both.
    let both = FitOptions {
        parameters: vec![
            ("alpha".to_owned(), Range { low: 0.0, high: 2.0 }),
            ("base_weight".to_owned(), Range { low: 0.5, high: 2.0 }),
        ],
        points: 9,
        ..FitOptions::default()
    };
    let both = both.run(&config, &replay, &plugins, &Cancel::new()).unwrap();
    assert!(both.summary.nll <= fit.summary.nll + 1e-6, "{both:?}");
}

#[test]
fn choices_are_scored_as_the_models_would() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("mc");
    let replay = Replay::new(folder.path().join("quiz"));
    let quiz = RecordOptions {
        reference: Reference::Template(" It is {{ choice }}.".to_owned()),
        choices: Some("options".to_owned()),
        gold: Some("gold".to_owned()),
        ..options(RowKind::F32, 12)
    };
    assert_eq!(recorded(&config, &replay.path, &quiz).texts, 36);
    let outcome = replayed(&config, &replay, &[]).remove(0);
    let pipeline = config.open(&runtime(), 1, &PluginSettings::default()).unwrap();
    let (mut right, mut samples) = (0.0, 0.0);
    for (index, sample) in config.samples().unwrap()[..12].iter().enumerate() {
        let prompts = pipeline.request_for(index, &sample.fields).unwrap().prompts;
        let options = sample.fields["options"].as_array().unwrap();
        let encode =
            |option: &Value| pipeline.tokenizer().encode(&format!(" It is {}.", option.as_str().unwrap()), false);
        let continuations = options.iter().map(encode).collect::<Result<Vec<_>, _>>().unwrap();
        let scores = pipeline.decoder().score(&ScoreRequest::new(prompts, continuations), &Cancel::new()).unwrap();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].log_prob.total_cmp(&scores[b].log_prob)).unwrap();
        right += f64::from(u8::from(options[best] == sample.fields["gold"]));
        samples += 1.0;
    }
    let summary = outcome.summary();
    assert_eq!(summary.acc, Some(right / samples));
    assert_eq!(summary.texts, 12, "of the choices the right ones count");
    let task = FitOptions {
        parameters: vec![("alpha".to_owned(), Range { low: 0.0, high: 2.0 })],
        metric: Metric::Acc,
        points: 9,
        ..FitOptions::default()
    };
    let fit = task.run(&config, &replay, &PluginSettings::default(), &Cancel::new()).unwrap();
    assert!(fit.summary.acc >= summary.acc && fit.parameters[0].low <= fit.parameters[0].value, "{fit:?}");
}

#[test]
fn what_a_tape_cannot_do_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("qa");
    let path = folder.path().join("tape");
    let plugins = PluginSettings::default();
    let record = |options: &RecordOptions| {
        record(&config, &runtime(), 1, &plugins, options, &path, &Cancel::new(), &mut |_, _| {})
    };
    let field = RecordOptions { reference: Reference::Field("solution".to_owned()), ..options(RowKind::F16, 2) };
    let e = record(&field).unwrap_err();
    assert_eq!(e.to_string(), "--reference solution: no sample of 2 has such a text");
    assert!(e.help().unwrap().contains("answer"), "{:?}", e.help());
    let two = RecordOptions { sources: vec!["base".to_owned(), "expert".to_owned()], ..options(RowKind::F16, 2) };
    record(&two).unwrap();
    let e = record(&options(RowKind::F16, 2)).unwrap_err();
    assert!(e.to_string().contains("its sources is"), "{e}");
    let tape = Tape::open(&path).unwrap();
    let replay = Replay::new(&path);
    let candidate =
        |settings: &[Setting]| replay.candidate(&config, tape.header(), tape.vocabulary(), settings, &plugins);
    let e = candidate(&[]).err().unwrap();
    assert!(e.to_string().ends_with("source `anti`, which plays role `anti`, is not on the tape"), "{e}");
    let e = candidate(&[Setting { path: "alhpa".to_owned(), value: 1.0 }]).err().unwrap();
    assert!(e.to_string().contains("alhpa"), "{e}");
    let quiz = FitOptions {
        parameters: vec![("alpha".to_owned(), Range { low: 0.0, high: 1.0 })],
        metric: Metric::Acc,
        ..FitOptions::default()
    };
    let mut pair = config.clone();
    pair.strategy.id = Some("in-context".to_owned());
    pair.strategy.roles = [("base", "base"), ("anti", "expert")]
        .map(|(role, source)| (role.to_owned(), logitfuse_pipeline::Names(vec![source.to_owned()])))
        .into();
    let e = quiz.run(&pair, &replay, &plugins, &Cancel::new()).unwrap_err();
    assert!(e.to_string().contains("the tape holds no right choice"), "{e}");
}

/// What a strategy asks about prompts is on the tape, or the strategy is refused before there is a figure.
#[test]
fn what_strategies_ask_about_prompts_is_recorded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plain = config("qa");
    let with = |id: &str, params: Value| {
        let mut config = plain.clone();
        config.strategy.id = Some(id.to_owned());
        config.strategy.params = params.as_object().cloned().unwrap();
        config
    };
    let by_prompt = with("dynamic-kl", json!({ "weights": "posterior", "posterior": { "evidence": "prompt" } }));
    let replay = |config: &Config, tape: &str| {
        let replay = Replay::new(folder.path().join(tape));
        let tape = Tape::open(&replay.path).unwrap();
        let plugins = PluginSettings::default();
        let candidate = replay.candidate(config, tape.header(), tape.vocabulary(), &[], &plugins)?;
        replay.run(&[candidate], &Cancel::new())
    };
    let rows = options(RowKind::F32, 2);
    recorded(&plain, &folder.path().join("plain"), &rows);
    let e = replay(&by_prompt, "plain").unwrap_err();
    assert!(e.to_string().contains("asks how probable the prompts were, which this tape does not say"), "{e}");
    assert_eq!(e.help(), Some("record it with this strategy in the experiment's TOML"));
    recorded(&by_prompt, &folder.path().join("asked"), &rows);
    assert_eq!(replay(&by_prompt, "asked").unwrap()[0].texts.len(), 2);
    replay(&plain, "asked").unwrap();

    let fitted = with("dynamic-kl", json!({ "weights": "fingerprint" }));
    let e = replay(&fitted, "asked").unwrap_err();
    assert!(e.to_string().contains("strategy `dynamic-kl` is fitted to its models before it starts"), "{e}");
    let e = replay(&with("trimix", json!({ "calibration": "prompt" })), "asked").unwrap_err();
    assert!(e.to_string().contains("reads the rows of every prompt, which no tape holds"), "{e}");
}

/// The command as its users meet it.
#[test]
fn the_command_records_replays_and_calibrates() {
    let folder = tempfile::tempdir().unwrap();
    let (toml, tape) = (folder.path().join("x.toml"), folder.path().join("x.lftape"));
    let text = format!(
        "schema = 1\n[run]\ndata = '{}'\n[sources.base]\nmodel = '{}'\nchat_template = 'none'\n\
         [sources.expert]\nmodel = '{}'\nchat_template = 'none'\n[sources.anti]\nmodel = '{}'\nchat_template = 'none'\n\
         [strategy]\nuse = 'static-proxy'\n",
        family("data/qa.validation.jsonl").display(),
        family("models/L").display(),
        family("models/S-qa").display(),
        family("models/S").display(),
    );
    std::fs::write(&toml, text).unwrap();
    let run = |args: &[&str]| command(&folder, args);
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let (toml, tape) = (shown(&toml), shown(&tape));
    run(&["tape", "record", &toml, "-o", &tape, "--limit", "6", "-q"]);
    let page = run(&["tape", "inspect", &tape]);
    assert!(page.starts_with("6 texts of ") && page.contains("rows top-k=64, all whole"), "{page}");
    let table = run(&["tape", "replay", &toml, &tape, "--grid", "alpha=0:1:0.5"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].trim_start().starts_with("alpha") && lines[0].contains("bits/byte"), "{table}");
    let lines = run(&["tape", "replay", &toml, &tape, "--format", "jsonl", "--trace"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["id"], "qa-validation-0");
    assert_eq!(first["trace"].as_array().unwrap().len() as u64, first["tokens"].as_u64().unwrap());
    let patch = run(&["fit", &toml, &tape, "--param", "alpha", "--points", "11", "--draws", "100", "-q"]);
    let patch: toml::Table = patch.parse().unwrap();
    assert!(patch["strategy"]["params"]["alpha"].is_float() || patch["strategy"]["params"]["alpha"].is_integer());
}

fn command(folder: &TempDir, args: &[&str]) -> String {
    let mut command = assert_cmd::Command::cargo_bin("logitfuse").expect("`cargo build` made the command");
    command.env("LOGITFUSE_ORT_LIB", runtime().library()).current_dir(folder.path());
    let output = command.args(args).output().expect("the command starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// With a model whose rows depend on how tokens are fed: the rows of decoding, to the bit, where they are asked for.
#[test]
fn rows_of_decoding_are_recorded_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = crate::support::model("smollm2-int8");
    let text = format!(
        "schema = 1\n[run]\nmax_new_tokens = 12\nprompts = ['The capital of France is', 'def area(radius):']\n\
         [sources.base]\nmodel = '{}'\nchat_template = 'none'\n",
        int8.display()
    );
    let config = Config::from_toml(&text).unwrap();
    let generated = RecordOptions { reference: Reference::Generated, ..options(RowKind::F32, 2) };
    let stepwise = RecordOptions { feeding: Feeding::Stepwise, ..generated.clone() };
    let path = folder.path().join("stepwise");
    assert!(recorded(&config, &path, &stepwise).dependence.is_empty());
    let outcome = replayed(&config, &Replay::new(&path), &[]).remove(0);
    let pipeline = config.open(&runtime(), 1, &PluginSettings::default()).unwrap();
    for (index, (sample, text)) in config.samples().unwrap().iter().zip(&outcome.texts).enumerate() {
        let decoded = pipeline.decoder().generate_one(&pipeline.request_for(index, &sample.fields).unwrap()).unwrap();
        assert_eq!((text.exact, text.left), (Some(true), None));
        assert_eq!(text.log_prob.to_bits(), decoded.log_prob.to_bits());
    }
    // Fed whole, the same texts have other rows, and recording says by how much.
    let whole = recorded(&config, &folder.path().join("whole"), &generated);
    assert!(whole.dependence[0].0 == "base" && whole.dependence[0].1 > 0.01, "{:?}", whole.dependence);
    let plugins = PluginSettings::default();
    let mixed = record(&config, &runtime(), 1, &plugins, &generated, &path, &Cancel::new(), &mut |_, _| {});
    assert_eq!(mixed.unwrap_err().kind(), ErrorKind::Incompatible);
    let fp32 = recorded(&self::config("qa"), &folder.path().join("fp32"), &options(RowKind::F32, 1));
    assert!(
        fp32.dependence.len() == 3 && fp32.dependence.iter().all(|(_, nats)| *nats < 1e-3),
        "{:?}",
        fp32.dependence
    );
}
