//! What is done to a template's text before the engine compiles it.
//!
//! The engine follows operators and calls with its own stack and sets no bound to how long a chain of them may be, so a long
//! one would end the process. And four things of Python's Jinja are not in its grammar or not safe in it: line ends, the tag
//! `{% generation %}`, `'%s' % value`, and attributes of a namespace, which could hold the namespace itself.

use std::ops::Range;

use logitfuse_core::{Error, ErrorKind};

use super::guard::insertions;

/// Bytes of the largest template. Those of published models have some ten thousand.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Operators, calls and brackets that may lie inside each other in one expression, and `elif`s of the conditions around
/// them. Stated in docs/running.md.
pub(crate) const MAX_CHAIN: usize = 400;

/// The function around what a namespace is given.
pub(super) const HELD: &str = "__held";
/// The function that `'%s' % value` becomes.
pub(super) const PERCENT: &str = "__percent";

/// A template's text, ready to be compiled.
pub(super) struct Prepared {
    pub(super) text: String,
    /// Bytes in its tags.
    pub(super) code: usize,
    /// Whether it has loops or macros. Without them the values that it makes are no deeper than its code is long.
    pub(super) repeats: bool,
}

/// What is wrong with the text.
#[derive(Debug)]
pub(super) struct SourceError {
    line: usize,
    what: String,
}

impl SourceError {
    pub(super) fn into_error(self, origin: &str, kind: ErrorKind) -> Error {
        let Self { line, what } = self;
        Error::new(kind, format!("{origin}: line {line}: {what}"))
            .with_help("take a shorter template; docs/running.md lists the bounds")
    }
}

/// Reads a template's text and writes it as the engine is to read it. Lines stay where they are.
pub(super) fn prepare(template: &str) -> Result<Prepared, SourceError> {
    if template.len() > MAX_BYTES {
        let what = format!("a template of {} bytes; the largest may have {MAX_BYTES}", template.len());
        return Err(SourceError { line: 1, what });
    }
    // As Jinja does it: all line ends are the same one.
    let source = template.replace("\r\n", "\n").replace('\r', "\n");
    let mut written = Reader::new(&source, Pass::Write);
    written.all()?;
    let mut guarded = Reader::new(&written.out, Pass::Guard);
    guarded.all()?;
    Ok(Prepared { text: guarded.out, code: written.code, repeats: written.repeats })
}

/// What a reader does with tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Checks them, and says in the engine's words what it does not know.
    Write,
    /// Puts a watch before what writes values as text.
    Guard,
}

struct Reader<'a> {
    pass: Pass,
    source: &'a str,
    /// What lies before is in `out`.
    at: usize,
    out: String,
    /// The `elif`s of each `if` that is open.
    conditions: Vec<usize>,
    code: usize,
    repeats: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A string with its quotes.
    Text,
    /// A name or a number.
    Word,
    Open,
    Close,
    Comma,
    /// Anything else, as one token a character or, of those with two, a pair.
    Operator,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: Range<usize>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str, pass: Pass) -> Self {
        Self { pass, source, at: 0, out: String::new(), conditions: Vec::new(), code: 0, repeats: false }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn copy_to(&mut self, end: usize) {
        self.out.push_str(&self.source[self.at..end]);
        self.at = end;
    }

    fn all(&mut self) -> Result<(), SourceError> {
        while let Some(start) = self.next_mark() {
            let mark = &self.source[start..start + 2];
            self.copy_to(start);
            match mark {
                "{#" => {
                    let end = self.rest()[2..].find("#}").map_or(self.source.len(), |end| self.at + end + 4);
                    self.copy_to(end);
                }
                "{{" => self.tag("}}")?,
                _ if self.is_raw() => self.raw(),
                _ => self.tag("%}")?,
            }
        }
        self.copy_to(self.source.len());
        Ok(())
    }

    /// Where the next `{{`, `{%` or `{#` begins.
    fn next_mark(&self) -> Option<usize> {
        let mut from = self.at;
        while let Some(brace) = self.source[from..].find('{').map(|brace| from + brace) {
            if matches!(self.source.as_bytes().get(brace + 1), Some(b'{' | b'%' | b'#')) {
                return Some(brace);
            }
            from = brace + 1;
        }
        None
    }

    /// Whether `{% raw %}` begins here.
    fn is_raw(&self) -> bool {
        is_tag(&self.rest()[2..], "raw")
    }

    /// Everything up to `{% endraw %}` is text, whatever stands in it.
    fn raw(&mut self) {
        let mut from = self.at + 2;
        while let Some(start) = self.source[from..].find("{%").map(|start| from + start) {
            from = start + 2;
            if is_tag(&self.source[from..], "endraw") {
                break;
            }
        }
        self.copy_to(from);
        // What is left of the tag itself is no mark.
    }

    /// One `{{ … }}` or `{% … %}`.
    fn tag(&mut self, end: &str) -> Result<(), SourceError> {
        let start = self.at;
        let (tokens, close) = self.tokens(start, end);
        if self.pass == Pass::Guard {
            for (position, text) in insertions(self.source, &tokens, end == "%}") {
                self.copy_to(position);
                self.out.push_str(&text);
            }
            self.copy_to(close);
            return Ok(());
        }
        self.code += close - start;
        self.bound(start, &tokens)?;
        let source = self.source;
        let first = tokens.first().map_or("", |token| &source[token.at.clone()]);
        let is_block = end == "%}";
        if is_block {
            self.block(start, first)?;
        }
        match first {
            "generation" if is_block => self.replace_word(&tokens[0], "if true"),
            "endgeneration" if is_block => self.replace_word(&tokens[0], "endif"),
            "set" if is_block => self.assignment(&tokens, close),
            _ => self.expression(&tokens),
        }
        self.copy_to(close);
        Ok(())
    }

    /// Counts the blocks that hold others without a bound of the engine's own, and notes what repeats.
    fn block(&mut self, start: usize, word: &str) -> Result<(), SourceError> {
        match word {
            "if" => self.conditions.push(0),
            "elif" => {
                if let Some(last) = self.conditions.last_mut() {
                    *last += 1;
                }
                if self.conditions.iter().sum::<usize>() > MAX_CHAIN {
                    return Err(self.error(start, format!("more than {MAX_CHAIN} `elif`s of one condition")));
                }
            }
            "endif" => {
                self.conditions.pop();
            }
            "for" | "macro" | "call" => self.repeats = true,
            _ => {}
        }
        Ok(())
    }

    fn error(&self, at: usize, what: String) -> SourceError {
        SourceError { line: 1 + self.source[..at].matches('\n').count(), what }
    }

    fn replace_word(&mut self, token: &Token, word: &str) {
        self.copy_to(token.at.start);
        self.out.push_str(word);
        self.at = token.at.end;
    }

    /// The tokens of a tag, and where its end mark begins; the end of the text if it has none, which is the engine's to tell.
    fn tokens(&self, start: usize, end: &str) -> (Vec<Token>, usize) {
        let bytes = self.source.as_bytes();
        let mut tokens = Vec::new();
        let mut at = start + 2;
        if matches!(bytes.get(at), Some(b'-' | b'+')) {
            at += 1;
        }
        let mut open = 0_usize;
        while let Some(&byte) = bytes.get(at) {
            let rest = &self.source[at..];
            if open == 0 && (rest.starts_with(end) || (matches!(byte, b'-' | b'+') && rest[1..].starts_with(end))) {
                break;
            }
            let (kind, length) = match byte {
                _ if byte.is_ascii_whitespace() => {
                    at += 1;
                    continue;
                }
                b'\'' | b'"' => (Kind::Text, string_length(rest)),
                b'(' | b'[' | b'{' => (Kind::Open, 1),
                b')' | b']' | b'}' => (Kind::Close, 1),
                b',' => (Kind::Comma, 1),
                _ if byte == b'_' || byte.is_ascii_alphanumeric() => {
                    let length = word_length(rest);
                    // The sign of an exponent belongs to its number.
                    let signed = byte.is_ascii_digit()
                        && matches!(rest.as_bytes()[length - 1], b'e' | b'E')
                        && matches!(rest.as_bytes().get(length), Some(b'+' | b'-'));
                    (Kind::Word, if signed { length + 1 + word_length(&rest[length + 1..]) } else { length })
                }
                _ if ["//", "**", "==", "!=", ">=", "<="].iter().any(|pair| rest.starts_with(pair)) => {
                    (Kind::Operator, 2)
                }
                _ => (Kind::Operator, rest.chars().next().map_or(1, char::len_utf8)),
            };
            match kind {
                Kind::Open => open += 1,
                Kind::Close => open = open.saturating_sub(1),
                _ => {}
            }
            tokens.push(Token { kind, at: at..at + length });
            at += length;
        }
        (tokens, at)
    }

    /// Refuses expressions that are deeper than the engine's stack may be.
    fn bound(&self, start: usize, tokens: &[Token]) -> Result<(), SourceError> {
        // For each open bracket, what stands before it in its part of the expression.
        let mut levels = vec![0_usize];
        let mut depth = 0;
        for token in tokens {
            let last = levels.len() - 1;
            match token.kind {
                Kind::Text => continue,
                Kind::Word if !is_operator(&self.source[token.at.clone()]) => continue,
                Kind::Close if last > 0 => depth -= levels.pop().unwrap_or(0),
                Kind::Comma => depth -= std::mem::take(&mut levels[last]),
                Kind::Open | Kind::Close | Kind::Operator | Kind::Word => {
                    levels[last] += 1;
                    depth += 1;
                }
            }
            if token.kind == Kind::Open {
                levels.push(0);
            }
            if depth > MAX_CHAIN {
                let what = format!("an expression with more than {MAX_CHAIN} operators inside each other");
                return Err(self.error(token.at.start.max(start), what));
            }
        }
        Ok(())
    }

    /// `{% set name.attribute = … %}`: what a namespace is given is looked at first.
    fn assignment(&mut self, tokens: &[Token], close: usize) {
        let source = self.source;
        let is = |token: &Token, text: &str| &source[token.at.clone()] == text;
        let equals = tokens.iter().position(|token| token.kind == Kind::Operator && is(token, "="));
        let Some(equals) = equals.filter(|&equals| tokens[..equals].iter().any(|token| is(token, "."))) else {
            return self.expression(tokens);
        };
        let Some(last) = tokens.get(equals + 1..).and_then(<[Token]>::last).map(|last| last.at.end.min(close)) else {
            return;
        };
        self.copy_to(tokens[equals].at.end);
        self.out.push(' ');
        self.out.push_str(HELD);
        self.out.push_str("((");
        self.expression(&tokens[equals + 1..]);
        self.copy_to(last);
        self.out.push_str("))");
    }

    /// Writes tokens as they are, but for `'…' % value`.
    fn expression(&mut self, tokens: &[Token]) {
        let mut next = 0;
        while next < tokens.len() {
            if tokens[next].kind != Kind::Text {
                next += 1;
                continue;
            }
            // Neighbours are one string.
            let mut percent = next + 1;
            while tokens.get(percent).is_some_and(|token| token.kind == Kind::Text) {
                percent += 1;
            }
            let end = self.is_percent(tokens, percent).then(|| self.operand(tokens, percent + 1)).flatten();
            match end {
                None => next = percent,
                Some(end) => {
                    self.copy_to(tokens[next].at.start);
                    self.out.push_str(PERCENT);
                    self.out.push('(');
                    self.copy_to(tokens[percent].at.start);
                    self.out.push(',');
                    self.at = tokens[percent].at.end;
                    self.expression(&tokens[percent + 1..end]);
                    self.copy_to(tokens[end - 1].at.end);
                    self.out.push(')');
                    next = end;
                }
            }
        }
    }

    fn is_percent(&self, tokens: &[Token], at: usize) -> bool {
        tokens.get(at).is_some_and(|token| &self.source[token.at.clone()] == "%")
    }

    /// The end of the operand that begins at a token: one value with what is asked of it by `.`, `[]`, `()` and `|`.
    fn operand(&self, tokens: &[Token], first: usize) -> Option<usize> {
        let text = |at: usize| tokens.get(at).map(|token| &self.source[token.at.clone()]);
        let group = |at: usize| {
            let mut open = 0;
            tokens.iter().enumerate().skip(at).find_map(|(index, token)| {
                match token.kind {
                    Kind::Open => open += 1,
                    Kind::Close => open -= 1,
                    _ => {}
                }
                (open == 0).then_some(index + 1)
            })
        };
        let mut at = first;
        while text(at) == Some("-") {
            at += 1;
        }
        at = match tokens.get(at)?.kind {
            Kind::Text => at + tokens[at..].iter().take_while(|token| token.kind == Kind::Text).count(),
            Kind::Word => at + 1,
            Kind::Open => group(at)?,
            _ => return None,
        };
        loop {
            match text(at) {
                Some("." | "|") if tokens.get(at + 1)?.kind == Kind::Word => at += 2,
                Some("(" | "[") => at = group(at)?,
                _ => return Some(at),
            }
        }
    }
}

/// The length of the letters, digits and underscores that a text begins with.
fn word_length(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// Whether the rest of a tag is this word alone.
fn is_tag(inside: &str, word: &str) -> bool {
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let Some(after) = inside.trim_ascii_start().strip_prefix(word) else { return false };
    let after = after.trim_ascii_start();
    after.strip_prefix(['-', '+']).unwrap_or(after).starts_with("%}")
}

/// Words that take operands.
fn is_operator(word: &str) -> bool {
    matches!(word, "not" | "and" | "or" | "in" | "is" | "if" | "else")
}

/// The length of a string with its quotes; the whole rest if it does not end.
fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == bytes[0] => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
