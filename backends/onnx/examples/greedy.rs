//! Greedy decoding with nothing but this crate: token ids in, token ids and milliseconds out.
//!
//! ```text
//! LOGITFUSE_ORT_LIB=…/libonnxruntime.so.1.32.0 \
//!     cargo run --release -p logitfuse-onnx --example greedy -- models/smollm2-135m-int8 64 504,3575,282,4649,314
//! ```
//!
//! Optional arguments after the ids: threads, and a variant of the folder.

use std::{env, path::Path, time::Instant};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, Step, TokenId};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime};

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, count, prompt, rest @ ..] = &arguments[..] else {
        return Err(Error::new(ErrorKind::InvalidConfig, "usage: greedy FOLDER COUNT ID,ID,… [THREADS [VARIANT]]"));
    };
    let number = |text: &str| {
        text.trim().parse::<u32>().map_err(|e| Error::new(ErrorKind::InvalidConfig, format!("`{text}`: {e}")))
    };
    let prompt = prompt.split(',').map(number).collect::<Result<Vec<TokenId>>>()?;
    let count = number(count)? as usize;
    let threads = rest.first().map_or(Ok(0), |text| number(text))? as usize;
    let library = env::var("LOGITFUSE_ORT_LIB").unwrap_or_else(|_| "libonnxruntime.so".into());

    let runtime = Runtime::load(library.as_ref())?;
    let folder = ModelFolder::open(Path::new(folder), rest.get(1).map(String::as_str))?;
    let mut model = OnnxSource::open(&runtime, &folder, &OnnxOptions { threads, ..OnnxOptions::default() })?;
    let report = model.report();
    println!("{} on {}, cache {}: {}", report.onnx.display(), report.provider, report.kv, report.kv_reason);

    let mut rows = Rows::new();
    let sequence = model.open()?;
    model.reserve(sequence, prompt.len() + count)?;
    let start = Instant::now();
    model.forward(&[Step { sequence, tokens: &prompt, rows: 1 }], &mut rows)?;
    let prefill = start.elapsed().as_secs_f64() * 1e3;

    let mut tokens = vec![most_probable_token(rows.row(0))];
    let mut steps = Vec::new();
    while tokens.len() < count {
        let last = tokens[tokens.len() - 1];
        let start = Instant::now();
        model.forward(&[Step { sequence, tokens: &[last], rows: 1 }], &mut rows)?;
        steps.push(start.elapsed().as_secs_f64() * 1e3);
        tokens.push(most_probable_token(rows.row(0)));
    }
    steps.sort_by(f64::total_cmp);
    println!("{tokens:?}");
    if let Some(median) = steps.get(steps.len() / 2) {
        println!("prompt of {} tokens: {prefill:.1} ms; then {median:.2} ms/token (median)", prompt.len());
    }
    Ok(())
}

/// The most probable token; of several the first.
fn most_probable_token(row: &[f32]) -> TokenId {
    let best =
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (id, &x)| if x > best.1 { (id, x) } else { best });
    TokenId::try_from(best.0).unwrap_or_default()
}
