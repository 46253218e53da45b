//! Words from a plugin, made fit for a terminal and a report.

/// The longest text of a plugin that the host repeats, in characters.
const LONGEST: usize = 2_000;

/// One line without control characters, and without the characters that reorder or hide what surrounds them; shortened
/// where it rambles. Invalid UTF-8 shows as replacement characters.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let mut line = String::new();
    for (n, c) in String::from_utf8_lossy(bytes).chars().enumerate() {
        if n == LONGEST {
            line.push('…');
            break;
        }
        match c {
            '\n' | '\t' => line.push(' '),
            '\r' => {}
            c if c.is_control() || deceives(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// Marks that reorder text or take no room.
pub(crate) fn deceives(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_newlines_and_rambling() {
        assert_eq!(clean(b"a\x1b[31mred\nblue\xff"), "a\\u{1b}[31mred blue\u{fffd}");
        assert_eq!(clean("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(clean(&[b'x'; 3_000]).chars().count(), LONGEST + 1);
    }
}
