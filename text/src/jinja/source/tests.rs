use super::*;

/// After the first pass.
fn text(template: &str) -> String {
    let mut reader = Reader::new(template, Pass::Write);
    reader.all().unwrap();
    reader.out
}

#[test]
fn what_writes_values_is_watched() {
    for (template, wanted) in [
        ("{{ a ~ b[0].c|d ~ (e ~ 1) }}", "{{ __text(a) ~ __text(b[0].c|d) ~ __text((__text(e) ~ __text(1))) }}"),
        (
            "{% if a ~ -b*-c == d ~ x is not in y and z %}{% endif %}",
            "{% if __text(a) ~ __text(-b*-c) == __text(d) ~ __text(x is not in y) and z %}{% endif %}",
        ),
        ("{%- set x = a~b if c ~ d else e -%}", "{%- set x = __text(a)~__text(b) if __text(c) ~ __text(d) else e -%}"),
        ("{{ f(x=a ~ 'b', y={'k': c ~ d}) }}", "{{ f(x=__text(a) ~ __text('b'), y={'k': __text(c) ~ __text(d)}) }}"),
        ("{{ a - b ~ c + d }}", "{{ a - __text(b) ~ __text(c) + d }}"),
        ("{{ x|join(', ') | upper }}", "{{ x|__small|join(', ') |__small| upper }}"),
        ("{{ x|map('join')|map(attribute='y')|list }}", "{{ x|__small|map('join')|map(attribute='y')|list }}"),
        ("{{ 1e-7 ~ 1.5E+3 ~ 2-3 }}", "{{ __text(1e-7) ~ __text(1.5E+3) ~ __text(2)-3 }}"),
        ("a ~ b {{ '~' }}{{ ~ }}{{ a ~ }}", "a ~ b {{ '~' }}{{ ~ }}{{ __text(a) ~ }}"),
    ] {
        assert_eq!(prepare(template).unwrap().text, wanted);
    }
}

#[test]
fn line_ends_are_one_kind() {
    assert_eq!(prepare("a\r\nb\rc\n\r{{ 'x\r\ny' }}").unwrap().text, "a\nb\nc\n\n{{ 'x\ny' }}");
}

#[test]
fn generation_tags_become_conditions_and_nothing_else_does() {
    assert_eq!(text("{%- generation -%} x {%- endgeneration %}"), "{%- if true -%} x {%- endif %}");
    for same in [
        "{{ '{% generation %}' }}",
        "{% raw %}{% generation %}{{ {% endraw %}{{ 1 }}",
        "{# {% generation %} #}",
        "{% set generation = 1 %}",
        "{%",
        "{{",
        "{{ 'a",
        "{%- raw -%} {{ ",
        "{ % é {",
    ] {
        assert_eq!(text(same), same);
    }
}

#[test]
fn a_string_and_a_percent_sign_become_a_call() {
    for (template, wanted) in [
        ("{{ 'x=%s' % a }}", "{{ __percent('x=%s' , a) }}"),
        ("{{ '%s' '%s' % (a, b) ~ 'c' }}", "{{ __percent('%s' '%s' , (a, b)) ~ 'c' }}"),
        ("{{ '%d'%m[0].n('%s' % 1)|abs-1 }}", "{{ __percent('%d',m[0].n(__percent('%s' , 1))|abs)-1 }}"),
        ("{{ 7 % 2 }}{% if i % 2 %}{%endif%}", "{{ 7 % 2 }}{% if i % 2 %}{%endif%}"),
        ("{{ 'a' %}", "{{ 'a' %}"),
    ] {
        assert_eq!(text(template), wanted);
    }
}

#[test]
fn what_a_namespace_is_given_is_looked_at() {
    for (template, wanted) in [
        ("{%- set ns.x = ns.x + [m] -%}", "{%- set ns.x = __held(( ns.x + [m])) -%}"),
        ("{% set a.b, c = 1,\n2 %}", "{% set a.b, c = __held(( 1,\n2)) %}"),
        ("{% set x = ns.x %}", "{% set x = ns.x %}"),
        ("{% set ns.x %}a{% endset %}", "{% set ns.x %}a{% endset %}"),
        ("{% set ns.x = %}", "{% set ns.x = %}"),
    ] {
        assert_eq!(text(template), wanted);
    }
}

#[test]
fn long_chains_are_refused_with_their_line_and_wide_ones_are_not() {
    let refused = |template: &str| prepare(template).err().map(|e| (e.line, e.what));
    let more = MAX_CHAIN + 1;
    for chain in [
        format!("{{{{ {}1 }}}}", "not ".repeat(more)),
        format!("{{{{ {}1 }}}}", "-".repeat(more)),
        format!("{{{{ x{} }}}}", ".a".repeat(more)),
        format!("{{{{ x{} }}}}", "|upper".repeat(more)),
        format!("{{{{ x{} }}}}", "[0]".repeat(more)),
        format!("{{{{ x{} }}}}", "()".repeat(more)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(more)),
        format!("{{{{ {}1{} }}}}", "(".repeat(more), ")".repeat(more)),
        format!("{{% set x = 1{} %}}", "+1".repeat(more)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(more)),
        // Inside each other, and each short enough.
        format!("{{{{ {}1 }}}}", format!("{}(", "-".repeat(MAX_CHAIN / 2)).repeat(3)),
    ] {
        let (line, what) = refused(&format!("\n\n{chain}")).unwrap();
        assert_eq!(line, 3);
        assert!(what.contains("400"), "{what}");
    }
    let wide = format!("{{{{ [{}] }}}}", "-1, a.b|c, ".repeat(10 * MAX_CHAIN));
    assert_eq!(refused(&wide), None);
    assert_eq!(refused(&"{% if 1 %}{% elif 2 %}{% endif %}".repeat(more)), None);
    assert!(refused(&" ".repeat(MAX_BYTES + 1)).unwrap().1.contains("1048576"));
}
