//! Examples that are shown to a source before the sample itself.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_text::PromptTemplate;

use crate::{SourceConfig, samples::read_jsonl};

/// One demonstration, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shot {
    pub(crate) user: String,
    /// The whole answer: how answers begin, then this one's own text.
    pub(crate) assistant: String,
}

/// The demonstrations of one source. They are the same for all samples, so they are rendered once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demonstrations {
    shots: Vec<Shot>,
    separator: String,
}

impl Demonstrations {
    /// Reads the first `shots` of a source's demonstrations and writes them as its prompts are written.
    pub(crate) fn load(
        name: &str,
        config: &SourceConfig,
        user: &PromptTemplate,
        assistant: &PromptTemplate,
    ) -> Result<Self> {
        let wrong = |key: &str, what: String, help: &str| {
            Error::new(ErrorKind::InvalidConfig, format!("sources.{name}.{key}: {what}")).with_help(help)
        };
        let Some(path) = &config.demonstrations else {
            return match config.shots {
                None | Some(0) => Ok(Self::default()),
                Some(_) => Err(wrong(
                    "shots",
                    "there are no demonstrations".to_owned(),
                    "name a JSONL file in `demonstrations`",
                )),
            };
        };
        let mut samples = Vec::new();
        read_jsonl(path, &mut samples)?;
        let wanted = config.shots.unwrap_or(samples.len());
        if wanted > samples.len() {
            let what = format!("{wanted} are wanted and {} holds {}", path.display(), samples.len());
            return Err(wrong("shots", what, "leave `shots` out to take all of them"));
        }
        let answer = PromptTemplate::new(&format!("sources.{name}.answer"), &config.answer)?;
        let render = |fields: &serde_json::Value| {
            let assistant = assistant.render(fields)? + &answer.render(fields)?;
            Ok(Shot { user: user.render(fields)?, assistant })
        };
        let numbered = (1..).zip(&samples[..wanted]);
        let shots = numbered.map(|(number, sample)| {
            render(&sample.fields).map_err(|e: Error| e.context(format!("{}: demonstration {number}", path.display())))
        });
        Ok(Self { shots: shots.collect::<Result<_>>()?, separator: config.separator.clone() })
    }

    pub(crate) fn shots(&self) -> &[Shot] {
        &self.shots
    }

    /// One after the other, for a model without a chat template.
    pub(crate) fn as_text(&self) -> String {
        self.shots.iter().flat_map(|shot| [&*shot.user, &*shot.assistant, &*self.separator]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lines: &str, change: impl FnOnce(&mut SourceConfig)) -> Result<Demonstrations> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("shots.jsonl");
        std::fs::write(&path, lines).expect("the test's folder is writable");
        let mut config = SourceConfig::new("m");
        config.demonstrations = Some(path);
        config.answer = " {{ answer }}".to_owned();
        change(&mut config);
        let template = |text| PromptTemplate::new("test", text).expect("a sound template");
        Demonstrations::load("x", &config, &template("Q: {{ question }}\n"), &template("A:"))
    }

    const TWO: &str = "{\"question\": \"1+1?\", \"answer\": 2}\n\n{\"question\": \"2+2?\", \"answer\": \"4\"}\n";

    #[test]
    fn they_are_written_as_prompts_are() {
        let all = load(TWO, |_| {}).expect("sound demonstrations");
        assert_eq!(all.as_text(), "Q: 1+1?\nA: 2\n\nQ: 2+2?\nA: 4\n\n");
        let shot = Shot { user: "Q: 2+2?\n".to_owned(), assistant: "A: 4".to_owned() };
        assert_eq!(all.shots()[1], shot);
    }

    #[test]
    fn the_first_are_taken() {
        let one = load(TWO, |c| (c.shots, c.separator) = (Some(1), "\n".to_owned())).expect("sound demonstrations");
        assert_eq!(one.as_text(), "Q: 1+1?\nA: 2\n");
        assert_eq!(load(TWO, |c| c.shots = Some(0)).expect("sound demonstrations").as_text(), "");
        assert_eq!(load(TWO, |c| c.demonstrations = None).expect("none are wanted").as_text(), "");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |result: Result<Demonstrations>| result.expect_err("it is wrong").to_string();
        let few = message(load(TWO, |c| c.shots = Some(3)));
        assert!(few.starts_with("sources.x.shots: 3 are wanted and ") && few.ends_with("shots.jsonl holds 2"), "{few}");
        let none = message(load(TWO, |c| (c.shots, c.demonstrations) = (Some(3), None)));
        assert_eq!(none, "sources.x.shots: there are no demonstrations");
        let field = message(load("{\"question\": \"1+1?\"}", |_| {}));
        assert!(field.contains("shots.jsonl: demonstration 1: sources.x.answer: line 1: undefined value"), "{field}");
        assert!(message(load("3", |_| {})).ends_with("shots.jsonl:1: not an object"));
        let missing = message(load(TWO, |c| c.demonstrations = Some("no/such.jsonl".into())));
        assert!(missing.starts_with("no/such.jsonl: "), "{missing}");
    }
}
