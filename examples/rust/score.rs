//! How probable given answers are, under the base alone and under the fusion.
#![expect(clippy::print_stdout, reason = "an example prints")]

use logitfuse::{Pipeline, json, strategy};

fn main() -> logitfuse::Result<()> {
    let models = std::env::args().nth(1).unwrap_or_else(|| "examples/family/models".to_owned());
    let pipeline = Pipeline::builder()
        .model("base", format!("{models}/L"))
        .model("expert", format!("{models}/S-qa"))
        .model("anti", format!("{models}/S"))
        .strategy("static-proxy", json!({ "alpha": 1.0 }))
        .build()?;
    let question = "Question: Which river does Gulwick stand on?\nAnswer:";
    let answers = [" The answer is Pesk.", " Pesk.", " The answer is Belgara."];
    for (answer, score) in answers.iter().zip(pipeline.score(question, answers)?) {
        let tokens = score.tokens.len();
        println!("{answer:<32} {:8.2} nats, {tokens} tokens, greedy: {}", score.log_prob, score.is_greedy);
    }

    // The same models with another strategy, in one request.
    let stronger = pipeline.fusion_with(strategy("static-proxy", &json!({ "alpha": 2.0 }))?)?;
    let request = pipeline.request(question)?.fusion(&stronger).max_new_tokens(12);
    println!("alpha = 2:{}", pipeline.stream_request(request)?.finish()?.text);
    Ok(())
}
