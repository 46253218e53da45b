//! Where a prompt ends and what is scored begins, in tokens.
//!
//! lm-eval's rules, `joint`: white space at the end of a context belongs to the continuation, because tokens of most vocabularies
//! begin with it; context and continuation are encoded as one text, and what lies behind the context's own tokens is the
//! continuation. Where the tokenizer joins the prompt's end with what follows, the joined token counts to the prompt, and the
//! model reads the prompt without it: a newline after `:` is lost where `:\n` is one token.
//!
//! `separate`: both are encoded by themselves, and nothing is lost.

use logitfuse_config::Tokenization;
use logitfuse_core::{Result, TokenId};
use logitfuse_metrics::python;
use logitfuse_text::Tokenizer;

/// The end of a context, behind which continuations are cut off.
pub(crate) struct Split<'a> {
    tokenizer: &'a Tokenizer,
    tokenization: Tokenization,
    /// The context without the white space at its end, that white space, and the tokens of the former.
    context: &'a str,
    spaces: &'a str,
    tokens: Vec<TokenId>,
    /// What stands for an empty context.
    prefix: TokenId,
}

impl<'a> Split<'a> {
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        tokenization: Tokenization,
        context: &'a str,
        prefix: TokenId,
    ) -> Result<Self> {
        let (context, spaces) = trimmed(context);
        let tokens = match tokenization {
            Tokenization::Joint => tokenizer.encode(context, false)?,
            Tokenization::Separate => Vec::new(),
        };
        Ok(Self { tokenizer, tokenization, context, spaces, tokens, prefix })
    }

    /// The tokens of a continuation, and whether the tokenizer joins the context's end with it, so that a piece of the text is
    /// neither in the prompt nor scored. Behind an empty context the token that stands for it is not scored.
    pub(crate) fn continuation(&self, text: &str) -> Result<(Vec<TokenId>, bool)> {
        if self.tokenization == Tokenization::Separate {
            return Ok((self.tokenizer.encode(text, false)?, false));
        }
        let mut whole = self.whole(text)?;
        if self.context.is_empty() {
            if whole.first() == Some(&self.prefix) {
                whole.remove(0);
            }
            return Ok((whole, false));
        }
        let lost = !whole.starts_with(&self.tokens);
        Ok((whole.split_off(self.tokens.len().min(whole.len())), lost))
    }

    fn whole(&self, text: &str) -> Result<Vec<TokenId>> {
        self.tokenizer.encode(&[self.context, self.spaces, text].concat(), false)
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
        let split = Split::new(&tokenizer, Tokenization::Joint, context, 6).expect("letters");
        split.continuation(continuation).expect("letters").0
    }

    #[test]
    fn what_is_joined_is_lost_unless_each_is_encoded_by_itself() {
        let tokenizer = tokenizer();
        let of = |tokenization, context: &str, text: &str| {
            let split = Split::new(&tokenizer, tokenization, context, 6).expect("letters");
            split.continuation(text).expect("letters")
        };
        // "ab" is one token: the model reads "a", and the "b" is nowhere.
        assert_eq!(of(Tokenization::Joint, "ca", "bc"), (vec![5], true));
        assert_eq!(of(Tokenization::Joint, "c", "ab"), (vec![4], false));
        assert_eq!(of(Tokenization::Separate, "ca", "bc"), (vec![1, 5], false));
        assert_eq!(of(Tokenization::Separate, "c ", "a"), (vec![0], false));
        assert_eq!(of(Tokenization::Joint, "", "ab"), (vec![4], false));
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
