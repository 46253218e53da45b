//! Proxy tuning: a base that can add but misreads, steered by an expert that reads but cannot add.
#![expect(clippy::print_stdout, reason = "an example prints")]

use logitfuse::{Pipeline, json};

fn main() -> logitfuse::Result<()> {
    let models = std::env::args().nth(1).unwrap_or_else(|| "examples/family/models".to_owned());
    let pipeline = Pipeline::builder()
        .model("base", format!("{models}/L"))
        .model("expert", format!("{models}/S-math"))
        .model("anti", format!("{models}/S"))
        .strategy("dynamic-kl", json!({}))
        .stop("\n")
        .build()?;
    let problem = "Anna has 99 cards. Anna gives away 38. Anna sells 29. Anna finds 12. How many now?";
    println!("{}", pipeline.generate(format!("Problem: {problem}\nWork:"))?.text);
    Ok(())
}
