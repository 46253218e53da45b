//! Scores of systems that are not here: a tuned large model is measured where it was tuned, and its weights stay there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::Deserialize;

const SHAPE: &str = r#"every line is {"task": "qa", "method": "tuned", "ids": ["qa-0", "qa-1"], "scores": [1.0, 0.0]}"#;

/// A file of scores by task and method.
pub(super) struct ExternalScores {
    path: PathBuf,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    task: String,
    method: String,
    ids: Vec<String>,
    scores: Vec<f64>,
}

impl ExternalScores {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let wrong = |kind, what: String| Error::new(kind, format!("{}{what}", path.display())).with_help(SHAPE);
        let text = fs::read_to_string(path).map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, format!("{}: {e}", path.display())).with_help("gap.scores names a file of JSON lines")
        })?;
        let mut lines: Vec<Line> = Vec::new();
        for (n, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let n = n + 1;
            let line: Line =
                serde_json::from_str(text).map_err(|e| wrong(ErrorKind::InvalidData, format!(":{n}: {e}")))?;
            if line.ids.len() != line.scores.len() {
                let what = format!(":{n}: {} ids and {} scores", line.ids.len(), line.scores.len());
                return Err(wrong(ErrorKind::InvalidData, what));
            }
            if lines.iter().any(|before| (&before.task, &before.method) == (&line.task, &line.method)) {
                let what = format!(":{n}: method `{}` has task `{}` twice", line.method, line.task);
                return Err(wrong(ErrorKind::InvalidData, what));
            }
            lines.push(line);
        }
        Ok(Self { path: path.to_owned(), lines })
    }

    /// A method's scores at a task, by the items' ids.
    pub(super) fn scores(&self, method: &str, task: &str) -> Result<BTreeMap<&str, f64>> {
        let found = self.lines.iter().find(|line| line.method == method && line.task == task);
        let Some(line) = found else {
            let mut known: Vec<&str> =
                self.lines.iter().filter(|line| line.task == task).map(|line| line.method.as_str()).collect();
            known.sort_unstable();
            let message =
                format!("{}: `{method}`, which [gap] names, has no scores at task `{task}`", self.path.display());
            let help = if known.is_empty() {
                format!("leave `{task}` out of the table `metric` of [gap]")
            } else {
                format!("at this task it has {}", known.join(", "))
            };
            return Err(Error::new(ErrorKind::NotFound, message).with_help(help));
        };
        Ok(line.ids.iter().map(String::as_str).zip(line.scores.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ExternalScores> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        fs::write(&path, text).unwrap();
        ExternalScores::read(&path)
    }

    #[test]
    fn lines_are_found_by_method_and_task_and_other_keys_do_not_matter() {
        let line = r#"{"task": "qa", "method": "tuned", "ids": ["a", "b"], "scores": [1, 0.5], "texts": ["x", "y"]}"#;
        let file = read(&format!("{line}\n\n")).unwrap();
        assert_eq!(file.scores("tuned", "qa").unwrap(), BTreeMap::from([("a", 1.0), ("b", 0.5)]));
        let help = |method, task| file.scores(method, task).unwrap_err().help().unwrap_or_default().to_owned();
        assert_eq!(help("tund", "qa"), "at this task it has tuned");
        assert_eq!(help("tuned", "math"), "leave `math` out of the table `metric` of [gap]");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let message = |text: &str| read(text).err().unwrap().to_string();
        assert!(message("{}\n").contains("scores.jsonl:1: missing field"));
        let uneven = r#"{"task": "qa", "method": "t", "ids": ["a"], "scores": []}"#;
        assert!(message(&format!("\n{uneven}")).ends_with(":2: 1 ids and 0 scores"));
        let line = r#"{"task": "qa", "method": "t", "ids": [], "scores": []}"#;
        assert!(message(&format!("{line}\n{line}\n")).ends_with(":2: method `t` has task `qa` twice"));
    }
}
