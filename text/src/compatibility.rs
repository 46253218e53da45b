use logitfuse_core::{Error, ErrorKind, Result, SharedVocabulary, TokenId};
use serde::Serialize;

use crate::Tokenizer;

/// How many differing ids a report lists; their number is always exact.
const SHOWN: usize = 5;

/// The vocabulary of one source: the input of [`compatibility`].
#[derive(Clone, Copy, Debug)]
pub struct SourceVocabulary<'a> {
    /// Its name in the configuration, for messages.
    pub name: &'a str,
    /// Defines its ids.
    pub tokenizer: &'a Tokenizer,
    /// The number of entries of each row.
    pub logit_width: usize,
    /// The ids that end a text, as the model's configuration lists them.
    pub end_of_sequence: &'a [TokenId],
}

/// The result of [`compatibility`]. Serialises for `--format json`.
#[derive(Clone, Debug, Serialize)]
pub struct CompatibilityReport {
    /// Whether the sources may be fused.
    pub compatible: bool,
    /// One entry per source, in the order in which they were given.
    pub sources: Vec<VocabularyReport>,
    /// Ids that every source defines.
    pub shared: usize,
    /// Shared ids that stand for different tokens in two sources; one is enough to refuse the set.
    pub differing: usize,
    /// The first of these.
    pub differences: Vec<Difference>,
    /// Why the set is refused, a line for each reason; empty if it is compatible.
    pub refusals: Vec<String>,
    /// Remarks that are no reason to refuse, a line each.
    pub notes: Vec<String>,
    #[serde(skip)]
    vocabulary: SharedVocabulary,
}

/// The vocabulary of one source, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct VocabularyReport {
    /// Its name in the configuration.
    pub name: String,
    /// Entries of each row.
    pub logit_width: usize,
    /// Ids that the tokenizer defines.
    pub tokens: usize,
    /// Logit columns without a token.
    pub padded: usize,
    /// Tokens without a logit column.
    pub beyond: usize,
    /// The ids that end a text.
    pub end_of_sequence: Vec<TokenId>,
    /// [`Tokenizer::fingerprint`].
    pub fingerprint: String,
}

/// An id that stands for different tokens in two sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The id.
    pub id: TokenId,
    /// Its token in the first source.
    pub first: String,
    /// Its token in the other source.
    pub other: String,
    /// The name of the first source.
    pub first_source: String,
    /// The name of the other source.
    pub other_source: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, first, other, first_source, other_source } = self;
        write!(f, "id {id}: {first:?} ({first_source}) / {other:?} ({other_source})")
    }
}

impl CompatibilityReport {
    /// The ids that may be emitted, or why the sources must not be fused.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`], with the first reason and the first ids that differ.
    pub fn vocabulary(&self) -> Result<SharedVocabulary> {
        let Some(reason) = self.refusals.first() else { return Ok(self.vocabulary.clone()) };
        Err(Error::new(ErrorKind::Incompatible, reason.clone()).with_help(
            "fuse models of one family with one vocabulary, and see that each folder holds the tokenizer of its model",
        ))
    }
}

/// Compares the vocabularies of several sources, token by token, and decides whether their logits may be combined.
///
/// Equal sizes prove nothing: two unrelated tokenizers of 32 000 tokens fuse into fluent nonsense without any error. And
/// unequal sizes refute nothing: models of one family pad their logits differently. So each id is looked up in each
/// tokenizer. If it stands for *different* tokens in two sources, the set is refused. If a source *lacks* it, because its
/// tokenizer has no such token or its logits no such column, it is masked, with a note.
///
/// A single source is checked too: a tokenizer with ordinary tokens beyond the last column belongs to another model.
///
/// ```
/// use logitfuse_text::{SourceVocabulary, Tokenizer, compatibility};
///
/// let words = |vocab: &str| {
///     Tokenizer::from_json(&format!(r#"{{"model": {{"type": "WordLevel", "unk_token": "?", "vocab": {vocab}}}}}"#))
/// };
/// let base = words(r#"{"?": 0, "yes": 1, "no": 2, "maybe": 3}"#)?;
/// let expert = words(r#"{"?": 0, "yes": 1, "no": 2}"#)?;
/// let wrong = words(r#"{"?": 0, "no": 1, "yes": 2}"#)?;
/// let source = |name, tokenizer, logit_width| SourceVocabulary { name, tokenizer, logit_width, end_of_sequence: &[] };
///
/// let report = compatibility(&[source("base", &base, 4), source("expert", &expert, 8)]);
/// assert!(report.compatible);
/// assert_eq!(report.vocabulary()?.width(), 3);
///
/// let report = compatibility(&[source("base", &base, 4), source("wrong", &wrong, 3)]);
/// assert_eq!(
///     report.vocabulary().unwrap_err().to_string(),
///     r#"base, wrong: 2 of 3 shared token ids differ, id 1: "yes" (base) / "no" (wrong), id 2: "no" (base) / "yes" (wrong)"#
/// );
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub fn compatibility(sources: &[SourceVocabulary<'_>]) -> CompatibilityReport {
    let reports: Vec<_> = sources.iter().map(report).collect();
    let mut refusals: Vec<_> = sources.iter().filter_map(tokenizer_of_another_model).collect();

    let shared = shared_ids(sources);
    let (differing, differences) = differences(sources, &shared);
    if let Some(Difference { first_source, other_source, .. }) = differences.first() {
        let listed: Vec<_> = differences.iter().map(ToString::to_string).collect();
        let more = if differing > differences.len() { ", …" } else { "" };
        refusals.push(format!(
            "{first_source}, {other_source}: {differing} of {} shared token ids differ, {}{more}",
            shared.len(),
            listed.join(", "),
        ));
    } else if shared.is_empty() {
        let names: Vec<_> = sources.iter().map(|source| source.name).collect();
        refusals.push(format!("{}: no token id is defined by every source", names.join(", ")));
    }

    let vocabulary = vocabulary(&shared);
    CompatibilityReport {
        compatible: refusals.is_empty(),
        notes: notes(sources, &reports, &shared),
        sources: reports,
        shared: shared.len(),
        differing,
        differences,
        refusals,
        vocabulary,
    }
}

impl SourceVocabulary<'_> {
    /// Ids with both a token and a column, ascending.
    fn defined(&self) -> impl Iterator<Item = TokenId> {
        self.tokenizer.defined_ids().take_while(|&id| (id as usize) < self.logit_width)
    }

    /// Ids with a token and no column, ascending.
    fn beyond(&self) -> impl Iterator<Item = TokenId> {
        self.tokenizer.defined_ids().skip_while(|&id| (id as usize) < self.logit_width)
    }
}

fn report(source: &SourceVocabulary<'_>) -> VocabularyReport {
    let defined = source.defined().count();
    let beyond = source.beyond().count();
    let mut end_of_sequence = source.end_of_sequence.to_vec();
    end_of_sequence.sort_unstable();
    end_of_sequence.dedup();
    VocabularyReport {
        name: source.name.to_owned(),
        logit_width: source.logit_width,
        tokens: defined + beyond,
        padded: source.logit_width - defined,
        beyond,
        end_of_sequence,
        fingerprint: source.tokenizer.fingerprint().to_owned(),
    }
}

/// Control tokens are added to a tokenizer after its model was made, sometimes without a column. Ordinary tokens are not.
fn tokenizer_of_another_model(source: &SourceVocabulary<'_>) -> Option<String> {
    let ordinary = source.beyond().filter(|&id| !source.tokenizer.is_added(id)).count();
    let first = source.beyond().find(|&id| !source.tokenizer.is_added(id))?;
    let token = source.tokenizer.token(first).unwrap_or_default();
    Some(format!(
        "{}: the tokenizer belongs to another model, {ordinary} of its tokens lie beyond the {} logits, the first is \
         id {first}: {token:?}",
        source.name, source.logit_width,
    ))
}

/// Ids that every source defines, ascending.
fn shared_ids(sources: &[SourceVocabulary<'_>]) -> Vec<TokenId> {
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    others.iter().fold(first.defined().collect(), |shared, source| {
        let mut defined = source.defined().peekable();
        shared
            .into_iter()
            .filter(|&id| {
                while defined.next_if(|&other| other < id).is_some() {}
                defined.next_if_eq(&id).is_some()
            })
            .collect()
    })
}

/// The number of shared ids that stand for another token in some source than in the first one, and the first of them.
fn differences(sources: &[SourceVocabulary<'_>], shared: &[TokenId]) -> (usize, Vec<Difference>) {
    let mut count = 0;
    let mut shown = Vec::new();
    let Some((first, others)) = sources.split_first() else { return (count, shown) };
    let others: Vec<_> =
        others.iter().filter(|other| other.tokenizer.fingerprint() != first.tokenizer.fingerprint()).collect();
    if others.is_empty() {
        return (count, shown);
    }
    for &id in shared {
        let token = first.tokenizer.token(id);
        let Some((other, theirs)) =
            others.iter().map(|other| (other, other.tokenizer.token(id))).find(|(_, theirs)| *theirs != token)
        else {
            continue;
        };
        count += 1;
        if shown.len() < SHOWN {
            shown.push(Difference {
                id,
                first: token.unwrap_or_default(),
                other: theirs.unwrap_or_default(),
                first_source: first.name.to_owned(),
                other_source: other.name.to_owned(),
            });
        }
    }
    (count, shown)
}

fn vocabulary(shared: &[TokenId]) -> SharedVocabulary {
    let mut next = 0;
    let mut missing = Vec::new();
    for &id in shared {
        missing.extend(next..id);
        next = id + 1;
    }
    SharedVocabulary::new(next as usize, missing)
}

fn notes(sources: &[SourceVocabulary<'_>], reports: &[VocabularyReport], shared: &[TokenId]) -> Vec<String> {
    let mut notes = Vec::new();
    for (source, report) in sources.iter().zip(reports) {
        let VocabularyReport { name, logit_width, padded, beyond, .. } = report;
        if *padded > 0 {
            // Padding rounds up to a multiple of a power of two; a tenth of the columns is more than any rounding.
            let doubt = if *padded > logit_width / 10 { "; is this the tokenizer of this model?" } else { "" };
            notes.push(format!("{name}: {padded} of {logit_width} logit columns have no token and are masked{doubt}"));
        }
        if *beyond > 0 {
            notes.push(format!("{name}: {beyond} tokens beyond the {logit_width} logit columns can never be emitted"));
        }
        let lacking = report.tokens - beyond - shared.len();
        if lacking > 0 {
            notes.push(format!("{name}: {lacking} of its tokens are not defined by every source and are masked"));
        }
        for id in &report.end_of_sequence {
            if shared.binary_search(id).is_err() {
                let token = source.tokenizer.token(*id).map_or_else(String::new, |token| format!(" {token:?}"));
                notes.push(format!("{name}: its end-of-sequence id {id}{token} is masked, so it can never end a text"));
            }
        }
    }
    if let Some((first, others)) = sources.iter().zip(reports).collect::<Vec<_>>().split_first() {
        for other in others {
            notes.extend(notes_on_pair(*first, *other, shared));
        }
    }
    notes
}

fn notes_on_pair(
    first: (&SourceVocabulary<'_>, &VocabularyReport),
    other: (&SourceVocabulary<'_>, &VocabularyReport),
    shared: &[TokenId],
) -> Vec<String> {
    let ((first, first_report), (other, other_report)) = (first, other);
    let mut notes = Vec::new();
    if first_report.end_of_sequence != other_report.end_of_sequence {
        notes.push(format!(
            "{}, {}: texts end differently, {:?} / {:?}",
            first.name, other.name, first_report.end_of_sequence, other_report.end_of_sequence
        ));
    }
    if first_report.fingerprint != other_report.fingerprint {
        let special = |source: &SourceVocabulary<'_>, id| source.tokenizer.is_special(id);
        let unequal: Vec<_> = shared.iter().filter(|&&id| special(first, id) != special(other, id)).collect();
        if let Some(&&id) = unequal.first() {
            let token = first.tokenizer.token(id).unwrap_or_default();
            notes.push(format!(
                "{}, {}: {} tokens are control tokens in one tokenizer only, the first is id {id}: {token:?}",
                first.name,
                other.name,
                unequal.len()
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests;
