//! What Python's methods of strings do to texts.

/// Where something happens to a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Start,
    End,
    Both,
}

impl Side {
    /// The side that a method is about.
    pub(super) fn of(method: &str) -> Self {
        match method {
            // What is to stand at the right is filled at its start.
            "lstrip" | "rjust" => Self::Start,
            "rstrip" | "ljust" => Self::End,
            _ => Self::Both,
        }
    }
}

/// White space, as Python counts it: four separators more than Unicode's property.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, side: Side) -> &'t str {
    let cut = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    match side {
        Side::Start => text.trim_start_matches(cut),
        Side::End => text.trim_end_matches(cut),
        Side::Both => text.trim_matches(cut),
    }
}

/// The parts between separators, or between runs of white space. At most `most` cuts are made, from the end if `from_end`.
pub(super) fn split<'t>(text: &'t str, separator: Option<&str>, most: Option<usize>, from_end: bool) -> Vec<&'t str> {
    let most = most.unwrap_or(usize::MAX);
    let parts = most.saturating_add(1);
    match separator {
        Some(separator) if from_end => {
            let mut parts: Vec<_> = text.rsplitn(parts, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(parts, separator).collect(),
        None => words(text, most, from_end),
    }
}

fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = strip(text, None, if from_end { Side::End } else { Side::Start });
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut.filter(|_| words.len() < most) else {
            words.push(rest);
            break;
        };
        if from_end {
            words.push(rest[cut..].trim_start_matches(is_space));
            rest = strip(&rest[..cut], None, Side::End);
        } else {
            words.push(&rest[..cut]);
            rest = strip(&rest[cut..], None, Side::Start);
        }
    }
    if from_end {
        words.reverse();
    }
    words
}

/// The lines of a text, at all of the line ends that Python knows.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((at, end)) = rest.char_indices().find(|(_, c)| is_end(*c)) {
        let mut after = at + end.len_utf8();
        if end == '\r' && rest[after..].starts_with('\n') {
            after += 1;
        }
        lines.push(&rest[..if keep_ends { after } else { at }]);
        rest = &rest[after..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// A character at the beginning of a word: `ß` becomes `Ss`.
fn title_char(c: char, out: &mut String) {
    let mut upper = c.to_uppercase();
    out.extend(upper.next());
    out.extend(upper.flat_map(char::to_lowercase));
}

pub(super) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    let mut out = String::with_capacity(text.len());
    title_char(first, &mut out);
    // What a sigma becomes depends on what stands before it, so all is made small at once.
    let small = text.to_lowercase();
    out + &small[first.to_lowercase().map(char::len_utf8).sum()..]
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

/// Each run of letters begins with a capital: `It'S`.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.find(is_cased).unwrap_or(rest.len());
        let word = &rest[start..];
        let (word, after) = word.split_at(word.find(|c| !is_cased(c)).unwrap_or(word.len()));
        out.push_str(&rest[..start]);
        out.push_str(&capitalize(word));
        rest = after;
    }
    out
}

pub(super) fn is_title(text: &str) -> bool {
    let mut inside = false;
    for c in text.chars().filter(|c| is_cased(*c) || !c.is_alphabetic()) {
        if is_cased(c) && c.is_uppercase() == inside {
            return false;
        }
        inside = is_cased(c);
    }
    text.chars().any(is_cased)
}

pub(super) fn swapcase(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
    }
    out
}

pub(super) fn pad(text: &str, width: usize, fill: char, side: Side) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = match side {
        Side::Start => missing,
        Side::End => 0,
        // Python gives the odd one to the start where the width is odd.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let run = |count: usize| std::iter::repeat_n(fill, count);
    run(before).chain(text.chars()).chain(run(missing - before)).collect()
}

pub(super) fn expandtabs(text: &str, size: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let spaces = size - column % size;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

/// As Jinja's filter: the words that fit, then the mark that something is missing.
pub(super) fn truncate(text: &str, length: usize, whole_words: bool, end: &str, leeway: usize) -> Option<String> {
    if text.chars().count() <= length.saturating_add(leeway) {
        return Some(text.to_owned());
    }
    let kept = length.checked_sub(end.chars().count())?;
    let cut: String = text.chars().take(kept).collect();
    let words = if whole_words { cut.rsplit_once(' ').map_or(&*cut, |(before, _)| before) } else { &*cut };
    Some(words.to_owned() + end)
}
