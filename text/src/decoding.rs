//! The decoders of the `tokenizers` library, one token at a time.
//!
//! The library decodes whole lists: `decode_chain` maps all tokens of a text to its pieces. Decoding a growing list over
//! and over costs more with every token, and what was shown may have to be taken back. Each stage here knows instead
//! how much of its decoder's answer is settled by the tokens so far, passes that on, and holds the rest.

use std::{str, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Result};
use tokenizers::{Decoder as _, DecoderWrapper};

use crate::panics::catch_panic;

/// A tokenizer's decoder as stages that tokens flow through. A clone continues at the same place.
#[derive(Clone)]
pub(crate) struct IncrementalDecoder(Vec<Stage>);

#[derive(Clone)]
enum Stage {
    /// No decoder: tokens are words.
    Spaces { first: bool },
    /// Maps each token by itself, knowing only whether it is the first.
    Each { decoder: Arc<DecoderWrapper>, first: bool },
    /// Treats the last token unlike all others, so one is always held.
    HoldLast { decoder: Arc<DecoderWrapper>, held: Option<String> },
    /// Characters stand for bytes; what is held is a character of the text that is not complete.
    ByteLevel { pending: Vec<u8> },
    /// Tokens like `<0xE2>` stand for bytes. One bad byte spoils the whole run of them, so a run is held until it ends.
    ByteFallback { run: Vec<u8> },
    /// Cuts up to `left` more characters off the beginning of the text.
    StripStart { content: char, left: usize },
    /// Anything else: settled only at the end. `fused`: what arrives are the pieces of a single token.
    Whole { decoder: Arc<DecoderWrapper>, fused: bool, tokens: Vec<String> },
}

impl IncrementalDecoder {
    pub(crate) fn new(decoder: Option<&DecoderWrapper>) -> Result<Self> {
        let mut stages = Vec::new();
        let mut fused = false;
        match decoder {
            None => stages.push(Stage::Spaces { first: true }),
            Some(decoder) => add(decoder, &mut stages, &mut fused)?,
        }
        Ok(Self(stages))
    }

    /// Text that is settled now that `token` is known.
    pub(crate) fn push(&mut self, token: String) -> Result<String> {
        let mut flow = vec![token];
        for stage in &mut self.0 {
            flow = stage.push_all(flow)?;
        }
        Ok(flow.concat())
    }

    /// The bytes of a token in the middle of a text, which need not be whole characters.
    pub(crate) fn bytes_of(&self, token: String) -> Result<Vec<u8>> {
        if self.0.iter().any(|stage| matches!(stage, Stage::ByteLevel { .. })) {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            return Ok(bytes.unwrap_or_else(|| token.into_bytes()));
        }
        if self.0.iter().any(|stage| matches!(stage, Stage::ByteFallback { .. }))
            && let Some(byte) = fallback_byte(&token)
        {
            return Ok(vec![byte]);
        }
        let mut stages = self.0.clone();
        stages.retain(|stage| !matches!(stage, Stage::StripStart { .. }));
        for stage in &mut stages {
            if let Stage::Spaces { first } | Stage::Each { first, .. } = stage {
                *first = false;
            }
        }
        let mut alone = Self(stages);
        let mut text = alone.push(token)?;
        text.push_str(&alone.finish()?);
        Ok(text.into_bytes())
    }

    /// The rest of the text, now that no token follows.
    pub(crate) fn finish(mut self) -> Result<String> {
        let mut flow = Vec::new();
        for stage in &mut self.0 {
            flow = stage.push_all(flow)?;
            stage.finish(&mut flow)?;
        }
        Ok(flow.concat())
    }
}

fn add(decoder: &DecoderWrapper, stages: &mut Vec<Stage>, fused: &mut bool) -> Result<()> {
    use DecoderWrapper as D;
    let shared = || Arc::new(decoder.clone());
    match (decoder, *fused) {
        (D::Sequence(sequence), _) => {
            for decoder in sequence.get_decoders() {
                add(decoder, stages, fused)?;
            }
        }
        // The library underflows where a token is shorter than what is stripped from its end. No published tokenizer has this.
        (D::Strip(strip), _) if strip.stop > 0 => {
            return Err(Error::new(ErrorKind::Unsupported, "a decoder that strips the end of tokens is not supported")
                .with_help("set `stop` to 0 in the `Strip` decoder of the tokenizer.json"));
        }
        (D::Strip(strip), true) => stages.push(Stage::StripStart { content: strip.content, left: strip.start }),
        (D::Strip(_) | D::Replace(_) | D::Metaspace(_) | D::WordPiece(_), false) => {
            stages.push(Stage::Each { decoder: shared(), first: true });
        }
        (D::BPE(_), false) => stages.push(Stage::HoldLast { decoder: shared(), held: None }),
        (D::ByteFallback(_), false) => stages.push(Stage::ByteFallback { run: Vec::new() }),
        (D::ByteLevel(_), false) => {
            stages.push(Stage::ByteLevel { pending: Vec::new() });
            *fused = true;
        }
        (D::Fuse(_), _) => *fused = true,
        (_, fused) => stages.push(Stage::Whole { decoder: shared(), fused, tokens: Vec::new() }),
    }
    Ok(())
}

impl Stage {
    fn push_all(&mut self, tokens: Vec<String>) -> Result<Vec<String>> {
        let mut out = Vec::with_capacity(tokens.len());
        for token in tokens {
            self.push(token, &mut out)?;
        }
        Ok(out)
    }

    fn push(&mut self, token: String, out: &mut Vec<String>) -> Result<()> {
        match self {
            Self::Spaces { first } => {
                let space = if std::mem::take(first) { "" } else { " " };
                out.push(format!("{space}{token}"));
            }
            Self::Each { decoder, first } => {
                // A stand-in takes the place of the first token, whose answer is not used.
                let before = if std::mem::take(first) { None } else { Some(String::new()) };
                out.extend(chain(decoder, before.into_iter().chain([token]).collect())?.pop());
            }
            Self::HoldLast { decoder, held } => {
                if let Some(token) = held.replace(token) {
                    out.extend(chain(decoder, vec![token, String::new()])?.into_iter().next());
                }
            }
            Self::ByteLevel { pending } => {
                match token.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => pending.extend(bytes),
                    // Added tokens are written in plain text.
                    None => pending.extend(token.as_bytes()),
                }
                out.push(take_complete(pending));
            }
            Self::ByteFallback { run } => {
                if let Some(byte) = fallback_byte(&token) {
                    run.push(byte);
                } else {
                    end_run(run, out);
                    out.push(token);
                }
            }
            Self::StripStart { content, left } => {
                let mut rest = token.as_str();
                while *left > 0 && !rest.is_empty() {
                    match rest.strip_prefix(*content) {
                        Some(stripped) => (rest, *left) = (stripped, *left - 1),
                        None => *left = 0,
                    }
                }
                out.push(rest.to_owned());
            }
            Self::Whole { tokens, .. } => tokens.push(token),
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<String>) -> Result<()> {
        match self {
            Self::Spaces { .. } | Self::Each { .. } | Self::StripStart { .. } => {}
            Self::HoldLast { decoder, held } => {
                if let Some(token) = held.take() {
                    out.extend(chain(decoder, vec![token])?);
                }
            }
            Self::ByteLevel { pending } => {
                out.push(String::from_utf8_lossy(pending).into_owned());
                pending.clear();
            }
            Self::ByteFallback { run } => end_run(run, out),
            Self::Whole { decoder, fused, tokens } => {
                let tokens = std::mem::take(tokens);
                if *fused {
                    out.extend(chain(decoder, vec![tokens.concat()])?);
                } else if !tokens.is_empty() {
                    out.extend(chain(decoder, tokens)?);
                }
            }
        }
        Ok(())
    }
}

fn chain(decoder: &DecoderWrapper, tokens: Vec<String>) -> Result<Vec<String>> {
    catch_panic(|| decoder.decode_chain(tokens))
        .map_err(|e| Error::new(ErrorKind::InvalidData, format!("the tokenizer's decoder failed: {e}")))
}

/// The byte that a character of a byte-level vocabulary stands for: printable characters of Latin-1 stand for
/// themselves, U+0100 and on for all other bytes in ascending order.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The byte that a token like `<0x0A>` stands for.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Takes all text out of `pending` but a character that later bytes may complete.
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(pending.len());
    let mut seen = 0;
    let mut held = 0;
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        seen += chunk.valid().len() + invalid.len();
        if seen == pending.len() && str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) {
            held = invalid.len();
        } else if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    pending.drain(..pending.len() - held);
    text
}

/// What the library makes of a run of byte tokens: its text, or one U+FFFD for every byte.
fn end_run(run: &mut Vec<u8>, out: &mut Vec<String>) {
    match str::from_utf8(run) {
        Ok("") => {}
        Ok(text) => out.push(text.to_owned()),
        Err(_) => out.extend(run.iter().map(|_| char::REPLACEMENT_CHARACTER.to_string())),
    }
    run.clear();
}
