//! Regular expressions as Python's `re` reads them.
//!
//! Why: an answer is cut out of a response, and a prompt is cleaned, by a pattern that was written for Python, and dialects differ where it
//! hurts: `$` matches before a final newline, `\w` has no Indic vowel signs, `\b` follows `\w`, an empty match may
//! follow a full one, `(?i)` knows that `İ` is an `i`. A [`Pattern`] is parsed by Python's rules and translated into a
//! pattern of the crate `fancy-regex` in which nothing depends on that crate's own defaults.
//!
//! ```
//! use logitfuse_pattern::Pattern;
//!
//! let last_number = Pattern::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")?;
//! let found = last_number.find_all("3 + 4 makes $7.50")?;
//! assert_eq!(found.last().unwrap().groups, ["$7.50", ""]);
//!
//! // Python's rules, not Rust's: `$` before the last newline, and an empty match after a full one.
//! assert_eq!(Pattern::new("[0-9]+$")?.find_all("7\n")?[0].whole, "7");
//! assert_eq!(Pattern::new("a*")?.find_all("baac")?.len(), 4);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # What is understood
//!
//! All of Python 3.11's syntax for `str` patterns: groups (captured, named, plain, atomic, conditional), back
//! references, look-ahead and look-behind (of fixed width, as in Python), greedy, lazy and possessive repeats, the flags
//! `a i m s u x`, global at the beginning or for a group, comments, classes and all escapes but one.
//!
//! # What is refused, with a line that says where
//!
//! * what Python refuses: `(`, `*a`, `a**`, `[z-a]`, `\y`, `(?<=a*)`, `(?P<1>…)`, references to groups that do not exist
//!   or are still open, global flags that are not at the beginning, …;
//! * `\N{NAME}`: there is no table of names here; write `\u….`;
//! * the flag `L`, which Python takes for byte strings only, and lone surrogates, which no text here can hold;
//! * repeats so large that the program for them exceeds a few megabytes;
//! * at match time, a search that backtracks more than 10 million times, which in Python would just not come back.
//!
//! # What differs
//!
//! * Characters that are newer than Unicode 14 have the properties that newer standards give them.
//! * A back reference under `(?i)` compares by Unicode's simple case folding, which differs for `İ` and `ı`.
//! * Where what is repeated may itself be empty, as in `(a??|b)+`, Python leaves the repeat at the first empty turn and the
//!   engine here tries the other ways first; groups may then hold another turn's capture. Of random patterns of this kind one
//!   answer in 200 differs; of all others, and of the patterns of lm-eval's tasks, none did.

#![forbid(unsafe_code)]

mod casing;
mod class;
mod escape;
mod parser;
mod replace;

use std::sync::OnceLock;

use fancy_regex::{Captures, Regex, RegexBuilder};
use logitfuse_core::{Error, ErrorKind, Result};

const BACKTRACK_LIMIT: usize = 10_000_000;

/// A regular expression with the semantics of Python's `re`.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    translated: String,
    /// The names of the groups, from the first on.
    groups: Vec<Option<String>>,
    regex: Regex,
    /// The same, refusing an empty match where the search begins; compiled when it is first needed.
    advancing: OnceLock<Regex>,
}

/// One match of [`Pattern::find_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'t> {
    /// All that was matched.
    pub whole: &'t str,
    /// What each group captured; empty if it did not take part, as in Python's `findall`.
    pub groups: Vec<&'t str>,
    start: usize,
}

impl Pattern {
    /// Parses and compiles a pattern.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if Python would refuse it or it is not supported, with the position in characters.
    pub fn new(pattern: &str) -> Result<Self> {
        let (translated, groups) = parser::translate(pattern)?;
        let regex = compile(pattern, &translated)?;
        Ok(Self { source: pattern.to_owned(), translated, groups, regex, advancing: OnceLock::new() })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// How many groups capture.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// All matches that do not overlap, from left to right: what Python's `re.finditer` yields.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the search backtracks too often on this text.
    pub fn find_all<'t>(&self, text: &'t str) -> Result<Vec<Match<'t>>> {
        let mut found = Vec::new();
        let (mut from, mut advance) = (0, false);
        while let Some(captures) = self.search(text, from, advance)? {
            let Some(whole) = captures.get(0) else { break };
            let group = |i| captures.get(i).map_or("", |group| group.as_str());
            found.push(Match {
                whole: whole.as_str(),
                groups: (1..=self.groups.len()).map(group).collect(),
                start: whole.start(),
            });
            // Python looks on at the end of a match and, after an empty one, only forbids the same empty match again.
            from = whole.end();
            advance = whole.start() == whole.end();
        }
        Ok(found)
    }

    /// The text without what the pattern matches: Python's `re.sub(pattern, "", text)`.
    ///
    /// # Errors
    /// As [`Pattern::find_all`].
    pub fn remove(&self, text: &str) -> Result<String> {
        self.replace(text, "", 0)
    }

    fn search<'t>(&self, text: &'t str, from: usize, advance: bool) -> Result<Option<Captures<'t, str>>> {
        let regex = if advance { self.advancing()? } else { &self.regex };
        regex.captures_from_pos(text, from).map_err(|e| {
            Error::new(ErrorKind::InvalidConfig, format!("{}: the search did not come to an end: {e}", self.source))
                .with_help("avoid repeats inside repeats, such as (a+)+, and .* at the beginning")
        })
    }

    fn advancing(&self) -> Result<&Regex> {
        if let Some(regex) = self.advancing.get() {
            return Ok(regex);
        }
        let regex = compile(&self.source, &format!(r"(?:{})(?!\G)", self.translated))?;
        Ok(self.advancing.get_or_init(|| regex))
    }
}

/// Python's `re.escape`: the pattern that matches a text literally.
///
/// ```
/// assert_eq!(logitfuse_pattern::escape("a+b: c"), r"a\+b:\ c");
/// ```
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn compile(source: &str, translated: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(translated);
    // Rewriting patterns is worth little here, and every rewrite is a chance to mean something else.
    builder.backtrack_limit(BACKTRACK_LIMIT).optimize(false);
    builder.build().map_err(|e| {
        Error::new(ErrorKind::InvalidConfig, format!("{source}: cannot be compiled: {e}"))
            .with_help("simplify the pattern; large repeats such as {1000} of a large class make large programs")
            .with_source(e)
    })
}

#[cfg(test)]
mod tests;
