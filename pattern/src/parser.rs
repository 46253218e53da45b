use logitfuse_core::{Error, ErrorKind, Result};

use super::{
    class::{self, Item},
    escape::Escaped,
};

/// Deeper groups could overflow the stack when the result is compiled.
const MAX_DEPTH: usize = 50;

/// Translates a pattern of Python's `re` into one of `fancy-regex`; also says which groups it has, by their names.
pub(super) fn translate(pattern: &str) -> Result<(String, Vec<Option<String>>)> {
    let mut parser = Parser {
        pattern,
        chars: pattern.chars().collect(),
        at: 0,
        depth: 0,
        groups: Vec::new(),
        look_behind_from: None,
        conditions: Vec::new(),
        conditional: pattern.contains("(?("),
    };
    let mut flags = Flags::default();
    parser.global_flags(&mut flags)?;
    let whole = parser.alternatives(flags)?;
    if parser.peek().is_some() {
        return Err(parser.error(parser.at, "a closing parenthesis without its opening one"));
    }
    if let Some((_, at)) = parser.conditions.iter().find(|(group, _)| *group as usize > parser.groups.len()) {
        return Err(parser.error(*at, "there is no such group"));
    }
    Ok((whole.source, parser.groups.into_iter().map(|group| group.name).collect()))
}

#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of the language")]
pub(super) struct Flags {
    pub(super) ascii: bool,
    pub(super) ignore_case: bool,
    pub(super) multi_line: bool,
    pub(super) dot_all: bool,
    pub(super) verbose: bool,
}

/// A translated piece, with what Python wants to know of it: how wide its matches are and whether it can be repeated.
pub(super) struct Fragment {
    source: String,
    min: u64,
    max: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Item,
    /// `^`, `$`, `\b`, …, which Python does not repeat.
    Assertion,
    /// Already repeated.
    Repeat,
}

impl Fragment {
    /// Something one character wide.
    pub(super) fn one(source: String) -> Self {
        Self { source, min: 1, max: 1, kind: Kind::Item }
    }

    pub(super) fn assertion(source: String) -> Self {
        Self { source, min: 0, max: 0, kind: Kind::Assertion }
    }

    fn preceded_by(self, zero_width: &str) -> Self {
        Self { source: format!("{zero_width}{}", self.source), ..self }
    }

    fn wrapped(self, before: &str) -> Self {
        Self { source: format!("{before}{})", self.source), kind: Kind::Item, ..self }
    }
}

struct Group {
    name: Option<String>,
    /// Unknown while the group is open.
    width: Option<(u64, u64)>,
}

pub(super) struct Parser<'p> {
    pattern: &'p str,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    groups: Vec<Group>,
    /// Inside a look-behind: how many groups there were before it.
    look_behind_from: Option<usize>,
    /// Groups by number that a condition asks for, which may come later, and where it does.
    conditions: Vec<(u32, usize)>,
    /// Whether there is a condition anywhere.
    conditional: bool,
}

impl Parser<'_> {
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    pub(super) fn bump(&mut self) {
        self.at += 1;
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.bump();
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        self.at += usize::from(there);
        there
    }

    pub(super) fn error(&self, at: usize, what: &str) -> Error {
        Error::new(ErrorKind::InvalidConfig, format!("{}: at character {at}: {what}", self.pattern))
            .with_help("patterns follow the syntax of Python's re module")
    }

    fn alternatives(&mut self, flags: Flags) -> Result<Fragment> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(self.at, &format!("more than {MAX_DEPTH} groups inside one another")));
        }
        let mut all = self.sequence(flags)?;
        while self.eat('|') {
            let next = self.sequence(flags)?;
            all = Fragment {
                source: format!("{}|{}", all.source, next.source),
                min: all.min.min(next.min),
                max: all.max.max(next.max),
                kind: Kind::Item,
            };
        }
        self.depth -= 1;
        Ok(all)
    }

    fn sequence(&mut self, flags: Flags) -> Result<Fragment> {
        let mut parts: Vec<Fragment> = Vec::new();
        while let Some(c) = self.peek() {
            let start = self.at;
            if flags.verbose && (c == '#' || " \t\n\r\u{b}\u{c}".contains(c)) {
                self.skip_verbose();
                continue;
            }
            if matches!(c, '|' | ')') {
                break;
            }
            self.bump();
            let part = match c {
                '\\' => self.escape(flags)?,
                '[' => self.class(start, flags)?,
                '(' => match self.group(start, flags)? {
                    Some(group) => group,
                    None => continue,
                },
                '^' if flags.multi_line => Fragment::assertion("(?m:^)".to_owned()),
                '^' => Fragment::assertion(r"\A".to_owned()),
                '$' if flags.multi_line => Fragment::assertion("(?m:$)".to_owned()),
                '$' => Fragment::assertion(r"(?=\x{a}?\z)".to_owned()),
                '.' if flags.dot_all => Fragment::one(r"[\x{0}-\x{10ffff}]".to_owned()),
                '.' => Fragment::one(r"[^\x{a}]".to_owned()),
                '*' | '+' | '?' | '{' => match self.counts(c, start)? {
                    Some(counts) => {
                        let item = parts.pop();
                        self.repeat(item, counts, start)?
                    }
                    None => Fragment::one(class::literal(c, flags)),
                },
                c => Fragment::one(class::literal(c, flags)),
            };
            parts.push(part);
        }
        Ok(Fragment {
            min: parts.iter().fold(0, |sum, part| sum.saturating_add(part.min)),
            max: parts.iter().fold(0, |sum, part| sum.saturating_add(part.max)),
            source: parts.into_iter().map(|part| part.source).collect(),
            kind: Kind::Item,
        })
    }

    /// White space, or a comment to the end of its line.
    fn skip_verbose(&mut self) {
        if self.next() == Some('#') {
            while self.next().is_some_and(|c| c != '\n') {}
        }
    }

    /// Reads how often to repeat; nothing if a brace turns out to stand for itself.
    fn counts(&mut self, c: char, start: usize) -> Result<Option<(u64, Option<u64>)>> {
        Ok(Some(match c {
            '*' => (0, None),
            '+' => (1, None),
            '?' => (0, Some(1)),
            _ => {
                let back = self.at;
                if self.peek() == Some('}') {
                    return Ok(None);
                }
                let low = self.number(start)?;
                let high = if self.eat(',') { self.number(start)? } else { low };
                if !self.eat('}') {
                    self.at = back;
                    return Ok(None);
                }
                let min = low.unwrap_or(0);
                if high.is_some_and(|max| max < min) {
                    return Err(self.error(start, "the least number of repeats is above the greatest"));
                }
                (min, high)
            }
        }))
    }

    fn number(&mut self, start: usize) -> Result<Option<u64>> {
        let mut number = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            self.bump();
            let next = number.unwrap_or(0) * 10 + u64::from(digit);
            if next >= u64::from(u32::MAX) {
                return Err(self.error(start, "too many repeats"));
            }
            number = Some(next);
        }
        Ok(number)
    }

    fn repeat(&mut self, item: Option<Fragment>, (min, max): (u64, Option<u64>), start: usize) -> Result<Fragment> {
        let item = match item {
            Some(item) if item.kind == Kind::Item => item,
            Some(item) if item.kind == Kind::Repeat => return Err(self.error(start, "a repeat of a repeat")),
            _ => return Err(self.error(start, "nothing to repeat")),
        };
        let lazy = self.eat('?');
        let possessive = !lazy && self.eat('+');
        let repeated = if item.max == 0 {
            repeat_of_nothing(&item.source, min, max, lazy)
        } else {
            format!("(?:{}){}{}", item.source, count(min, max), if lazy { "?" } else { "" })
        };
        let source = if possessive { format!("(?>{repeated})") } else { repeated };
        let most = max.map_or(if item.max == 0 { 0 } else { u64::MAX }, |max| item.max.saturating_mul(max));
        Ok(Fragment { source, min: item.min.saturating_mul(min), max: most, kind: Kind::Repeat })
    }

    fn class(&mut self, start: usize, flags: Flags) -> Result<Fragment> {
        let negated = self.eat('^');
        let mut items = Vec::new();
        loop {
            let first = match self.next() {
                Some(']') if !items.is_empty() => break,
                c => self.class_item(c, start)?,
            };
            if !self.eat('-') {
                items.push(first);
                continue;
            }
            if self.eat(']') {
                items.extend([first, Item::Range('-', '-')]);
                break;
            }
            let last = self.next();
            let last = self.class_item(last, start)?;
            match (first, last) {
                (Item::Range(first, _), Item::Range(last, _)) if first <= last => items.push(Item::Range(first, last)),
                _ => return Err(self.error(start, "a range in a class must go from one character up to another")),
            }
        }
        Ok(Fragment::one(class::class(&items, negated, flags)))
    }

    fn class_item(&mut self, c: Option<char>, start: usize) -> Result<Item> {
        let at = self.at;
        match c {
            None => Err(self.error(start, "the class does not end")),
            Some('\\') => Ok(match self.escaped(at, true)? {
                Escaped::Char(c) => Item::Range(c, c),
                Escaped::Category(category) => Item::Category(category),
            }),
            Some(c) => Ok(Item::Range(c, c)),
        }
    }

    pub(super) fn back_reference(&self, group: u32, start: usize, flags: Flags) -> Result<Fragment> {
        let Some((min, max)) = self.groups[group as usize - 1].width else {
            return Err(self.error(start, "a reference to a group that is still open"));
        };
        let source = if flags.ignore_case { format!(r"(?i:\{group})") } else { format!(r"(?:\{group})") };
        Ok(Fragment { source, min, max, kind: Kind::Item })
    }

    /// Checks a group's number against the groups so far.
    pub(super) fn known_group(&self, group: u32, start: usize) -> Result<u32> {
        if group == 0 || group as usize > self.groups.len() {
            return Err(self.error(start, "there is no such group"));
        }
        self.outside_look_behind(group, start)
    }

    fn outside_look_behind(&self, group: u32, start: usize) -> Result<u32> {
        match self.look_behind_from {
            Some(before) if group as usize > before => {
                Err(self.error(start, "a reference to a group of the same look-behind"))
            }
            _ => Ok(group),
        }
    }
}

/// What matches no character at all matches once or never, however often it is repeated.
fn repeat_of_nothing(source: &str, min: u64, max: Option<u64>, lazy: bool) -> String {
    match (min, max) {
        (0, Some(0)) => String::new(),
        (0, _) if lazy => format!("(?:|{source})"),
        (0, _) => format!("(?:{source}|)"),
        _ => format!("(?:{source})"),
    }
}

fn count(min: u64, max: Option<u64>) -> String {
    match (min, max) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    }
}

mod group;
