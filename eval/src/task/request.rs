//! What is asked of the engine about an item.

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use logitfuse_engine::{Request, ScoreRequest};
use logitfuse_text::Tokenizer;
use serde_json::{Map, Value};

use super::{
    Doc, Task,
    metric::Metric,
    split::{Split, rolling_windows, trimmed},
};
use logitfuse_config::{OutputType, Tokenization};
use logitfuse_pipeline::{Pipeline, Preview};

use crate::preflight::lost_prompts;

/// lm-eval's window where a model states no context length.
const WINDOW: usize = 2048;

/// One request to the engine.
#[derive(Clone, Debug)]
pub enum TaskRequest {
    /// Text to generate.
    Generate(Request),
    /// Continuations to score.
    Score {
        /// What each continuation says, for the record.
        texts: Vec<String>,
        /// The contexts and continuations in tokens.
        request: ScoreRequest,
    },
}

/// What writes an item's prompts: an opened pipeline, or one without its weights.
pub(crate) trait Prompting {
    /// Each binding's prompt.
    fn prompts(&self, fields: &Value) -> Result<Vec<String>>;
    /// A binding's text as tokens.
    fn encode(&self, binding: usize, text: &str) -> Result<Vec<TokenId>>;
    fn tokenizer(&self) -> &Tokenizer;
    fn end_of_sequence(&self) -> &[TokenId];
    /// The binding whose tokens decide where a continuation begins: the base, else the first.
    fn base(&self) -> usize;
    /// Whether a binding's prompt ends where an answer begins, so that nothing need stand between.
    fn awaits_answer(&self, binding: usize, fields: &Value) -> Result<bool>;
}

impl Prompting for Pipeline {
    fn prompts(&self, fields: &Value) -> Result<Vec<String>> {
        self.prompts(fields)
    }

    fn encode(&self, binding: usize, text: &str) -> Result<Vec<TokenId>> {
        self.encode(binding, text)
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer()
    }

    fn end_of_sequence(&self) -> &[TokenId] {
        self.end_of_sequence()
    }

    fn base(&self) -> usize {
        self.session().row_of("base").unwrap_or(0)
    }

    fn awaits_answer(&self, binding: usize, fields: &Value) -> Result<bool> {
        self.awaits_answer(binding, fields)
    }
}

impl Prompting for Preview {
    fn prompts(&self, fields: &Value) -> Result<Vec<String>> {
        self.prompts(fields)
    }

    fn encode(&self, binding: usize, text: &str) -> Result<Vec<TokenId>> {
        self.encode(binding, text)
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer()
    }

    fn end_of_sequence(&self) -> &[TokenId] {
        self.end_of_sequence()
    }

    fn base(&self) -> usize {
        self.roles().iter().position(|(role, _)| role == "base").unwrap_or(0)
    }

    fn awaits_answer(&self, binding: usize, fields: &Value) -> Result<bool> {
        self.awaits_answer(binding, fields)
    }
}

impl Task {
    /// What is asked of the engine about an item: one generation, or continuations to score, whose scores are the item's
    /// responses in the order of the requests and their continuations.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] where a template fails, [`ErrorKind::InvalidData`] where the item is not what the task
    /// says: no list of choices, a choice of which the prompt leaves no token.
    pub fn requests(&self, pipeline: &Pipeline, doc: &Doc, repeat: usize) -> Result<Vec<TaskRequest>> {
        self.requests_of(pipeline, doc, repeat).map_err(|e| self.about(e, doc))
    }

    fn requests_of(&self, pipeline: &Pipeline, doc: &Doc, repeat: usize) -> Result<Vec<TaskRequest>> {
        let choices = self.templates.choices(&doc.fields)?;
        let target = self.templates.target(&doc.fields, &choices)?;
        let mut texts = target.texts(&choices);
        match self.config.output_type {
            OutputType::GenerateUntil => {
                let seed = doc.index * self.config.repeats + repeat;
                let mut request = pipeline.request_for(seed, &Value::Object(self.fields(doc)?))?;
                if let Some(max_new_tokens) = self.config.max_new_tokens {
                    request.max_new_tokens = max_new_tokens;
                }
                let mut stop = self.config.stop.as_ref().unwrap_or(&pipeline.run().stop).clone();
                // As lm-eval does it, whatever ids the model's configuration names.
                stop.extend(
                    pipeline.tokenizer().eos_token().filter(|_| !request.ignore_end_of_sequence).map(str::to_owned),
                );
                request.text = Some(pipeline.detokenize(&stop));
                Ok(vec![TaskRequest::Generate(request)])
            }
            OutputType::MultipleChoice => {
                let fields = Value::Object(self.fields(doc)?);
                let delimited = self.delimited(pipeline, &fields, &choices)?;
                let contexts = pipeline.prompts(&fields)?;
                let reader = Reader::new(pipeline, self.config.tokenization)?;
                let mut requests = vec![reader.score(&contexts, &choices, &delimited)?];
                if self.metrics.iter().any(|metric| matches!(metric, Metric::AccMutualInfo)) {
                    let nothing = vec![String::new(); contexts.len()];
                    requests.push(reader.score(&nothing, &choices, &delimited)?);
                }
                Ok(requests)
            }
            OutputType::Loglikelihood => {
                texts.truncate(1);
                let contexts = pipeline.prompts(&Value::Object(self.fields(doc)?))?;
                Ok(vec![Reader::new(pipeline, self.config.tokenization)?.score(&contexts, &texts, &texts)?])
            }
            OutputType::LoglikelihoodRolling => windows(pipeline, &texts.concat()),
        }
    }

    /// The choices with what stands before each: as in lm-eval nothing, where a chat template ends the prompt and the answer is
    /// not begun.
    fn delimited(&self, prompting: &dyn Prompting, fields: &Value, choices: &[String]) -> Result<Vec<String>> {
        if choices.is_empty() {
            return Err(Error::new(ErrorKind::InvalidData, "choices: there are none")
                .with_help("a multiple choice needs one choice at least"));
        }
        let awaited = prompting.awaits_answer(prompting.base(), fields)?;
        let delimiter = if awaited { "" } else { self.config.target_delimiter.as_str() };
        Ok(choices.iter().map(|choice| delimiter.to_owned() + choice).collect())
    }

    /// Renders everything of an item, and says what became of its prompts.
    ///
    /// # Errors
    /// As [`requests`](Self::requests).
    pub(crate) fn rehearse(&self, prompting: &dyn Prompting, doc: &Doc) -> Result<Rehearsed> {
        self.rehearsed(prompting, doc).map_err(|e| self.about(e, doc))
    }

    fn rehearsed(&self, prompting: &dyn Prompting, doc: &Doc) -> Result<Rehearsed> {
        let choices = self.templates.choices(&doc.fields)?;
        let texts = self.templates.target(&doc.fields, &choices)?.texts(&choices);
        if self.config.output_type == OutputType::LoglikelihoodRolling {
            return Ok(Rehearsed::default());
        }
        let fields = Value::Object(self.fields(doc)?);
        let continuations = match self.config.output_type {
            OutputType::MultipleChoice => self.delimited(prompting, &fields, &choices)?,
            OutputType::Loglikelihood => texts.into_iter().take(1).collect(),
            _ => Vec::new(),
        };
        let prompts = prompting.prompts(&fields)?;
        let mut rehearsed = Rehearsed { prompts, ..Rehearsed::default() };
        if continuations.is_empty() {
            return Ok(rehearsed);
        }
        let reader = Reader::new(prompting, self.config.tokenization)?;
        let (tokens, lost) = reader.continuations(&rehearsed.prompts, &continuations)?;
        rehearsed.continuation = tokens.iter().map(Vec::len).max().unwrap_or(0);
        rehearsed.lost = lost;
        Ok(rehearsed)
    }

    /// A warning, if the tokenizer joins the ends of prompts with what is scored after them. An item that cannot be asked for is
    /// no matter here: it is an error when its turn comes.
    pub(crate) fn lost_prompts(&self, prompting: &dyn Prompting) -> Option<Error> {
        if !matches!(self.config.output_type, OutputType::MultipleChoice | OutputType::Loglikelihood) {
            return None;
        }
        let loses = |doc: &&Doc| self.rehearsed(prompting, doc).is_ok_and(|rehearsed| rehearsed.lost);
        let lost = self.docs.iter().filter(loses).count();
        (lost > 0).then(|| lost_prompts(&self.name, lost, self.docs.len()))
    }

    /// The item's fields with `prompt`: its demonstrations, then the question.
    pub(crate) fn fields(&self, doc: &Doc) -> Result<Map<String, Value>> {
        let mut fields = doc.fields.clone();
        let question = self.templates.question(&doc.fields)?;
        let mut prompt = self.templates.description(&doc.fields)?;
        for &shot in self.shots.of.get(doc.index).into_iter().flatten() {
            prompt += &self.shot(&self.shots.pool[shot]).map_err(|e| e.context(format!("fewshot: item {shot}")))?;
            prompt += &self.shots.separator;
        }
        match question {
            Some(question) => fields.insert("prompt".to_owned(), Value::String(prompt + &question)),
            None if prompt.is_empty() => None,
            None => return Err(no_question()),
        };
        Ok(fields)
    }

    /// A demonstration: question, delimiter, answer.
    fn shot(&self, fields: &Map<String, Value>) -> Result<String> {
        let question = self.templates.question(fields)?.ok_or_else(no_question)?;
        let choices = self.templates.choices(fields)?;
        let answers = self.templates.target(fields, &choices)?.texts(&choices);
        let answer = answers.first().map_or("", String::as_str);
        // lm-eval puts no delimiter before an answer that is empty.
        let delimiter = if answer.is_empty() { "" } else { self.config.target_delimiter.as_str() };
        Ok(question + delimiter + answer)
    }
}

fn no_question() -> Error {
    Error::new(ErrorKind::InvalidConfig, "prompt: missing, and the items have no field `prompt`")
        .with_help("demonstrations are written with the task's `prompt`")
}

/// What becomes of an item's prompts.
#[derive(Default)]
pub(crate) struct Rehearsed {
    /// Each binding's prompt; empty for whole texts, which have none.
    pub(crate) prompts: Vec<String>,
    /// Tokens of the longest continuation that is scored.
    pub(crate) continuation: usize,
    /// The end of the prompt that the tokenizer joins with what is scored, if it does.
    pub(crate) lost: bool,
}

/// Reads texts as the bindings of an engine do.
struct Reader<'a> {
    prompting: &'a dyn Prompting,
    tokenization: Tokenization,
    /// What stands for an empty context.
    prefix: TokenId,
}

/// What stands for an empty context: the token that begins a text, else one that ends it.
fn prefix(prompting: &dyn Prompting) -> Result<TokenId> {
    let tokenizer = prompting.tokenizer();
    let mut named = [tokenizer.bos_token(), tokenizer.eos_token()].into_iter().flatten();
    let prefix = named.find_map(|token| tokenizer.id(token));
    prefix.or_else(|| prompting.end_of_sequence().first().copied()).ok_or_else(|| {
        Error::new(ErrorKind::Incompatible, "the tokenizer names no token that begins or ends a text")
            .with_help("give the prompt a text: an empty one needs such a token to follow")
    })
}

impl<'a> Reader<'a> {
    fn new(prompting: &'a dyn Prompting, tokenization: Tokenization) -> Result<Self> {
        Ok(Self { prompting, tokenization, prefix: prefix(prompting)? })
    }

    /// A request that scores `continuations`, recorded as `texts`, after one context per binding.
    fn score(&self, contexts: &[String], texts: &[String], continuations: &[String]) -> Result<TaskRequest> {
        let (continuations, _) = self.continuations(contexts, continuations)?;
        let prompt = |(binding, context): (usize, &String)| {
            let context = match self.tokenization {
                Tokenization::Joint => trimmed(context).0,
                Tokenization::Separate => context,
            };
            if context.is_empty() { Ok(vec![self.prefix]) } else { self.prompting.encode(binding, context) }
        };
        let prompts = contexts.iter().enumerate().map(prompt).collect::<Result<Vec<_>>>()?;
        Ok(TaskRequest::Score { texts: texts.to_vec(), request: ScoreRequest::new(prompts, continuations) })
    }

    /// The tokens of what is scored behind the base's context, and whether a piece of that context is lost.
    fn continuations(&self, contexts: &[String], texts: &[String]) -> Result<(Vec<Vec<TokenId>>, bool)> {
        let context = &contexts[self.prompting.base()];
        let split = Split::new(self.prompting.tokenizer(), self.tokenization, context, self.prefix)?;
        let mut lost = false;
        let tokens_of = |text: &String| {
            let (tokens, loses) = split.continuation(text)?;
            lost |= loses;
            if tokens.is_empty() {
                let what = format!("{text:?}: no token of it is left after the prompt");
                return Err(Error::new(ErrorKind::InvalidData, what).with_help(
                    "the tokenizer joins it with the prompt's end, or it is empty; change target_delimiter, or set \
                     tokenization = \"separate\"",
                ));
            }
            Ok(tokens)
        };
        let tokens = texts.iter().map(tokens_of).collect::<Result<_>>()?;
        Ok((tokens, lost))
    }
}

/// Requests that score a whole text. All bindings read the text alone.
fn windows(pipeline: &Pipeline, text: &str) -> Result<Vec<TaskRequest>> {
    let tokens = pipeline.tokenizer().encode(text, false)?;
    if tokens.is_empty() {
        return Err(Error::new(ErrorKind::InvalidData, "target: the text is empty")
            .with_help("`target` of a loglikelihood_rolling task is the text that is scored"));
    }
    let length = pipeline.sources().filter_map(|source| source.context_length).min().unwrap_or(WINDOW);
    let bindings = pipeline.session().bindings.len();
    let request = |(context, continuation): (Vec<TokenId>, Vec<TokenId>)| {
        let texts = vec![pipeline.tokenizer().decode(&continuation, false)?];
        Ok(TaskRequest::Score { texts, request: ScoreRequest::new(vec![context; bindings], [continuation]) })
    };
    rolling_windows(&tokens, prefix(pipeline)?, length).into_iter().map(request).collect()
}

#[cfg(test)]
mod tests {
    use logitfuse_config::TaskConfig;

    use super::*;

    /// One binding that shows the prompt as it is; letters, and a few pieces of several.
    struct Plain {
        tokenizer: Tokenizer,
        ends: Vec<TokenId>,
        awaits: bool,
    }

    impl Prompting for Plain {
        fn prompts(&self, fields: &Value) -> Result<Vec<String>> {
            Ok(vec![fields["prompt"].as_str().unwrap_or_default().to_owned()])
        }

        fn encode(&self, _binding: usize, text: &str) -> Result<Vec<TokenId>> {
            self.tokenizer.encode(text, false)
        }

        fn tokenizer(&self) -> &Tokenizer {
            &self.tokenizer
        }

        fn end_of_sequence(&self) -> &[TokenId] {
            &self.ends
        }

        fn base(&self) -> usize {
            0
        }

        fn awaits_answer(&self, _binding: usize, _fields: &Value) -> Result<bool> {
            Ok(self.awaits)
        }
    }

    const TOKENIZER: &str = r#"{"model": {"type": "BPE", "vocab": {":": 0, "Ċ": 1, ":Ċ": 2, "a": 3, "Ġ": 4, "Ġa": 5, "<s>": 6, "</s>": 7},
        "merges": [": Ċ", "Ġ a"]},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}}"#;

    fn plain(special: &str) -> Plain {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it is writable");
        write("tokenizer.json", TOKENIZER);
        write("tokenizer_config.json", special);
        let tokenizer = Tokenizer::load(folder.path()).expect("a sound tokenizer");
        Plain { tokenizer, ends: Vec::new(), awaits: false }
    }

    fn task(prompts: &[&str], change: impl FnOnce(&mut TaskConfig)) -> Task {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("items.jsonl");
        let line = |prompt: &&str| serde_json::json!({ "prompt": prompt, "answer": "a" }).to_string() + "\n";
        std::fs::write(&path, prompts.iter().map(line).collect::<String>()).expect("it is writable");
        let mut config = TaskConfig::new(path);
        config.output_type = OutputType::Loglikelihood;
        config.target = Some("answer".to_owned());
        change(&mut config);
        Task::load("t", &config).expect("a sound task")
    }

    #[test]
    fn an_empty_prompt_begins_with_the_token_that_begins_a_text_or_one_that_ends_it() {
        let both = plain(r#"{"bos_token": "<s>", "eos_token": "</s>"}"#);
        assert_eq!(prefix(&both).expect("it is named"), 6);
        assert_eq!(prefix(&plain(r#"{"eos_token": "</s>"}"#)).expect("it is named"), 7);
        let mut none = plain("{}");
        assert_eq!(prefix(&none).expect_err("none is named").kind(), ErrorKind::Incompatible);
        none.ends = vec![4];
        assert_eq!(prefix(&none).expect("the model names it"), 4);
        // White space alone goes with what is scored.
        for prompt in ["", " "] {
            let reader = Reader::new(&both, Tokenization::Joint).expect("it has a prefix");
            let texts = ["a".to_owned()];
            let request = reader.score(&[prompt.to_owned()], &texts, &texts).expect("letters");
            let TaskRequest::Score { request, .. } = request else { panic!("a score was asked for") };
            assert_eq!(request.prompts, [[6]]);
        }
    }

    #[test]
    fn ends_of_prompts_that_are_lost_are_counted() {
        let plain = plain(r#"{"bos_token": "<s>"}"#);
        let prompts = ["a:\n", "a", ":\n"];
        let joint = task(&prompts, |_| {});
        let e = joint.lost_prompts(&plain).expect("two of them end in a newline that is joined");
        assert!(e.to_string().starts_with("tasks.t: in 2 of 3 items the tokenizer joins"), "{e}");
        assert!(e.help().is_some_and(|help| help.contains("tokenization = \"separate\"")));
        let separate = task(&prompts, |c| c.tokenization = Tokenization::Separate);
        assert!(separate.lost_prompts(&plain).is_none());
        let reader = Reader::new(&plain, Tokenization::Separate).expect("it has a prefix");
        let request = reader.score(&["a:\n".to_owned()], &["a".to_owned()], &["a".to_owned()]).expect("letters");
        let TaskRequest::Score { request, .. } = request else { panic!("a score was asked for") };
        assert_eq!((request.prompts, request.continuations), (vec![vec![3, 2]], vec![vec![3]]));
    }

    #[test]
    fn nothing_stands_before_a_choice_where_an_answer_is_awaited() {
        let mut plain = plain("{}");
        let choice = task(&["a"], |c| {
            c.output_type = OutputType::MultipleChoice;
            c.choices = Some(logitfuse_config::Choices::Templates(vec!["a".to_owned()]));
        });
        let delimited = |plain: &Plain| choice.delimited(plain, &Value::Null, &["a".to_owned()]).expect("a choice");
        assert_eq!(delimited(&plain), [" a"]);
        plain.awaits = true;
        assert_eq!(delimited(&plain), ["a"]);
    }
}
