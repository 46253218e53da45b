//! Text tables: the layout is that of `comfy-table`, the look is the same everywhere.
//!
//! Nothing is drawn around cells and columns are two blanks apart, so that what reads a pipe can split a line at them.
//! Lines have no blanks at their ends.

use std::{fmt, ops::Range};

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets::NOTHING};

/// Blanks between two columns.
const GAP: u16 = 2;

/// Rows of text in aligned columns; displayed, every row ends with a newline.
pub(crate) struct TextTable(Table);

impl TextTable {
    pub(crate) fn new<Row>(rows: impl IntoIterator<Item = Row>) -> Self
    where
        Row: IntoIterator<Item: ToString>,
    {
        let mut table = Table::new();
        table.load_style(NOTHING);
        for row in rows {
            table.add_row(row.into_iter().map(|cell| cell.to_string()).collect::<Vec<String>>());
        }
        Self(table).gap(GAP)
    }

    /// This many blanks between columns.
    pub(crate) fn gap(mut self, blanks: u16) -> Self {
        for (index, column) in self.0.column_iter_mut().enumerate() {
            column.set_padding((if index == 0 { 0 } else { blanks }, 0));
        }
        self
    }

    /// This many blanks before every row.
    pub(crate) fn indented(mut self, blanks: u16) -> Self {
        if let Some(column) = self.0.column_mut(0) {
            column.set_padding((blanks, 0));
        }
        self
    }

    /// Aligns these columns to the right, as numbers are.
    pub(crate) fn right(mut self, columns: Range<usize>) -> Self {
        for column in self.0.column_iter_mut().skip(columns.start).take(columns.len()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    /// Makes a column at least so many characters wide, as where several tables are to be aligned with each other.
    pub(crate) fn at_least(self, column: usize, characters: usize) -> Self {
        self.constrain(column, characters, ColumnConstraint::LowerBoundary)
    }

    /// Makes every column so many characters wide; longer texts are wrapped at words.
    pub(crate) fn wrapped(self, characters: usize) -> Self {
        let columns = self.0.column_iter().count();
        (0..columns).fold(self, |table, column| table.constrain(column, characters, ColumnConstraint::Absolute))
    }

    fn constrain(mut self, column: usize, characters: usize, constraint: fn(Width) -> ColumnConstraint) -> Self {
        if let Some(column) = self.0.column_mut(column) {
            let width = u16::try_from(characters).unwrap_or(u16::MAX).saturating_add(column.padding_width());
            column.set_constraint(constraint(Width::Fixed(width)));
        }
        self
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.row_count().checked_sub(1).map_or(Ok(()), |_| writeln!(f, "{}", self.0.trim_fmt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_cell() {
        let rows = [["name", "n", "text"], ["a", "10", "x"], ["übel", "7", ""]];
        assert_eq!(TextTable::new(rows).to_string(), "name  n   text\na     10  x\nübel  7\n");
        assert_eq!(
            TextTable::new(rows).right(1..2).indented(2).to_string(),
            "  name   n  text\n  a     10  x\n  übel   7\n"
        );
        assert_eq!(TextTable::new([["a", "b"]]).at_least(0, 5).to_string(), "a      b\n");
        assert_eq!(TextTable::new([["  a", "b"], ["head", "c"]]).to_string(), "  a   b\nhead  c\n");
        assert_eq!(TextTable::new(Vec::<[&str; 2]>::new()).to_string(), "");
    }
}
