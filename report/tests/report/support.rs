//! A run directory as small as it can be while every section of the page has something to show.

use std::{collections::BTreeMap, fs, path::Path};

use logitfuse_report::Report;
use logitfuse_rundir::{
    BindingToken, FileRecord, GapRecord, Identity, Manifest, MetricRecord, Metrics, Response, SCHEMA_VERSION,
    SampleRecord, Scope, SourceTiming, TimingRecord, TokenRecord,
};
use serde_json::json;

/// Everything that a run says of itself in words of its own choice.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) variant: String,
    pub(crate) task: String,
    pub(crate) metric: String,
    pub(crate) doc_id: String,
    pub(crate) prompt: String,
    pub(crate) text: String,
    pub(crate) source: String,
    pub(crate) column: String,
    pub(crate) path: String,
    pub(crate) config: String,
}

impl Words {
    /// All of them the same.
    pub(crate) fn all(word: &str) -> Self {
        let word = || word.to_owned();
        Self {
            variant: word(),
            task: word(),
            metric: word(),
            doc_id: word(),
            prompt: word(),
            text: word(),
            source: word(),
            column: word(),
            path: word(),
            config: word(),
        }
    }

    pub(crate) fn plain() -> Self {
        Self {
            variant: "dynamic".into(),
            task: "qa".into(),
            metric: "exact_match".into(),
            doc_id: "7".into(),
            prompt: "What colour is the sky?".into(),
            text: " blue".into(),
            source: "small".into(),
            column: "alpha".into(),
            path: "models/L/model.onnx".into(),
            config: "schema = 1\n".into(),
        }
    }
}

/// Items of each variant.
pub(crate) const ITEMS: usize = 4;

/// A base, an expert, two points of a sweep, the variant of the words, a ceiling.
fn variants(words: &Words) -> Vec<String> {
    let known = ["large", "expert", "static[alpha=0.5]", "static[alpha=1]"];
    known.iter().map(|v| (*v).to_owned()).chain([words.variant.clone(), "large-tuned".to_owned()]).collect()
}

/// The report of a directory of these words.
pub(crate) fn report(words: &Words) -> Report {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), words);
    Report::of(dir.path()).unwrap()
}

/// Writes the directory.
pub(crate) fn write(dir: &Path, words: &Words) {
    let identity = Identity {
        config_sha256: "00".repeat(32),
        logitfuse: "0.1.0".into(),
        onnxruntime: "1.23.0".into(),
        files: vec![FileRecord { path: words.path.clone(), kind: "model".into(), bytes: 10, sha256: "11".repeat(32) }],
    };
    let machine = BTreeMap::from([("cpu".to_owned(), words.text.clone())]);
    let manifest =
        Manifest { schema_version: SCHEMA_VERSION, identity, scope: Scope::default(), cells: vec![], machine };
    let put = |name: &str, value: &serde_json::Value| fs::write(dir.join(name), format!("{value}\n")).unwrap();
    fs::write(dir.join("resolved.toml"), &words.config).unwrap();
    put("manifest.json", &json!(manifest));
    put("metrics.json", &json!(metrics(words)));
    let (mut samples, mut timings) = (vec![], vec![]);
    for variant in variants(words) {
        for index in 0..ITEMS {
            let sample = sample(words, &variant, index);
            timings.push(json!(timing(words, &sample)).to_string());
            samples.push(json!(sample).to_string());
        }
    }
    fs::write(dir.join("samples.jsonl"), lines(&samples)).unwrap();
    fs::write(dir.join("timings.jsonl"), lines(&timings)).unwrap();
}

fn lines(of: &[String]) -> String {
    of.iter().flat_map(|line| [line, "\n"]).collect()
}

/// How each variant fares: the base is right on no item, the expert on half, the fused ones on all but the first.
pub(crate) fn is_right(variant: &str, index: usize) -> bool {
    match variant {
        "large" => index == 0,
        "expert" => index < 2,
        "large-tuned" => true,
        _ => index > 0,
    }
}

fn metrics(words: &Words) -> Metrics {
    let score = |variant: &str| (0..ITEMS).filter(|&i| is_right(variant, i)).count() as f64 / ITEMS as f64;
    let record = |variant: &String| MetricRecord {
        variant: variant.clone(),
        task: words.task.clone(),
        metric: words.metric.clone(),
        filter: "none".into(),
        n: ITEMS,
        value: Some(score(variant)),
        stderr: Some(0.25),
        interval: Some([(score(variant) - 0.3).max(0.0), (score(variant) + 0.2).min(1.0)]),
        interval_method: "Wilson's score interval".into(),
        higher_is_better: true,
    };
    let (base, ceiling) = (score("large"), score("large-tuned"));
    let gap = |variant: &String| GapRecord {
        variant: variant.clone(),
        task: words.task.clone(),
        metric: format!("{},none", words.metric),
        base: "large".into(),
        ceiling: "large-tuned".into(),
        n: ITEMS,
        value: Some((score(variant) - base) / (ceiling - base)),
        interval: Some([0.2, 1.1]),
        ratio_to_ceiling: Some(score(variant) / ceiling),
    };
    let variants = variants(words);
    Metrics {
        schema_version: SCHEMA_VERSION,
        identity_sha256: "22".repeat(32),
        complete: true,
        limit: Some(ITEMS),
        metrics: variants.iter().map(record).collect(),
        gaps: variants.iter().map(gap).collect(),
        failures: Vec::new(),
    }
}

fn sample(words: &Words, variant: &str, index: usize) -> SampleRecord {
    let right = is_right(variant, index);
    let trace = (0..5).map(|i| token(words, variant, index, i)).collect();
    SampleRecord {
        schema_version: SCHEMA_VERSION,
        variant: variant.to_owned(),
        task: words.task.clone(),
        doc_id: format!("{}{index}", words.doc_id),
        doc_index: index,
        repeat: 0,
        doc: [("prompt".to_owned(), json!(words.prompt))].into_iter().collect(),
        target: json!(words.text),
        prompt_sha256: "33".repeat(32),
        responses: vec![Response {
            text: words.text.clone(),
            tokens: (0..5).collect(),
            log_prob: -1.5,
            finish: Some("stop".into()),
            inexact_drafts: false,
            is_greedy: None,
            trace,
        }],
        filtered: [("none".to_owned(), json!(words.text))].into(),
        metrics: [(format!("{},none", words.metric), json!(f64::from(u8::from(right))))].into(),
        fallback_tokens: 0,
        error: None,
    }
}

fn token(words: &Words, variant: &str, index: usize, position: u32) -> TokenRecord {
    let top = |token: u32| logitfuse_rundir::TopLogprob { token, text: words.text.clone(), log_prob: -0.5 };
    let role = |role: &str, source: &str, token: u32| BindingToken {
        role: role.into(),
        source: source.into(),
        log_prob: Some(-f64::from(token) / 3.0),
        top_logprobs: vec![top(token), top(9)],
    };
    let alone = matches!(variant, "large" | "expert" | "large-tuned");
    let roles = match variant {
        "large" | "large-tuned" => vec![role("base", "large", position)],
        "expert" => vec![role("base", "expert", position)],
        _ => vec![
            role("base", "large", position),
            role("expert", "expert", position % 2),
            role("anti", &words.source, 3),
        ],
    };
    let value = f64::from(position) / 4.0 + index as f64 / 10.0;
    let trace = [("alpha".to_owned(), Some(value)), (words.column.clone(), Some(value * value))];
    TokenRecord {
        token: position,
        text: words.text.clone(),
        log_prob: -0.25,
        top_logprobs: vec![top(position)],
        trace: if alone { BTreeMap::new() } else { trace.into() },
        roles,
    }
}

fn timing(words: &Words, sample: &SampleRecord) -> TimingRecord {
    let source = |source: &str| SourceTiming {
        source: source.to_owned(),
        prefill_seconds: 0.01,
        forward_seconds: 0.02,
        prefill_tokens: 12,
        reused_tokens: 0,
    };
    TimingRecord {
        key: sample.key(),
        tokens: 5,
        prefill_seconds: 0.02,
        decode_seconds: 0.05,
        fuse_seconds: 0.001,
        sample_seconds: 0.001,
        sources: vec![source("large"), source("expert"), source(&words.source)],
        drafted: 0,
        accepted: 0,
        rounds: 4,
    }
}
