//! Samples: what fills the places of the prompts.

use std::{collections::HashSet, fmt::Display, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, python_json};
use logitfuse_text::read_text_file;
use serde_json::Value;

/// Everything in a file is held in memory.
const MOST_BYTES: u64 = 256 << 20;

/// One line of data: its fields fill the places of the prompts.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The field `id` where there is one, else the index.
    pub id: String,
    /// All fields.
    pub fields: Value,
}

impl Sample {
    /// The lines of a JSONL text, one object each, as Python reads it ([`python_json`]); empty lines do not count. `name` is
    /// what messages call the text.
    ///
    /// ```
    /// use logitfuse_pipeline::Sample;
    ///
    /// let samples = Sample::from_jsonl("qa.jsonl", "{\"id\": \"q7\", \"question\": \"Why?\"}\n\n{\"question\": \"How?\"}\n")?;
    /// assert_eq!((&*samples[0].id, &*samples[1].id), ("q7", "1"));
    /// assert_eq!(samples[1].fields["question"], "How?");
    ///
    /// let python = Sample::from_jsonl("qa.jsonl", "\u{feff}{\"score\": NaN}")?;
    /// assert_eq!(python[0].fields["score"], "nan");
    ///
    /// let twice = Sample::from_jsonl("qa.jsonl", "{\"id\": 1}\n{}\n").unwrap_err();
    /// assert_eq!(twice.to_string(), "qa.jsonl:2: id \"1\" was used before");
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with the line that is no object, or whose id an earlier one has.
    pub fn from_jsonl(name: &str, text: &str) -> Result<Vec<Self>> {
        let mut samples = Vec::new();
        parse_jsonl(name, text, &mut samples)?;
        Ok(samples)
    }
}

/// Adds the lines of a file, which may be written as Python writes JSON: `NaN`, whole numbers of any length (they become texts of
/// their digits), a byte order mark.
///
/// # Errors
/// As [`Sample::from_jsonl`], and where the file is missing, no regular file, or larger than 256 MiB.
pub fn read_jsonl(path: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    let text = read_text_file(path, MOST_BYTES)?;
    parse_jsonl(path.display(), &text, samples)
}

fn parse_jsonl(name: impl Display, text: &str, samples: &mut Vec<Sample>) -> Result<()> {
    let text = python_json(text);
    let mut ids: HashSet<String> = samples.iter().map(|sample| sample.id.clone()).collect();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidData, format!("{name}:{}: {why}", number + 1))
                .with_help("each line of a JSONL file is one JSON object")
        };
        let fields: Value = serde_json::from_str(&python_json(line)).map_err(|e| wrong(format!("not JSON: {e}")))?;
        let Value::Object(object) = &fields else { return Err(wrong("not an object".to_owned())) };
        let id = match object.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => samples.len().to_string(),
        };
        if !ids.insert(id.clone()) {
            return Err(wrong(format!("id {id:?} was used before")));
        }
        samples.push(Sample { id, fields });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_those_that_python_writes() {
        let text = "\u{feff}{\"p\": \"a\", \"score\": NaN}\r\n{\"p\": [12345678901234567890123, 1e-7]}\n";
        let samples = Sample::from_jsonl("x", text).expect("Python reads them");
        assert_eq!(samples[0].fields, json!({ "p": "a", "score": "nan" }));
        assert_eq!(samples[1].fields, json!({ "p": ["12345678901234567890123", 1e-7] }));
    }
}
