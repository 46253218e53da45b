//! Texts beside each other, as wide as the terminal.

use std::fmt::Write;

use anstyle::Style;

use crate::table::TextTable;

/// Width where the output is no terminal, as in a pipe.
const USUAL_WIDTH: usize = 100;
/// Narrower columns are harder to read than texts below each other.
const LEAST: usize = 20;
const GAP: u16 = 3;

pub(super) struct Column<'a> {
    pub(super) title: &'a str,
    pub(super) text: String,
}

/// Characters of a line.
pub(super) fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
}

/// The columns side by side, wrapped at words; below each other where there is no room.
pub(super) fn side_by_side(columns: &[Column<'_>], width: usize) -> String {
    let bold = Style::new().bold();
    let count = columns.len().max(1);
    let each = width.saturating_sub(usize::from(GAP) * (count - 1)) / count;
    if each < LEAST {
        return columns.iter().fold(String::new(), |mut page, column| {
            let _ = write!(page, "{bold}{}{bold:#}\n{}\n\n", column.title, column.text);
            page
        });
    }
    let lay = |texts: Vec<String>| TextTable::new([texts]).gap(GAP).wrapped(each);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let titles = lay(columns.iter().map(|column| words(column.title)).collect());
    let texts = lay(columns.iter().map(|column| words(&column.text)).collect());
    format!("{bold}{titles}{bold:#}{texts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(columns: &[(&'static str, &str)], width: usize) -> String {
        let columns: Vec<Column<'_>> =
            columns.iter().map(|&(title, text)| Column { title, text: text.to_owned() }).collect();
        anstream::adapter::strip_str(&side_by_side(&columns, width)).to_string()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let columns =
            [("one", "a text of some words, which wraps"), ("two", "Donaudampfschifffahrtsgesellschaft ends")];
        for width in 43..90 {
            let page = plain(&columns, width);
            assert!(page.lines().all(|line| line.chars().count() <= width && !line.ends_with(' ')), "{width}\n{page}");
        }
        assert_eq!(plain(&[("a", "b c"), ("d", "e")], 43), "a                      d\nb c                    e\n");
    }

    #[test]
    fn on_a_narrow_terminal_texts_are_below_each_other() {
        assert_eq!(plain(&[("one", "x y"), ("two", "z")], 42), "one\nx y\n\ntwo\nz\n\n");
    }
}
