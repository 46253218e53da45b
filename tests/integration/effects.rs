//! Settings that have no effect, and drafts that have one that they should not have, are told.

use std::sync::Arc;

use logitfuse_core::{Interrupt, LogitSource, Result, Rows, SequenceId, SourceInfo, Step};
use logitfuse_pipeline::{DraftTokens, Pipeline, PipelineOptions, SourceConfig, SpeculationConfig, strategy};
use logitfuse_replay::SyntheticSource;
use logitfuse_text::Tokenizer;
use serde_json::json;

/// A source whose rows move by `by` where tokens are read several at once, as those of some int8 exports do.
struct Uneven {
    inner: SyntheticSource,
    by: f32,
}

impl LogitSource for Uneven {
    fn info(&self) -> &SourceInfo {
        self.inner.info()
    }

    fn open(&mut self) -> Result<SequenceId> {
        self.inner.open()
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.inner.fork(of)
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.inner.truncate(sequence, len)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.inner.close(sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.inner.len(sequence)
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        self.inner.interrupt()
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.inner.forward(batch, out)?;
        if batch.iter().any(|step| step.tokens.len() > 1) {
            (0..out.len()).for_each(|row| out.row_mut(row)[1] += self.by);
        }
        Ok(())
    }
}

fn tokenizer() -> Tokenizer {
    let text = r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "one": 1, "two": 2, "three": 3}},
        "pre_tokenizer": {"type": "Whitespace"}}"#;
    Tokenizer::from_json(text).unwrap()
}

/// Proxy tuning over three sources, of which the one in this role is uneven by so much.
fn pipeline(options: PipelineOptions, role: &str, by: f32) -> Result<Pipeline> {
    let source = |of: &str, seed| {
        let by = if of == role { by } else { 0.0 };
        Box::new(Uneven { inner: SyntheticSource::new(&format!("model {of}"), 4, seed), by }) as Box<dyn LogitSource>
    };
    let sources = [("base", source("base", 1)), ("expert", source("expert", 2)), ("anti", source("anti", 3))];
    Pipeline::from_sources(options, strategy("static-proxy", &json!({ "alpha": 0.5 }))?, sources, &tokenizer())
}

fn drafting(draft: &str) -> PipelineOptions {
    let mut options = PipelineOptions::default();
    options.run.max_new_tokens = 5;
    options.speculation = Some(SpeculationConfig { draft: draft.to_owned(), tokens: DraftTokens::Fixed(2) });
    options
}

#[test]
fn drafts_over_rows_that_depend_on_how_tokens_are_fed_are_told_and_marked() {
    for draft in ["expert", "prompt_lookup"] {
        for role in ["base", "expert", "anti"] {
            let uneven = pipeline(drafting(draft), role, 1.0).unwrap();
            let [warning] = uneven.warnings() else { panic!("{:?}", uneven.warnings()) };
            assert!(warning.starts_with("speculation: ") && warning.contains(&format!("`model {role}`")), "{warning}");
            assert!(uneven.generate("one two").unwrap().inexact_drafts);
            // Rounding is no reason to warn.
            for by in [0.0, 1e-6] {
                let even = pipeline(drafting(draft), role, by).unwrap();
                assert!(even.warnings().is_empty() && !even.generate("one two").unwrap().inexact_drafts);
            }
        }
    }
    let mut undrafted = drafting("expert");
    undrafted.speculation = None;
    let without = pipeline(undrafted, "base", 1.0).unwrap();
    assert!(without.warnings().is_empty() && !without.generate("one two").unwrap().inexact_drafts);
}

#[test]
fn a_bias_on_a_token_that_may_not_be_generated_is_an_error() {
    for (id, bias) in [("4", 1.0), ("99999", -1.0), ("4294967295", f32::NEG_INFINITY)] {
        let mut options = PipelineOptions::default();
        options.run.logit_bias.insert(id.to_owned(), bias);
        options.run.logit_bias.insert("3".to_owned(), 0.5);
        let refused = pipeline(options.clone(), "base", 0.0).err().unwrap();
        let what = format!("run.logit_bias: token {id} may not be generated, and a bias has no effect");
        assert!(refused.to_string().starts_with(&what), "{refused}");
        assert!(refused.to_string().contains("share 4 tokens") && refused.help().is_some(), "{refused}");
        // A request with settings of its own is refused, too.
        let run = options.run;
        let plain = pipeline(PipelineOptions::default(), "base", 0.0).unwrap();
        let refused = plain.with_run(run).generate("one").unwrap_err();
        assert!(refused.to_string().starts_with(&format!("logit_bias: token {id}")), "{refused}");
    }
}

#[test]
fn settings_that_change_nothing_are_told() {
    let mut options = PipelineOptions::default();
    (options.run.top_p, options.run.top_k, options.run.min_p) = (0.9, 5, 0.1);
    let source = SourceConfig {
        calibration: Some("prompts.jsonl".into()),
        date: Some("2025-01-31".to_owned()),
        chat_template: "none".to_owned(),
        ..SourceConfig::new("")
    };
    options.sources.insert("base".to_owned(), source);
    let told = pipeline(options.clone(), "base", 0.0).unwrap();
    let keys: Vec<&str> = told.idle_options().iter().filter_map(|line| line.split(' ').next()).collect();
    let sources = ["sources.base.calibration", "sources.base.date"];
    assert_eq!(keys, [&["run.top_k", "run.top_p", "run.min_p"][..], &sources].concat());
    options.run.temperature = 0.7;
    options.sources.clear();
    assert!(pipeline(options, "base", 0.0).unwrap().idle_options().is_empty());
}
