//! A decode loop that is under way allocates nothing outside of ONNX Runtime, on any of its threads.

use std::ops::ControlFlow;

use logitfuse_config::Config;
use logitfuse_engine::{Cancel, Decoder, Event, Request, Sampling};
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::{Pipeline, PluginSettings};
use logitfuse_setup::{Environment, find_runtime};
use serde_json::json;

use crate::{everywhere, measured_alone};

/// From here on nothing may be allocated: buffers have their size, and histories, which double, have room for 256
/// tokens, more than any text has before this one has [`LAST`].
const WARM: usize = 170;
const LAST: usize = 210;
/// No text ends before the first one is at [`LAST`].
const LENGTH: usize = 420;

fn pipeline(strategy: &str, draft: &str) -> Pipeline {
    let family = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/family/models");
    let source =
        |role: &str, model: &str| format!("[sources.{role}]\nmodel = \"{family}/{model}\"\nchat_template = \"none\"\n");
    let text = format!(
        "schema = 1\n{}{}{}[strategy]\n{strategy}\n{draft}",
        source("base", "S"),
        source("expert", "S-qa"),
        source("anti", "S-math"),
    );
    let runtime = find_runtime(&Environment::of_process(), None).expect("run the tests with `cargo xtask test`");
    let runtime = Runtime::load(&runtime.library).expect("the runtime loads");
    Config::from_toml(&text)
        .expect("the experiment is valid")
        .open(&runtime, 2, &PluginSettings::default())
        .expect("the family is there")
}

/// Allocations of the whole process while the first of `sequences` texts goes from [`WARM`] to [`LAST`].
fn allocations(pipeline: &Pipeline, decoder: &mut Decoder, sequences: usize, sampling: &Sampling) -> usize {
    let requests: Vec<Request> = (0..sequences)
        .map(|n| {
            let fields = json!({ "prompt": format!("Question: Which river does number {n} stand on?\nAnswer:") });
            let mut request = pipeline.request_for(n, &fields).expect("a prompt").max_new_tokens(LENGTH);
            // Text is the tokenizer's, which allocates each word.
            (request.text, request.ignore_end_of_sequence) = (None, true);
            request.sampling(sampling.clone())
        })
        .collect();
    let (mut warm, mut last) = (0, 0);
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(report) = event
            && report.request == 0
        {
            // A block of drafts may be emitted at once, so the first at or behind the mark counts.
            if report.position <= WARM {
                warm = everywhere();
            }
            if report.position <= LAST {
                last = everywhere();
            }
        }
        ControlFlow::Continue(())
    };
    decoder.generate(&requests, &Cancel::new(), &mut on_event).expect("it decodes");
    last - warm
}

#[test]
fn a_decode_loop_under_way_allocates_nothing() {
    let _alone = measured_alone();
    let sampled = Sampling { temperature: 0.8, seed: 3, ..Sampling::default() };
    for strategy in ["use = \"static-proxy\"", "use = \"dynamic-kl\""] {
        for draft in ["", "[speculation]\ntokens = 3\n"] {
            let pipeline = pipeline(strategy, draft);
            let mut decoder = pipeline.decoder();
            for sequences in [1, 4] {
                for sampling in [Sampling::default(), sampled.clone()] {
                    // Once for buffers that a text leaves to the next.
                    allocations(&pipeline, &mut decoder, sequences, &sampling);
                    let made = allocations(&pipeline, &mut decoder, sequences, &sampling);
                    assert_eq!(
                        made, 0,
                        "{strategy}, {draft:?}, {sequences} sequences, temperature {}",
                        sampling.temperature
                    );
                }
            }
        }
    }
}
