//! Where a prompt ends and what is scored begins, in tokens.
//!
//! lm-eval's rules: white space at the end of a context belongs to the continuation, because tokens of most vocabularies
//! begin with it; context and continuation are encoded as one text, and what lies behind the context's own tokens is the
//! continuation.

use logitfuse_core::{Result, TokenId};
use logitfuse_metrics::python;
use logitfuse_text::Tokenizer;

/// The end of a context, behind which continuations are cut off.
pub(crate) struct Split<'a> {
    tokenizer: &'a Tokenizer,
    /// The context without the white space at its end, that white space, and the tokens of the former.
    context: &'a str,
    spaces: &'a str,
    length: usize,
    /// What stands for an empty context.
    prefix: TokenId,
}

impl<'a> Split<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, context: &'a str, prefix: TokenId) -> Result<Self> {
        let (context, spaces) = trimmed(context);
        Ok(Self { tokenizer, context, spaces, length: tokenizer.encode(context, false)?.len(), prefix })
    }

    /// The tokens of a continuation. Behind an empty context the token that stands for it is not scored.
    pub(crate) fn continuation(&self, text: &str) -> Result<Vec<TokenId>> {
        let mut whole = self.tokenizer.encode(&[self.context, self.spaces, text].concat(), false)?;
        if self.context.is_empty() {
            if whole.first() == Some(&self.prefix) {
                whole.remove(0);
            }
            return Ok(whole);
        }
        Ok(whole.split_off(self.length.min(whole.len())))
    }
}

/// A context without the white space at its end, and that white space.
pub(crate) fn trimmed(context: &str) -> (&str, &str) {
    context.split_at(python::rstrip(context).len())
}

/// A text in windows of at most `length` tokens of input, each token predicted once: `(context, continuation)` pairs. The
/// last window is filled up with what comes before it. lm-eval's `get_rolling_token_windows` with a context of one token,
/// through `make_disjoint_window`.
pub(crate) fn rolling_windows(tokens: &[TokenId], prefix: TokenId, length: usize) -> Vec<(Vec<TokenId>, Vec<TokenId>)> {
    let length = length.max(1);
    let window = |(nth, window): (usize, &[TokenId])| {
        let start = nth * length;
        let context = if nth == 0 { vec![prefix] } else { tokens[start + window.len() - length - 1..start].to_vec() };
        (context, window.to_vec())
    };
    tokens.chunks(length).enumerate().map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters, and a few pairs of them; white space goes with what follows, as in byte-level vocabularies.
    fn tokenizer() -> Tokenizer {
        Tokenizer::from_json(
            r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "Ġa": 3, "ab": 4, "c": 5, "E": 6},
                "merges": ["Ġ a", "a b"]}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}}"#,
        )
        .expect("a sound tokenizer")
    }

    fn split(context: &str, continuation: &str) -> Vec<TokenId> {
        let tokenizer = tokenizer();
        let split = Split::new(&tokenizer, context, 6).expect("letters");
        split.continuation(continuation).expect("letters")
    }

    #[test]
    fn white_space_goes_with_what_follows() {
        assert_eq!(split("c", " a"), [3]);
        assert_eq!(split("c ", "a"), [3]);
        assert_eq!(split("c  ", "a"), [2, 3]);
    }

    #[test]
    fn what_lies_behind_the_context_is_scored() {
        // "a" + "b" is one token: as in lm-eval, nothing of it is left.
        assert!(split("a", "b").is_empty());
        assert_eq!(split("a", "bc"), [5]);
        assert_eq!(split("ca", "ca"), [5, 0]);
    }

    #[test]
    fn an_empty_context_is_stood_for_by_a_token_that_is_not_scored() {
        assert_eq!(split("", "ab"), [4]);
        assert_eq!(split("", "Eab"), [4]);
        assert_eq!(split(" ", "a"), [3]);
    }

    #[test]
    fn windows_are_lm_evals() {
        // `[make_disjoint_window(w) for w in get_rolling_token_windows(list(range(n)), 99, length, 1)]`
        let windows = |n: TokenId, length| rolling_windows(&(0..n).collect::<Vec<_>>(), 99, length);
        let pair = |context: &[TokenId], continuation: &[TokenId]| (context.to_vec(), continuation.to_vec());
        assert!(windows(0, 4).is_empty());
        assert_eq!(windows(3, 4), [pair(&[99], &[0, 1, 2])]);
        assert_eq!(windows(4, 4), [pair(&[99], &[0, 1, 2, 3])]);
        assert_eq!(windows(5, 4), [pair(&[99], &[0, 1, 2, 3]), pair(&[0, 1, 2, 3], &[4])]);
        assert_eq!(windows(9, 4), [pair(&[99], &[0, 1, 2, 3]), pair(&[3], &[4, 5, 6, 7]), pair(&[4, 5, 6, 7], &[8])]);
        assert_eq!(windows(3, 1), [pair(&[99], &[0]), pair(&[0], &[1]), pair(&[1], &[2])]);
    }
}
