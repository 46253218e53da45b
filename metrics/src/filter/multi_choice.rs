use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};

use super::RegexFilter;
use crate::{
    pattern::{Pattern, escape},
    python,
};

/// The filter `multi_choice_regex`: by the pattern; else by the text of a choice; else by a letter after a colon.
#[derive(Clone, Debug)]
pub(super) struct MultiChoice {
    pub(super) regex: RegexFilter,
    pub(super) ignore_case: bool,
    pub(super) ignore_punctuation: bool,
    pub(super) ignored: Vec<Pattern>,
}

/// What one item's choices come to.
pub(super) struct Choices {
    texts: Pattern,
    letters: Pattern,
    answer_of_text: BTreeMap<String, String>,
}

impl MultiChoice {
    pub(super) fn choices(&self, choices: &[String]) -> Result<Choices> {
        if choices.len() > 26 {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("choices: {} of them, and multi_choice_regex has 26 letters", choices.len()),
            ));
        }
        let letters: Vec<char> = ('A'..='Z').take(choices.len()).collect();
        let mut answer_of_text = BTreeMap::new();
        let mut escaped = Vec::new();
        for (choice, letter) in choices.iter().zip(&letters) {
            let text = self.comparable(python::strip(choice))?;
            escaped.push(escape(&text));
            // The last of equal choices wins, as in a Python dictionary.
            answer_of_text.insert(text, format!("({letter})"));
        }
        // Longest first, so that a choice cannot hide a longer one that begins with it.
        escaped.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
        let letters: Vec<String> = letters.iter().map(char::to_string).collect();
        Ok(Choices {
            texts: Pattern::new(&escaped.join("|"))?,
            letters: Pattern::new(&format!(r":[\s]*({})", letters.join("|")))?,
            answer_of_text,
        })
    }

    pub(super) fn apply(&self, text: &str, choices: &Choices) -> Result<String> {
        let found = |found: Option<String>| found.filter(|found| !found.is_empty());
        if let Some(answer) = found(self.regex.select(&self.regex.pattern, text)?) {
            return Ok(answer);
        }
        if let Some(choice) = found(self.regex.select(&choices.texts, &self.comparable(text)?)?) {
            return Ok(choices.answer_of_text.get(&choice).cloned().unwrap_or(choice));
        }
        if let Some(letter) = found(self.regex.select(&choices.letters, text)?) {
            return Ok(format!("({letter})"));
        }
        Ok(self.regex.fallback.clone())
    }

    fn comparable(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for ignored in &self.ignored {
            text = ignored.remove(&text)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text = python::without_unicode_punctuation(&text);
        }
        Ok(text)
    }
}
