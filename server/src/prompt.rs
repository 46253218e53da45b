//! What a completion continues: texts or tokens, one or several.

use std::{borrow::Cow, fmt};

use logitfuse::TokenId;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// The prompts of a request, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PromptInput(pub(crate) Vec<PromptItem>);

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PromptItem {
    Text(String),
    Tokens(Vec<TokenId>),
}

/// The first item of a list decides of what it is one.
enum First {
    Text(String),
    Token(TokenId),
    Tokens(Vec<TokenId>),
}

const EXPECTED: &str = "a text, a list of token ids, a list of texts, or a list of lists of token ids";

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = First;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a token id, or a list of token ids")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<First, E> {
                Ok(First::Text(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, id: u64) -> Result<First, E> {
                let id = TokenId::try_from(id);
                id.map(First::Token).map_err(|_| E::custom("a token id has 32 bits"))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<First, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(First::Tokens)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for PromptInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would keep every number as a value of its own, and say nothing of what is wrong.
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PromptInput;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PromptInput, E> {
                Ok(PromptInput(vec![PromptItem::Text(text.to_owned())]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<PromptInput, A::Error> {
                let Some(first) = seq.next_element()? else {
                    return Err(de::Error::custom("the list of prompts is empty"));
                };
                Ok(PromptInput(match first {
                    First::Token(first) => {
                        let mut tokens = vec![first];
                        while let Some(token) = seq.next_element()? {
                            tokens.push(token);
                        }
                        vec![PromptItem::Tokens(tokens)]
                    }
                    First::Text(first) => {
                        let mut prompts = vec![PromptItem::Text(first)];
                        while let Some(text) = seq.next_element()? {
                            prompts.push(PromptItem::Text(text));
                        }
                        prompts
                    }
                    First::Tokens(first) => {
                        let mut prompts = vec![PromptItem::Tokens(first)];
                        while let Some(tokens) = seq.next_element()? {
                            prompts.push(PromptItem::Tokens(tokens));
                        }
                        prompts
                    }
                }))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PromptInput {
    fn schema_name() -> Cow<'static, str> {
        "Prompt".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let token = || json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
        let tokens = || json_schema!({ "type": "array", "items": token(), "minItems": 1 });
        json_schema!({
            "description": EXPECTED,
            "anyOf": [
                { "type": "string" },
                tokens(),
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                { "type": "array", "items": tokens(), "minItems": 1 },
            ],
        })
    }
}

/// One text or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Texts, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Texts)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One text, or a list of them.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_prompt_is_read() {
        let read = |json: &str| serde_json::from_str::<PromptInput>(json).unwrap().0;
        let text = |text: &str| PromptItem::Text(text.to_owned());
        assert_eq!(read(r#""a b""#), [text("a b")]);
        assert_eq!(read(r#"["a", ""]"#), [text("a"), text("")]);
        assert_eq!(read("[1, 2]"), [PromptItem::Tokens(vec![1, 2])]);
        assert_eq!(read("[[1], [2, 3]]"), [PromptItem::Tokens(vec![1]), PromptItem::Tokens(vec![2, 3])]);
        for bad in [
            "[]",
            "1",
            "null",
            "{}",
            "[1, \"a\"]",
            "[\"a\", 1]",
            "[[1], 2]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[[[1]]]",
        ] {
            assert!(serde_json::from_str::<PromptInput>(bad).is_err(), "{bad}");
        }
    }
}
