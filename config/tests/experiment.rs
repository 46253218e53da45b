//! Layers, sweeps, overrides and what is written of them.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

use std::{fs, path::Path};

use logitfuse_config::{Cell, Experiment, Overrides, json_schema};

fn overrides(set: &[&str], unset: &[&str]) -> Overrides {
    let owned = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
    Overrides { set: owned(set), unset: owned(unset) }
}

fn read(text: &str) -> Experiment {
    Experiment::from_toml(text, &Overrides::default()).unwrap()
}

/// The error of a text with overrides, in one line.
#[track_caller]
fn refused(text: &str, set: &[&str], unset: &[&str]) -> String {
    Experiment::from_toml(text, &overrides(set, unset)).expect_err("it is wrong").to_string()
}

fn cell<'e>(experiment: &'e Experiment, variant: &str, task: &str) -> &'e Cell {
    experiment.cells().iter().find(|cell| (&*cell.variant, &*cell.task) == (variant, task)).unwrap()
}

/// Everything of the cells that a run depends on.
fn essence(experiment: &Experiment) -> Vec<serde_json::Value> {
    let one = |cell: &Cell| {
        serde_json::json!([cell.variant, cell.stem, cell.point, cell.task, cell.config, cell.task_config])
    };
    experiment.cells().iter().map(one).collect()
}

const SUITE: &str = r#"
schema = 1
[run]
seed = 3
max_new_tokens = 8
[sources.large]
model = "models/L"
[sources.expert]
model = "models/S-qa"
[sources.anti]
model = "models/S"
[strategy]
use = "static-proxy"
roles = { base = "large" }
params = { alpha = 1.0, plausibility = 0.1 }
[tasks.qa]
data = "qa.jsonl"
max_new_tokens = 16
[tasks.math]
data = "math.jsonl"
with = { sources = { expert = { model = "models/S-math" } }, run = { stop = ["\n"] } }
[variants.large]
strategy = { use = "none" }
[variants.static]
strategy = { params = { alpha = 0.5 } }
sweep = { "strategy.params.plausibility" = [0.2, 0.3] }
[variants.dynamic]
strategy = { use = "dynamic-kl" }
run = { seed = 5 }
"#;

#[test]
fn layers_lie_in_their_order() {
    let suite = read(SUITE);
    assert_eq!(suite.variants(), ["large", "static[plausibility=0.2]", "static[plausibility=0.3]", "dynamic"]);
    assert_eq!(suite.named("static"), ["static[plausibility=0.2]", "static[plausibility=0.3]"]);
    assert_eq!(suite.cells().len(), 8);

    let large = cell(&suite, "large", "qa");
    assert_eq!((large.config.run.seed, large.config.run.max_new_tokens), (3, 16));
    assert!(large.config.strategy.params.is_empty(), "parameters belong to the strategy that they were given to");
    assert_eq!(large.config.strategy.roles["base"].0, ["large"]);

    let fixed = cell(&suite, "static[plausibility=0.3]", "math");
    let params = serde_json::to_value(&fixed.config.strategy.params).unwrap();
    assert_eq!(params, serde_json::json!({ "alpha": 0.5, "plausibility": 0.3 }));
    assert_eq!(fixed.point, [("strategy.params.plausibility".to_owned(), serde_json::json!(0.3))]);
    assert_eq!(fixed.config.sources["expert"].model, Path::new("models/S-math"));
    assert_eq!((fixed.config.run.max_new_tokens, fixed.config.run.stop.len()), (8, 1));
    let dynamic = cell(&suite, "dynamic", "qa");
    assert_eq!(dynamic.config.run.seed, 5);
    assert_eq!(dynamic.config.sources["expert"].model, Path::new("models/S-qa"));
}

#[test]
fn what_is_resolved_means_the_same() {
    let set = [
        "run.seed=9",
        "strategy.params.alpha=2",
        "tasks.qa.limit=4",
        "variants.dynamic.run.temperature=0.5",
        "run.stop=['.']",
    ];
    let changed = Experiment::from_toml(SUITE, &overrides(&set, &["variants.static.sweep"])).unwrap();
    for suite in [&read(SUITE), &changed] {
        let text = suite.resolved_toml();
        let again = Experiment::from_resolved(&text, Path::new("")).unwrap();
        assert_eq!(essence(&again), essence(suite), "{text}");
        assert_eq!(again.resolved_toml(), text);
    }
    assert_eq!(changed.variants(), ["large", "static", "dynamic"]);
    assert!(changed.cells().iter().all(|cell| cell.config.run.seed == 9 && cell.config.run.stop == ["."]));
    assert_eq!(cell(&changed, "static", "qa").config.strategy.params["alpha"], 2);
    assert!((cell(&changed, "dynamic", "math").config.run.temperature - 0.5).abs() < 1e-12);
    assert_eq!(cell(&changed, "large", "qa").task_config.limit, Some(4));
}

#[test]
fn a_files_line_ends_are_not_part_of_its_texts() {
    let text = "schema = 1\n[sources.base]\nmodel = \"m\"\nuser = \"\"\"a\n{{ prompt }}\"\"\"\nassistant = '''\n\nA:\"\\r\\n'''\n\
                separator = \"\\r\\n\"\n[run]\nprompts = [\"x\"]\n";
    for text in [text.to_owned(), text.replace('\n', "\r\n")] {
        let suite = read(&text);
        let config = suite.config().unwrap();
        let base = &config.sources["base"];
        // What is written as an escape is meant.
        assert_eq!((&*base.user, &*base.separator), ("a\n{{ prompt }}", "\r\n"));
        assert_eq!(base.assistant, "\nA:\"\\r\\n");
    }
}

#[test]
fn variables_of_chat_templates_are_layered_as_tables_are() {
    let suite = read(&SUITE.replace(
        "[variants.dynamic]",
        "[variants.thinking]\nstrategy = { use = \"none\" }\n\
         sources = { large = { chat_template = \"model\", chat_template_kwargs = { enable_thinking = true, level = [1, \"b\"] } } }\n\
         [variants.dynamic]",
    ));
    let thinking = cell(&suite, "thinking", "qa");
    let given = &thinking.config.sources["large"].chat_template_kwargs;
    assert_eq!(serde_json::to_value(given).unwrap(), serde_json::json!({ "enable_thinking": true, "level": [1, "b"] }));
    assert!(cell(&suite, "dynamic", "qa").config.sources["large"].chat_template_kwargs.is_empty());
    let again = Experiment::from_resolved(&suite.resolved_toml(), Path::new("")).unwrap();
    assert_eq!(essence(&again), essence(&suite));
}

#[test]
fn setting_has_the_last_word() {
    let set = |one: &str| Experiment::from_toml(SUITE, &overrides(&[one], &[])).unwrap();
    // Over what tasks say of the same.
    assert!(set("run.max_new_tokens=2").cells().iter().all(|cell| cell.config.run.max_new_tokens == 2));
    let models = set("sources.expert.model=X");
    assert!(models.cells().iter().all(|cell| cell.config.sources["expert"].model == Path::new("X")));
    // Another strategy for everyone, with its own parameters.
    let other = Experiment::from_toml(SUITE, &overrides(&["strategy.use=none"], &["variants.static.sweep"])).unwrap();
    assert!(other.cells().iter().all(|cell| cell.config.strategy.params.is_empty()));
    // Bare words, TOML, tables.
    let config = |one: &str| set(one).cells()[0].config.clone();
    assert_eq!(config("sources.large.chat_template=none").sources["large"].chat_template, "none");
    assert_eq!(config("sources.new={ model = 'N' }").sources["new"].model, Path::new("N"));
    assert_eq!(config("strategy.roles={ anti = 'expert' }").strategy.roles.len(), 2);
}

#[test]
fn settings_that_would_do_nothing_are_refused() {
    let all_name_theirs = SUITE.replace("params = { alpha = 0.5 }", "use = 'ensemble'").replace("sweep = {", "#");
    let idle = refused(&all_name_theirs, &["strategy.params.alpha=2"], &[]);
    assert_eq!(idle, "--set #1:1:17: setting strategy.params.alpha changes no variant");
    let swept = refused(SUITE, &["strategy.params.plausibility=0.5"], &[]);
    assert!(swept.contains("strategy.params.plausibility is set, and a sweep varies it"), "{swept}");
    assert!(refused(SUITE, &["extends=['x.toml']"], &[]).contains("is not one PATH=VALUE"));
    assert!(refused(SUITE, &["run.seed=1\nstrategy={}"], &[]).contains("is not one PATH=VALUE"));
    assert!(refused(SUITE, &[], &["run.top_k"]).contains("`run.top_k` is not set, so it cannot be unset"));
    assert!(refused(SUITE, &[], &["run.seed=1 #"]).contains("is no path of keys"));
}

#[test]
fn sweeps_multiply_or_go_together() {
    let sweep = |table: &str| {
        let text = format!("schema = 1\n[sources.base]\nmodel = 'L'\n[tasks.t]\ndata = 'd'\n[sweep]\n{table}");
        read(&text).variants().to_vec()
    };
    assert_eq!(
        sweep("'run.temperature' = [0.0, 0.5]\nrun.seed = [1, 2]"),
        [
            "default[temperature=0.0,seed=1]",
            "default[temperature=0.0,seed=2]",
            "default[temperature=0.5,seed=1]",
            "default[temperature=0.5,seed=2]"
        ]
    );
    assert_eq!(
        sweep("zip = true\n'run.temperature' = [0.0, 0.5]\n'run.seed' = [1, 2]"),
        ["default[temperature=0.0,seed=1]", "default[temperature=0.5,seed=2]"]
    );
    // Slashes are for the keys of samples.
    assert_eq!(sweep("'sources.base.model' = ['a/b', 'c']"), ["default[model=a:b]", "default[model=c]"]);
    // Keys that end alike are told apart.
    let text = "schema = 1\n[sources.a]\nmodel = 'L'\n[sources.b]\nmodel = 'S'\n[tasks.t]\ndata = 'd'\n\
                [sweep]\n'sources.a.shots' = [1]\n'sources.b.shots' = [2]\n";
    assert_eq!(read(text).variants(), ["default[sources.a.shots=1,sources.b.shots=2]"]);
    // A variant's own list goes over the experiment's.
    let own = "[variants.dynamic]\nsweep = { 'strategy.params.plausibility' = [0.8], 'run.top_k' = [3] }\n";
    let text = SUITE.replace("[variants.dynamic]\n", own);
    let text = format!("{text}[sweep]\n'strategy.params.plausibility' = [0.9]\n'run.top_k' = [1, 2]\n");
    let names = read(&text).variants().to_vec();
    assert_eq!(names[0], "large[plausibility=0.9,top_k=1]");
    assert_eq!(names[2], "static[plausibility=0.2,top_k=1]");
    assert_eq!(names[6], "dynamic[plausibility=0.8,top_k=3]");
    assert_eq!(names.len(), 7);
}

#[test]
fn sweeps_have_a_limit() {
    let list: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let list = list.join(", ");
    let sweep = format!("[sweep]\n'run.seed' = [{list}]\n'run.top_k' = [{list}]\n");
    let text = format!("schema = 1\n[sources.base]\nmodel = 'L'\n[tasks.t]\ndata = 'd'\n{sweep}");
    assert!(refused(&text, &[], &[]).contains("the sweep makes more than 10000 variants"));
}

#[test]
fn paths_are_relative_to_the_file_that_says_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("family/deep")).unwrap();
    fs::create_dir_all(at("mine")).unwrap();
    let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
    write(
        "family/deep/models.toml",
        "schema = 1\n[sources.base]\nmodel = 'L'\nchat_template = 'none'\n[sources.anti]\nmodel = '/abs/S'\n",
    );
    write(
        "family/tasks.toml",
        "schema = 1\nextends = ['deep/models.toml']\n[tasks.qa]\ndata = 'qa.jsonl'\n\
         fewshot = { data = 'shots.jsonl', n = 1 }\n[variants.a]\nsweep = { 'sources.base.model' = ['X', 'Y'] }\n",
    );
    write(
        "mine/e.toml",
        "schema = 1\nextends = ['../family/tasks.toml']\n[sources.base]\ndemonstrations = 'd.jsonl'\n\
         chat_template = 't.jinja'\n",
    );
    let suite = Experiment::load(&at("mine/e.toml"), &Overrides::default()).unwrap();
    let first = &suite.cells()[0];
    assert_eq!(first.config.sources["base"].model, at("mine/../family/X"));
    assert_eq!(first.config.sources["base"].demonstrations, Some(at("mine/d.jsonl")));
    assert_eq!(Path::new(&first.config.sources["base"].chat_template), at("mine/t.jinja"));
    assert_eq!(first.config.sources["anti"].model, Path::new("/abs/S"));
    assert_eq!(first.task_config.data, at("mine/../family/qa.jsonl"));
    assert_eq!(first.task_config.fewshot.as_ref().unwrap().data, Some(at("mine/../family/shots.jsonl")));
    let text = suite.resolved_toml();
    assert!(text.contains("model = \"../family/deep/L\""), "{text}");
    assert!(!text.contains(&folder.path().display().to_string()), "{text}");
    assert_eq!(essence(&Experiment::from_resolved(&text, &at("mine")).unwrap()), essence(&suite));
    // Origins name the file of every value.
    let origins = suite.resolved_toml_with_origins();
    let line = origins.lines().find(|line| line.starts_with("data =")).unwrap();
    assert!(line.ends_with("mine/../family/tasks.toml:4"), "{origins}");
}

#[test]
fn extending_twice_or_in_circles() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let load = |name: &str| Experiment::load(&folder.path().join(name), &Overrides::default());
    write("base.toml", "schema = 1\n[run]\nseed = 1\ntop_k = 1\n[sources.base]\nmodel = 'L'\n");
    write("left.toml", "schema = 1\nextends = ['base.toml']\n[run]\nseed = 2\n");
    write("right.toml", "schema = 1\nextends = ['base.toml']\n[run]\ntop_k = 3\n");
    write("both.toml", "schema = 1\nextends = ['left.toml', 'right.toml']\n");
    let run = load("both.toml").unwrap().config().unwrap().run;
    // The later parent is over the earlier one with all that it extends itself.
    assert_eq!((run.seed, run.top_k), (1, 3));

    write("a.toml", "schema = 1\nextends = ['b.toml']\n");
    write("b.toml", "schema = 1\nextends = ['./a.toml']\n");
    let circle = load("a.toml").unwrap_err().to_string();
    assert!(circle.contains("extends goes in a circle: "), "{circle}");
    assert_eq!(circle.matches(".toml extends ").count(), 2, "{circle}");

    // 2^20 readings of a small file, were there no limit.
    for level in 0..20 {
        write(&format!("l{level}.toml"), &format!("schema = 1\nextends = ['l{0}.toml', 'l{0}.toml']\n", level + 1));
    }
    write("l20.toml", "schema = 1\n");
    assert!(load("l0.toml").unwrap_err().to_string().contains("more than 256 files are extended"));
}

const MODELS: &str = r#"
schema = 1
[sources.large]
model = "L"
[sources.small]
model = "S"
[strategy]
use = "static-proxy"
roles = { base = "large", expert = "small", anti = "small" }
[speculation]
draft = "expert"
[[models]]
name = "large"
roles = { base = "large" }
[[models]]
name = "fused"
strategy = "static-proxy"
roles = { base = "large", expert = "small", anti = "small" }
parameters = { alpha = 0.5 }
gate = { max_prob = 0.5 }
"#;

#[test]
fn models_are_fusions_of_the_same_sources() {
    let served = read(MODELS).served().unwrap();
    let names: Vec<&str> = served.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["large", "fused"]);
    let (alone, fused) = (&served[0].1, &served[1].1);
    assert_eq!((alone.strategy.id.as_deref(), alone.strategy.roles.len()), (None, 1));
    assert_eq!((fused.strategy.id.as_deref(), &fused.strategy.params["alpha"]), (Some("static-proxy"), &0.5.into()));
    assert!(fused.strategy.gate.is_some());
    // The expert drafts where it takes part.
    assert!(alone.speculation.is_none() && fused.speculation.is_some());
    assert_eq!(alone.sources.len(), 2);
    // Without models the experiment itself is one.
    let own = read(MODELS.split("[[models]]").next().unwrap()).served().unwrap();
    assert_eq!((own.len(), own[0].1.strategy.id.as_deref()), (1, Some("static-proxy")));
}

#[test]
fn what_is_wrong_with_a_model_is_told_where_it_stands() {
    let with = |model: &str| refused(&format!("{MODELS}[[models]]\n{model}"), &[], &[]);
    let said = with("name = 'fused'\n");
    assert!(said.contains("there are two models `fused`") && said.starts_with("22:"), "{said}");
    let said = with("name = 'a b'\n");
    assert!(said.contains("`a b` cannot be the name of a model"), "{said}");
    assert!(with("name = 'x'\nparams = {}\n").contains("unknown key `params`"));
    assert!(with("strategy = 'none'\n").contains("`name` is missing"));
    let many = (0..70).fold(String::new(), |text, n| text + &format!("[[models]]\nname = 'm{n}'\n"));
    assert!(refused(&format!("{MODELS}{many}"), &[], &[]).contains("more than 64 models"));
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../logitfuse.schema.json");
    let text = format!("{:#}\n", json_schema());
    if std::env::var_os("LOGITFUSE_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "logitfuse.schema.json is not that of the types: `logitfuse config schema > logitfuse.schema.json`"
    );
}

#[test]
fn every_example_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    let mut folders = vec![root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&entry).unwrap_or_default();
            if entry.is_dir() && !entry.ends_with("target") {
                folders.push(entry);
            } else if entry.extension().is_some_and(|ending| ending == "toml") && text.contains("schema = 1") {
                seen += 1;
                Experiment::load(&entry, &Overrides::default()).unwrap();
            }
        }
    }
    assert!(seen > 0);
    // The blocks of the page of keys are parts of a file.
    let page = fs::read_to_string(root.join("docs/experiment.md")).unwrap();
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 3);
    for block in blocks {
        let text = if block.contains("schema = 1") { block.to_owned() } else { format!("schema = 1\n{block}") };
        if let Err(e) = Experiment::from_toml(&text, &Overrides::default()) {
            // A part may leave out what another part says, but has no wrong word.
            let said = e.to_string();
            assert!(
                [" is missing in ", "there is no ", "No such file"].iter().any(|one| said.contains(one)),
                "{e}\n{text}"
            );
        }
    }
}

#[test]
fn what_is_wrong_a_hundred_thousand_times_is_counted() {
    use std::{error::Error as _, fmt::Write as _};
    let mut text = "schema = 1\n[sources.base]\nmodel = 'L'\n[run]\n".to_owned();
    for key in 0..100_000 {
        let _ = writeln!(text, "k{key} = 1");
    }
    let error = Experiment::from_toml(&text, &Overrides::default()).unwrap_err();
    let found = error.source().and_then(|e| e.downcast_ref::<logitfuse_config::Diagnostics>()).unwrap();
    assert_eq!(found.0.len(), 201);
    assert_eq!(found.0[0].message, "unknown key `k0` in [run]");
    assert_eq!(found.0[200].message, "99800 more things are wrong in the experiment");
}

#[test]
fn cells_that_would_not_fit_into_memory_are_refused() {
    let long = "x".repeat(4 << 20);
    let text = format!(
        "schema = 1\n[run]\nprompts = ['{long}']\n[sources.base]\nmodel = 'L'\n[tasks.t]\ndata = 'd'\ntarget = 'x'\n\
         [sweep]\n\"run.seed\" = [{}]\n",
        (0..200).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", ")
    );
    let error = Experiment::from_toml(&text, &Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("200 variants on 1 tasks are too many for a file of this size"), "{error}");
    // Tasks are no part of what each cell has.
    let tasks: Vec<String> = (0..3000).map(|task| format!("[tasks.t{task}]\ndata = 'd'\ntarget = 'x'\n")).collect();
    let tasks = tasks.concat();
    let many = read(&format!("schema = 1\n[sources.base]\nmodel = 'L'\n{tasks}"));
    assert_eq!(many.cells().len(), 3000);
}

#[test]
fn names_of_any_length_make_messages_of_some() {
    let long = "x".repeat(1 << 20);
    let error = refused(&format!("schema = 1\n[sources.base]\nmodel = 'L'\n[run]\n{long} = 1\n"), &[], &[]);
    assert!(error.len() < 3000 && error.contains("unknown key `xxx"), "{}", error.len());
}

#[cfg(unix)]
#[test]
fn what_is_extended_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("e.toml");
    std::fs::write(&file, "schema = 1\nextends = ['/dev/zero']\n").unwrap();
    let error = Experiment::load(&file, &Overrides::default()).unwrap_err();
    assert!(error.to_string().ends_with("/dev/zero: a device or a pipe, and no regular file"), "{error}");
}

#[test]
fn what_a_shared_file_holds_for_others_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), format!("schema = 1\n{text}")).unwrap();
    write("family.toml", "[sources.base]\nmodel = 'L'\n[sources.math]\nmodel = 'M'\ncalibration = 'm.jsonl'\n");
    write("e.toml", "extends = ['family.toml']\n[sources.law]\nmodel = 'W'\n");
    let experiment = Experiment::load(&folder.path().join("e.toml"), &Overrides::default()).unwrap();
    let idle: Vec<String> = experiment.idle_settings().into_iter().map(|one| one.message).collect();
    assert_eq!(idle, ["sources.law changes nothing: the source plays no role"]);
}
