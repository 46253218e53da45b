//! Directories that are cut off, changed, split and compared.

#![expect(clippy::unwrap_used, clippy::float_cmp, reason = "an unwrap that fails is a test that fails; exact values")]

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use logitfuse_core::ErrorKind;
use logitfuse_rundir::{
    CellPlan, FileRecord, Identity, Manifest, Metrics, Response, Run, RunDir, SCHEMA_VERSION, SampleRecord, Scope,
    Shard, TimingRecord, compare, merge, missing, sha256,
};
use serde_json::{Map, json};

const ITEMS: usize = 6;
const RESOLVED: &str = "schema = 1\n[run]\nseed = 3\n";

fn manifest(scope: Scope) -> Manifest {
    let file = FileRecord { path: "L/model.onnx".into(), kind: "model".into(), bytes: 5, sha256: sha256(b"L") };
    let cell = |variant: &str| CellPlan { variant: variant.into(), task: "qa".into(), items: ITEMS, repeats: 2 };
    Manifest {
        schema_version: SCHEMA_VERSION,
        identity: Identity {
            config_sha256: sha256(RESOLVED.as_bytes()),
            logitfuse: "0.1.0".into(),
            onnxruntime: "1.23.0".into(),
            files: vec![file],
        },
        scope,
        cells: vec![cell("large"), cell("fused")],
        machine: BTreeMap::new(),
    }
}

/// A sample with a score that depends on what it is of.
fn sample(variant: &str, index: usize, repeat: usize) -> SampleRecord {
    let right = variant == "fused" || index.is_multiple_of(3);
    let response = Response {
        text: format!("é\n{index}"),
        tokens: vec![1, 2],
        log_prob: if index == 2 { f64::NEG_INFINITY } else { -0.1 * (index as f64 + 1.0) },
        finish: Some("stop".into()),
        inexact_drafts: false,
        is_greedy: None,
        trace: Vec::new(),
    };
    SampleRecord {
        schema_version: SCHEMA_VERSION,
        variant: variant.into(),
        task: "qa".into(),
        doc_id: format!("q/{index}"),
        doc_index: index,
        repeat,
        doc: Map::from_iter([("prompt".to_owned(), json!(format!("{index}?")))]),
        target: json!("x"),
        prompt_sha256: sha256(&[1]),
        responses: vec![response],
        filtered: BTreeMap::from([("none".to_owned(), json!("x"))]),
        metrics: BTreeMap::from([
            ("exact_match,none".to_owned(), json!(f64::from(u8::from(right)))),
            ("bleu,none".to_owned(), json!(["a b c d e", ["a b c d", "x"]])),
        ]),
        fallback_tokens: 0,
        error: None,
    }
}

fn timing(key: String) -> TimingRecord {
    let mut timing: TimingRecord = serde_json::from_value(json!({
        "key": "", "tokens": 2, "prefill_seconds": 0.5, "decode_seconds": 0.25, "fuse_seconds": 0.0,
        "sample_seconds": 0.0, "sources": [], "drafted": 0, "accepted": 0,
    }))
    .unwrap();
    timing.key = key;
    timing
}

/// Makes what is missing, in order.
fn go_on(path: &Path, scope: &Scope) -> RunDir {
    let mut run = RunDir::start(path, RESOLVED, &manifest(scope.clone())).unwrap();
    for variant in ["large", "fused"] {
        for (index, repeat) in (0..ITEMS).filter(|&i| scope.holds(i)).flat_map(|i| [(i, 0), (i, 1)]) {
            let sample = sample(variant, index, repeat);
            if !run.holds(&sample.key()) {
                run.append(&sample, &timing(sample.key())).unwrap();
            }
        }
    }
    run.sync().unwrap();
    run
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path.join("samples.jsonl")).unwrap()
}

#[test]
fn a_run_that_was_cut_off_anywhere_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/x");
    let run = go_on(&path, &Scope::default());
    assert_eq!(run.samples(), run.reader().unwrap().manifest().samples());
    drop(run);
    let (samples, timings) = (bytes(&path), fs::read(path.join("timings.jsonl")).unwrap());
    for cut in (0..samples.len()).step_by(37) {
        fs::write(path.join("samples.jsonl"), &samples[..cut]).unwrap();
        go_on(&path, &Scope::default());
        assert_eq!(bytes(&path), samples, "cut at {cut}");
        assert_eq!(fs::read(path.join("timings.jsonl")).unwrap(), timings, "cut at {cut}");
    }
    let back: Vec<SampleRecord> = Run::open(&path).unwrap().samples().unwrap().map(Result::unwrap).collect();
    assert_eq!(back[4], sample("large", 2, 0), "minus infinity comes back");
}

#[test]
fn what_a_run_depends_on_must_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    go_on(path, &Scope::default());
    let refused = |resolved: &str, change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest(Scope::default());
        changed.identity.config_sha256 = sha256(resolved.as_bytes());
        change(&mut changed);
        let e = RunDir::start(path, resolved, &changed).map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Incompatible);
        e.to_string()
    };
    let model = refused(RESOLVED, &|m| m.identity.files[0].sha256 = sha256(b"other"));
    assert!(model.contains("the model L/model.onnx changed (sha256 "), "{model}");
    let two = refused("schema = 1\n[run]\nseed = 4\n", &|m| m.identity.files.clear());
    assert!(two.contains("resolved.toml:3 says `seed = 3`, and now `seed = 4` (1 more differ)"), "{two}");
    let limit = refused(RESOLVED, &|m| m.scope.limit = Some(3));
    assert!(limit.contains("it holds all items, and --limit 3 was asked for"), "{limit}");
    let items = refused(RESOLVED, &|m| m.cells[1].items = 7);
    assert!(items.contains("numbers of items"), "{items}");
}

#[test]
fn a_damaged_or_foreign_directory_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    go_on(&path, &Scope::default());
    let whole = String::from_utf8(bytes(&path)).unwrap();
    let start = || RunDir::start(&path, RESOLVED, &manifest(Scope::default())).map(|_| ()).unwrap_err();
    let damaged = whole.replacen("\"doc_index\":1", "\"doc_index\":?", 1);
    fs::write(path.join("samples.jsonl"), &damaged).unwrap();
    assert!(start().to_string().contains("samples.jsonl:3: the line is damaged"), "{}", start());
    assert_eq!(bytes(&path), damaged.as_bytes());
    let twice = format!("{whole}{}\n", whole.lines().next().unwrap());
    fs::write(path.join("samples.jsonl"), &twice).unwrap();
    assert!(start().to_string().contains("samples.jsonl:25: sample large/qa/q/0/0 was there before"), "{}", start());

    let foreign = folder.path().join("y");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.tex"), "").unwrap();
    let e = RunDir::start(&foreign, RESOLVED, &manifest(Scope::default())).map(|_| ()).unwrap_err();
    assert!(e.to_string().ends_with("it holds thesis.tex"), "{e}");
    assert_eq!(Run::open(&foreign).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn shards_merge_into_the_bytes_of_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    go_on(&at("whole"), &Scope::default());
    let shards: Vec<Run> = (0..4)
        .map(|index| {
            let path = at(&index.to_string());
            go_on(&path, &Scope { limit: None, shard: Some(Shard { index, of: 4 }) });
            Run::open(&path).unwrap()
        })
        .collect();
    let merged = merge(&shards, &at("merged")).unwrap();
    assert_eq!(merged.samples(), merged.reader().unwrap().manifest().samples());
    assert_eq!(bytes(&at("merged")), bytes(&at("whole")));
    for name in ["manifest.json", "resolved.toml", "timings.jsonl"] {
        assert_eq!(fs::read(at("merged").join(name)).unwrap(), fs::read(at("whole").join(name)).unwrap(), "{name}");
    }
    // One sample twice is no harm unless it differs.
    let twice = [shards[0].clone(), shards[0].clone(), shards[1].clone()];
    assert_eq!(merge(&twice, &at("twice")).unwrap().samples(), 16);
    let log = at("1").join("samples.jsonl");
    fs::write(&log, fs::read_to_string(&log).unwrap().replacen("\"tokens\":[1,2]", "\"tokens\":[1,3]", 1)).unwrap();
    let whole = Run::open(&at("whole")).unwrap();
    let e = merge(&[whole, shards[1].clone()], &at("other")).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("sample large/qa/q/1/0 differs from that in"), "{e}");
}

/// Four shards of the run, all whole.
fn four(at: &dyn Fn(&str) -> std::path::PathBuf) -> Vec<Run> {
    let shard = |index| Scope { limit: None, shard: Some(Shard { index, of: 4 }) };
    (0..4).map(|index| go_on(&at(&index.to_string()), &shard(index)).reader().unwrap()).collect()
}

const FILES: [&str; 4] = ["manifest.json", "resolved.toml", "samples.jsonl", "timings.jsonl"];

fn files(path: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(path.join(name)).unwrap()).collect()
}

/// What a merge does to the new directory.
enum Step {
    Append(&'static str, Vec<u8>),
    Rename(&'static str, &'static str),
}

impl Step {
    fn play(&self, dir: &Path, bytes: usize) {
        match self {
            Self::Rename(from, to) => fs::rename(dir.join(from), dir.join(to)).unwrap(),
            Self::Append(name, whole) => {
                let file = fs::OpenOptions::new().create(true).append(true).open(dir.join(name));
                file.unwrap().write_all(&whole[..bytes.min(whole.len())]).unwrap();
            }
        }
    }
}

/// Every beginning of what is written is what a kill can leave.
#[test]
fn a_merge_that_was_killed_at_any_step_is_repeated_into_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shards = four(&at);
    drop(merge(&shards, &at("whole")).unwrap());
    let whole = files(&at("whole"));
    let [manifest, resolved, samples, timings] = &whole[..] else { panic!("four files") };
    let lines = |log: &[u8]| log.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut steps = vec![
        Step::Append(".lock", Vec::new()),
        Step::Append(".resolved.toml.new", resolved.clone()),
        Step::Rename(".resolved.toml.new", "resolved.toml"),
        Step::Append(".manifest.json.new", manifest.clone()),
        Step::Rename(".manifest.json.new", "manifest.json"),
        Step::Append("samples.jsonl", Vec::new()),
        Step::Append("timings.jsonl", Vec::new()),
    ];
    for (sample, timing) in lines(samples).into_iter().zip(lines(timings)) {
        steps.extend([Step::Append("timings.jsonl", timing), Step::Append("samples.jsonl", sample)]);
    }
    steps.push(Step::Append(".metrics.json.new", b"{\n  \"schema_version\": 1,\n".to_vec()));
    for done in 0..=steps.len() {
        // Nothing of the next step, and a piece of it.
        for piece in [0, 7] {
            let into = at(&format!("killed-{done}-{piece}"));
            fs::create_dir(&into).unwrap();
            steps[..done].iter().for_each(|step| step.play(&into, usize::MAX));
            if let Some(next @ Step::Append(..)) = steps.get(done) {
                next.play(&into, piece);
            }
            // The second time there is nothing left to do.
            for time in ["first", "second"] {
                let merged = merge(&shards, &into).unwrap_or_else(|e| panic!("killed after {done}, {piece}: {e}"));
                assert_eq!(merged.samples(), merged.reader().unwrap().manifest().samples());
                drop(merged);
                assert_eq!(files(&into), whole, "killed after {done}, {piece}, merged the {time} time");
            }
        }
    }
}

#[test]
fn a_merge_goes_on_with_more_shards_and_touches_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shards = four(&at);
    drop(merge(&shards, &at("whole")).unwrap());
    let part = at("part");
    assert_eq!(merge(&[shards[2].clone(), shards[0].clone()], &part).unwrap().samples(), 12);
    fs::write(part.join("metrics.json"), "{}").unwrap();
    drop(merge(&shards, &part).unwrap());
    assert_eq!(files(&part), files(&at("whole")));
    assert!(!part.join("metrics.json").exists(), "they were of half of the samples");

    // Fewer shards than it has, another result, one of the shards: nothing changes.
    let before = files(&part);
    let refused = |runs: &[Run], into: &Path, words: &str| {
        let e = merge(runs, into).map(|_| ()).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    refused(&shards[..3], &part, "large/qa/q/3/0 is in none of these directories");
    assert_eq!(files(&part), before);
    let other = String::from_utf8(before[2].clone()).unwrap().replacen("\"tokens\":[1,2]", "\"tokens\":[1,3]", 1);
    fs::write(part.join("samples.jsonl"), &other).unwrap();
    refused(&shards, &part, "large/qa/q/0/0 is another one in these directories");
    assert_eq!(fs::read_to_string(part.join("samples.jsonl")).unwrap(), other);
    let before = files(&at("whole"));
    refused(&[Run::open(&at("whole")).unwrap()], &at("whole"), "is one of the directories to join");
    assert_eq!(files(&at("whole")), before);
}

#[test]
fn what_is_missing_is_said_in_the_order_of_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let shard = |index: usize| Scope { limit: None, shard: Some(Shard { index, of: 4 }) };
    let at = |name: &str| folder.path().join(name);
    let whole = |index: usize| go_on(&at(&index.to_string()), &shard(index)).reader().unwrap();
    // The last one was killed before its last sample.
    let cut = whole(3);
    let samples = fs::read_to_string(at("3").join("samples.jsonl")).unwrap();
    let kept: Vec<&str> = samples.lines().collect();
    fs::write(at("3").join("samples.jsonl"), kept[..kept.len() - 1].join("\n") + "\n").unwrap();
    let lines = missing(&[cut.clone(), whole(1)]).unwrap();
    let held = kept.len();
    assert_eq!(
        lines,
        [
            "shard 1/4: none of these directories holds it".to_owned(),
            "shard 3/4: none of these directories holds it".to_owned(),
            format!("shard 4/4, {}: {} of {held} samples", at("3").display(), held - 1),
        ]
    );
    let all = [whole(0), whole(1), whole(2)];
    assert_eq!(missing(&[&all[..], &[cut]].concat()).unwrap(), lines[2..]);
    assert_eq!(missing(&[go_on(&at("whole"), &Scope::default()).reader().unwrap()]).unwrap(), Vec::<String>::new());
}

#[test]
fn a_comparison_pairs_items() {
    let folder = tempfile::tempdir().unwrap();
    let run = go_on(folder.path(), &Scope::default()).reader().unwrap();
    let same = compare(&run, &run, &[]).unwrap();
    assert_eq!(same.rows.len(), 4, "two metrics a variant");
    assert!(same.rows.iter().all(|row| row.difference == 0.0 && row.p_holm == 1.0));
    let better = compare(&run, &run, &[("large".to_owned(), "fused".to_owned())]).unwrap();
    let [bleu, row] = &better.rows[..] else { panic!("{better:?}") };
    assert_eq!((bleu.n, &*bleu.metric, bleu.difference), (ITEMS, "bleu,none", 0.0), "a score of all items together");
    assert_eq!((row.n, row.higher, row.lower, row.p_value), (ITEMS, 4, 0, 0.125));
    assert!(row.interval[0] > 0.0);
    let e = compare(&run, &run, &[("large".to_owned(), "lrage".to_owned())]).unwrap_err();
    assert_eq!(e.help(), Some("its variants are fused, large"));
}

#[test]
fn metrics_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = go_on(folder.path(), &Scope::default());
    assert_eq!(run.reader().unwrap().metrics().unwrap(), None);
    let metrics = Metrics {
        schema_version: SCHEMA_VERSION,
        identity_sha256: manifest(Scope::default()).identity.sha256(),
        complete: true,
        limit: None,
        metrics: Vec::new(),
        gaps: Vec::new(),
        failures: Vec::new(),
    };
    run.write_metrics(&metrics).unwrap();
    assert_eq!(run.reader().unwrap().metrics().unwrap(), Some(metrics));
}
