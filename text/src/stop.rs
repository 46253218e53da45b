use std::{ops::Range, sync::Arc};

/// A search for stop strings in streamed text, which cuts the text off before the first one.
///
/// A stop string may begin in one token and end in another. Text that could still turn out to be the beginning of one
/// is held back, so nothing that is shown has to be taken back, and the result does not depend on how the text was
/// cut into pieces. The first stop string is the one that is complete first, since there a generation ends; of several
/// that end at the same character, it is the longest.
///
/// ```
/// use logitfuse_text::StopStrings;
///
/// let mut stops = StopStrings::new(["\n\nUser:", "###"]);
/// assert_eq!(stops.push("Fine.\n"), ("Fine.".to_owned(), None));
/// assert_eq!(stops.push("\nUs"), (String::new(), None));
/// assert_eq!(stops.push("ers say"), ("\n\nUsers say".to_owned(), None));
/// assert_eq!(stops.push(" #### more"), (" ".to_owned(), Some("###".to_owned())));
/// assert_eq!(stops.finish(), "");
/// ```
#[derive(Clone, Debug)]
pub struct StopStrings {
    /// The longest first. Copies of a search share them.
    stops: Arc<[String]>,
    held: String,
    /// The parts of `held` that are not shown.
    hidden: Vec<Range<usize>>,
    stopped: bool,
}

/// Where a search stands after some text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Bytes of shown text from where the stop string begins, or could begin, to the end of all text.
    pub(crate) after: usize,
    /// The stop string that is complete.
    pub(crate) stop: Option<String>,
}

impl StopStrings {
    /// A search at the beginning of a text. Empty strings, which would stop everything, are left out.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut stops: Vec<String> = stops.into_iter().map(Into::into).filter(|stop| !stop.is_empty()).collect();
        stops.sort_by_key(|stop| std::cmp::Reverse(stop.len()));
        Self { stops: stops.into(), held: String::new(), hidden: Vec::new(), stopped: false }
    }

    /// Takes more text. Returns what is certain to stand before any stop string, and the stop string if one is complete;
    /// after that there is no more text.
    pub fn push(&mut self, text: &str) -> (String, Option<String>) {
        if self.stopped {
            return (String::new(), None);
        }
        let mut certain = self.held.clone() + text;
        let Found { after, stop } = self.advance(text, &[]);
        certain.truncate(certain.len() - after);
        (certain, stop)
    }

    /// Takes more text, parts of which are searched and not shown.
    pub(crate) fn advance(&mut self, text: &str, hidden: &[Range<usize>]) -> Found {
        if self.stopped {
            return Found { after: 0, stop: None };
        }
        let known = self.held.len();
        self.held.push_str(text);
        self.hidden.extend(hidden.iter().map(|range| known + range.start..known + range.end));
        for end in self.held[known..].char_indices().map(|(at, c)| known + at + c.len_utf8()) {
            let complete = self.stops.iter().find(|stop| self.held[..end].ends_with(stop.as_str()));
            if let Some(stop) = complete.cloned() {
                self.stopped = true;
                self.let_go(end - stop.len());
                let after = self.shown();
                self.let_go(self.held.len());
                return Found { after, stop: Some(stop) };
            }
        }
        self.let_go(self.held.len() - self.uncertain());
        Found { after: self.shown(), stop: None }
    }

    /// Forgets the beginning of what is held.
    fn let_go(&mut self, bytes: usize) {
        self.held.drain(..bytes);
        self.hidden.retain_mut(|range| {
            *range = range.start.saturating_sub(bytes)..range.end.saturating_sub(bytes);
            range.start < range.end
        });
    }

    /// Bytes of what is held that are shown.
    fn shown(&self) -> usize {
        self.held.len() - self.hidden.iter().map(ExactSizeIterator::len).sum::<usize>()
    }

    /// Whether there is no stop string.
    pub fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// The text that was held back and is no stop string after all, now that nothing follows.
    pub fn finish(self) -> String {
        self.held
    }

    /// The length of the longest end of the text that a stop string could begin with.
    fn uncertain(&self) -> usize {
        let longest = self.stops.first().map_or(0, |stop| stop.len() - 1);
        (1..=longest.min(self.held.len()))
            .rev()
            .filter_map(|length| self.held.get(self.held.len() - length..))
            .find(|tail| self.stops.iter().any(|stop| stop.len() > tail.len() && stop.starts_with(tail)))
            .map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Looks at the whole text at once: the smallest end at which a stop string ends.
    fn naive(text: &str, stops: &[String]) -> (String, Option<String>) {
        let ends = (1..=text.len()).filter(|&end| text.is_char_boundary(end));
        for end in ends {
            let complete = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
            if let Some(stop) = complete.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_text_gives(
            // A small alphabet with characters of several bytes that share bytes, so that stops overlap often.
            pieces in prop::collection::vec("[abé日旦]{0,4}", 0..20),
            stops in prop::collection::vec("[abé日旦]{0,4}", 0..4),
        ) {
            let mut search = StopStrings::new(stops.clone());
            let mut text = String::new();
            let mut stopped = None;
            for piece in &pieces {
                let (certain, stop) = search.push(piece);
                text += &certain;
                if stop.is_some() {
                    prop_assert!(stopped.is_none());
                    stopped = stop;
                }
            }
            text += &search.finish();
            prop_assert_eq!((text, stopped), naive(&pieces.concat(), &stops));
        }
    }

    #[test]
    fn the_one_that_is_complete_first_wins() {
        let mut search = StopStrings::new(["abcd", "bc"]);
        assert_eq!(search.push("xabcd"), ("xa".to_owned(), Some("bc".to_owned())));
        assert_eq!(search.push("more"), (String::new(), None));
    }

    #[test]
    fn no_more_is_held_than_a_stop_string_could_begin_with() {
        let mut search = StopStrings::new(["aab"]);
        assert_eq!(search.push("aaaa").0, "aa");
        assert_eq!(search.push("c").0, "aac");
        assert_eq!(search.push("xa").0, "x");
        assert_eq!(search.finish(), "a");
    }

    #[test]
    fn without_stops_nothing_is_held() {
        let mut search = StopStrings::new([""]);
        assert_eq!(search.push("all of it"), ("all of it".to_owned(), None));
    }
}
