//! Prompt lookup: drafts from the text itself.

use logitfuse_core::TokenId;

use crate::Drafted;

/// The tokens that followed the longest end of the text that occurred before, latest occurrence first; at most `length`.
/// Ends of 2 to `longest` tokens are compared (prompt lookup decoding, Saxena 2023).
pub(crate) fn prompt_lookup(prompt: &[TokenId], tokens: &[TokenId], longest: usize, length: usize) -> Vec<Drafted> {
    let text: Vec<TokenId> = prompt.iter().chain(tokens).copied().collect();
    let found = (2..=longest.min(text.len().saturating_sub(1))).rev().find_map(|n| {
        let (before, end) = (&text[..text.len() - 1], &text[text.len() - n..]);
        before.windows(n).rposition(|window| window == end).map(|at| at + n)
    });
    let follows = found.map_or(&[][..], |at| &text[at..]);
    let draft = |&token| Drafted { token, candidates: vec![(token, 1.0)], confidence: 1.0 };
    follows.iter().take(length).map(draft).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_prefers_the_longest_and_then_the_latest() {
        let tokens = |prompt: &[TokenId], text: &[TokenId], length| -> Vec<TokenId> {
            prompt_lookup(prompt, text, 3, length).into_iter().map(|d| d.token).collect()
        };
        assert_eq!(tokens(&[1, 2, 3, 4, 9, 2, 3, 5], &[2, 3], 2), [5, 2]);
        assert_eq!(tokens(&[1, 2, 3, 4, 9, 2, 3, 5, 1], &[2, 3], 2), [4, 9]);
        assert!(tokens(&[1, 2, 3], &[4, 5], 2).is_empty());
        // A repetition may run into what it repeats.
        assert_eq!(tokens(&[7, 7], &[7], 5), [7]);
        assert!(tokens(&[], &[3], 5).is_empty());
    }
}
