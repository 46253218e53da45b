//! Everything between text and token ids: tokenizers, chat templates, streaming output, and the check that several models
//! have the same vocabulary.
//!
//! # Why this crate exists
//!
//! Fusion adds up logits column by column. That is only meaningful if column 523 is the same token in every model, so
//! [`compatibility`] compares the tokenizers token by token before anything runs, and says which ids differ. Around it
//! stand the things that every decode loop needs and that are easy to get nearly right: a [`ChatTemplate`] that renders
//! what Python would have rendered, a [`TextStream`] whose deltas add up to exactly the text that decoding all tokens at
//! once would give, and [`StopStrings`] that are found even when they straddle tokens.
//!
//! # From a prompt to streamed text
//!
//! ```
//! use logitfuse_text::{ChatTemplate, Message, OutputText, Tokenizer};
//!
//! # fn main() -> logitfuse_core::Result<()> {
//! # let tokenizer = Tokenizer::from_json(r####"{"model": {"type": "WordLevel", "unk_token": "?",
//! #     "vocab": {"?": 0, "user": 1, ":": 2, "hello": 3, "world": 4, "###": 5}}, "pre_tokenizer": {"type": "Whitespace"}}"####)?;
//! // let tokenizer = Tokenizer::load("models/smollm2".as_ref())?;
//! let template = ChatTemplate::from_text("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}")?;
//! let prompt = template.render(&[Message::new("user", "hello")], false)?;
//! assert_eq!(prompt, "user: hello");
//! // A chat template writes the special tokens itself, so the tokenizer must not add them again.
//! assert_eq!(tokenizer.encode(&prompt, false)?, [1, 2, 3]);
//!
//! let mut output = OutputText::new(&tokenizer, &["###".to_owned()]);
//! assert_eq!(output.push(3)?.text, "hello");
//! assert_eq!(output.push(5)?.stopped.as_deref(), Some("###"));
//! # Ok(())
//! # }
//! ```

mod added_tokens;
mod compatibility;
mod decoding;
mod files;
mod jinja;
mod nearest;
mod outline;
mod output;
mod panics;
mod prompt_template;
mod python;
mod special;
mod stop;
mod stream;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use compatibility::{CompatibilityReport, Difference, SourceVocabulary, VocabularyReport, compatibility};
pub use files::read_text_file;
pub use logitfuse_core::TextDelta;
pub use nearest::{did_you_mean, nearest};
pub use output::{DetokenizeOptions, OutputText};
pub use prompt_template::PromptTemplate;
pub use python::python_str;
pub use special::SpecialTokens;
pub use stop::StopStrings;
pub use stream::TextStream;
pub use template::{ChatTemplate, Message};
pub use tokenizer::Tokenizer;

// Engines run on several threads and share what does not change.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Tokenizer>();
    shared::<ChatTemplate>();
    sent::<OutputText>();
};
