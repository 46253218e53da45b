//! Texts that an experiment is made of, and places in them.
//!
//! Every text has its own stretch of one long address space, so that a span of a merged document says by itself which file
//! or override it comes from.

use std::{fmt, ops::Range, sync::Arc};

/// A file, or the words of an override.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceText {
    /// The file as the user would name it, or `--set #2`.
    pub(crate) name: String,
    pub(crate) text: String,
    /// Where its stretch of the address space begins.
    pub(crate) base: usize,
}

/// All texts of one experiment.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceMap {
    texts: Vec<Arc<SourceText>>,
}

impl SourceMap {
    pub(crate) fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> Arc<SourceText> {
        // One more than the length, so that the end of a text is not the beginning of the next.
        let base = self.texts.last().map_or(0, |last| last.base + last.text.len() + 1);
        // As other readers of TOML have it: what ends a line says nothing of what a string over several lines holds.
        let text = text.into().replace("\r\n", "\n");
        let text = SourceText { name: name.into(), text, base };
        self.texts.push(Arc::new(text));
        Arc::clone(&self.texts[self.texts.len() - 1])
    }

    pub(crate) fn first(&self) -> Option<&Arc<SourceText>> {
        self.texts.first()
    }

    /// Where a span of the merged document was written.
    pub(crate) fn place(&self, span: &Range<usize>) -> Option<Place> {
        let after = self.texts.partition_point(|text| text.base <= span.start);
        let source = self.texts.get(after.checked_sub(1)?)?;
        Some(Place::new(source, span.start - source.base..span.end.saturating_sub(source.base)))
    }
}

/// A stretch of a text, to be shown and underlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    source: Arc<SourceText>,
    range: Range<usize>,
}

impl Place {
    /// The range is of bytes in the text; what lies outside of it, or within a character, is brought in.
    pub(crate) fn new(source: &Arc<SourceText>, range: Range<usize>) -> Self {
        let start = source.text.floor_char_boundary(range.start);
        let end = source.text.ceil_char_boundary(range.end).max(start);
        Self { source: Arc::clone(source), range: start..end }
    }

    /// The file, or `--set #2`.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// The bytes of the text that are meant.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.before().matches('\n').count() + 1
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> usize {
        self.before().rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1
    }

    fn before(&self) -> &str {
        &self.source.text[..self.range.start]
    }
}

/// `file:line:column`, or `line:column` for a text without a name.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name().is_empty() {
            write!(f, "{}:", self.name())?;
        }
        write!(f, "{}:{}", self.line(), self.column())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_knows_its_text() {
        let mut map = SourceMap::default();
        let first = map.add("a.toml", "é = 1\n");
        let second = map.add("--set #1", "b=2");
        let place = |offset: usize, source: &SourceText| map.place(&(source.base + offset..source.base + offset + 1));
        assert_eq!(place(5, &first).map(|p| p.to_string()).as_deref(), Some("a.toml:1:5"));
        assert_eq!(place(7, &first).map(|p| p.to_string()).as_deref(), Some("a.toml:2:1"));
        assert_eq!(place(2, &second).map(|p| p.to_string()).as_deref(), Some("--set #1:1:3"));
        assert_eq!(SourceMap::default().place(&(0..1)), None);
        // Within a character and past the end.
        assert_eq!(Place::new(&first, 1..1).range(), 0..2);
        assert_eq!(Place::new(&first, 90..95).range(), 7..7);
    }
}
