//! Any text as a chat template, and templates that are built to be deep: refused or rendered, without an end of the process.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_text::{ChatTemplate, Message, PromptTemplate};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    let template = if kind % 4 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        let mut builder = Builder { bytes: rest.iter(), out: String::new() };
        builder.statements(0);
        builder.out
    };
    let messages =
        [Message::new("system", "Be brief."), Message::new("user", " Hi <b>\n"), Message::new("assistant", "é")];
    if let Ok(chat) = ChatTemplate::from_text(&template) {
        let chat = chat.with_variable("bos_token", "<s>").with_variable("tools", [["a", "b"], ["c", "d"]]);
        // As often as it is asked.
        let once = chat.render(&messages, true).map_err(|e| e.to_string());
        assert_eq!(once, chat.render(&messages, true).map_err(|e| e.to_string()));
        if let Err(message) = once {
            assert!(message.starts_with("chat template: "), "{message}");
        }
    }
    if let Ok(prompt) = PromptTemplate::new("user", &template) {
        let _ = prompt.value(&serde_json::json!({ "messages": ["a", 1, null, [2.5]], "x": "y" }));
    }
});

/// Writes a template from bytes, each of which chooses what comes next.
struct Builder<'a> {
    bytes: std::slice::Iter<'a, u8>,
    out: String,
}

const VALUES: &[&str] = &[
    "x",
    "messages",
    "messages[0].content",
    "ns",
    "ns.a",
    "ns.b",
    "1",
    "0",
    "-1",
    "1e-7",
    "'a'",
    "'%s%d'",
    "none",
    "true",
    "[]",
    "{}",
    "range(3)",
    "range(99999)",
    "missing",
    "loop",
    "loop.index",
    "caller",
    "namespace()",
    "f",
    "tools",
    "100000000",
];
const AFTER: &[&str] = &[
    ".a",
    "[0]",
    "[-1]",
    "[1:]",
    "[::-1]",
    "()",
    "(1)",
    "|upper",
    "|list",
    "|length",
    "|string",
    "|tojson",
    "|join",
    "|sort",
    "|int",
    "|float",
    "|title",
    "|first",
    "|last",
    "|reverse",
    "|unique",
    "|items",
    "|indent(9999)",
    "|batch(2)",
    "|tojson(indent=9)",
    "|map('upper')",
    "|default(1)",
    "|trim",
    "|replace('a', 'aaaa')",
    ".split()",
    ".replace('a', 'aaaa')",
    ".items()",
    ".center(999999)",
    ".join(x)",
    ".format(x)",
    ".strip()",
    ".title()",
    ".splitlines()",
    ".get('a')",
    ".index('a')",
    ".count('a')",
    " is defined",
    " is iterable",
    " is mapping",
    "|dictsort",
    "|groupby('a')",
    "|slice(3)",
    "|select",
    "|sum",
    "|round",
    "|abs",
    "|e",
    "|wordcount",
];
const BETWEEN: &[&str] = &[
    " + ", " ~ ", " * ", " - ", " % ", " and ", " or ", " == ", " in ", " if ", ", ", " ** ", " // ", " < ",
    " not in ", " else ",
];

impl Builder<'_> {
    fn byte(&mut self) -> usize {
        self.bytes.next().copied().unwrap_or(0).into()
    }

    fn pick(&mut self, from: &[&str]) {
        let at = self.byte() % from.len();
        self.out.push_str(from[at]);
    }

    /// How often something is repeated: mostly once, sometimes very often.
    fn times(&mut self) -> usize {
        match self.byte() {
            byte @ 0..=199 => 1 + byte % 3,
            byte @ 200..=239 => byte,
            byte => (byte - 239) * 1500,
        }
    }

    fn statements(&mut self, depth: usize) {
        for _ in 0..1 + self.byte() % 6 {
            if self.bytes.len() == 0 || depth > 8 || self.out.len() > 1 << 20 {
                return;
            }
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: usize) {
        match self.byte() % 14 {
            0..=3 => self.wrapped("{{ ", " }}"),
            4 => self.wrapped("{% set x = ", " %}"),
            5 => self.wrapped("{% set ns.a = ", " %}"),
            6 => self.wrapped("{% set ns.b, x = ", ", 1 %}"),
            7 => {
                self.wrapped("{% for y in ", " %}");
                self.statements(depth + 1);
                self.out.push_str("{% endfor %}");
            }
            8 => {
                self.wrapped("{% if ", " %}");
                self.statements(depth + 1);
                for _ in 0..self.times() - 1 {
                    self.out.push_str("{% elif x %}");
                }
                self.out.push_str("{% endif %}");
            }
            9 => {
                self.out.push_str("{% macro f(x) %}");
                self.statements(depth + 1);
                self.out.push_str("{% endmacro %}");
            }
            10 => {
                self.out.push_str("{% for y in [[x]] recursive %}{{ loop([");
                self.expression(depth);
                self.out.push_str("]) }}{% endfor %}");
            }
            11 => self.out.push_str("{% set ns = namespace(a=[x], b='a') %}"),
            12 => {
                // The same again and again, as a loop without being one.
                let start = self.out.len();
                self.statement(depth + 4);
                let once = self.out.split_off(start);
                let times = self.times();
                if once.len() * times < 1 << 20 {
                    self.out.push_str(&once.repeat(times));
                }
            }
            _ => {
                let (open, close) = [
                    ("{% if 1 %}", "{% endif %}"),
                    ("{% for z in [1] %}", "{% endfor %}"),
                    ("{% set q %}", "{% endset %}"),
                ][self.byte() % 3];
                let times = self.times();
                self.out.push_str(&open.repeat(times));
                self.statements(depth + 2);
                self.out.push_str(&close.repeat(times));
            }
        }
    }

    fn wrapped(&mut self, open: &str, close: &str) {
        self.out.push_str(open);
        self.expression(0);
        self.out.push_str(close);
    }

    fn expression(&mut self, depth: usize) {
        if depth > 6 {
            return self.pick(VALUES);
        }
        match self.byte() % 9 {
            0..=2 => self.pick(VALUES),
            3..=5 => {
                self.expression(depth + 1);
                let start = self.out.len();
                self.pick(AFTER);
                let once = self.out.split_off(start);
                let times = self.times();
                self.out.push_str(&once.repeat(times));
            }
            6 => {
                self.expression(depth + 1);
                self.pick(BETWEEN);
                self.expression(depth + 1);
            }
            7 => {
                let (open, close) = [
                    ("[", "]"),
                    ("(", ")"),
                    ("{'a': ", "}"),
                    ("f(", ")"),
                    ("not ", ""),
                    ("-", ""),
                    ("1 if x else ", ""),
                ][self.byte() % 7];
                let times = self.times();
                self.out.push_str(&open.repeat(times));
                self.expression(depth + 1);
                self.out.push_str(&close.repeat(times));
            }
            _ => {
                self.pick(VALUES);
                let start = self.out.len();
                self.pick(BETWEEN);
                self.pick(VALUES);
                let once = self.out.split_off(start);
                let times = self.times();
                self.out.push_str(&once.repeat(times));
            }
        }
    }
}
