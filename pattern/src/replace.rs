//! Python's `re.sub`, with its own little language for what is put in.

use logitfuse_core::{Error, ErrorKind, Result};

use super::{Match, Pattern};

/// A piece of a replacement.
enum Piece {
    Text(String),
    /// What the whole match (0) or a group captured.
    Group(usize),
}

impl Pattern {
    /// The text with `replacement` in the place of what the pattern matches: Python's `re.sub`. `\1`, `\g<1>` and `\g<name>` stand
    /// for what groups captured; `count` is how many matches are replaced at most, 0 is all.
    ///
    /// ```
    /// use logitfuse_pattern::Pattern;
    ///
    /// let swapped = Pattern::new(r"(?P<first>\w+) (\w+)")?.replace("a b, c d", r"\2 \g<first>", 1)?;
    /// assert_eq!(swapped, "b a, c d");
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Pattern::find_all`]; and for a replacement that Python refuses.
    pub fn replace(&self, text: &str, replacement: &str, count: usize) -> Result<String> {
        let pieces = self.pieces(replacement)?;
        let most = if count == 0 { usize::MAX } else { count };
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for found in self.find_all(text)?.into_iter().take(most) {
            out.push_str(&text[at..found.start]);
            for piece in &pieces {
                out.push_str(of_match(piece, &found));
            }
            at = found.start + found.whole.len();
        }
        out.push_str(&text[at..]);
        Ok(out)
    }

    fn pieces(&self, replacement: &str) -> Result<Vec<Piece>> {
        let wrong = |what: String| {
            Error::new(ErrorKind::InvalidConfig, format!("{replacement}: {what}"))
                .with_help(r"a replacement follows Python's re.sub: \1, \g<1>, \g<name>, and \\ for a backslash")
        };
        let chars: Vec<char> = replacement.chars().collect();
        let (mut pieces, mut text, mut at) = (Vec::new(), String::new(), 0);
        while let Some(&c) = chars.get(at) {
            at += 1;
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some(&escaped) = chars.get(at) else { return Err(wrong("a backslash at the end".to_owned())) };
            at += 1;
            let digits = |from: usize, most: usize, radix: u32| {
                chars[from..].iter().take(most).take_while(|c| c.is_digit(radix)).collect::<String>()
            };
            let group = match escaped {
                'g' => {
                    let inside: String = chars[at..].iter().skip(1).take_while(|c| **c != '>').collect();
                    let end = at + inside.chars().count() + 1;
                    if chars.get(at) != Some(&'<') || chars.get(end) != Some(&'>') || inside.is_empty() {
                        return Err(wrong(r"\g must be followed by <name>".to_owned()));
                    }
                    at = end + 1;
                    Some(match inside.parse() {
                        Ok(number) => number,
                        Err(_) => self.named(&inside).ok_or_else(|| wrong(format!("there is no group `{inside}`")))?,
                    })
                }
                // Octal: \0 and up to two digits more, or three digits.
                '0' => {
                    let octal = digits(at, 2, 8);
                    at += octal.len();
                    text.push(
                        char::from_u32(u32::from_str_radix(&format!("0{octal}"), 8).unwrap_or(0)).unwrap_or('\0'),
                    );
                    None
                }
                '1'..='9' => {
                    let octal = digits(at - 1, 3, 8);
                    if octal.len() == 3 {
                        at += 2;
                        let code = u32::from_str_radix(&octal, 8).unwrap_or(u32::MAX);
                        let in_range = char::from_u32(code).filter(|_| code <= 0o377);
                        text.push(in_range.ok_or_else(|| wrong(format!(r"\{octal} is beyond \377")))?);
                        None
                    } else {
                        let number = digits(at - 1, 2, 10);
                        at += number.len() - 1;
                        number.parse().ok()
                    }
                }
                'a' => plain(&mut text, '\u{7}'),
                'b' => plain(&mut text, '\u{8}'),
                'f' => plain(&mut text, '\u{c}'),
                'n' => plain(&mut text, '\n'),
                'r' => plain(&mut text, '\r'),
                't' => plain(&mut text, '\t'),
                'v' => plain(&mut text, '\u{b}'),
                '\\' => plain(&mut text, '\\'),
                letter if letter.is_ascii_alphabetic() => {
                    return Err(wrong(format!(r"\{letter} is no escape of a replacement")));
                }
                other => {
                    text.push('\\');
                    plain(&mut text, other)
                }
            };
            if let Some(group) = group {
                if group > self.groups.len() {
                    return Err(wrong(format!("there is no group {group}")));
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Group(group));
            }
        }
        pieces.push(Piece::Text(text));
        Ok(pieces)
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.as_deref() == Some(name)).map(|place| place + 1)
    }
}

fn plain(text: &mut String, c: char) -> Option<usize> {
    text.push(c);
    None
}

fn of_match<'a>(piece: &'a Piece, found: &Match<'a>) -> &'a str {
    match piece {
        Piece::Text(text) => text,
        Piece::Group(0) => found.whole,
        Piece::Group(group) => found.groups[group - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[track_caller]
    fn sub(pattern: &str, replacement: &str, text: &str, expected: &str) {
        let pattern = Pattern::new(pattern).expect("a sound pattern");
        assert_eq!(pattern.replace(text, replacement, 0).expect("a sound replacement"), expected);
    }

    /// What Python 3.11's `re.sub` gives.
    #[test]
    fn replacements_are_pythons() {
        sub("[^a-z]", "_", "What's up?", "_hat_s_up_");
        sub(r"(a)(b)?", r"[\1\2]", "ab a", "[ab] [a]");
        sub(r"(?P<x>.)(.)", r"\g<2>\g<x>\g<0>", "ab", "baab");
        sub("x", r"\n\\\.\060\141", "x", "\n\\\\.0a");
        sub("x*", "-", "abxd", "-a-b--d-");
        sub("a", "", "banana", "bnn");
    }

    #[test]
    fn what_python_refuses_is_refused() {
        let pattern = Pattern::new("(a)").expect("a sound pattern");
        for replacement in [r"\2", r"\g<y>", r"\g", r"\q", r"\", r"\g<2>", r"\777"] {
            let e = pattern.replace("a", replacement, 0).expect_err(replacement);
            assert!(e.to_string().starts_with(replacement), "{e}");
        }
    }

    #[test]
    fn a_count_is_the_most() {
        let pattern = Pattern::new("a").expect("a sound pattern");
        assert_eq!(pattern.replace("aaa", "b", 2).expect("sound"), "bba");
        assert_eq!(pattern.remove("banana").expect("sound"), "bnn");
    }
}
