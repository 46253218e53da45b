//! Laws that hold for any texts and scores.

use logitfuse_metrics::{
    exact_match::{ExactMatch, ExactMatchConfig},
    gap::{GapScores, PgrScores, gap_closed, performance_gap_recovered},
    pattern::{Pattern, escape},
    question_answering::Normalisation,
    rouge::Rouge,
    statistics::{Bootstrap, McNemar, Summary, holm, wilson},
    translation::{Bleu, Chrf},
};
use proptest::{collection::vec, prelude::*};

const FEW: Bootstrap = Bootstrap { draws: 50, confidence: 0.9, seed: 1 };

fn scores(n: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(-3..=3_i8, n).prop_map(|scores| scores.into_iter().map(f64::from).collect())
}

fn three() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, Vec<f64>)> {
    (2..12_usize).prop_flat_map(|n| (scores(n), scores(n), scores(n)))
}

proptest! {
    #[test]
    fn no_pattern_panics(pattern in r"([\\()\[\]{}^$|?*+.abP<>=!:#,0-9-]|\PC){0,20}", text in r"[ab0\n]{0,12}") {
        if let Ok(pattern) = Pattern::new(&pattern) {
            for found in pattern.find_all(&text).unwrap_or_default() {
                prop_assert_eq!(found.groups.len(), pattern.groups());
            }
        }
    }

    #[test]
    fn an_escaped_text_matches_itself(text in r"(\PC|[\n\r\t\x{b}\x{c}\x{1c}\x{85}]){1,12}") {
        let found = Pattern::new(&format!(r"\A{}\Z", escape(&text))).unwrap();
        prop_assert_eq!(found.find_all(&text).unwrap().len(), 1);
        prop_assert_eq!(found.remove(&text).unwrap(), "");
    }

    #[test]
    fn a_text_matches_itself(text in r"\PC{0,20}", case: bool, punctuation: bool, numbers: bool) {
        let config = ExactMatchConfig {
            ignore_case: case, ignore_punctuation: punctuation, ignore_numbers: numbers, regexes_to_ignore: vec![r"\s".into()],
        };
        prop_assert!(ExactMatch::new(&config).unwrap().matches(&text, &text).unwrap());
        for normalisation in [Normalisation::Squad, Normalisation::TriviaQa] {
            prop_assert!(normalisation.exact_match(&text, &[&text]));
        }
        prop_assert!((Normalisation::Squad.f1(&text, &[&text]) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn turning_the_texts_round_swaps_precision_and_recall(a in "[a-c \n]{0,30}", b in "[a-c \n]{0,30}") {
        let (one, other) = (Rouge { stem: true }.score(&a, &b), Rouge { stem: true }.score(&b, &a));
        for (one, other) in [(one.rouge_1, other.rouge_1), (one.rouge_2, other.rouge_2), (one.rouge_l, other.rouge_l)] {
            prop_assert_eq!((one.precision, one.recall), (other.recall, other.precision));
        }
        prop_assert!(one.rouge_1.recall >= one.rouge_l.recall, "a subsequence is made of words");
        prop_assert!(one.rouge_lsum.recall <= one.rouge_1.recall);
    }

    #[test]
    fn translations_are_scored_from_0_to_100(segments in vec(("[a-c. ]{0,20}", "[a-c. ]{0,20}"), 1..4)) {
        let (mut bleu, mut perfect, mut chrf) = (Bleu::default(), Chrf::plus_plus(), Chrf::default());
        for (prediction, reference) in &segments {
            bleu.add(prediction, &[reference]);
            chrf.add(prediction, &[reference]);
            perfect.add(prediction, &[prediction]);
        }
        prop_assert!((0.0..=100.0 + 1e-9).contains(&bleu.score()) && (0.0..=100.0 + 1e-9).contains(&chrf.score()));
        let any = segments.iter().any(|(prediction, _)| !prediction.trim().is_empty());
        let expected = if any { 100.0 } else { 0.0 };
        prop_assert!((perfect.score() - expected).abs() < 1e-9);
    }

    #[test]
    fn every_score_its_own_cluster_is_no_cluster(scores in (2..12_usize).prop_flat_map(scores)) {
        let clusters: Vec<usize> = (0..scores.len()).collect();
        let (plain, clustered) = (Summary::of(&scores).unwrap(), Summary::clustered(&scores, &clusters).unwrap().unwrap());
        prop_assert_eq!(plain.mean.to_bits(), clustered.mean.to_bits());
        prop_assert!((plain.stderr.unwrap() - clustered.stderr.unwrap()).abs() < 1e-12);
    }

    #[test]
    fn wilson_holds_the_accuracy_and_mirrors((n, successes) in (1..500_usize).prop_flat_map(|n| (Just(n), 0..=n)), confidence in 0.01..0.999) {
        let interval = wilson(successes, n, confidence).unwrap().unwrap();
        prop_assert!(interval.contains(successes as f64 / n as f64) && interval.low >= 0.0 && interval.high <= 1.0);
        let mirrored = wilson(n - successes, n, confidence).unwrap().unwrap();
        prop_assert!((mirrored.low - (1.0 - interval.high)).abs() < 1e-12);
    }

    #[test]
    fn mcnemar_does_not_care_which_is_first(a in 0..2000_usize, b in 0..2000_usize) {
        let (one, other) = (McNemar::of_counts(a, b).p_value, McNemar::of_counts(b, a).p_value);
        prop_assert_eq!(one.to_bits(), other.to_bits());
        prop_assert!((0.0..=1.0).contains(&one));
        prop_assert!(McNemar::of_counts(a + b + 1, 0).p_value <= one);
    }

    #[test]
    fn holm_keeps_the_order_and_never_helps(p_values in vec(0.0..=1.0, 0..10)) {
        let adjusted = holm(&p_values).unwrap();
        for (p, a) in p_values.iter().zip(&adjusted) {
            prop_assert!(a >= p && *a <= 1.0);
            for (q, b) in p_values.iter().zip(&adjusted) {
                prop_assert!(p > q || a <= b);
            }
        }
    }

    #[test]
    fn a_gap_is_closed_by_the_ceiling_and_not_by_the_floor((base, tuned, other) in three()) {
        let all = gap_closed(GapScores { fused: &tuned, base: &base, tuned: &tuned }, &FEW).unwrap();
        let none = gap_closed(GapScores { fused: &base, base: &base, tuned: &tuned }, &FEW).unwrap();
        prop_assert_eq!(all.recovered.is_none(), all.gap.interval.contains(0.0));
        if let (Some(all), Some(none)) = (all.recovered, none.recovered) {
            prop_assert_eq!((all.value, none.value), (1.0, 0.0));
            prop_assert_eq!((all.interval.low, all.interval.high), (1.0, 1.0));
        }
        let pgr = performance_gap_recovered(PgrScores { fused: &other, weak: &base, ceiling: &tuned }, &FEW).unwrap();
        let gap = gap_closed(GapScores { fused: &other, base: &base, tuned: &tuned }, &FEW).unwrap();
        prop_assert_eq!(pgr, gap);
    }

    #[test]
    fn a_gap_does_not_depend_on_the_unit((base, tuned, fused) in three()) {
        // Powers of two and small integers: exact in f64.
        let shifted = |scores: &[f64]| scores.iter().map(|score| 4.0 * score + 8.0).collect::<Vec<_>>();
        let one = gap_closed(GapScores { fused: &fused, base: &base, tuned: &tuned }, &FEW).unwrap();
        let (fused, base, tuned) = (shifted(&fused), shifted(&base), shifted(&tuned));
        let other = gap_closed(GapScores { fused: &fused, base: &base, tuned: &tuned }, &FEW).unwrap();
        prop_assert_eq!(one.recovered, other.recovered);
    }

    #[test]
    fn systems_that_answer_alike_do_not_differ(scores in (1..12_usize).prop_flat_map(scores), seed: u64) {
        let difference = Bootstrap { seed, ..FEW }.difference(&scores, &scores).unwrap();
        prop_assert_eq!((difference.value, difference.interval.low, difference.interval.high), (0.0, 0.0, 0.0));
    }
}

#[test]
fn what_cannot_be_computed_is_an_error_or_nothing() {
    let bootstrap = Bootstrap::default();
    assert!(Summary::of(&[]).is_none() && Summary::of(&[1.0]).unwrap().stderr.is_none());
    assert!(Summary::clustered(&[1.0, 2.0], &[0]).is_err());
    assert!(Summary::clustered(&[1.0, 2.0], &[0, 0]).unwrap().unwrap().stderr.is_none());
    assert!(bootstrap.mean(&[]).is_err() && bootstrap.mean(&[1.0, f64::NAN]).is_err());
    assert!(bootstrap.difference(&[1.0], &[1.0, 2.0]).is_err());
    assert!(Bootstrap { draws: 0, ..bootstrap }.mean(&[1.0]).is_err());
    assert!(Bootstrap { confidence: 1.0, ..bootstrap }.mean(&[1.0]).is_err());
    assert_eq!(bootstrap.interval(3, |_| f64::NAN).unwrap(), None);
    assert!(wilson(1, 0, 0.95).is_err() && wilson(0, 0, 0.95).unwrap().is_none() && wilson(0, 1, f64::NAN).is_err());
    assert!(holm(&[0.1, f64::NAN]).is_err() && McNemar::new(&[true], &[]).is_err());
    let one = GapScores { fused: &[1.0], base: &[0.0], tuned: &[1.0] };
    assert_eq!(gap_closed(one, &bootstrap).unwrap().recovered, None, "one item has no interval");
    assert!(gap_closed(GapScores { fused: &[f64::INFINITY], ..one }, &bootstrap).is_err());
    assert!(gap_closed(GapScores { fused: &[], ..one }, &bootstrap).is_err());
}
