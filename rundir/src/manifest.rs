//! The manifest: everything that a result depends on.

use std::{collections::BTreeMap, fmt};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::sha256;

/// The version of all files of a run directory that this crate writes.
pub const SCHEMA_VERSION: u32 = 1;

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What a result depends on. A run whose identity differs is another run: it is refused, never mixed in.
    pub identity: Identity,
    /// Which of the samples are to be made here.
    pub scope: Scope,
    /// What is to be made, in the order of `samples.jsonl`.
    pub cells: Vec<CellPlan>,
    /// What it ought not to depend on, for the reader: versions, threads, CPU features, operating system, start.
    pub machine: BTreeMap<String, String>,
}

/// What a result depends on, by hash.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Identity {
    /// sha256 of `resolved.toml` without what changes no sample: `[gap]`, `[[expect]]`, `[[models]]`, `run.batch`.
    pub config_sha256: String,
    /// Version of logitfuse.
    pub logitfuse: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// Models, tokenizers, templates, data, plugins: every file that was read.
    pub files: Vec<FileRecord>,
}

/// A file that a result depends on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FileRecord {
    /// The path as the experiment names it.
    pub path: String,
    /// What it is: `model`, `tokenizer`, `data`, `plugin`, …
    pub kind: String,
    /// Bytes.
    pub bytes: u64,
    /// sha256 of the content.
    pub sha256: String,
}

/// The part of an experiment that one directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Scope {
    /// Only so many items of every task.
    pub limit: Option<usize>,
    /// Only every n-th item.
    pub shard: Option<Shard>,
}

/// The items whose index is `index` modulo `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// How many shards there are.
    pub of: usize,
}

/// As it is asked for, from 1: `2/4`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index.saturating_add(1), self.of)
    }
}

impl Scope {
    /// Whether the item at `index` of its task is to be made.
    ///
    /// ```
    /// use logitfuse_rundir::{Scope, Shard};
    ///
    /// let scope = Scope { limit: Some(5), shard: Some(Shard { index: 1, of: 2 }) };
    /// assert_eq!((0..8).filter(|&index| scope.holds(index)).collect::<Vec<_>>(), [1, 3]);
    /// ```
    pub fn holds(&self, index: usize) -> bool {
        self.limit.is_none_or(|limit| index < limit)
            && self.shard.is_none_or(|shard| index % shard.of.max(1) == shard.index)
    }

    /// How many of the first `items` it holds.
    fn count(&self, items: usize) -> usize {
        let items = self.limit.map_or(items, |limit| items.min(limit));
        self.shard.map_or(items, |Shard { index, of }| items.saturating_sub(index).div_ceil(of.max(1)))
    }

    fn words(&self) -> String {
        let limit = self.limit.map(|limit| format!("--limit {limit}"));
        let shard = self.shard.map(|shard| format!("--shard {shard}"));
        match (limit, shard) {
            (None, None) => "all items".to_owned(),
            (limit, shard) => limit.into_iter().chain(shard).collect::<Vec<_>>().join(" "),
        }
    }
}

/// The samples of one variant and task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CellPlan {
    /// The variant.
    pub variant: String,
    /// The task.
    pub task: String,
    /// Items of the task, whatever part of them this directory holds.
    pub items: usize,
    /// Answers to each.
    pub repeats: usize,
}

impl Manifest {
    /// How many samples the directory holds when it is complete.
    pub fn samples(&self) -> usize {
        let held = |cell: &CellPlan| self.scope.count(cell.items).saturating_mul(cell.repeats);
        self.cells.iter().map(held).fold(0, usize::saturating_add)
    }

    /// Refuses to go on with a run that this manifest does not describe; `place` is the directory of the first, `line`
    /// the first line of its configuration that differs, where that is known.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`], with the first thing that differs and how many others do.
    pub(crate) fn check_same(&self, place: impl std::fmt::Display, now: &Self, line: Option<String>) -> Result<()> {
        let mut differences = self.identity.differences(&now.identity);
        if let (Some(line), true) = (line, self.identity.config_sha256 != now.identity.config_sha256) {
            differences[0] = line;
        }
        if self.scope != now.scope {
            differences.push(format!("it holds {}, and {} was asked for", self.scope.words(), now.scope.words()));
        } else if differences.is_empty() && self.cells != now.cells {
            differences.push("its variants, tasks or numbers of items differ".to_owned());
        }
        let Some(first) = differences.first() else { return Ok(()) };
        let others = match differences.len() - 1 {
            0 => String::new(),
            n => format!(" ({n} more differ)"),
        };
        Err(Error::new(ErrorKind::Incompatible, format!("{place}: holds another run: {first}{others}"))
            .with_help("undo the change, or write to another directory with `-o`; results are never mixed"))
    }
}

impl Identity {
    /// sha256 of the identity as compact JSON.
    pub fn sha256(&self) -> String {
        // Strings and numbers only, which JSON can always hold.
        sha256(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// What differs, a line each, in the order of the fields.
    ///
    /// ```
    /// use logitfuse_rundir::{FileRecord, Identity};
    ///
    /// let file = |sha256: &str| FileRecord { path: "S/model.onnx".into(), kind: "model".into(), bytes: 3, sha256: sha256.into() };
    /// let identity = |sha256: &str| Identity {
    ///     config_sha256: "c".into(),
    ///     logitfuse: "0.1.0".into(),
    ///     onnxruntime: "1.23.0".into(),
    ///     files: vec![file(sha256)],
    /// };
    /// assert_eq!(
    ///     identity("0123456789abcdef").differences(&identity("fedcba9876543210")),
    ///     ["the model S/model.onnx changed (sha256 0123456789ab… before, fedcba987654… now)"]
    /// );
    /// ```
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut field = |name: &str, before: &str, now: &str| {
            if before != now {
                found.push(format!("{name} differs ({} before, {} now)", short(before), short(now)));
            }
        };
        field("the experiment's configuration (resolved.toml)", &self.config_sha256, &now.config_sha256);
        field("the version of logitfuse", &self.logitfuse, &now.logitfuse);
        field("the version of ONNX Runtime", &self.onnxruntime, &now.onnxruntime);
        let same = |a: &FileRecord, b: &FileRecord| (&a.kind, &a.path) == (&b.kind, &b.path);
        for before in &self.files {
            let (kind, path) = (&before.kind, &before.path);
            match now.files.iter().find(|now| same(before, now)) {
                None => found.push(format!("the {kind} {path} is no longer used")),
                Some(now) if now.sha256 != before.sha256 => found.push(format!(
                    "the {kind} {path} changed (sha256 {} before, {} now)",
                    short(&before.sha256),
                    short(&now.sha256)
                )),
                Some(_) => {}
            }
        }
        for now in now.files.iter().filter(|now| !self.files.iter().any(|before| same(before, now))) {
            found.push(format!("the {} {} is new", now.kind, now.path));
        }
        found
    }
}

/// The beginning of a hash; anything shorter as it is.
fn short(text: &str) -> String {
    match text.get(..12) {
        Some(start) if text.len() > 12 => format!("{start}…"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_as_they_are_held() {
        for items in 0..12 {
            for limit in [None, Some(0), Some(5), Some(usize::MAX)] {
                for shard in [None, Some(Shard { index: 0, of: 1 }), Some(Shard { index: 2, of: 3 })] {
                    let scope = Scope { limit, shard };
                    assert_eq!(scope.count(items), (0..items).filter(|&item| scope.holds(item)).count(), "{scope:?}");
                }
            }
        }
    }
}
