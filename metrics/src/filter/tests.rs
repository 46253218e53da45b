use serde_json::json;

use super::*;

fn pipeline(filters: &serde_json::Value) -> Result<FilterPipeline> {
    FilterPipeline::from_json(&json!({ "name": "test", "filter": filters }))
}

fn one(filters: &serde_json::Value, response: &str) -> Option<String> {
    pipeline(filters).unwrap().apply(&[response.to_owned()], &[]).unwrap().first().map(str::to_owned)
}

#[test]
fn the_last_number_is_found() {
    let flexible = json!([
        { "function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)" },
        { "function": "take_first" },
    ]);
    assert_eq!(one(&flexible, "It is 3, or 14.").as_deref(), Some("14."));
    assert_eq!(one(&flexible, "nothing").as_deref(), Some("[invalid]"));
}

#[test]
fn a_group_select_beyond_the_matches_falls_back() {
    for select in [5, -5, i64::MIN, i64::MAX] {
        let filter = json!([{ "function": "regex", "group_select": select, "regex_pattern": "[0-9]" }]);
        assert_eq!(one(&filter, "1 2").as_deref(), Some("[invalid]"));
    }
}

#[test]
fn the_earliest_wins_a_tied_vote() {
    let vote = pipeline(&json!([{ "function": "majority_vote" }])).unwrap();
    let responses = ["b", "a", "c", "a", "b"].map(str::to_owned);
    assert_eq!(vote.apply(&responses, &[]).unwrap(), Filtered::Many(vec![Some("b".to_owned())]));
    assert!(vote.apply(&[], &[]).is_err());
}

#[test]
fn maps_give_text_or_none() {
    let map = |default: serde_json::Value| {
        let mut filter = json!({ "function": "map", "mapping_dict": { "A": 0, "B": "one" } });
        if !default.is_null() {
            filter["default_value"] = default;
        }
        json!([filter, { "function": "lowercase" }, { "function": "take_first" }])
    };
    assert_eq!(one(&map(json!(-1)), "A").as_deref(), Some("0"));
    assert_eq!(one(&map(json!(-1)), "C").as_deref(), Some("-1"));
    assert_eq!(one(&map(json!(null)), "B").as_deref(), Some("one"));
    assert_eq!(one(&map(json!(null)), "C"), None);
}

#[test]
fn wrong_pipelines_point_at_the_key() {
    let cases = [
        (json!([{ "function": "take_first" }, { "function": "lowercase" }]), "/filter/0: "),
        (
            json!([{ "function": "lowercase" }, { "function": "regex", "regex_pattern": "(" }]),
            "/filter/1/regex_pattern: ",
        ),
        (json!([{ "function": "take_first_k", "k": 0 }]), "/filter/0/k: "),
        (json!([{ "function": "custom", "filter_fn": "f" }]), "/filter/0/function: "),
        (json!([{ "function": "lower" }]), "/filter/0/function: unknown variant `lower`"),
        (json!([{ "function": "lowercase", "k": 1 }]), "/filter/0: unknown field `k`"),
        (json!([{ "function": "regex", "regex": "a" }]), "/filter/0: unknown field `regex`"),
        (
            json!([{ "function": "multi_choice_regex", "regexes_to_ignore": ["a", "["] }]),
            "/filter/0/regexes_to_ignore/1: ",
        ),
    ];
    for (filters, message) in cases {
        let error = pipeline(&filters).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

#[test]
fn more_choices_than_letters_and_fewer_responses_than_k_are_errors() {
    let letters = pipeline(&json!([{ "function": "multi_choice_regex" }])).unwrap();
    let choices: Vec<String> = (0..27).map(|i| format!("choice {i}")).collect();
    assert!(letters.apply(&["x".to_owned()], &choices[..26]).is_ok());
    assert!(letters.apply(&["x".to_owned()], &choices).unwrap_err().to_string().contains("26 letters"));
    let first = pipeline(&json!([{ "function": "take_first_k", "k": 2 }])).unwrap();
    assert!(first.apply(&["x".to_owned()], &[]).unwrap_err().to_string().contains("wants 2 responses"));
}

#[test]
fn configurations_survive_a_round_trip() {
    let json = json!({ "name": "n", "filter": [
        { "function": "regex", "regex_pattern": "a", "group_select": -1, "fallback": "" },
        { "function": "map", "mapping_dict": { "a": 1 }, "default_value": "b" },
        { "function": "take_first" },
    ]});
    let config: PipelineConfig = logitfuse_core::params::parse(&json).unwrap();
    assert_eq!(serde_json::to_value(config).unwrap(), json);
}
