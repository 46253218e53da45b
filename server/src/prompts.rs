//! Prompts as every source reads them, checked before anything is submitted.

use logitfuse::TokenId;
use serde_json::{Map, Value, json};

use crate::{error::ApiError, models::ServedModel, prompt::PromptItem};

/// A prompt for every binding.
pub(crate) type Prompts = Vec<Vec<TokenId>>;

/// The prompts of a completion. A text or tokens are what every source reads; with fields, each source's own templates write
/// what it reads.
pub(crate) fn of_completion(
    model: &ServedModel,
    item: &PromptItem,
    fields: &Map<String, Value>,
) -> Result<Prompts, ApiError> {
    let prompts = match item {
        PromptItem::Tokens(_) if !fields.is_empty() => {
            let message = "fusion.fields: templates write texts; send the prompt as a text";
            return Err(ApiError::invalid("fusion.fields", message));
        }
        PromptItem::Tokens(tokens) => vec![tokens.clone(); model.bindings.len()],
        PromptItem::Text(text) if fields.is_empty() => {
            let tokens = model.pipeline.tokenizer().encode(text, true).map_err(|e| ApiError::of(&e).about("prompt"))?;
            vec![tokens; model.bindings.len()]
        }
        PromptItem::Text(text) => {
            let mut fields = fields.clone();
            fields.insert("prompt".to_owned(), json!(text));
            let request = model.pipeline.request(Value::Object(fields));
            request.map_err(|e| ApiError::of(&e).about("fusion.fields"))?.prompts
        }
    };
    check(model, &prompts, "prompt")?;
    Ok(prompts)
}

/// How many tokens the tokenizer put before a prompt's own. Clients count tokens without them, and take log-probabilities by
/// position.
pub(crate) fn added_before(model: &ServedModel, item: &PromptItem, tokens: &[TokenId]) -> Result<usize, ApiError> {
    let PromptItem::Text(text) = item else { return Ok(0) };
    let own = model.pipeline.tokenizer().encode(text, false).map_err(|e| ApiError::of(&e).about("prompt"))?;
    if own.is_empty() {
        return Ok(tokens.len());
    }
    Ok(tokens.windows(own.len()).position(|window| window == own).unwrap_or(0))
}

/// Refuses what a source cannot read.
pub(crate) fn check(model: &ServedModel, prompts: &[Vec<TokenId>], param: &str) -> Result<(), ApiError> {
    let sources: Vec<_> = model.pipeline.sources().collect();
    for (prompt, &source) in prompts.iter().zip(model.pipeline.fusion().binding_sources()) {
        let Some(info) = sources.get(source) else { continue };
        if prompt.is_empty() {
            return Err(ApiError::invalid(param, format!("{param}: the prompt has no token; send one at least")));
        }
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= info.logit_width) {
            let width = info.logit_width;
            return Err(ApiError::invalid(param, format!("{param}: token {id} is not in the vocabulary of {width}")));
        }
        if let Some(limit) = info.context_length.filter(|&limit| prompt.len() > limit) {
            let message =
                format!("{param}: the prompt has {} tokens, the context holds {limit}; shorten it", prompt.len());
            return Err(ApiError::invalid(param, message).context_length());
        }
    }
    Ok(())
}
