//! Metrics of a prediction and its references.

use logitfuse_metrics::{
    exact_match::ExactMatch,
    multiple_choice::Item,
    perplexity::word_count,
    porter::stem,
    question_answering::Normalisation,
    rouge::{Rouge, RougeScores, Score},
};

use crate::{Comparison, bits, index, indices, numbers, pairs, rows, strings, texts};

#[test]
fn exact_match_is_lm_evals() {
    let (texts, pairs, rows) = (texts(), pairs(), rows("exact_match"));
    let several: Vec<Vec<usize>> = rows[0]["several"].as_array().unwrap().iter().map(indices).collect();
    let mut comparison = Comparison::default();
    for row in &rows[1..] {
        let exact_match = ExactMatch::new(&serde_json::from_value(row["config"].clone()).unwrap()).unwrap();
        for ((i, j), theirs) in pairs.iter().zip(bits(&row["one"])) {
            let ours = exact_match.matches(&texts[*i], &texts[*j]).unwrap();
            comparison.check(&(&row["config"], &texts[*i], &texts[*j]), ours, theirs);
        }
        for (((i, _), js), theirs) in pairs.iter().zip(&several).zip(bits(&row["any"])) {
            let references: Vec<_> = js.iter().map(|j| &texts[*j]).collect();
            let ours = exact_match.matches_any(&texts[*i], &references).unwrap();
            comparison.check(&(&row["config"], &texts[*i], &references), ours, theirs);
        }
    }
    comparison.finish(9 * 2 * 600);
}

#[test]
fn question_answering_is_that_of_the_scripts() {
    let (texts, pairs, rows) = (texts(), pairs(), rows("question_answering"));
    let mut comparison = Comparison::default();
    for (normalisation, theirs) in
        [(Normalisation::Squad, &rows[0]["squad"]), (Normalisation::TriviaQa, &rows[1]["triviaqa"])]
    {
        for ((i, j), (f1, exact)) in pairs.iter().zip(numbers(&theirs["f1"]).into_iter().zip(bits(&theirs["exact"]))) {
            let what = (normalisation, &texts[*i], &texts[*j]);
            comparison.close(&what, normalisation.f1(&texts[*i], &[&texts[*j]]), f1, 1e-15);
            comparison.check(&what, normalisation.exact_match(&texts[*i], &[&texts[*j]]), exact);
        }
    }
    for (text, theirs) in texts.iter().zip(rows[2]["normalised"].as_array().unwrap()) {
        let ours = [Normalisation::Squad, Normalisation::TriviaQa].map(|how| how.normalise(text));
        comparison.check(&text, ours.to_vec(), strings(theirs));
    }
    comparison.finish(4 * 600);
}

#[test]
fn stems_are_nltks() {
    let mut comparison = Comparison::default();
    for row in rows("porter") {
        let (word, theirs) = if let Some(line) = row.as_str() {
            let mut parts = line.split(' ');
            let word = parts.next().unwrap();
            let kept: String = word.chars().take(parts.next().unwrap().parse().unwrap()).collect();
            (word.to_owned(), kept + parts.next().unwrap_or_default())
        } else {
            let pair = strings(&row);
            (pair[0].clone(), pair[1].clone())
        };
        comparison.check(&word, stem(&word), theirs);
    }
    comparison.finish(3000);
}

#[test]
fn rouge_is_googles() {
    let (texts, all) = (texts(), pairs());
    let rows = rows("rouge");
    let (single, several): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_array());
    let mut comparison = Comparison::default();
    let used = &all[all.len() - single.len()..];
    for (n, ((i, j), theirs)) in used.iter().zip(&single).enumerate() {
        let (k, l) = all[(n * 7 + 3) % all.len()];
        let (reference, prediction) = if n % 2 == 1 {
            (texts[*i].clone(), texts[*j].clone())
        } else {
            (format!("{}\n{}", texts[*i], texts[k]), format!("{}\n{}", texts[l], texts[*j]))
        };
        let plain = kinds(&Rouge { stem: false }.score(&reference, &prediction));
        let stemmed = kinds(&Rouge { stem: true }.score(&reference, &prediction));
        let ours = plain.iter().map(|score| score.fmeasure).chain(stemmed.iter().flat_map(flat));
        for (ours, theirs) in ours.zip(numbers(theirs)) {
            comparison.close(&(&reference, &prediction), ours, theirs, 1e-8);
        }
    }
    for row in several {
        let (i, j) = (index(&row["multi"][0]), index(&row["multi"][1]));
        let before = |i: usize| &texts[(i + texts.len() - 1) % texts.len()];
        let references = [&texts[j], before(i), before(j)];
        let ours = kinds(&Rouge { stem: true }.score_multi(&references, &texts[i]));
        for (ours, theirs) in ours.iter().flat_map(flat).zip(numbers(&row["scores"])) {
            comparison.close(&(&references, &texts[i]), ours, theirs, 1e-8);
        }
    }
    comparison.finish(16 * 500);
}

fn kinds(scores: &RougeScores) -> [Score; 4] {
    [scores.rouge_1, scores.rouge_2, scores.rouge_l, scores.rouge_lsum]
}

fn flat(score: &Score) -> [f64; 3] {
    [score.precision, score.recall, score.fmeasure]
}

#[test]
fn multiple_choice_is_lm_evals() {
    let texts = texts();
    let mut comparison = Comparison::default();
    for row in rows("multiple_choice") {
        let choices: Vec<&str> = indices(&row[0]).into_iter().map(|i| texts[i].as_str()).collect();
        let unconditional = row[2].is_array().then(|| numbers(&row[2]));
        let item = Item {
            choices: &choices,
            log_likelihoods: &numbers(&row[1]),
            unconditional: unconditional.as_deref(),
            gold: &indices(&row[3]),
        };
        let ours = item.accuracies();
        let mut all = vec![ours.acc, ours.acc_norm, ours.acc_bytes];
        all.extend(ours.acc_mutual_info);
        comparison.check(&row, all, bits(&row[4]));
    }
    comparison.finish(500);
}

#[test]
fn words_are_counted_as_lm_eval_counts_them() {
    let mut comparison = Comparison::default();
    for (text, theirs) in texts().iter().zip(indices(&rows("perplexity")[0]["words"])) {
        comparison.check(&text, word_count(text), theirs);
    }
    comparison.finish(600);
}
