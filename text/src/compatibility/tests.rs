use super::*;
use crate::testing::{words, words_json};

fn source<'a>(name: &'a str, tokenizer: &'a Tokenizer, logit_width: usize) -> SourceVocabulary<'a> {
    SourceVocabulary { name, tokenizer, logit_width, end_of_sequence: &[] }
}

const ABC: [(&str, TokenId); 4] = [("?", 0), ("a", 1), ("b", 2), ("c", 3)];

#[test]
fn one_vocabulary_in_logits_of_different_width() {
    let (base, expert) = (words(&ABC), words(&ABC));
    let report = compatibility(&[source("base", &base, 40), source("expert", &expert, 4)]);
    assert_eq!(report.vocabulary().unwrap(), SharedVocabulary::new(4, []));
    assert_eq!((report.shared, report.differing), (4, 0));
    assert_eq!(
        report.notes,
        ["base: 36 of 40 logit columns have no token and are masked; is this the tokenizer of this model?"]
    );
    assert_eq!(report.sources[0].fingerprint, report.sources[1].fingerprint);
}

#[test]
fn ids_that_one_source_lacks_are_masked() {
    let base = words(&[("?", 0), ("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
    let hole = words(&[("?", 0), ("a", 1), ("c", 3), ("d", 4), ("e", 5)]);
    let report = compatibility(&[source("base", &base, 6), source("hole", &hole, 6), source("base2", &base, 6)]);
    let vocabulary = report.vocabulary().unwrap();
    assert_eq!((0..7).filter(|&id| vocabulary.contains(id)).collect::<Vec<_>>(), [0, 1, 3, 4, 5]);
    assert_eq!(
        report.notes,
        [
            "base: 1 of its tokens are not defined by every source and are masked",
            "hole: 1 of 6 logit columns have no token and are masked; is this the tokenizer of this model?",
            "base2: 1 of its tokens are not defined by every source and are masked",
        ]
    );
}

#[test]
fn equal_sizes_do_not_hide_that_a_token_differs() {
    let base = words(&ABC);
    let wrong = words(&[("?", 0), ("a", 1), ("B", 2), ("c", 3)]);
    for sources in [
        vec![source("base", &base, 4), source("expert", &wrong, 4)],
        vec![source("base", &base, 4), source("anti", &base, 4), source("expert", &wrong, 4)],
    ] {
        let report = compatibility(&sources);
        assert!(!report.compatible);
        let e = report.vocabulary().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Incompatible);
        assert_eq!(e.to_string(), r#"base, expert: 1 of 4 shared token ids differ, id 2: "b" (base) / "B" (expert)"#);
        assert!(e.help().is_some());
    }
}

#[test]
fn only_the_first_differences_are_listed_and_all_are_counted() {
    let vocab: Vec<_> = (0..50).map(|id| (format!("t{id}"), id)).collect();
    let shifted: Vec<_> = (0..50).map(|id| (format!("t{}", (id + 1) % 50), id)).collect();
    let borrowed =
        |vocab: &[(String, TokenId)]| words(&vocab.iter().map(|(token, id)| (token.as_str(), *id)).collect::<Vec<_>>());
    let (base, wrong) = (borrowed(&vocab), borrowed(&shifted));
    let report = compatibility(&[source("base", &base, 50), source("wrong", &wrong, 50)]);
    assert_eq!((report.differing, report.differences.len()), (50, SHOWN));
    assert!(report.vocabulary().unwrap_err().to_string().ends_with(", …"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["differences"][0]["other"], "t1");
    assert_eq!(json["compatible"], false);
}

#[test]
fn a_difference_beyond_the_logits_does_not_matter() {
    let base = Tokenizer::from_json(&words_json(&ABC, &[("<one>", 4)])).unwrap();
    let expert = Tokenizer::from_json(&words_json(&ABC, &[("<other>", 4)])).unwrap();
    let report = compatibility(&[source("base", &base, 4), source("expert", &expert, 5)]);
    assert_eq!(report.vocabulary().unwrap().width(), 4);
    assert_eq!(report.notes[0], "base: 1 tokens beyond the 4 logit columns can never be emitted");
    assert!(!compatibility(&[source("base", &base, 5), source("expert", &expert, 5)]).compatible);
}

#[test]
fn a_tokenizer_with_more_words_than_columns_is_of_another_model() {
    let report = compatibility(&[source("base", &words(&ABC), 3)]);
    assert_eq!(
        report.vocabulary().unwrap_err().to_string(),
        "base: the tokenizer belongs to another model, 1 of its tokens lie beyond the 3 logits, the first is id 3: \"c\""
    );
}

#[test]
fn nothing_in_common_is_refused() {
    let base = words(&[("a", 0), ("b", 1)]);
    let other = words(&[("c", 7), ("d", 8)]);
    let e = compatibility(&[source("base", &base, 9), source("other", &other, 9)]).vocabulary().unwrap_err();
    assert_eq!(e.to_string(), "base, other: no token id is defined by every source");
    assert!(compatibility(&[]).vocabulary().is_err());
}

#[test]
fn ends_and_control_tokens_are_compared() {
    let base = Tokenizer::from_json(&words_json(&ABC, &[("<end>", 4), ("<turn>", 5)])).unwrap();
    let plain = words(&[("?", 0), ("a", 1), ("b", 2), ("c", 3), ("<end>", 4)]);
    let mut sources = [source("base", &base, 6), source("expert", &plain, 6)];
    sources[0].end_of_sequence = &[5, 4];
    sources[1].end_of_sequence = &[4];
    let report = compatibility(&sources);
    assert!(report.compatible);
    assert_eq!(
        report.notes,
        [
            "base: 1 of its tokens are not defined by every source and are masked",
            "base: its end-of-sequence id 5 \"<turn>\" is masked, so it can never end a text",
            "expert: 1 of 6 logit columns have no token and are masked; is this the tokenizer of this model?",
            "base, expert: texts end differently, [4, 5] / [4]",
            "base, expert: 1 tokens are control tokens in one tokenizer only, the first is id 4: \"<end>\"",
        ]
    );
}

#[test]
fn a_far_away_id_costs_no_memory() {
    let far = words(&[("a", 0), ("far", u32::MAX)]);
    let report = compatibility(&[source("base", &far, 1)]);
    assert!(!report.compatible && report.shared == 1);
}
