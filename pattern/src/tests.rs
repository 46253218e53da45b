use super::*;

fn all(pattern: &str, text: &str) -> Vec<String> {
    let found = Pattern::new(pattern).unwrap().find_all(text).unwrap();
    found.into_iter().map(|m| m.groups.first().copied().unwrap_or(m.whole).to_owned()).collect()
}

#[test]
fn empty_matches_go_on_as_in_python() {
    assert_eq!(all("a*", "baac"), ["", "aa", "", ""]);
    assert_eq!(all("|a", "aa"), ["", "a", "", "a", ""]);
    assert_eq!(all("(?=(ab|b))", "ab"), ["ab", "b"]);
    assert_eq!(Pattern::new(r"\s*").unwrap().remove(" a b ").unwrap(), "ab");
}

#[test]
fn anchors_are_pythons() {
    assert_eq!(all("x$", "x\nx\n"), ["x"]);
    assert_eq!(all("(?m)^.$", "x\ny\n"), ["x", "y"]);
    assert_eq!(all(r"\Ax\Z", "x\n"), [""; 0]);
    assert_eq!(all(r"\B", ""), [""; 0]);
    assert_eq!(all(r"\b\w+\b", "कि naïve"), ["क", "naïve"]);
}

#[test]
fn case_is_ignored_as_in_python() {
    assert_eq!(all("(?i)i", "iIİı"), ["i", "I", "İ", "ı"]);
    assert_eq!(all("(?i)[k-s]", "K\u{17f}\u{212a}"), ["K", "\u{17f}", "\u{212a}"]);
    assert_eq!(all("(?ai)k", "kK\u{212a}"), ["k", "K"]);
    assert_eq!(all("(?i:a)b", "Ab AB"), ["Ab"]);
    assert_eq!(all("(?i)[^a]", "Aab"), ["b"]);
}

#[test]
fn every_kind_of_group_works() {
    assert_eq!(all(r"(?P<q>['\x22])(?P<t>.*?)(?P=q)", "'a' \"b\""), ["'", "\""]);
    assert_eq!(all(r"(<)?a(?(1)>|!)", "<a> a! a>"), ["<", ""]);
    assert_eq!(all("(?>a+)ab|a++c", "aaab aac"), ["aac"]);
    assert_eq!(all(r"(?<=The answer is )(.*)(?=.)", "The answer is 42."), ["42"]);
    assert_eq!(all("(?x) a  # a comment\n [ b]", "ab a "), ["ab", "a "]);
    assert_eq!(all(r"x{,2}y{}z{1", "xxy{}z{1"), ["xxy{}z{1"]);
    assert_eq!(all(r"[]\-a\d]+", "]-a7b"), ["]-a7"]);
    assert_eq!(all(r"\101\x42\u0043\0", "ABC\0"), ["ABC\0"]);
}

#[test]
fn a_condition_goes_back_to_how_its_group_came_about() {
    let whole = |pattern: &str, text: &str| {
        Pattern::new(pattern).unwrap().find_all(text).unwrap().iter().map(|m| m.whole.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(whole("(?:(a)|a)(?(1)b|c)", "ab ac"), ["ab", "ac"]);
    assert_eq!(whole("()?(?(1)a|b)", "ab"), ["a", "b"]);
    assert_eq!(whole("()??(?(1)a|b)", "ab"), ["a", "b"]);
}

#[test]
fn what_python_refuses_is_refused() {
    for pattern in [
        "(",
        ")",
        "a)",
        "*a",
        "a**",
        "a+*",
        "^*",
        "(|*)",
        "[a",
        "[z-a]",
        r"[\d-z]",
        r"\y",
        r"\",
        r"\1",
        r"(a\1)",
        "(?<=a*)b",
        "(?<=(a)\\1)",
        "(?<n>a)",
        "(?P<1>a)",
        "(?P<n>a)(?P<n>b)",
        "(?P=n)",
        "(?P>n)",
        "a(?i)",
        "(?i-m)",
        "(?L)a",
        "(?au)a",
        "(?-a:b)",
        "(?i-i:b)",
        "(?)",
        "(?-:a)",
        "(?z)",
        "(?(1)a|b|c)",
        "(?(1)a)",
        "(?(0)a)",
        "(?#",
        "a{2,1}",
        r"\x4",
        r"\ud800",
        r"\400",
        "(?(x)a)",
        "a{99999999999999999999}",
    ] {
        let error = Pattern::new(pattern).expect_err(pattern);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("at character "), "{error}");
    }
}

#[test]
fn what_is_not_supported_says_so() {
    assert!(Pattern::new(r"\N{BULLET}").unwrap_err().to_string().contains("not supported"));
    assert!(Pattern::new(&"(".repeat(10_000)).unwrap_err().to_string().contains("inside one another"));
    assert!(Pattern::new("(?:[\\w\\W]{1000}){1000}").unwrap_err().to_string().contains("cannot be compiled"));
}

#[test]
fn a_search_without_end_is_an_error() {
    let error = Pattern::new(r"(a+)+\1b").unwrap().find_all(&"a".repeat(60)).unwrap_err();
    assert!(error.to_string().contains("did not come to an end"), "{error}");
}
