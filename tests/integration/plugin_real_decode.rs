//! Every bundled strategy over a real model, as a library and built in: the same tokens, log-probabilities and traces.
//!
//! One 8-bit and one 32-bit export of the same model disagree as an untuned and a tuned one do, and every role has a prompt
//! of its own, so that no divergence is zero and every branch of a strategy has something to do.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use logitfuse_core::{FusionStrategy, LogitSource, PromptReading, Result, Rows, SequenceId, SourceInfo, Step};
use logitfuse_engine::{Decoder, Role};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource};
use logitfuse_text::Tokenizer;

use crate::{
    libraries::bundled,
    plugin_parity::{both, calibrate, reports},
    support::{model, runtime},
};

const TOKENS: usize = 16;
/// What each role of up to five goes on from.
const PROMPTS: [&str; 5] = [
    "Question: Why is the sky blue?\nAnswer:",
    "You are a physicist who explains with care.\nQuestion: Why is the sky blue?\nAnswer:",
    "You are a poet.\nQuestion: Why is the sky blue?\nAnswer:",
    "Here are some words.\nAnswer:",
    "The",
];

/// A model that many engines use, one after another: loading it takes longer than what is generated with it.
#[derive(Clone)]
struct Lent {
    info: SourceInfo,
    source: Arc<Mutex<OnnxSource>>,
}

impl Lent {
    fn open(name: &str) -> Self {
        let folder = ModelFolder::open(&model(name), None).unwrap();
        let source = OnnxSource::open(&runtime(), &folder, &OnnxOptions::default()).unwrap();
        Self { info: source.info().clone(), source: Arc::new(Mutex::new(source)) }
    }

    fn source(&self) -> MutexGuard<'_, OnnxSource> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogitSource for Lent {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SequenceId> {
        self.source().open()
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.source().fork(of)
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.source().truncate(sequence, len)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.source().close(sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.source().len(sequence)
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.source().forward(batch, out)
    }
}

#[test]
fn every_bundled_strategy_decodes_a_real_model_to_the_same_bits() {
    let models = ["smollm2-int8", "smollm2-fp32"].map(Lent::open);
    let tokenizer = Tokenizer::load(&model("smollm2-int8")).unwrap();
    let mut texts = BTreeSet::new();
    for (plugin, id, params, roles) in bundled() {
        let encode = |text: &&str| tokenizer.encode(text, false).unwrap();
        let own: Vec<_> = PROMPTS[..roles.len()].iter().map(encode).collect();
        let of_kind: Vec<_> = PROMPTS.iter().map(encode).collect();
        let decode = |strategy: Arc<dyn FusionStrategy>| {
            // Experts are played by the second model, all others by the first.
            let bindings = roles.iter().map(|role| Role::new(*role, usize::from(*role == "expert")));
            let needed = if roles.contains(&"expert") { &models[..] } else { &models[..1] };
            let mut engine = Decoder::builder(strategy).roles(bindings).prefix_cache_bytes(0);
            for model in needed {
                engine = engine.source(Box::new(model.clone()));
            }
            let mut engine = engine.build().unwrap();
            calibrate(&mut engine, &of_kind);
            // A strategy that is shown every position of the prompt needs one and the same in all roles.
            let one = engine.strategy().info().prompt == PromptReading::Rows;
            let prompts = if one { vec![own[0].clone(); own.len()] } else { own.clone() };
            reports(&mut engine, prompts, TOKENS)
        };
        let (built_in, loaded) = both(plugin, id, &params);
        let columns = built_in.info().trace.len();
        let expected = decode(built_in);
        assert_eq!(expected.len(), TOKENS, "{id} {params}");
        assert!(expected.iter().all(|(_, _, trace)| trace.len() == columns), "{id} {params}");
        assert!(expected == decode(loaded), "{id} {params}");
        texts.insert(expected.iter().map(|(token, ..)| *token).collect::<Vec<_>>());
    }
    // Strategies that did nothing would all say the same.
    assert!(texts.len() > 4, "only {} different texts", texts.len());
}
