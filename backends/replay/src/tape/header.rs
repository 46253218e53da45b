//! The header of a tape: what its rows depend on.

use std::{fmt, str::FromStr};

use logitfuse_core::{Error, ErrorKind, Result, SharedVocabulary, TokenId};
use serde::{Deserialize, Serialize};

/// The version of the format that this crate writes and reads.
pub const SCHEMA: u32 = 1;

/// More ids than any model has. A file that claims more is damaged and is refused before memory is allocated for it.
const MAX_IDS: usize = 1 << 24;
/// Likewise for sources.
const MAX_SOURCES: usize = 256;

/// The header of a tape: what its rows depend on. A tape that is continued must have an equal one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TapeHeader {
    /// [`SCHEMA`].
    pub schema: u32,
    /// How rows are kept.
    pub rows: RowKind,
    /// One entry per row of a position, in that order.
    pub sources: Vec<TapeSource>,
    /// The ids that the rows speak of.
    pub vocabulary: TapeVocabulary,
    /// The fingerprint of the tokenizer that the sources share.
    pub tokenizer: String,
    /// Where the texts come from: the field of a sample, or `generated`.
    pub reference: String,
    /// sha256 of everything else that the rows depend on.
    pub config: String,
}

/// A source on a tape.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TapeSource {
    /// Its name in the experiment.
    pub name: String,
    /// The name of its session, which strategies are told.
    pub session: String,
    /// The roles that it plays in the strategy that was configured. Informative only.
    pub roles: Vec<String>,
    /// The folder or file of its model.
    pub model: String,
    /// sha256 of the model's files.
    pub sha256: String,
}

/// The shared vocabulary, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TapeVocabulary {
    /// One past the largest id.
    pub width: usize,
    /// Ids below it that no row defines, as `[first, last]`.
    pub missing: Vec<[TokenId; 2]>,
}

impl TapeVocabulary {
    /// As JSON.
    pub fn new(vocabulary: &SharedVocabulary) -> Self {
        let mut missing: Vec<[TokenId; 2]> = Vec::new();
        for id in (0..).take(vocabulary.width()).filter(|&id| !vocabulary.contains(id)) {
            match missing.last_mut() {
                Some([_, last]) if *last + 1 == id => *last = id,
                _ => missing.push([id, id]),
            }
        }
        Self { width: vocabulary.width(), missing }
    }

    fn to_shared(&self) -> SharedVocabulary {
        SharedVocabulary::new(self.width, self.missing.iter().flat_map(|&[first, last]| first..=last))
    }
}

impl TapeHeader {
    /// Checks the values of a file, and gives the vocabulary.
    pub(super) fn vocabulary(&self) -> Result<SharedVocabulary> {
        let wrong = |what: String| Err(Error::new(ErrorKind::InvalidData, what));
        if self.schema != SCHEMA {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("tape schema {}: this version reads {SCHEMA}", self.schema),
            )
            .with_help("use the version of logitfuse that wrote it, or record it again"));
        }
        let TapeVocabulary { width, missing } = &self.vocabulary;
        if self.sources.is_empty() || self.sources.len() > MAX_SOURCES {
            return wrong(format!("{} sources", self.sources.len()));
        }
        if *width == 0 || *width > MAX_IDS {
            return wrong(format!("a vocabulary of {width} ids"));
        }
        // Ascending and apart, so that all together are no more than the ids.
        let mut free = 0_u64;
        for &[first, last] in missing {
            if u64::from(first) < free || last < first || last as usize >= *width {
                return wrong(format!("missing ids {first} to {last} of {width}"));
            }
            free = u64::from(last) + 1;
        }
        let vocabulary = self.vocabulary.to_shared();
        if vocabulary.width() != *width || vocabulary.count() == 0 {
            return wrong(format!("a vocabulary of {width} ids whose last is missing"));
        }
        Ok(vocabulary)
    }

    /// The first field in which two headers differ, and its values.
    pub(super) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let json = |value: &dyn fmt::Debug| format!("{value:?}");
        let names = |header: &Self| json(&header.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>());
        // Which strategy was configured changes no row.
        let models = |header: &Self| {
            json(&header.sources.iter().map(|s| (&s.name, &s.session, &s.model, &s.sha256)).collect::<Vec<_>>())
        };
        let pairs = [
            ("rows", self.rows.to_string(), other.rows.to_string()),
            ("reference", self.reference.clone(), other.reference.clone()),
            ("sources", names(self), names(other)),
            ("tokenizer", self.tokenizer.clone(), other.tokenizer.clone()),
            ("vocabulary", json(&self.vocabulary), json(&other.vocabulary)),
            ("models", models(self), models(other)),
            ("config", self.config.clone(), other.config.clone()),
        ];
        pairs.into_iter().find(|(_, a, b)| a != b)
    }
}

/// How a tape keeps rows: what they cost, and what is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum RowKind {
    /// Every logit as it came: nothing is lost.
    F32,
    /// Every log-probability, rounded to half precision: 2⁻¹² of its own size at most.
    F16,
    /// The log-probabilities of every id that is among the best `k` of *some* source, of the text's own token, and the
    /// mass of the rest.
    TopK(u32),
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F16 => f.write_str("f16"),
            Self::TopK(k) => write!(f, "top-k={k}"),
        }
    }
}

impl FromStr for RowKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::InvalidConfig, format!("{text}: no way to keep rows"))
                .with_help("write f32, f16, or top-k=64 with any number from 1 on")
        };
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => match text.strip_prefix("top-k=").and_then(|k| k.parse().ok()) {
                Some(k) if k > 0 => Ok(Self::TopK(k)),
                _ => Err(wrong()),
            },
        }
    }
}

impl TryFrom<String> for RowKind {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RowKind> for String {
    fn from(kind: RowKind) -> Self {
        kind.to_string()
    }
}

/// The text that a block of rows belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TextInfo {
    /// The id of the sample.
    pub id: String,
    /// Which of the sample's choices the text is, from 0, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<usize>,
    /// Whether the text is the right one of the choices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gold: bool,
    /// Bytes of the text in UTF-8.
    pub bytes: usize,
    /// Unicode characters of the text.
    pub characters: usize,
    /// Tokens of the text.
    pub tokens: usize,
    /// sha256 of the prompts and the text, as tokens.
    pub sha256: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

impl TextInfo {
    /// Identifies the text: sample and choice.
    pub fn key(&self) -> (&str, Option<usize>) {
        (&self.id, self.choice)
    }
}

impl fmt::Display for TextInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.choice {
            None => write!(f, "{}", self.id),
            Some(choice) => write!(f, "{}, choice {choice}", self.id),
        }
    }
}
