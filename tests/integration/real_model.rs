//! The engine's shortcuts on a real model: what they save may not show in what comes out.

use std::{path::Path, sync::Arc};

use logitfuse_core::TokenId;
use logitfuse_engine::{BaseOnly, Decoder, DecoderBuilder, Draft, DraftLength, Generation, Request, Role, Speculation};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource};
use logitfuse_text::Tokenizer;

use crate::support::{model, runtime};

/// Long enough for several chunks, and full of phrases that come again.
const TEXT: &str = include_str!("../../LICENSE-MIT");

fn builder(folder: &Path) -> DecoderBuilder {
    let folder = ModelFolder::open(folder, None).unwrap();
    let source = OnnxSource::open(&runtime(), &folder, &OnnxOptions::default()).unwrap();
    Decoder::builder(Arc::new(BaseOnly::new())).source(Box::new(source)).roles([Role::new("base", 0)])
}

fn encode(folder: &Path, text: &str) -> Vec<TokenId> {
    Tokenizer::load(folder).unwrap().encode(text, false).unwrap()
}

fn bits(generation: Generation) -> (Vec<TokenId>, u64) {
    (generation.tokens, generation.log_prob.to_bits())
}

#[test]
fn a_reused_beginning_gives_the_bits_of_one_that_is_run_again() {
    for name in ["smollm2-int8", "smollm2-fp32"] {
        let folder = model(name);
        let ends = ["In short, this licence says", "The most important word above is", "A lawyer would"];
        let request = |end: &str| Request::new([encode(&folder, &format!("{TEXT}\n\n{end}"))]).max_new_tokens(12);
        let mut plain = builder(&folder).prefix_cache_bytes(0).build().unwrap();
        let expected: Vec<_> = ends.iter().map(|end| bits(plain.generate_one(&request(end)).unwrap())).collect();
        drop(plain);
        let mut reusing = builder(&folder).build().unwrap();
        let mut reused = 0;
        for (end, expected) in ends.iter().zip(expected) {
            let generation = reusing.generate_one(&request(end)).unwrap();
            reused += generation.timings.reused_tokens[0];
            assert_eq!(bits(generation), expected, "{name}: {end}");
        }
        assert!(reused >= 256, "{name}: {reused} tokens reused");
    }
}

/// Rows of a draft are computed together, and a matrix product of several rows may round otherwise than one of a single
/// row; the texts are still the same unless two tokens tie to the last digits.
#[test]
fn drafted_text_is_the_text() {
    let folder = model("smollm2-fp32");
    let prompts =
        [TEXT, "Repeat after me: a rose is a rose is a rose is a", "1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9 1 2 3"];
    let request = |text: &str| Request::new([encode(&folder, text)]).max_new_tokens(48);
    let mut plain = builder(&folder).build().unwrap();
    let speculation = Speculation { draft: Draft::PromptLookup { longest: 4 }, length: DraftLength::Fixed(4) };
    let mut drafting = builder(&folder).speculation(Some(speculation)).build().unwrap();
    let mut accepted = 0;
    for prompt in prompts {
        let expected = plain.generate_one(&request(prompt)).unwrap();
        let drafted = drafting.generate_one(&request(prompt)).unwrap();
        assert_eq!(drafted.tokens, expected.tokens, "{prompt}");
        assert!((drafted.log_prob - expected.log_prob).abs() < 1e-3);
        accepted += drafted.timings.accepted;
    }
    assert!(accepted > 20, "{accepted} drafted tokens stood");
}
