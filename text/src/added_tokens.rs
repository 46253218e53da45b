//! Tokens that the files beside a `tokenizer.json` add, as Python's `transformers` reads them.

use std::{collections::BTreeMap, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::{SpecialTokens, files::read_json};

/// Tokens in the order of their ids: those of `added_tokens_decoder` in `tokenizer_config.json`; without it, those of the
/// older `added_tokens.json`, of which the ones with a name, such as `eos_token`, are control tokens.
pub(crate) fn beside(folder: &Path, special: &SpecialTokens) -> Result<Vec<AddedToken>> {
    let wrong = |path: &Path, what: &str| {
        Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()))
            .with_help("download the file again, or repair it")
    };
    if let Some((path, config)) = read_json(folder, "tokenizer_config.json")?
        && let Some(Value::Object(entries)) = config.get("added_tokens_decoder")
    {
        let token = |(id, entry): (&String, &Value)| {
            let parsed = id.parse::<TokenId>().ok().zip(Entry::deserialize(entry).ok());
            parsed.map(|(id, entry)| (id, entry.token()))
        };
        let tokens: Option<BTreeMap<TokenId, AddedToken>> = entries.iter().map(token).collect();
        let tokens = tokens.ok_or_else(|| wrong(&path, "`added_tokens_decoder` is not tokens by their ids"))?;
        return Ok(tokens.into_values().collect());
    }
    let Some((path, json)) = read_json(folder, "added_tokens.json")? else { return Ok(Vec::new()) };
    let ids = BTreeMap::<String, TokenId>::deserialize(&json).map_err(|_| wrong(&path, "not ids by their tokens"))?;
    let mut tokens: Vec<(TokenId, String)> = ids.into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort();
    let named = |token: &str| special.iter().any(|(_, named)| named == token);
    Ok(tokens.into_iter().map(|(_, token)| AddedToken::from(token.clone(), named(&token)).normalized(false)).collect())
}

/// An entry of `added_tokens_decoder`.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are those of the file")]
struct Entry {
    content: String,
    #[serde(default)]
    special: bool,
    normalized: Option<bool>,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

impl Entry {
    fn token(self) -> AddedToken {
        AddedToken::from(self.content, self.special)
            .normalized(self.normalized.unwrap_or(!self.special))
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
    }
}
