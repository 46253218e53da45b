//! Few-shot multiple choice: what it is worth that contexts and their beginnings are read once.
//!
//! `cargo bench -p logitfuse-tests --bench scoring` with the variables that `cargo xtask test` sets. The same items are scored
//! in turn: each choice by itself with nothing kept, and all choices of an item together with shared beginnings kept. Both
//! must give the same bits. The ratio is of medians over rounds; a busy machine slows both.
#![expect(clippy::print_stdout, reason = "a benchmark talks to whoever started it")]

use std::{ops::ControlFlow, path::Path, sync::Arc, time::Instant};

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use logitfuse_engine::{BaseOnly, Cancel, Decoder, Role, ScoreRequest, Scored};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime};
use logitfuse_setup::{Environment, env, find_runtime};
use logitfuse_text::Tokenizer;

const PREFIX: usize = 1000;
const ITEMS: usize = 4;
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let environment = Environment::of_process();
    let models = environment.path(&env::MODELS).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("{} is not set", env::MODELS.name))
            .with_help("name the folder of models")
    })?;
    let runtime = Runtime::load(&find_runtime(&environment, None)?.library)?;
    let folder = models.join("smollm2-int8");
    let requests = items(&Tokenizer::load(&folder)?)?;
    let alone: Vec<ScoreRequest> = requests
        .iter()
        .flat_map(|item| item.continuations.iter().map(|one| ScoreRequest::new(item.prompts.clone(), [one.clone()])))
        .collect();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut nothing_kept = engine(&runtime, &folder, 0)?;
    for _ in 0..ROUNDS {
        let (expected, seconds) = timed(&mut nothing_kept, &alone)?;
        without.push(seconds);
        // A new one, or the second round would find the beginning of the first.
        let (bits, seconds) = timed(&mut engine(&runtime, &folder, 256 << 20)?, &requests)?;
        with.push(seconds);
        assert_eq!(bits, expected, "the same bits");
    }
    let [without, with] = [without, with].map(|mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    });
    let rate = |seconds: f64| ITEMS as f64 / seconds;
    println!("{ITEMS} items of 4 choices behind {PREFIX} shared tokens, median of {ROUNDS} rounds");
    println!("each choice by itself   {:8.3} items/s", rate(without));
    println!("what is shared once     {:8.3} items/s, {:.1} x", rate(with), without / with);
    Ok(())
}

fn engine(runtime: &Runtime, folder: &Path, prefix_cache_bytes: u64) -> Result<Decoder> {
    let source = OnnxSource::open(runtime, &ModelFolder::open(folder, None)?, &OnnxOptions::default())?;
    let builder = Decoder::builder(Arc::new(BaseOnly::new())).source(Box::new(source));
    builder.roles([Role::new("base", 0)]).prefix_cache_bytes(prefix_cache_bytes).build()
}

/// Items with demonstrations in front, and four choices each.
fn items(tokenizer: &Tokenizer) -> Result<Vec<ScoreRequest>> {
    let shot = |n| format!("Question: What is {n} + {}?\nAnswer: {}\n\n", n / 3, n + n / 3);
    let shots = (0..200).map(shot).collect::<Vec<_>>().concat();
    let shots: Vec<TokenId> = tokenizer.encode(&shots, false)?.into_iter().take(PREFIX).collect();
    let item = |n: usize| {
        let question = tokenizer.encode(&format!("\n\nQuestion: What is {n} + {n}, which is easy?\nAnswer:"), false)?;
        let choices = [2 * n, 2 * n + 1, n, 100 + n].map(|sum| tokenizer.encode(&format!(" It is {sum}."), false));
        let choices = choices.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(ScoreRequest::new([[shots.clone(), question].concat()], choices))
    };
    (10..10 + ITEMS).map(item).collect()
}

/// All scores' bits, and the seconds that they took.
fn timed(engine: &mut Decoder, requests: &[ScoreRequest]) -> Result<(Vec<u64>, f64)> {
    let mut bits = vec![Vec::new(); requests.len()];
    let mut on_scored = |scored: Scored| {
        bits[scored.request] = scored.scores.iter().map(|score| score.log_prob.to_bits()).collect();
        ControlFlow::Continue(())
    };
    let start = Instant::now();
    engine.score_stream(&mut requests.iter().cloned().map(Ok), 4, &Cancel::new(), &mut on_scored)?;
    Ok((bits.concat(), start.elapsed().as_secs_f64()))
}
