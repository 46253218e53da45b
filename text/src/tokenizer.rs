use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, OnceLock},
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, TokenId};
use sha2::{Digest, Sha256};
use tokenizers::{AddedToken, Decoder as _, NormalizedString, Normalizer as _, NormalizerWrapper};

use crate::{
    SpecialTokens, added_tokens,
    decoding::IncrementalDecoder,
    files::read_if_there,
    outline::{self, Growth},
    panics::catch_panic,
};

/// Bytes of the largest `tokenizer.json`; those with a million tokens have some 70 million.
const MAX_BYTES: u64 = 128 << 20;

/// A normalizer that cannot make a text longer by more than this is not watched.
const LITTLE_GROWTH: f64 = 16.0;

/// A tokenizer: turns text into token ids and back, as the model's own `tokenizer.json` defines.
///
/// The tokenizer defines which ids exist. The width of a model's logits does not: exports pad it (151 936 columns for
/// 151 665 tokens are common), so ids without a token give `None` here.
///
/// Cloning is cheap, and clones may be used from several threads at once.
///
/// ```
/// use logitfuse_text::Tokenizer;
///
/// let tokenizer = Tokenizer::from_json(
///     r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "good": 1, "day": 3}},
///         "pre_tokenizer": {"type": "Whitespace"}}"#,
/// )?;
/// assert_eq!(tokenizer.encode("good day", false)?, [1, 3]);
/// assert_eq!(tokenizer.decode(&[1, 3], true)?, "good day");
/// assert_eq!(tokenizer.token(3).as_deref(), Some("day"));
/// // Id 2 is a hole, id 4 lies beyond the end.
/// assert_eq!((tokenizer.token(2), tokenizer.token(4)), (None, None));
/// assert_eq!(tokenizer.size(), 4);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    /// For messages: the file it came from.
    origin: String,
    library: tokenizers::Tokenizer,
    decoder: IncrementalDecoder,
    growth: Growth,
    /// Ids that have a token, as ascending, separated ranges: a file may name an id near `u32::MAX`, so nothing
    /// here is indexed by id.
    defined: Vec<RangeInclusive<TokenId>>,
    added: BTreeMap<TokenId, Added>,
    special: SpecialTokens,
    fingerprint: OnceLock<String>,
}

struct Added {
    special: bool,
}

impl Tokenizer {
    /// Loads `tokenizer.json` from a model folder, with the tokens that the files beside it add (`tokenizer_config.json`,
    /// `added_tokens.json`) and the names of its special tokens. The path of the file itself will do as well.
    pub fn load(path: &Path) -> Result<Self> {
        let (file, folder) = if path.is_file() {
            (path.to_owned(), path.parent().unwrap_or(path))
        } else {
            (path.join("tokenizer.json"), path)
        };
        let Some(json) = read_if_there(&file, MAX_BYTES)? else { return Err(missing(folder)) };
        let special = SpecialTokens::load(folder)?;
        let added = added_tokens::beside(folder, &special)?;
        Self::build(&json, file.display().to_string(), special, added)
    }

    /// A tokenizer from the text of a `tokenizer.json`, without names for its special tokens.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::build(json, "tokenizer".to_owned(), SpecialTokens::default(), Vec::new())
    }

    fn build(json: &str, origin: String, special: SpecialTokens, beside: Vec<AddedToken>) -> Result<Self> {
        // The library panics on some files that are cut off, and aborts on some that were made for it.
        let parsed = outline::check(json).and_then(|growth| {
            let mut library = catch_panic(|| json.parse::<tokenizers::Tokenizer>())?;
            let known = library.get_added_vocabulary().get_vocab();
            let new: Vec<AddedToken> = beside.into_iter().filter(|token| !known.contains_key(&token.content)).collect();
            catch_panic(|| library.add_tokens(new))?;
            Ok((library, growth))
        });
        let (mut library, growth) = parsed.map_err(|e| {
            let help = if json.starts_with("version https://git-lfs") {
                "this is a Git LFS pointer, not the file itself; run `git lfs pull` in the repository it came from"
            } else {
                "download the model's tokenizer.json again; it must be the file that the `tokenizers` library writes"
            };
            Error::new(ErrorKind::InvalidData, format!("{origin}: not a usable tokenizer: {e}")).with_help(help)
        })?;
        // Exports carry the limits that the model was trained with. A prompt that is cut silently is worse than one that
        // is refused for its length.
        library.with_padding(None);
        library.with_truncation(None).or_err(ErrorKind::InvalidData, &origin)?;
        let decoder = IncrementalDecoder::new(library.get_decoder()).map_err(|e| e.context(&origin))?;

        let added: BTreeMap<_, _> = library
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| (id, Added { special: token.special }))
            .collect();
        let ids: BTreeSet<TokenId> = library.get_vocab(false).into_values().chain(added.keys().copied()).collect();
        if ids.is_empty() {
            return Err(Error::new(ErrorKind::InvalidData, format!("{origin}: the tokenizer has no tokens"))
                .with_help("take the tokenizer.json that belongs to the model"));
        }
        let defined = ranges(ids);
        let fingerprint = OnceLock::new();
        Ok(Self(Arc::new(Inner { origin, library, decoder, growth, defined, added, special, fingerprint })))
    }

    /// Text to ids. Special tokens that are written out in the text, as chat templates do, become their ids in any
    /// case; `add_special_tokens` asks for those that the model expects around a plain text (often one at the beginning).
    /// Leave it off for rendered chat templates.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<TokenId>> {
        self.watch_growth(text)?;
        let encoding = catch_panic(|| self.0.library.encode_fast(text, add_special_tokens)).map_err(|e| {
            Error::new(ErrorKind::InvalidData, format!("{}: cannot encode the text: {e}", self.0.origin)).with_help(
                "a tokenizer of this kind needs an unknown token, or the file is damaged; check it with `models inspect`",
            )
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Runs the normalizer step by step where it can make a text much longer, and refuses what becomes too long.
    fn watch_growth(&self, text: &str) -> Result<()> {
        let steps = &self.0.growth;
        let Some(normalizer) = self.0.library.get_normalizer() else { return Ok(()) };
        if steps.iter().product::<f64>() <= LITTLE_GROWTH {
            return Ok(());
        }
        let most = f64::from(32 << 20) + 32.0 * text.len() as f64;
        let mut normalized = NormalizedString::from(text);
        let mut flat = Vec::new();
        flatten(normalizer, &mut flat);
        for (step, growth) in flat.into_iter().zip(steps) {
            if normalized.get().len() as f64 * growth > most {
                let message =
                    format!("{}: its normalizer makes a text of {} bytes too long", self.0.origin, text.len());
                return Err(Error::new(ErrorKind::InvalidData, message)
                    .with_help("take the tokenizer.json that belongs to the model"));
            }
            catch_panic(|| step.normalize(&mut normalized))
                .map_err(|e| Error::new(ErrorKind::InvalidData, format!("{}: cannot normalize: {e}", self.0.origin)))?;
        }
        Ok(())
    }

    /// Ids to text. Ids without a token are left out, and so are special tokens if `skip_special` is set.
    /// Bytes that are no UTF-8 come out as U+FFFD.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> Result<String> {
        let tokens: Vec<_> = ids.iter().filter_map(|&id| self.visible(id, skip_special)).collect();
        // One of the library's decoders subtracts one from the number of tokens.
        if tokens.is_empty() {
            return Ok(String::new());
        }
        match self.0.library.get_decoder() {
            None => Ok(tokens.join(" ")),
            Some(decoder) => catch_panic(|| decoder.decode(tokens)).map_err(|e| {
                Error::new(ErrorKind::InvalidData, format!("{}: cannot decode: {e}", self.0.origin))
                    .with_help("the `decoder` section of the tokenizer.json is damaged; download the file again")
            }),
        }
    }

    /// The token as the vocabulary writes it (`Ġthe`, `▁the`, `<0x0A>`), or `None` where the tokenizer defines no such id.
    pub fn token(&self, id: TokenId) -> Option<String> {
        self.0.library.id_to_token(id)
    }

    /// The bytes that a token adds in the middle of a text, control tokens as they are written: a character may be several
    /// tokens, so they need not be whole characters. `None` where the tokenizer defines no such id.
    ///
    /// # Errors
    /// If the tokenizer's decoder cannot decode the token.
    pub fn token_bytes(&self, id: TokenId) -> Result<Option<Vec<u8>>> {
        let Some(token) = self.token(id) else { return Ok(None) };
        if self.is_control(&token) {
            return Ok(Some(token.into_bytes()));
        }
        self.0.decoder.bytes_of(token).map(Some).map_err(|e| e.context(&self.0.origin))
    }

    /// The id of a token, written as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<TokenId> {
        self.0.library.token_to_id(token)
    }

    /// One past the largest id. Ids below may be missing; [`holes`](Self::holes) lists them.
    pub fn size(&self) -> usize {
        self.0.defined.last().map_or(0, |last| *last.end() as usize + 1)
    }

    /// The ids that have a token, ascending.
    pub fn defined_ids(&self) -> impl Iterator<Item = TokenId> {
        self.0.defined.iter().cloned().flatten()
    }

    /// The ids below [`size`](Self::size) that have no token, as ascending ranges.
    pub fn holes(&self) -> impl Iterator<Item = RangeInclusive<TokenId>> {
        let ends = self.0.defined.iter().map(|range| Some(*range.end()));
        let starts = self.0.defined.iter().map(|range| *range.start());
        std::iter::once(None).chain(ends).zip(starts).filter_map(|(before, next)| {
            let first = before.map_or(0, |end| end + 1);
            (first < next).then(|| first..=next - 1)
        })
    }

    /// The ids of control tokens, which are not part of the text, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = TokenId> {
        self.0.added.iter().filter(|(_, added)| added.special).map(|(id, _)| *id)
    }

    /// Whether the id was added to the vocabulary after training: control tokens and their like.
    pub fn is_added(&self, id: TokenId) -> bool {
        self.0.added.contains_key(&id)
    }

    /// Whether the id is a control token.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.0.added.get(&id).is_some_and(|added| added.special)
    }

    /// The special tokens that the model folder names.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.0.special
    }

    /// The text of the token that begins a sequence, where the folder names one.
    pub fn bos_token(&self) -> Option<&str> {
        self.0.special.get("bos_token")
    }

    /// The text of the token that ends a sequence, where the folder names one.
    pub fn eos_token(&self) -> Option<&str> {
        self.0.special.get("eos_token")
    }

    /// The id of [`eos_token`](Self::eos_token): what ends a text where the model's configuration states no id.
    pub fn eos_id(&self) -> Option<TokenId> {
        self.eos_token().and_then(|token| self.id(token))
    }

    /// SHA-256, in hexadecimal, of every id with its token and whether it is special. Two tokenizers with the same
    /// fingerprint mean the same by every id; they may still split text differently.
    pub fn fingerprint(&self) -> &str {
        self.0.fingerprint.get_or_init(|| {
            let mut hash = Sha256::new();
            for id in self.defined_ids() {
                let token = self.token(id).unwrap_or_default();
                hash.update(id.to_le_bytes());
                hash.update((token.len() as u64).to_le_bytes());
                hash.update(token.as_bytes());
                hash.update([u8::from(self.is_special(id))]);
            }
            hex::encode(hash.finalize())
        })
    }

    /// The file it was loaded from, for messages.
    pub(crate) fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The decoder before the first token.
    pub(crate) fn decoder(&self) -> &IncrementalDecoder {
        &self.0.decoder
    }

    /// The token of an id; `None` if it is undefined or skipped.
    pub(crate) fn visible(&self, id: TokenId, skip_special: bool) -> Option<String> {
        let token = self.token(id)?;
        let skipped = skip_special && self.is_control(&token);
        (!skipped).then_some(token)
    }

    /// The token of an id that is left out of texts.
    pub(crate) fn hidden(&self, id: TokenId) -> Option<String> {
        self.token(id).filter(|token| self.is_control(token))
    }

    /// By text, not by id, as the library does it: a control token may also stand in the plain vocabulary.
    fn is_control(&self, token: &str) -> bool {
        self.0.library.get_added_vocabulary().is_special_token(token)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("origin", &self.0.origin).field("size", &self.size()).finish_non_exhaustive()
    }
}

fn missing(folder: &Path) -> Error {
    let help = if !folder.exists() {
        "the folder does not exist; check the path"
    } else if folder.join("tokenizer.model").exists() || folder.join("vocab.json").exists() {
        "the folder has an older tokenizer format; write a tokenizer.json with Python: \
         `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`"
    } else {
        "copy the tokenizer.json of the model that was exported into the folder"
    };
    Error::new(ErrorKind::NotFound, format!("{}: no tokenizer.json", folder.display())).with_help(help)
}

/// Ascending ids as ranges.
fn ranges(ids: BTreeSet<TokenId>) -> Vec<RangeInclusive<TokenId>> {
    let mut ranges: Vec<RangeInclusive<TokenId>> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == id => *last = *last.start()..=id,
            _ => ranges.push(id..=id),
        }
    }
    ranges
}

/// The steps of a normalizer, as [`outline::check`] counts them.
fn flatten<'a>(normalizer: &'a NormalizerWrapper, steps: &mut Vec<&'a NormalizerWrapper>) {
    match normalizer {
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().for_each(|step| flatten(step, steps)),
        step => steps.push(step),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing;

    #[test]
    fn text_survives_the_round_trip() {
        for (name, tokenizer) in testing::all_bytes() {
            for text in ["the cat sat", "naïve café", "日本語 🙂👩‍👩‍👧", "a  b\n\n\tc"] {
                let ids = tokenizer.encode(text, false).unwrap();
                assert_eq!(tokenizer.decode(&ids, true).unwrap(), text, "{name}");
            }
        }
    }

    #[test]
    fn the_bytes_of_tokens_join_to_the_text() {
        for (name, tokenizer) in testing::all_bytes() {
            for text in ["the cat sat", "naïve café", "日本語 🙂👩‍👩‍👧"] {
                let ids = tokenizer.encode(text, false).unwrap();
                let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap().unwrap()).collect();
                // Some tokenizers write a space before the first word, which decoders drop.
                assert_eq!(String::from_utf8(bytes).unwrap().trim_start(), text, "{name}");
            }
        }
        let words = testing::words(&[("good", 0), ("day", 1)]);
        assert_eq!(words.token_bytes(1).unwrap().unwrap(), b" day");
        assert_eq!(words.token_bytes(2).unwrap(), None);
        let special = testing::byte_level();
        let end = special.id("<|im_end|>").unwrap();
        assert_eq!(special.token_bytes(end).unwrap().unwrap(), b"<|im_end|>");
    }

    #[test]
    fn ids_without_a_token_are_none() {
        let tokenizer = testing::words(&[("a", 0), ("b", 1), ("c", 5), ("far", u32::MAX)]);
        assert_eq!(tokenizer.size(), 1 << 32);
        assert_eq!(tokenizer.holes().collect::<Vec<_>>(), [2..=4, 6..=u32::MAX - 1]);
        assert_eq!(tokenizer.defined_ids().collect::<Vec<_>>(), [0, 1, 5, u32::MAX]);
        assert_eq!(tokenizer.token(3), None);
        assert_eq!(tokenizer.decode(&[0, 3, 77, 1], true).unwrap(), "a b");
        assert_eq!(tokenizer.decode(&[3], true).unwrap(), "");
    }

    #[test]
    fn special_tokens_are_skipped_on_request_and_recognised_in_text() {
        let tokenizer = testing::byte_level();
        let ids = tokenizer.encode("<|im_start|>the cat<|im_end|>", false).unwrap();
        assert!(tokenizer.is_special(ids[0]) && tokenizer.is_special(*ids.last().unwrap()));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "the cat");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<|im_start|>the cat<|im_end|>");
        assert_eq!(
            tokenizer.special_ids().map(|id| tokenizer.token(id).unwrap()).collect::<Vec<_>>(),
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        );
    }

    #[test]
    fn limits_of_the_training_are_not_applied_to_prompts() {
        let tokenizer = Tokenizer::from_json(
            r#"{"truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
                "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                            "pad_type_id": 0, "pad_token": "a"},
                "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0, "b": 1}},
                "pre_tokenizer": {"type": "Whitespace"}}"#,
        )
        .unwrap();
        assert_eq!(tokenizer.encode("b b b b", true).unwrap(), [1; 4]);
    }

    #[test]
    fn the_fingerprint_sees_a_swap_and_nothing_else() {
        let a = testing::words(&[("a", 0), ("b", 1)]);
        assert_eq!(a.fingerprint(), testing::words(&[("b", 1), ("a", 0)]).fingerprint());
        assert_ne!(a.fingerprint(), testing::words(&[("b", 0), ("a", 1)]).fingerprint());
        assert_ne!(a.fingerprint(), testing::words(&[("ab", 0), ("", 1)]).fingerprint());
        assert_eq!(a.fingerprint().len(), 64);
    }

    #[test]
    fn errors_name_the_file_and_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");

        let e = Tokenizer::load(folder.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert_eq!(e.to_string(), format!("{}: no tokenizer.json", folder.path().display()));
        fs::write(folder.path().join("tokenizer.model"), "").unwrap();
        assert!(Tokenizer::load(folder.path()).unwrap_err().help().unwrap().contains("save_pretrained"));

        let whole = testing::byte_level_json();
        let decoder_of_no_kind =
            whole.replace("\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Nonesuch\"");
        assert_ne!(whole, decoder_of_no_kind);
        for broken in ["", "{}", "[1]", "null", &whole[..whole.len() / 2], decoder_of_no_kind.as_str()] {
            fs::write(&file, broken).unwrap();
            let e = Tokenizer::load(folder.path()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidData, "{e}");
            assert!(e.to_string().starts_with(&file.display().to_string()) && e.help().is_some(), "{e}");
            assert_eq!(e.to_string().lines().count(), 1, "{e}");
        }
        fs::write(&file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
        assert!(Tokenizer::load(folder.path()).unwrap_err().help().unwrap().contains("git lfs pull"));
        fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
        assert_eq!(Tokenizer::load(folder.path()).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    fn folder(tokenizer: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("tokenizer.json", tokenizer)].iter().chain(files) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn tokens_that_only_the_files_beside_add_are_tokens() {
        let json = testing::byte_level_json();
        let size = u32::try_from(Tokenizer::from_json(&json).unwrap().size()).unwrap();
        let decoder = r#"{"added_tokens_decoder": {
            "901": {"content": "<|call|>", "special": false},
            "900": {"content": "<|tool|>", "special": true, "lstrip": true},
            "2": {"content": "<|im_end|>", "special": true}}}"#;
        let both = folder(&json, &[("tokenizer_config.json", decoder), ("added_tokens.json", r#"{"never": 990}"#)]);
        let tokenizer = Tokenizer::load(both.path()).unwrap();
        let [a, b] = ["a", "b"].map(|letter| tokenizer.id(letter).unwrap());
        // As the library gives them out: in the order of the ids, behind those that there are.
        assert_eq!(tokenizer.encode("a <|tool|>b<|call|>", false).unwrap(), [a, size, b, size + 1]);
        assert!(tokenizer.is_special(size) && !tokenizer.is_special(size + 1));
        assert_eq!(tokenizer.id("<|im_end|>"), Some(2));
        assert_eq!(tokenizer.id("never"), None);

        // The older file, with what it says of them by their names.
        let old = [
            ("added_tokens.json", r#"{"WOW": 901, "<end>": 900}"#),
            ("special_tokens_map.json", r#"{"eos_token": "<end>"}"#),
        ];
        let tokenizer = Tokenizer::load(folder(&json, &old).path()).unwrap();
        assert_eq!(tokenizer.encode("aWOWb<end>", false).unwrap(), [a, size + 1, b, size]);
        assert!(tokenizer.is_special(size) && !tokenizer.is_special(size + 1));
        assert_eq!(tokenizer.eos_id(), Some(size));

        for (file, text) in [
            ("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#),
            ("tokenizer_config.json", r#"{"added_tokens_decoder": {"7": {}}}"#),
            ("added_tokens.json", "[]"),
        ] {
            let e = Tokenizer::load(folder(&json, &[(file, text)]).path()).unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidData && e.to_string().contains(file), "{e}");
        }
    }

    #[test]
    fn a_text_that_a_normalizer_makes_too_long_is_refused() {
        let double = r#"{"type": "Replace", "pattern": {"String": "w"}, "content": "ww"}"#;
        let sixteen = [double; 16].join(",");
        let json = format!(
            r#"{{"normalizer": {{"type": "Sequence", "normalizers": [{sixteen}]}},
                "model": {{"type": "WordLevel", "unk_token": "a", "vocab": {{"a": 0}}}}}}"#
        );
        let tokenizer = Tokenizer::from_json(&json).unwrap();
        assert_eq!(tokenizer.encode("aw", false).unwrap(), [0]);
        let e = tokenizer.encode(&"w".repeat(2000), false).unwrap_err();
        assert_eq!(e.to_string(), "tokenizer: its normalizer makes a text of 2000 bytes too long");
        let sixty = json.replace(double, &[double; 4].join(","));
        let e = Tokenizer::from_json(&sixty).unwrap_err();
        assert!(e.to_string().contains("can make a text 18446744073709551616 times as long"), "{e}");
    }

    #[test]
    fn an_expression_without_an_end_is_an_error() {
        let json = r#"{"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated",
            "invert": false}, "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}}}"#;
        let e = Tokenizer::from_json(json).unwrap().encode(&("a".repeat(60) + "b"), false).unwrap_err();
        assert!(e.to_string().contains("retry-limit"), "{e}");
    }

    #[test]
    fn a_vocabulary_without_tokens_is_refused() {
        let e = Tokenizer::from_json(r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {}}}"#).unwrap_err();
        assert!(e.to_string().contains("no tokens"), "{e}");
    }
}
