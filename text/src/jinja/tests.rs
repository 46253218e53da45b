//! What templates give, and what they may take.

use super::*;

fn rendered(template: &str) -> String {
    Template::chat("x", template).unwrap().render(Value::UNDEFINED, 0).unwrap()
}

fn refused(template: &str) -> Error {
    Template::chat("x", template)
        .and_then(|template| template.render(Value::UNDEFINED, 0).map_err(|e| error("x", e)))
        .unwrap_err()
}

/// What `probes.json` has of Python and this does not, each for a reason.
const DIFFERENT: &[&str] = &[
    // A final sigma, and a letter of two with a form of its own for the beginning of words.
    "{{ 'ΑΣ σας' . swapcase() }}",
    "{{ 'ﬁne ǆ' . title() }}",
    // Parts of Jinja that no chat template was seen to use.
    "{{ '%r' % 'a' }}",
    "{{ 'a' | indent('>>', true) }}",
    "{{ [{'a':1,'b':2}] | groupby('a') }}",
    "{{ 'a b&c/d' | urlencode }}",
    "{{ {'a': 1} | attr('a') }}",
    "{{ 1000000 | filesizeformat }}",
    "{{ '<b>x</b>' | striptags }}",
    "{{ 'aaa bbb ccc' | wordwrap(5) }}",
    "{{ {'a':1} | pprint }}",
    "{{ 'a' | forceescape }}",
    "{{ {'class':'x'} | xmlattr }}",
    "{{ dict([('a',1)]) }}",
    "{{ range(3) }}",
    "{% set c = cycler('a','b') %}{{ c.current }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}{{ f(1, b=3) }}",
    "{{ self is defined }}",
    // What would differ from day to day or from run to run.
    "{{ strftime_now is defined }}",
    "{{ lipsum is defined }}",
    "{{ [1,2,3] | random is defined }}",
];

/// Templates with what `transformers` 5.24 and Jinja2 3.1.6 make of them for one user's message, `Hi`; null where they
/// refuse. `tests/second_opinion/chat_templates.py` made the file.
#[test]
fn templates_give_what_python_gives() {
    let probes: Vec<(String, Option<String>)> = serde_json::from_str(include_str!("probes.json")).unwrap();
    assert!(probes.len() > 500);
    let messages = [crate::Message::new("user", "Hi")];
    let mut wrong = Vec::new();
    for (template, wanted) in &probes {
        let got = crate::ChatTemplate::from_text(template).and_then(|chat| {
            chat.with_variable("bos_token", "<s>").with_variable("eos_token", "</s>").render(&messages, true)
        });
        let same = match (wanted, &got) {
            (Some(wanted), Ok(got)) => wanted == got,
            (wanted, got) => wanted.is_none() == got.is_err(),
        };
        if same == DIFFERENT.contains(&template.as_str()) {
            let got = got.map_err(|e| e.to_string());
            wrong.push(format!("{template:?}\n    python {wanted:?}\n    here   {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), probes.len(), wrong.join("\n"));
}

#[test]
fn json_of_texts_that_are_no_chats_is_jinjas_own() {
    let prompt = |text: &str| {
        let template = Template::prompt("x", text, |_, e| panic!("{e}")).unwrap();
        template.render(Value::UNDEFINED, 0).unwrap()
    };
    // As Jinja2 3.1.6's filter writes it: keys in order, and what HTML would read as escapes.
    assert_eq!(
        prompt("{{ {'b': \"<é'&>\", 'a': [1, none]} | tojson }}\n"),
        "{\"a\": [1, null], \"b\": \"\\u003c\\u00e9\\u0027\\u0026\\u003e\"}\n"
    );
    assert_eq!(prompt("{{ {'a': [1]} | tojson(indent=1) }}"), "{\n \"a\": [\n  1\n ]\n}");
}

#[test]
fn dates_are_written_as_python_writes_them() {
    let mut template =
        Template::chat("x", "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%A, %B %-d, %H:%M') }}").unwrap();
    template.set_now(jiff::civil::date(2024, 7, 6).at(9, 5, 0, 0));
    assert_eq!(template.render(Value::UNDEFINED, 0).unwrap(), "06 Jul 2024|Saturday, July 6, 09:05");
}

#[test]
fn generation_tags_leave_their_content() {
    let template = "{% for x in [1, 2] %}a {%- generation -%} {{ x }} {%- endgeneration %} b{% endfor %}";
    assert_eq!(rendered(template), "a1 ba2 b");
}

/// A list of a hundred million texts, which takes no memory until it is looked at.
fn repeated(then: &str) -> String {
    format!("{{% set x = (['a'] * 9999) * 9999 %}}{then}")
}

/// What grows without an end is stopped by the steps that it takes, whatever it is made of.
#[test]
fn what_does_not_end_is_stopped() {
    let doubled = |first: &str, next: &str| {
        format!(
            "{{% set ns = namespace(x={first}) %}}{{% for i in range(60) %}}{{% set ns.x = {next} %}}{{% endfor %}}\
             {{{{ ns.x | length }}}}"
        )
    };
    for template in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = b %}{% endfor %}{% endfor %}".to_owned(),
        doubled("'aaaa'", "ns.x ~ ns.x"),
        doubled("['a' * 1000]", "ns.x + ns.x"),
        doubled("'aa'", "ns.x.replace('a', 'aaaa')"),
        doubled("'aa'", "ns.x | replace('a', 'aaaa')"),
        doubled("'aa'", "ns.x.join([ns.x, ns.x])"),
        doubled("'aa'", "[ns.x, ns.x] | join"),
        doubled("'aa'", "'%s%s' % (ns.x, ns.x)"),
        doubled("'aa'", "'{}{}'.format(ns.x, ns.x)"),
        doubled("'aa'", "ns.x | tojson | tojson"),
        doubled("['a', 'b']", "[ns.x, ns.x] | string"),
        "{{ ('a\n' * 100000) | indent(100000) }}".to_owned(),
        "{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}".to_owned(),
        "{% set s = 'a ' * 5000000 %}{% for i in range(1000) %}{% set z = s.split(' ') %}{% endfor %}".to_owned(),
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set z = s.count('b') %}{% endfor %}".to_owned(),
        "{% for i in range(3000) %}{{ range(99999) | sort | length }}{% endfor %}".to_owned(),
        repeated("{{ x | tojson }}"),
        repeated("{{ x }}"),
        repeated("{{ ''.join(x) }}"),
        repeated("{{ 'b'.startswith(x) }}"),
        repeated("{{ x.index('b') }}"),
        repeated("{{ x.count('b') }}"),
        repeated("{{ '%s' % x }}"),
        repeated("{{ '{}'.format(x) }}"),
        repeated("{{ '{a}'.format(a=x) }}"),
        repeated("{{ x ~ 'b' }}"),
        repeated("{{ 'b' ~ x }}"),
        repeated("{{ x | join }}"),
        repeated("{{ [x] | join }}"),
        repeated("{{ x | upper }}"),
        repeated("{{ [[x]] | map('join') | list }}"),
        "{{ ([[['a'] * 9999] * 9999] * 9999) ~ '' }}".to_owned(),
        repeated("{% set ns = namespace() %}{% set ns.x = x %}"),
        "{{ 'x'.center(2000000000) }}".to_owned(),
        "{{ '1'.zfill(2000000000) }}".to_owned(),
        "{{ 'x' | center(2000000000) }}".to_owned(),
        "{{ ('\t' * 1000).expandtabs(1000000) }}".to_owned(),
    ] {
        let e = refused(&template);
        assert_eq!(e.kind(), ErrorKind::InvalidData, "{template}: {e}");
        assert!(e.to_string().contains("does not come to an end within 1000000 steps"), "{template}: {e}");
    }
    // Sizes that are refused as such.
    for template in ["{{ 'a' * 100000000000 }}", "{{ '{:>1000000000}'.format('x') }}", "{{ '%1000000000d' % 1 }}"] {
        refused(template);
    }
}

#[test]
fn a_namespace_cannot_hold_itself_and_may_hold_anything_else() {
    for template in [
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.x = [{'a': ns}] %}{{ ns }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a == b }}",
        "{% set ns = namespace() %}{% set ns.x, ns.y = 1, ns %}",
    ] {
        let e = refused(template);
        assert!(e.to_string().contains("a namespace cannot hold a namespace"), "{e}");
    }
    assert_eq!(
        rendered("{% set ns = namespace(x=1) %}{% set ns.x, ns.y = [ns.x, {'a': 2}], 'b' %}{{ ns.x }}{{ ns.y }}"),
        "[1, {'a': 2}]b"
    );
}

#[test]
fn deep_values_end_in_an_error() {
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(99000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for what in ["{{ ns.x }}", "{{ ns.x | tojson }}", "ok"] {
        let e = refused(&format!("{deep}{what}"));
        assert!(e.to_string().contains("more than 200 levels"), "{e}");
    }
    // Without a namespace: as deep as the template is long.
    let long = format!("{{% set x = [] %}}{}", "{% set x = [x] %}".repeat(30_000));
    for (what, wanted) in
        [("{{ x }}", "200 levels"), ("{{ x | tojson }}", "200 levels"), ("{{ x | string }}", "200 levels")]
    {
        assert!(refused(&format!("{long}{what}")).to_string().contains(wanted));
    }
    assert_eq!(rendered(&format!("{long}ok")), "ok");
    assert!(refused(&format!("{long}{{{{ x ~ '' }}}}")).to_string().contains("200 levels"));
    assert_eq!(rendered(&format!("{long}{}{{{{ x == y }}}}", long.replace('x', "y"))), "True");
    let macros = "{% macro f(x) %}{{ f([[[[[[[[x]]]]]]]]) }}{% endmacro %}{{ f(1) }}";
    assert!(refused(macros).to_string().contains("recursion"));
}

#[test]
fn long_expressions_are_refused_and_not_followed() {
    for template in [
        format!("{{{{ {}1 }}}}", "not ".repeat(200_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(200_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(300_000)),
        format!("{{{{ x{} }}}}", "|upper".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(300_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(200_000), ")".repeat(200_000)),
        format!("{{{{ {}{} }}}}", "[".repeat(20_000), "]".repeat(20_000)),
        format!("{}{}", "{% if 1 %}".repeat(40_000), "{% endif %}".repeat(40_000)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(40_000)),
    ] {
        let e = refused(&template);
        assert_eq!(e.kind(), ErrorKind::InvalidData);
        assert!(e.to_string().starts_with("x: line 1: ") && e.help().is_some(), "{e}");
    }
    // The longest that are taken, on a small stack such as those of threads.
    for template in [
        format!("{{{{ {}1 }}}}", "not ".repeat(source::MAX_CHAIN)),
        format!("{{{{ {}1 }}}}", "- ".repeat(source::MAX_CHAIN)),
        format!("{{{{ 1{} }}}}", "+1".repeat(source::MAX_CHAIN)),
        format!("{{{{ 'a'{} }}}}", "|upper".repeat(source::MAX_CHAIN)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(source::MAX_CHAIN / 2)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(source::MAX_CHAIN)),
    ] {
        let small = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let e =
                Template::chat("x", &template).and_then(|t| t.render(Value::UNDEFINED, 0).map_err(|e| error("x", e)));
            e.err().is_none_or(|e| !e.to_string().contains("operators"))
        });
        assert!(small.unwrap().join().unwrap());
    }
}
