//! Small tokenizers of every kind that language models use, trained or written here.

use std::sync::LazyLock;

use logitfuse_core::TokenId;
use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

use crate::Tokenizer;

const SENTENCES: [&str; 5] = [
    "the cat sat on the mat, the cat sat on the hat",
    "that is what the other one said about the naïve café",
    "the weather there is rather better than the weather here",
    "日本語の文章と日本の天気",
    "🙂🙂👩‍👩‍👧 happy people",
];

/// As GPT-2, Llama 3 and Qwen do it.
pub(crate) fn byte_level_json() -> String {
    let level = ByteLevel::new(false, false, true);
    let mut tokenizer = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(level))
        .with_post_processor(Some(level))
        .with_decoder(Some(level))
        .build()
        .unwrap();
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(330)
        .special_tokens(special.map(|text| AddedToken::from(text, true)).to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, SENTENCES.iter()).unwrap();
    tokenizer.add_tokens([AddedToken::from("<plain é>", false)]).unwrap();
    serde_json::to_string(&tokenizer).unwrap()
}

pub(crate) fn byte_level() -> Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::from_json(&byte_level_json()).unwrap());
    TOKENIZER.clone()
}

/// As Llama 2, Mistral and Gemma do it: spaces written as `▁`, and bytes for what the vocabulary lacks.
pub(crate) fn byte_fallback() -> Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        fallback(
            &json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]}),
            &json!({"type": "Sequence", "decoders": [
                replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, strip(" ", 1),
            ]}),
        )
    });
    TOKENIZER.clone()
}

/// The byte-fallback vocabulary behind any decoder.
fn fallback(normalizer: &Value, decoder: &Value) -> Tokenizer {
    let special = ["<unk>", "<s>", "</s>"];
    let pieces = ["▁", "▁t", "th", "he", "the", "▁the", "at", "cat", "▁▁", "é"];
    let tokens = special
        .into_iter()
        .map(str::to_owned)
        .chain((0..=255).map(|byte| format!("<0x{byte:02X}>")))
        .chain(('a'..='z').map(String::from))
        .chain(pieces.map(str::to_owned));
    let vocab: Map<_, _> = tokens.zip(0..).map(|(token, id)| (token, Value::from(id))).collect();
    let merges = ["▁ t", "t h", "h e", "t he", "▁ the", "a t", "c at", "▁ ▁"];
    let json = json!({
        "added_tokens": special.iter().zip(0..).map(|(token, id)| added(token, id)).collect::<Vec<_>>(),
        "normalizer": normalizer,
        "decoder": decoder,
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                  "merges": merges},
    });
    Tokenizer::from_json(&json.to_string()).unwrap()
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
}

fn strip(content: &str, start: usize) -> Value {
    json!({"type": "Strip", "content": content, "start": start, "stop": 0})
}

fn added(content: &str, id: TokenId) -> Value {
    json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false})
}

/// A vocabulary of words.
pub(crate) fn words(vocab: &[(&str, TokenId)]) -> Tokenizer {
    Tokenizer::from_json(&words_json(vocab, &[])).unwrap()
}

/// A vocabulary of words with special tokens after them.
pub(crate) fn words_json(vocab: &[(&str, TokenId)], special: &[(&str, TokenId)]) -> String {
    let added: Vec<_> = special.iter().map(|(content, id)| added(content, *id)).collect();
    let vocab: Map<_, _> = vocab.iter().map(|&(word, id)| (word.to_owned(), id.into())).collect();
    json!({"added_tokens": added, "pre_tokenizer": {"type": "Whitespace"},
                       "model": {"type": "WordLevel", "unk_token": "?", "vocab": vocab}})
    .to_string()
}

/// The tokenizers that can write any text.
pub(crate) fn all_bytes() -> &'static [(&'static str, Tokenizer)] {
    &all()[..2]
}

/// One tokenizer for every way of decoding.
pub(crate) fn all() -> &'static [(&'static str, Tokenizer)] {
    static ALL: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
        let decoding = |decoder: Value| fallback(&Value::Null, &decoder);
        let metaspace = |scheme: &str| {
            decoding(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true}))
        };
        vec![
            ("byte level", byte_level()),
            ("byte fallback", byte_fallback()),
            ("metaspace", metaspace("always")),
            ("metaspace without a prefix", metaspace("never")),
            ("word pieces", decoding(json!({"type": "WordPiece", "prefix": "th", "cleanup": true}))),
            ("end-of-word suffix", decoding(json!({"type": "BPEDecoder", "suffix": "e"}))),
            (
                "repeats dropped",
                decoding(json!({"type": "CTC", "pad_token": "t", "word_delimiter_token": "e", "cleanup": true})),
            ),
            (
                "replacing after fusing",
                decoding(
                    json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, replace("tt", "_"), strip("t", 2)]}),
                ),
            ),
            (
                "bytes without fusing",
                decoding(
                    json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, strip("▁", 1), replace("▁", " ")]}),
                ),
            ),
            ("no decoder", words(&[("?", 0), ("a", 1), ("b", 2), ("c", 4)])),
        ]
    });
    &ALL
}

/// The token for one byte, in the tokenizers that have one.
pub(crate) fn byte_id(tokenizer: &Tokenizer, byte: u8) -> Option<TokenId> {
    tokenizer.id(&format!("<0x{byte:02X}>")).or_else(|| {
        let others = (0..=u8::MAX).filter(|b| !matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..));
        let c = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae.. => char::from(byte),
            _ => char::from_u32(0x100 + u32::try_from(others.take_while(|b| *b < byte).count()).unwrap()).unwrap(),
        };
        tokenizer.id(&c.to_string())
    })
}
