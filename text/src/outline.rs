//! A look at a `tokenizer.json` before the library reads it: what would make it end the process, or take all of the memory,
//! is refused here.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// Tokens of the largest vocabulary. The largest published ones have a million.
const MAX_TOKENS: usize = 1_500_000;

/// Merges, each of which takes more memory than a token. The largest published lists have half a million.
const MAX_MERGES: usize = 800_000;

/// Normalizers, pre-tokenizers or decoders of the longest sequence.
const MAX_STAGES: usize = 100;

/// How much longer all normalizers together may make a text.
const MAX_GROWTH: f64 = 65536.0;

/// The same for pre-tokenizers and decoders, whose texts are not measured on the way. Published ones reach 8.
const MAX_PIECE_GROWTH: f64 = 256.0;

/// How much longer each step of a normalizer can make a text, in the order in which they run.
pub(crate) type Growth = Vec<f64>;

/// Bytes of a section other than the model and the added tokens. The largest published ones hold a map of characters of half
/// a megabyte; read into memory, a section may take some twenty times as much.
const MAX_SECTION: usize = 4 << 20;

/// Values in the model's section, each of which takes memory while the library looks for the kind of model.
const MAX_VALUES: usize = 8_000_000;

/// The parts of a `tokenizer.json` that are looked at.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
    added_tokens: Option<Count>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Model {
    vocab: Option<Count>,
    merges: Option<Count>,
}

/// The number of entries of a list or an object, which are not kept.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;
        impl<'de> Visitor<'de> for Counter {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or an object")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_any(Counter)
    }
}

/// Checks a file, and says how its normalizer may make texts grow.
pub(crate) fn check(json: &str) -> Result<Growth, String> {
    let outline: Outline<'_> = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let model = outline.model.map_or("null", RawValue::get);
    if values(model) > MAX_VALUES {
        return Err(format!("its model holds more than {MAX_VALUES} values"));
    }
    let model: Option<Model> = serde_json::from_str(model).map_err(|e| e.to_string())?;
    let model = model.as_ref();
    let counts = [
        ("vocab", MAX_TOKENS, model.and_then(|model| model.vocab.as_ref())),
        ("merges", MAX_MERGES, model.and_then(|model| model.merges.as_ref())),
        ("added_tokens", MAX_TOKENS, outline.added_tokens.as_ref()),
    ];
    for (name, most, count) in counts {
        if let Some(Count(count)) = count.filter(|count| count.0 > most) {
            return Err(format!("`{name}` has {count} entries; at most {most} are read"));
        }
    }
    section("post_processor", outline.post_processor)?;
    let growth = stages("normalizer", outline.normalizer, MAX_GROWTH)?;
    stages("pre_tokenizer", outline.pre_tokenizer, MAX_PIECE_GROWTH)?;
    stages("decoder", outline.decoder, MAX_PIECE_GROWTH)?;
    Ok(growth)
}

/// A section as values, unless it is too long to be.
fn section(name: &str, raw: Option<&RawValue>) -> Result<Value, String> {
    let text = raw.map_or("null", RawValue::get);
    if text.len() > MAX_SECTION {
        return Err(format!("its {name} has {} bytes; at most {MAX_SECTION} are read", text.len()));
    }
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// The values of a JSON text, counted by the commas and brackets that are in no string.
fn values(json: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// The steps of a section, each with how much longer it can make a text.
fn stages(name: &str, raw: Option<&RawValue>, most: f64) -> Result<Growth, String> {
    let mut growth = Vec::new();
    let value = section(name, raw)?;
    if !value.is_null() {
        add(name, &value, &mut growth)?;
    }
    let all: f64 = growth.iter().product();
    if all > most {
        return Err(format!("its {name} can make a text {all:.0} times as long; at most {most} times is allowed"));
    }
    Ok(growth)
}

fn add(section: &str, value: &Value, growth: &mut Growth) -> Result<(), String> {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    for key in ["normalizers", "pretokenizers", "decoders"] {
        for stage in value[key].as_array().into_iter().flatten() {
            add(section, stage, growth)?;
        }
    }
    let factor = match text("type") {
        "Sequence" => return Ok(()),
        "Replace" => {
            let content = text("content").len() as f64;
            match value["pattern"]["String"].as_str() {
                Some(pattern) if !pattern.is_empty() => (content / pattern.len() as f64).max(1.0),
                // An expression may match nothing, before every character.
                _ => 1.0 + content,
            }
        }
        "Precompiled" => charsmap(text("precompiled_charsmap"))?,
        // From one byte to a character of two.
        "ByteLevel" => 2.0,
        // A space becomes the mark, of up to four bytes.
        "Metaspace" => 4.0,
        // The longest decomposition is of three bytes into thirty-three.
        "NFKD" | "NFKC" => 11.0,
        "NFD" | "NFC" | "Lowercase" | "BertNormalizer" | "Bert" => 3.0,
        _ => 1.0,
    };
    growth.push(factor);
    if growth.len() > MAX_STAGES {
        return Err(format!("its {section} has more than {MAX_STAGES} stages"));
    }
    Ok(())
}

/// `SentencePiece`'s table of what characters become: the size of a trie, the trie, then texts that end in a zero byte. The
/// library takes memory for as much as the size says.
fn charsmap(encoded: &str) -> Result<f64, String> {
    let wrong = |what: String| format!("its precompiled_charsmap is damaged: {what}");
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|e| wrong(e.to_string()))?;
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Err(wrong("it is too short".to_owned())) };
    let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
    let Some(texts) = rest.get(size..).filter(|_| size > 0) else {
        return Err(wrong(format!("it says that {size} bytes follow, and {} do", rest.len())));
    };
    let longest = texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0);
    Ok((longest as f64).max(1.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(section: &str, stages: Value) -> String {
        let mut file = json!({ "model": {} });
        file[section] = stages;
        check(&file.to_string()).unwrap_err()
    }

    #[test]
    fn texts_that_would_explode_are_refused() {
        let double = json!({"type": "Replace", "pattern": {"String": "w"}, "content": "ww"});
        let sequence = |count| json!({"type": "Sequence", "normalizers": vec![double.clone(); count]});
        assert!(refused("normalizer", sequence(60)).contains("normalizer can make a text 1152921504606846976 times"));
        assert_eq!(check(&json!({ "normalizer": sequence(3) }).to_string()), Ok(vec![2.0; 3]));
        let inside = json!({"type": "Sequence", "normalizers": [sequence(9), sequence(9)]});
        assert!(refused("normalizer", inside).contains("262144 times"));
        let regex = json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "y".repeat(70_000)});
        assert!(refused("normalizer", regex).contains("70001 times"));
        let level = json!({"type": "ByteLevel", "add_prefix_space": false});
        assert!(refused("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": vec![level; 9]})).contains("512"));
        assert!(refused("decoder", json!({"type": "Sequence", "decoders": vec![double; 9]})).contains("decoder"));
        let strips = json!({"type": "Sequence", "normalizers": vec![json!({"type": "StripAccents"}); 101]});
        assert!(refused("normalizer", strips).contains("more than 100 stages"));
    }

    #[test]
    fn tables_that_lie_about_their_size_are_refused() {
        let map = |bytes: &[u8]| charsmap(&BASE64_STANDARD.encode(bytes));
        let trie = 8_u32.to_le_bytes();
        assert_eq!(map(&[&trie[..], &[0; 8], b"a\0bcd\0"].concat()), Ok(3.0));
        for (bytes, what) in [
            (&[0xff; 4][..], "4294967295 bytes follow, and 0 do"),
            (&[8, 0, 0, 0, 1, 2, 3], "8 bytes follow, and 3 do"),
            (&[0; 3000], "0 bytes follow"),
            (&[1, 2], "too short"),
        ] {
            let e = map(bytes).unwrap_err();
            assert!(e.contains(what), "{e}");
        }
        assert!(charsmap("@").unwrap_err().contains("damaged"));
    }

    #[test]
    fn lists_longer_than_any_vocabulary_are_refused() {
        let merges = format!("{{\"model\": {{\"merges\": [{}0]}}}}", "0,".repeat(MAX_MERGES));
        assert_eq!(check(&merges).unwrap_err(), "`merges` has 800001 entries; at most 800000 are read");
        let vocab = format!("{{\"model\": {{\"vocab\": [{}0]}}}}", "0,".repeat(MAX_TOKENS));
        assert_eq!(check(&vocab).unwrap_err(), "`vocab` has 1500001 entries; at most 1500000 are read");
    }

    /// Found by the fuzzer: 54 MB of sequences in sequences took a gigabyte before they were counted.
    #[test]
    fn sections_too_long_to_be_read_are_refused() {
        let nulls = format!("[{}null]", "null,".repeat(MAX_SECTION / 5));
        for name in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
            let error = check(&format!("{{\"{name}\": {{\"normalizers\": {nulls}}}}}")).unwrap_err();
            assert!(error.starts_with(&format!("its {name} has ")), "{error}");
        }
        let model = format!("{{\"model\": {{\"other\": [\"a,[{{\\\"\"{}]}}}}", ",[]".repeat(MAX_VALUES / 2));
        assert!(check(&model).unwrap_err().contains("more than 8000000 values"));
        let texts = json!({ "model": { "vocab": { "a": 0, "[,{\"": 1 } } }).to_string();
        assert_eq!(values(&texts), 4);
        assert_eq!(check(&texts), Ok(Vec::new()));
    }

    #[test]
    fn ordinary_files_pass() {
        for text in ["{}", r#"{"normalizer": null, "model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": []}"#] {
            assert_eq!(check(text), Ok(Vec::new()));
        }
        assert!(check("{").is_err());
    }
}
