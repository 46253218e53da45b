//! What is asked of the engine about an item.

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use logitfuse_engine::{Request, ScoreRequest};
use serde_json::{Map, Value};

use super::{
    Doc, Task,
    metric::Metric,
    split::{Split, rolling_windows, trimmed},
};
use logitfuse_config::OutputType;
use logitfuse_pipeline::Pipeline;

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
                if choices.is_empty() {
                    return Err(Error::new(ErrorKind::InvalidData, "choices: there are none")
                        .with_help("a multiple choice needs one choice at least"));
                }
                let delimited: Vec<String> =
                    choices.iter().map(|choice| self.config.target_delimiter.clone() + choice).collect();
                let contexts = pipeline.prompts(&Value::Object(self.fields(doc)?))?;
                let mut requests = vec![Reader::new(pipeline)?.score(&contexts, &choices, &delimited)?];
                if self.metrics.iter().any(|metric| matches!(metric, Metric::AccMutualInfo)) {
                    let nothing = vec![String::new(); contexts.len()];
                    requests.push(Reader::new(pipeline)?.score(&nothing, &choices, &delimited)?);
                }
                Ok(requests)
            }
            OutputType::Loglikelihood => {
                texts.truncate(1);
                let contexts = pipeline.prompts(&Value::Object(self.fields(doc)?))?;
                Ok(vec![Reader::new(pipeline)?.score(&contexts, &texts, &texts)?])
            }
            OutputType::LoglikelihoodRolling => Reader::new(pipeline)?.windows(&texts.concat()),
        }
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

/// Reads texts as the bindings of an engine do.
struct Reader<'a> {
    pipeline: &'a Pipeline,
    /// The binding whose tokens decide where a continuation begins: the base, else the first.
    base: usize,
    /// What stands for an empty context: the token that begins a text, else one that ends it.
    prefix: TokenId,
}

impl<'a> Reader<'a> {
    fn new(pipeline: &'a Pipeline) -> Result<Self> {
        let tokenizer = pipeline.tokenizer();
        let mut named = [tokenizer.bos_token(), tokenizer.eos_token()].into_iter().flatten();
        let prefix = named.find_map(|token| tokenizer.id(token));
        let prefix = prefix.or_else(|| pipeline.end_of_sequence().first().copied()).ok_or_else(|| {
            Error::new(ErrorKind::Incompatible, "the tokenizer names no token that begins or ends a text")
                .with_help("give the prompt a text: an empty one needs such a token to follow")
        })?;
        Ok(Self { pipeline, base: pipeline.session().row_of("base").unwrap_or(0), prefix })
    }

    /// A request that scores `continuations`, recorded as `texts`, after one context per binding.
    fn score(&self, contexts: &[String], texts: &[String], continuations: &[String]) -> Result<TaskRequest> {
        let split = Split::new(self.pipeline.tokenizer(), &contexts[self.base], self.prefix)?;
        let tokens_of = |(text, continuation): (&String, &String)| {
            let tokens = split.continuation(continuation)?;
            if tokens.is_empty() {
                let what = format!("{text:?}: no token of it is left after the prompt");
                return Err(Error::new(ErrorKind::InvalidData, what).with_help(
                    "the tokenizer joins it with the prompt's end, or it is empty; change target_delimiter",
                ));
            }
            Ok(tokens)
        };
        let continuations = texts.iter().zip(continuations).map(tokens_of).collect::<Result<Vec<_>>>()?;
        let prompt = |(binding, context): (usize, &String)| match trimmed(context).0 {
            "" => Ok(vec![self.prefix]),
            context => self.pipeline.encode(binding, context),
        };
        let prompts = contexts.iter().enumerate().map(prompt).collect::<Result<Vec<_>>>()?;
        Ok(TaskRequest::Score { texts: texts.to_vec(), request: ScoreRequest::new(prompts, continuations) })
    }

    /// Requests that score a whole text. All bindings read the text alone.
    fn windows(&self, text: &str) -> Result<Vec<TaskRequest>> {
        let tokens = self.pipeline.tokenizer().encode(text, false)?;
        if tokens.is_empty() {
            return Err(Error::new(ErrorKind::InvalidData, "target: the text is empty")
                .with_help("`target` of a loglikelihood_rolling task is the text that is scored"));
        }
        let length = self.pipeline.sources().filter_map(|source| source.context_length).min().unwrap_or(WINDOW);
        let bindings = self.pipeline.session().bindings.len();
        let request = |(context, continuation): (Vec<TokenId>, Vec<TokenId>)| {
            let texts = vec![self.pipeline.tokenizer().decode(&continuation, false)?];
            Ok(TaskRequest::Score { texts, request: ScoreRequest::new(vec![context; bindings], [continuation]) })
        };
        rolling_windows(&tokens, self.prefix, length).into_iter().map(request).collect()
    }
}
