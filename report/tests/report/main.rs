//! What holds of a report, whatever a run says.

#[cfg(test)]
mod support;

use std::{collections::BTreeSet, fs};

use base64::{Engine, prelude::BASE64_STANDARD};
use logitfuse_core::ErrorKind;
use logitfuse_report::{Report, write};
use proptest::prelude::*;
use roxmltree::{Document, Node};
use sha2::{Digest, Sha256};
use support::{Words, report};

/// The page as the browser's parser would see it, by way of XML: void elements closed, scripts and styles taken out.
/// Whatever breaks out of its place in HTML breaks this too.
fn parse(html: &str) -> String {
    let mut page = html.strip_prefix("<!DOCTYPE html>").expect("a doctype").to_owned();
    for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
        let from = page.find(open).expect("ours") + open.len();
        let to = from + page[from..].find(close).expect("closed");
        page.replace_range(from..to, "");
    }
    let mut out = String::new();
    for part in page.split_inclusive('>') {
        let void = ["<meta ", "<link ", "<input ", "<br"]
            .iter()
            .any(|v| part.rfind('<').is_some_and(|at| part[at..].starts_with(v)));
        if void {
            out += part.strip_suffix('>').expect("split there");
            out += "/>";
        } else {
            out += part;
        }
    }
    // Attributes without a value are HTML only.
    for bare in [" checked", " open", " hidden"] {
        out = out
            .replace(&format!("{bare}>"), &format!("{bare}=\"\">"))
            .replace(&format!("{bare}/>"), &format!("{bare}=\"\"/>"));
    }
    out
}

fn with_class<'a, 'i>(page: &'a Document<'i>, class: &'a str) -> impl Iterator<Item = Node<'a, 'i>> {
    page.descendants().filter(move |n| n.attribute("class").is_some_and(|c| c.split(' ').any(|c| c == class)))
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|n| n.text()).collect()
}

#[test]
fn every_section_is_there_and_named() {
    let report = report(&Words::plain());
    let xml = parse(&report.html);
    let page = Document::parse(&xml).unwrap();
    let ids: Vec<&str> = page.descendants().filter_map(|n| n.attribute("id")).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id is given twice");
    for section in ["verdict", "results", "gap", "sweeps", "fusion", "tokens", "outcomes", "time", "manifest"] {
        assert!(unique.contains(section), "no section {section}");
    }
    for node in page.descendants().filter(Node::is_element) {
        for reference in ["aria-labelledby", "for"] {
            let Some(id) = node.attribute(reference) else { continue };
            assert!(unique.contains(id), "{reference}={id} names nothing");
        }
        match node.tag_name().name() {
            "a" => assert!(unique.contains(node.attribute("href").unwrap().trim_start_matches('#'))),
            "table" => assert!(node.children().any(|n| n.has_tag_name("caption")), "a table without a caption"),
            "th" => assert!(node.attribute("scope").is_some(), "a heading without a scope: {}", text_of(node)),
            "svg" => assert!(!node.attribute("aria-label").unwrap().is_empty()),
            "nav" | "section" => {
                assert!(node.attribute("aria-label").or(node.attribute("aria-labelledby")).is_some());
            }
            _ => {}
        }
        // Whatever scrolls can be scrolled with the keyboard, and says what it is.
        if node.attribute("class") == Some("scrolling") {
            assert_eq!((node.attribute("tabindex"), node.attribute("role")), (Some("0"), Some("region")));
            assert!(node.attribute("aria-label").is_some());
        }
    }
    let landmarks: Vec<&str> = page
        .descendants()
        .map(|n| n.tag_name().name())
        .filter(|name| ["header", "nav", "main", "footer"].contains(name))
        .collect();
    assert_eq!(landmarks, ["header", "nav", "main", "footer"]);
}

#[test]
fn the_page_needs_nothing_from_anywhere() {
    let report = report(&Words::plain());
    let outside = |text: &str| {
        let text = text.replace("http://www.w3.org/2000/svg", "");
        ["http:", "https:", "//cdn", "@import", "url("].iter().any(|needle| text.contains(needle))
    };
    assert!(!outside(&report.html));
    let sources = report.html.matches(" src=").count();
    assert_eq!(sources, 0);
    for (name, svg) in &report.figures {
        assert!(!outside(svg), "{name}");
        assert!(!svg.contains("var("), "{name} needs a page's custom properties");
    }
}

#[test]
fn the_table_says_what_the_metrics_say() {
    let report = report(&Words::plain());
    let xml = parse(&report.html);
    let page = Document::parse(&xml).unwrap();
    let table = with_class(&page, "scores").next().unwrap();
    let rows: Vec<Vec<String>> =
        table.descendants().filter(|n| n.has_tag_name("tr")).map(|row| row.children().map(text_of).collect()).collect();
    assert_eq!(rows[0], ["Variant", "qaexact matchn = 4"]);
    assert_eq!(rows[1], ["large (base)", "0.25[0.00, 0.45]"]);
    assert_eq!(rows[3], ["static[alpha=0.5]", "0.75 (best)[0.45, 0.95]"], "the first of equals is the best");
    assert_eq!(rows[5], ["dynamic", "0.75[0.45, 0.95]"]);
    assert_eq!(rows[6][0], "large-tuned (ceiling)");
    assert_eq!(with_class(&page, "stamp").map(text_of).collect::<Vec<_>>(), ["limited run: not for reporting"]);
}

#[test]
fn who_is_right_alone_is_counted() {
    let report = report(&Words::plain());
    let xml = parse(&report.html);
    let page = Document::parse(&xml).unwrap();
    let outcomes = page.descendants().find(|n| n.attribute("id") == Some("outcomes")).unwrap();
    let row = outcomes
        .descendants()
        .filter(|n| n.has_tag_name("tr"))
        .find(|row| text_of(*row).starts_with("dynamic"))
        .unwrap();
    let cells: Vec<String> = row.children().map(text_of).collect();
    // Item 0: both right, fused wrong. Item 1: only the expert right, fused follows. Items 2 and 3: both wrong, fused right.
    assert_eq!(cells, ["dynamic", "qa", "0 of 10 %", "–", "1 of 1100 %", "2 of 2100 %"]);
}

#[test]
fn a_ribbon_has_a_row_for_each_token() {
    let report = report(&Words::plain());
    let xml = parse(&report.html);
    let page = Document::parse(&xml).unwrap();
    let ribbons: Vec<Node<'_, '_>> = with_class(&page, "ribbon").collect();
    assert!(!ribbons.is_empty());
    for ribbon in ribbons {
        let spans = ribbon.descendants().filter(|n| n.attribute("class") == Some("t")).count();
        let rows = ribbon.descendants().filter(|n| n.has_tag_name("tbody")).flat_map(|body| body.children()).count();
        assert_eq!((spans, rows), (5, 5));
    }
}

#[test]
fn equal_runs_give_equal_bytes_and_files() {
    let dir = tempfile::tempdir().unwrap();
    support::write(dir.path(), &Words::plain());
    let read = || {
        let page = write(dir.path()).unwrap();
        let mut figures: Vec<_> =
            fs::read_dir(dir.path().join("figures")).unwrap().map(|f| f.unwrap().path()).collect();
        figures.sort();
        let bytes: Vec<Vec<u8>> = figures.iter().map(|figure| fs::read(figure).unwrap()).collect();
        (fs::read(page).unwrap(), figures, bytes)
    };
    let first = read();
    assert_eq!(first, read());
    let names: Vec<String> = first.1.iter().map(|f| f.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    for name in ["scores", "gap", "sweep", "position-alpha", "distribution-alpha", "time"] {
        assert!(names.iter().any(|n| n == name), "no {name} in {names:?}");
    }
    #[cfg(feature = "png")]
    for (path, bytes) in first.1.iter().zip(&first.2).filter(|(path, _)| path.extension().is_some_and(|e| e == "png")) {
        assert!(bytes.starts_with(b"\x89PNG"), "{}", path.display());
    }
}

#[test]
fn a_run_that_is_not_finished_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = write(dir.path()).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
    support::write(dir.path(), &Words::plain());
    fs::remove_file(dir.path().join("metrics.json")).unwrap();
    let unfinished = write(dir.path()).unwrap_err();
    assert_eq!(unfinished.kind(), ErrorKind::NotFound);
    assert!(unfinished.help().unwrap().contains("goes on where it stopped"));
    assert!(!dir.path().join("report.html").exists());
}

#[test]
fn a_run_without_times_still_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    support::write(dir.path(), &Words::plain());
    fs::remove_file(dir.path().join("timings.jsonl")).unwrap();
    let report = Report::of(dir.path()).unwrap();
    assert!(!report.html.contains("id=\"time\""));
    assert!(report.html.contains("id=\"manifest\""));
}

/// What stands between two tags; there is one such pair.
fn within<'a>(html: &'a str, open: &str, close: &str) -> &'a str {
    let (_, after) = html.split_once(open).expect("it is there");
    after.split_once(close).expect("it is closed").0
}

#[test]
fn the_policy_allows_our_script_and_style_and_nothing_else() {
    let html = report(&Words::plain()).html;
    let policy = within(&html, "<meta http-equiv=\"Content-Security-Policy\" content=\"", "\">");
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let style = hash(within(&html, "<style>", "</style>"));
    let script = hash(within(&html, "<script>", "</script>"));
    let directives: Vec<&str> = policy.split("; ").collect();
    assert_eq!(
        directives,
        [
            "default-src 'none'",
            &format!("style-src {style}"),
            &format!("script-src {script}"),
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    );
    // Browsers turn line ends into \n before they hash.
    assert!(!html.contains('\r'));
}

/// The words of a run must come out as text, wherever they stand.
fn check_hostile(words: &Words) {
    let report = report(words);
    let xml = parse(&report.html);
    let page = Document::parse(&xml).unwrap_or_else(|e| panic!("{e}: {words:?}"));
    let ours = ["script", "style"];
    for name in ours {
        assert_eq!(page.descendants().filter(|n| n.has_tag_name(name)).count(), 1, "a second {name}");
    }
    assert_eq!(report.html.matches("</script").count(), 1);
    for node in page.descendants().filter(Node::is_element) {
        assert!(!["img", "iframe", "object", "embed", "form"].contains(&node.tag_name().name()), "{words:?}");
        for attribute in node.attributes() {
            let name = attribute.name();
            assert!(!name.starts_with("on") && name != "style", "{name}, which the policy forbids: {words:?}");
        }
    }
    for (name, svg) in &report.figures {
        Document::parse(svg).unwrap_or_else(|e| panic!("{name}: {e}: {words:?}"));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
    }
}

#[test]
fn known_attacks_stay_text() {
    for word in [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\" onmouseover=\"alert(1)",
        "' autofocus onfocus='alert(1)",
        "]]></style><!--",
        "--></svg><svg onload=alert(1)>",
        "&lt;script&gt;",
        "\u{0}\u{1b}[31m\u{7f}\u{85}\u{ffff}",
        "\u{202e}gnirts\u{2066}",
        "../../etc/passwd",
        "static[alpha=</text>]",
        "a[b=1,b=2]",
        "",
        "🦀\u{200d}\u{fe0f}e\u{301}",
    ] {
        check_hostile(&Words::all(word));
    }
}

/// Texts made of what HTML, SVG, JSON and file systems take seriously.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<"),
        Just(">"),
        Just("&"),
        Just("\""),
        Just("'"),
        Just("</script>"),
        Just("<!--"),
        Just("-->"),
        Just("]]>"),
        Just("</title>"),
        Just("</style>"),
        Just("<svg/onload=x>"),
        Just("&#x3c;"),
        Just("\u{0}"),
        Just("\u{8}"),
        Just("\n"),
        Just("\t"),
        Just("\u{2028}"),
        Just("\u{202e}"),
        Just("/"),
        Just(".."),
        Just("[a=1]"),
        Just("[a=1e308]"),
        Just("="),
        Just("word"),
        Just("ß"),
        Just("😀"),
        Just("\u{fffe}"),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    // An eighth of what is asked for: a case draws a whole page and every figure, which takes 50 ms, and tries ten texts.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]
    #[test]
    fn nothing_that_a_run_says_leaves_its_place(list in proptest::collection::vec(hostile(), 10)) {
        let mut words = list.into_iter();
        let mut next = || words.next().unwrap();
        check_hostile(&Words {
            variant: next(), task: next(), metric: next(), doc_id: next(), prompt: next(),
            text: next(), source: next(), column: next(), path: next(), config: next(),
        });
    }
}
