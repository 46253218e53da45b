//! Words from a plugin, made fit for a terminal and a report.

/// The longest text of a plugin that the host repeats, in characters.
const LONGEST: usize = 2_000;

/// Text of a plugin as one line that is safe to print: control characters and those that reorder or hide their neighbours
/// are escaped, line breaks become spaces, more than 2000 characters are cut. Invalid UTF-8 becomes U+FFFD.
///
/// ```
/// assert_eq!(logitfuse_plugin_host::printable(b"a\x1b[31mred\nblue"), "a\\u{1b}[31mred blue");
/// ```
pub fn printable(bytes: &[u8]) -> String {
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
fn deceives(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_controls_and_cuts_long_text() {
        assert_eq!(printable(b"a\x1b[31mred\nblue\xff"), "a\\u{1b}[31mred blue\u{fffd}");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(printable(&[b'x'; 3_000]).chars().count(), LONGEST + 1);
    }
}
