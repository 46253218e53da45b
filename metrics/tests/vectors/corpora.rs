//! Metrics of whole corpora.

use logitfuse_metrics::{
    perplexity::{Corpus, perplexity},
    translation::{Bleu, Chrf},
};

use crate::{Comparison, index, indices, numbers, rows, texts};

#[test]
fn bleu_and_chrf_are_sacrebleus() {
    let texts = texts();
    let mut comparison = Comparison::default();
    for row in rows("translation") {
        let (mut bleu, mut chrf, mut chrf_plus_plus) = (Bleu::default(), Chrf::default(), Chrf::plus_plus());
        for segment in row["segments"].as_array().unwrap() {
            let segment: Vec<&String> = indices(segment).into_iter().map(|i| &texts[i]).collect();
            bleu.add(segment[0], &segment[1..]);
            chrf.add(segment[0], &segment[1..]);
            chrf_plus_plus.add(segment[0], &segment[1..]);
        }
        let ours = [bleu.score(), chrf.score(), chrf_plus_plus.score()];
        for (ours, theirs) in ours.into_iter().zip(numbers(&row["scores"])) {
            comparison.close(&row["segments"], ours, theirs, 1e-8);
        }
    }
    comparison.finish(3 * 500);
}

#[test]
fn perplexities_are_lm_evals() {
    let (texts, rows) = (texts(), rows("perplexity"));
    let log_likelihoods = numbers(&rows[0]["log_likelihoods"]);
    let mut comparison = Comparison::default();
    for row in &rows[1..] {
        let part = index(&row["from"])..index(&row["to"]);
        let mut corpus = Corpus::default();
        for i in part.clone() {
            corpus.add(&texts[i], log_likelihoods[i]);
        }
        let scaled: Vec<f64> = log_likelihoods[part].iter().map(|ll| ll / 100.0).collect();
        let ours = [corpus.word_perplexity(), corpus.byte_perplexity(), corpus.bits_per_byte(), perplexity(&scaled)];
        for (ours, theirs) in ours.into_iter().zip(numbers(&row["values"])) {
            comparison.close(&row, ours, theirs, 1e-12);
        }
    }
    comparison.finish(200);
}
