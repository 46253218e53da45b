//! Conversations as every source reads them.

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use logitfuse_text::Message;
use serde_json::{Map, Value};

use crate::Pipeline;

impl Pipeline {
    /// The prompt of each binding for a conversation. Each source's own chat template writes it; a source without one reads
    /// what the first one with a template reads. `variables` are those of the templates, and `fields` fill the sources' system
    /// messages, which count where the conversation has none.
    ///
    /// # Errors
    /// Where no source has a chat template, or a template fails.
    pub fn conversation(
        &self,
        messages: &[Message],
        variables: &Map<String, Value>,
        fields: &Value,
    ) -> Result<Vec<Vec<TokenId>>> {
        let write = |formatter: &crate::PromptFormatter| formatter.conversation(messages, variables, fields);
        let texts = self.formatters().iter().map(write).collect::<Result<Vec<_>>>()?;
        let Some(first) = texts.iter().flatten().next() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the models have no chat template that could write a conversation",
            )
            .with_help("send a text to complete, or set `chat_template` of a source"));
        };
        // A chat template has written the special tokens that are needed.
        let encode = |text: &Option<String>| self.tokenizer().encode(text.as_ref().unwrap_or(first), false);
        texts.iter().map(encode).collect()
    }
}
