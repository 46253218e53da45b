//! Any text as a `tokenizer.json`, and tokenizers that are put together from their parts: refused, or fit to encode and decode.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_text::{OutputText, Tokenizer};
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    let text = if kind % 4 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        let mut parts = Parts(rest.iter());
        parts.file().to_string()
    };
    let Ok(tokenizer) = Tokenizer::from_json(&text) else { return };
    let prompt = "w1 w2 <s> aaaaaaaaaaaaaaaaaaaaaa  日本 e\u{301}\u{fdfa} wwww \u{1f642}";
    for special in [false, true] {
        let Ok(ids) = tokenizer.encode(prompt, special) else { continue };
        let Ok(whole) = tokenizer.decode(&ids, true) else { continue };
        let mut output = OutputText::new(&tokenizer, &["</s>".to_owned(), "w <".to_owned()]);
        let mut shown = String::new();
        for &id in &ids {
            let Ok(delta) = output.push(id) else { return };
            shown += &delta.text;
            if delta.stopped.is_some() {
                return;
            }
        }
        if let Ok(rest) = output.finish() {
            shown += &rest;
            assert!(whole.starts_with(&shown), "{shown:?} of {whole:?}");
        }
    }
    let _ = (tokenizer.fingerprint(), tokenizer.holes().count());
});

/// Chooses parts by bytes.
struct Parts<'a>(std::slice::Iter<'a, u8>);

impl Parts<'_> {
    fn byte(&mut self) -> usize {
        self.0.next().copied().unwrap_or(0).into()
    }

    fn text(&mut self) -> String {
        const TEXTS: &[&str] = &["", "w", "ww", " ", "▁", "a", "aa", "<s>", "日", "e", "wwwwwwww", "\u{301}", "w1"];
        let at = self.byte() % TEXTS.len();
        TEXTS[at].repeat(if self.byte() == 255 { 5000 } else { 1 })
    }

    fn pattern(&mut self) -> Value {
        const EXPRESSIONS: &[&str] = &[
            "",
            "a*",
            "(a*)*b",
            "(a|aa)+$",
            "\\s+",
            "\\p{L}+|.",
            "(?=w)",
            "^(a+)+$",
            "(.*?,){9}P",
            "(",
            "w{1,500}",
            "[^ ]",
        ];
        match self.byte() % 2 {
            0 => json!({ "String": self.text() }),
            _ => json!({ "Regex": EXPRESSIONS[self.byte() % EXPRESSIONS.len()] }),
        }
    }

    fn stage(&mut self, list: &str, depth: usize) -> Value {
        let kind = self.byte() % 20;
        match kind {
            0 | 1 if depth < 5 => {
                let count = if self.byte() > 200 && depth == 0 { self.byte() } else { 1 + self.byte() % 4 };
                let one = self.stage(list, depth + 1);
                let mut stages = vec![one; count];
                stages.push(self.stage(list, depth + 1));
                let mut sequence = json!({ "type": "Sequence" });
                sequence[list] = Value::Array(stages);
                sequence
            }
            2..=4 => json!({"type": "Replace", "pattern": self.pattern(), "content": self.text()}),
            5 => json!({"type": "Prepend", "prepend": self.text()}),
            6 => {
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": self.byte() % 2 == 0})
            }
            7 => {
                json!({"type": "ByteLevel", "add_prefix_space": self.byte() % 2 == 0, "trim_offsets": true, "use_regex": true})
            }
            8 => {
                json!({"type": "Split", "pattern": self.pattern(), "behavior": "Isolated", "invert": self.byte() % 2 == 0})
            }
            9 => {
                json!({"type": "Strip", "content": " ", "start": self.byte() % 3, "stop": 0, "strip_left": true, "strip_right": true})
            }
            10 => json!({"type": "NFKD"}),
            11 => json!({"type": "StripAccents"}),
            12 => json!({"type": "Lowercase"}),
            13 => json!({"type": "ByteFallback"}),
            14 => json!({"type": "Fuse"}),
            15 => json!({"type": "WordPiece", "prefix": self.text(), "cleanup": self.byte() % 2 == 0}),
            16 => json!({"type": "BPEDecoder", "suffix": self.text()}),
            17 => json!({"type": "WhitespaceSplit"}),
            18 => {
                json!({"type": "Precompiled", "precompiled_charsmap": (["", "AAAA", "/////w==", "CAAAAAAAAAAAAAAAYQA="][self.byte() % 4])})
            }
            _ => Value::Null,
        }
    }

    fn file(&mut self) -> Value {
        let words = ["<unk>", "w", "1", "2", "a", "aa", "▁", "▁w", "<0x61>", "Ġ", "Ġw", "日", "w1"];
        let vocab: serde_json::Map<String, Value> =
            words.iter().map(|word| ((*word).to_owned(), json!(self.byte() % 40))).collect();
        let model = match self.byte() % 4 {
            0 => json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}),
            1 => json!({"type": "BPE", "vocab": vocab, "merges": [["a", "a"], ["▁", "w"]], "unk_token": "<unk>",
                        "byte_fallback": self.byte() % 2 == 0, "fuse_unk": true}),
            2 => json!({"type": "Unigram", "unk_id": self.byte() % 3, "byte_fallback": false,
                        "vocab": words.map(|word| json!([word, -1.0]))}),
            _ => json!({"type": "WordPiece", "vocab": vocab, "unk_token": "<unk>", "continuing_subword_prefix": "",
                        "max_input_chars_per_word": 100}),
        };
        let added: Vec<Value> = (0..self.byte() % 4)
            .map(|_| {
                json!({"id": self.byte(), "content": self.text(), "special": self.byte() % 2 == 0, "single_word": false,
                       "lstrip": self.byte() % 2 == 0, "rstrip": false, "normalized": self.byte() % 2 == 0})
            })
            .collect();
        json!({
            "added_tokens": added,
            "normalizer": self.stage("normalizers", 0),
            "pre_tokenizer": self.stage("pretokenizers", 0),
            "decoder": self.stage("decoders", 0),
            "model": model,
        })
    }
}
