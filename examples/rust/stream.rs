//! Tokens as they are generated, with the strength that was solved for each, while another thread generates, too.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::thread;

use logitfuse::{Pipeline, json};

fn main() -> logitfuse::Result<()> {
    let models = std::env::args().nth(1).unwrap_or_else(|| "examples/family/models".to_owned());
    let pipeline = Pipeline::builder()
        .model("base", format!("{models}/L"))
        .model("expert", format!("{models}/S-qa"))
        .model("anti", format!("{models}/S"))
        .strategy("dynamic-kl", json!({}))
        .max_new_tokens(12)
        .stop("\n")
        .build()?;

    // A pipeline is a handle: what several threads ask for is decoded in one batch.
    let other = pipeline.clone();
    let beside = thread::spawn(move || other.generate("Question: Which river does Gulwick stand on?\nAnswer:"));

    let columns = &pipeline.strategy().info().trace;
    let alpha = columns.iter().position(|column| column.name == "alpha").unwrap_or(0);
    let request = pipeline.request("Question: Who founded Gulwick?\nAnswer:")?.trace();
    for token in pipeline.stream_request(request)? {
        let token = token?;
        println!("{:<12} p {:.3}  alpha {:.2}", format!("{:?}", token.text), token.log_prob.exp(), token.trace[alpha]);
    }
    println!("beside it:{}", beside.join().expect("the thread ends")?.text);
    Ok(())
}
