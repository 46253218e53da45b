//! lm-eval's task files as ours.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, params};
use logitfuse_metrics::filter::FilterPipeline;
use serde_json::{Map, Value, json};
use serde_saphyr::{
    granit_parser::{Event, Parser},
    options::DuplicateKeyPolicy,
};

use super::fields::quoted;
use logitfuse_config::{Choices, FewshotConfig, MetricConfig, OutputType, Sampler, TaskConfig};
use logitfuse_pipeline::{nearest, read_jsonl, read_text_file};
use logitfuse_text::python_str;

/// The largest task file of lm-eval has some 50 kB.
const MOST_BYTES: u64 = 4 << 20;

/// Keys that change nothing here: names, groups, where the data came from, what other tools read.
const IGNORED: [&str; 14] = [
    "tag",
    "group",
    "task_alias",
    "metadata",
    "dataset_kwargs",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "dataset_path",
    "dataset_name",
    "unsafe_code",
];
const READ: [&str; 14] = [
    "task",
    "output_type",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "metric_list",
    "description",
];

/// The seed with which lm-eval draws demonstrations unless it is told another.
const LM_EVAL_SEED: u64 = 1234;
/// lm-eval's limit of a generation that states none.
const LM_EVAL_TOKENS: usize = 256;

/// Reads a task file of lm-eval and writes the `[tasks.NAME]` that asks and judges the same. `data` is the JSONL file of its
/// items; without it a name is made up, and a comment says how to write the file.
///
/// What can be taken over is what is declared: templates, choices, filters, metrics, demonstrations, limits. What is Python
/// (`!function`) is refused, with the line.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for Python and for keys that have no counterpart, [`ErrorKind::InvalidData`] for what is no
/// task file; the message begins with the file.
pub fn import(path: &Path, data: Option<&Path>) -> Result<String> {
    let yaml = read(path, 0)?;
    let imported = Import { yaml: &yaml }.run(data).map_err(|e| e.context(path.display()))?;
    Ok(format!("# From {}.\n{imported}", path.file_name().unwrap_or_default().display()))
}

/// A file with what it includes.
fn read(path: &Path, depth: usize) -> Result<Map<String, Value>> {
    let text = read_text_file(path, MOST_BYTES)?;
    let invalid = |what: String| {
        Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()))
            .with_help("a task file of lm-eval is a YAML mapping with the keys task, doc_to_text, doc_to_target, …")
    };
    if let Some((line, key, function)) = python_code(&text) {
        let what = format!("{}:{line}: {key} is Python code ({function})", path.display());
        return Err(Error::new(ErrorKind::Unsupported, what)
            .with_help("write a template in its place, or let Python compute it once into a field of the data"));
    }
    // PyYAML's rule: of a key that is there twice the last one counts.
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let mut own: Map<String, Value> =
        serde_saphyr::from_str_with_options(&text, options).map_err(|e| invalid(format!("not a task file: {e}")))?;
    let included = match own.remove("include") {
        None => return Ok(own),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(other) => return Err(invalid(format!("include: {other} is no file"))),
    };
    if depth > 8 {
        return Err(invalid("include: files that include each other".to_owned()));
    }
    let mut all = Map::new();
    for name in included {
        all.extend(read(&path.parent().unwrap_or(Path::new("")).join(name), depth + 1)?);
    }
    all.extend(own);
    Ok(all)
}

/// The first value that `!function` makes Python code: its line, its key, and what is called. Comments and texts that only look
/// like it are none.
fn python_code(text: &str) -> Option<(usize, String, String)> {
    let mut key = String::new();
    // What is wrong with the file is told by who reads it.
    for (event, span) in Parser::new_from_str(text).map_while(std::result::Result::ok) {
        let Event::Scalar(value, _, _, tag) = event else { continue };
        if tag.is_some_and(|tag| tag.to_string() == "!function") {
            return Some((span.start.line(), key, value.into_owned()));
        }
        key = value.into_owned();
    }
    None
}

struct Import<'a> {
    yaml: &'a Map<String, Value>,
}

impl Import<'_> {
    fn run(&self, data: Option<&Path>) -> Result<String> {
        self.refuse_unknown()?;
        let name = self.text("task")?.ok_or_else(|| wrong("task", "missing", "name the task"))?;
        let output_type = self.output_type()?;
        let generation = self.generation(output_type)?;
        let file = |split: &str| data.map_or_else(|| format!("{name}{split}.jsonl").into(), Path::to_path_buf);
        let shots_of = |n| self.fewshot(n, &name);
        let config = TaskConfig {
            output_type,
            description: self.text("description")?.filter(|text| !text.is_empty()),
            prompt: self.prompt()?,
            target: self.target(data)?,
            choices: self.choices()?,
            target_delimiter: self.text("target_delimiter")?.unwrap_or_else(|| " ".to_owned()),
            repeats: self.number("repeats")?.unwrap_or(1),
            max_new_tokens: generation.max_new_tokens,
            stop: generation.stop,
            filters: if output_type == OutputType::GenerateUntil { self.filters()? } else { Vec::new() },
            metrics: self.metrics(output_type)?,
            fewshot: self.number("num_fewshot")?.filter(|&n| n > 0).map(shots_of).transpose()?,
            ..TaskConfig::new(file(""))
        };
        let mut toml = self.origin(&name, data, config.fewshot.as_ref());
        let mut table = json!(config);
        if !generation.run.is_empty() {
            table["with"] = json!({ "run": generation.run });
        }
        let document = BTreeMap::from([("tasks", BTreeMap::from([(name.as_str(), table)]))]);
        toml += &toml::to_string(&document).or_err(ErrorKind::Internal, "the task as TOML")?;
        Ok(toml)
    }

    fn refuse_unknown(&self) -> Result<()> {
        for key in self.yaml.keys() {
            let help = match key.as_str() {
                known if IGNORED.contains(&known) || READ.contains(&known) => continue,
                "process_docs" | "process_results" | "custom_dataset" => {
                    "let Python do it once and write the items as JSONL"
                }
                "gen_prefix" => "write it at the end of doc_to_text",
                "use_prompt" => "write the prompt as a template into doc_to_text",
                "doc_to_image" | "doc_to_audio" => "only tasks of text can be imported",
                "aggregate_metric_list" => "this is a group; import its tasks one by one",
                other => {
                    let near =
                        nearest(other, READ).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    return Err(wrong(key, "has no counterpart", &format!("remove it if it does not matter{near}")));
                }
            };
            return Err(wrong(key, "has no counterpart", help));
        }
        match self.yaml.get("task") {
            Some(Value::Array(_)) => Err(wrong("task", "this is a group", "import its tasks one by one")),
            _ => Ok(()),
        }
    }

    fn output_type(&self) -> Result<OutputType> {
        let Some(value) = self.yaml.get("output_type") else { return Ok(OutputType::default()) };
        serde_json::from_value(value.clone())
            .map_err(|e| wrong("output_type", &e.to_string(), "generate_until is what a task is without it"))
    }

    fn prompt(&self) -> Result<Option<String>> {
        match self.yaml.get("doc_to_text") {
            None => Ok(None),
            Some(Value::String(text)) if is_name(text) => Ok(Some(format!("{{{{ {text} }}}}"))),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong("doc_to_text", "is no template", "tasks with several inputs cannot be imported")),
        }
    }

    /// The target as a template, or the name of a field: lm-eval takes a word that is no field for the answer itself.
    fn target(&self, data: Option<&Path>) -> Result<Option<String>> {
        let chooses = self.yaml.contains_key("doc_to_choice");
        Ok(match self.yaml.get("doc_to_target") {
            None => None,
            Some(Value::String(text)) if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) => {
                Some(text.clone())
            }
            Some(Value::String(text)) => Some(match self.is_field(text, data)? {
                Some(false) => format!("{{{{ {} }}}}", quoted(text)),
                _ => text.clone(),
            }),
            Some(Value::Number(index)) if chooses => Some(index.to_string()),
            Some(list @ Value::Array(_)) => Some(format!("{{{{ {list} }}}}")),
            Some(other) => Some(format!("{{{{ {} }}}}", quoted(&python_str(other)))),
        })
    }

    /// Whether the data have a field of this name; unknown without them, and for what may be an index.
    fn is_field(&self, name: &str, data: Option<&Path>) -> Result<Option<bool>> {
        let index = name.bytes().all(|b| b.is_ascii_digit()) && self.yaml.contains_key("doc_to_choice");
        let Some(path) = data.filter(|path| !index && path.is_file()) else { return Ok(None) };
        let mut samples = Vec::new();
        read_jsonl(path, &mut samples)?;
        Ok(Some(samples.iter().any(|sample| sample.fields.get(name.trim()).is_some())))
    }

    fn choices(&self) -> Result<Option<Choices>> {
        Ok(match self.yaml.get("doc_to_choice") {
            None => None,
            Some(Value::String(text)) => Some(Choices::Field(text.clone())),
            Some(Value::Array(list)) => Some(Choices::Templates(list.iter().map(python_str).collect())),
            Some(Value::Object(map)) => Some(Choices::Templates(map.values().map(python_str).collect())),
            Some(other) => return Err(wrong("doc_to_choice", &format!("{other} is no list"), "list the choices")),
        })
    }

    fn generation(&self, output_type: OutputType) -> Result<Generation> {
        if output_type != OutputType::GenerateUntil {
            return Ok(Generation::default());
        }
        let none = Map::new();
        let kwargs = match self.yaml.get("generation_kwargs") {
            Some(Value::Object(kwargs)) => kwargs,
            _ => &none,
        };
        let stop = match kwargs.get("until") {
            None => vec![self.text("fewshot_delimiter")?.unwrap_or_else(|| "\n\n".to_owned())],
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => several.iter().map(python_str).collect(),
            Some(other) => {
                return Err(wrong("generation_kwargs.until", &format!("{other} is no text"), "list stop strings"));
            }
        };
        let limit = kwargs.get("max_gen_toks").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let mut run = Map::new();
        // Without `do_sample` lm-eval decodes greedily, whatever the temperature.
        if kwargs.get("do_sample").and_then(Value::as_bool) == Some(true) {
            for key in ["temperature", "top_p", "top_k", "min_p"] {
                run.extend(kwargs.get(key).map(|value| (key.to_owned(), value.clone())));
            }
        }
        Ok(Generation { stop: Some(stop), max_new_tokens: Some(limit.unwrap_or(LM_EVAL_TOKENS)), run })
    }

    fn filters(&self) -> Result<Vec<logitfuse_metrics::filter::PipelineConfig>> {
        let Some(list) = self.yaml.get("filter_list") else { return Ok(Vec::new()) };
        let each = list.as_array().into_iter().flatten().enumerate().map(|(i, filter)| {
            FilterPipeline::from_json(filter)
                .and_then(|_| params::parse(filter))
                .map_err(|e| e.context(format!("filter_list[{i}]")))
        });
        each.collect()
    }

    fn metrics(&self, output_type: OutputType) -> Result<Vec<MetricConfig>> {
        let Some(list) = self.yaml.get("metric_list") else { return Ok(Vec::new()) };
        let each = list.as_array().into_iter().flatten().enumerate().map(|(i, metric)| {
            let mut metric = metric.clone();
            if let Value::Object(metric) = &mut metric {
                // Each metric here has one way to be averaged, and one direction.
                for key in ["aggregation", "higher_is_better", "hf_evaluate"] {
                    metric.remove(key);
                }
                // What else stands there is passed to metrics of generated texts, and scores of choices take nothing. Weights
                // are for groups.
                let known = |key: &str| key == "metric" || output_type == OutputType::GenerateUntil;
                metric.retain(|key, _| known(key) && key != "weight_by_size");
            }
            let read: Result<MetricConfig> = params::parse(&metric);
            read.and_then(|config| super::metric::Metric::new(&config, output_type).map(|_| config))
                .map_err(|e| e.context(format!("metric_list[{i}]")))
        });
        each.collect()
    }

    fn fewshot(&self, n: usize, name: &str) -> Result<FewshotConfig> {
        let config = match self.yaml.get("fewshot_config") {
            Some(Value::Object(config)) => config.clone(),
            _ => Map::new(),
        };
        if config.contains_key("samples") {
            return Err(wrong(
                "fewshot_config.samples",
                "has no counterpart",
                "write the samples as JSONL and name the file",
            ));
        }
        let of = |key: &str| config.get(key).and_then(Value::as_str);
        let sampler = match of("sampler") {
            None | Some("default") => Sampler::Seeded,
            Some("first_n") => Sampler::FirstN,
            Some(other) => return Err(wrong("fewshot_config.sampler", other, "there are default and first_n")),
        };
        let split = of("split").map_or_else(|| self.text("fewshot_split"), |split| Ok(Some(split.to_owned())))?;
        // lm-eval's rule where none is named: the training data, else the validation data.
        let split = split.map_or_else(|| self.text("training_split"), |split| Ok(Some(split)))?;
        let split = split.filter(|split| Some(split.as_str()) != self.tested());
        Ok(FewshotConfig {
            data: split.map(|split| format!("{name}.{split}.jsonl").into()),
            n,
            sampler,
            seed: if sampler == Sampler::Seeded { LM_EVAL_SEED } else { 0 },
            separator: self.text("fewshot_delimiter")?.unwrap_or_else(|| "\n\n".to_owned()),
        })
    }

    /// The split that lm-eval asks.
    fn tested(&self) -> Option<&str> {
        ["test_split", "validation_split"].iter().find_map(|key| self.yaml.get(*key)?.as_str())
    }

    /// How to get the data, as comments.
    fn origin(&self, name: &str, data: Option<&Path>, fewshot: Option<&FewshotConfig>) -> String {
        let mut text = String::new();
        let Some(dataset) = self.yaml.get("dataset_path").and_then(Value::as_str) else { return text };
        let subset = self.yaml.get("dataset_name").and_then(Value::as_str);
        let mut export = |split: &str, file: &str| {
            let subset = subset.map_or_else(String::new, |subset| format!(", {subset:?}"));
            // Writing to a string does not fail.
            let _ = writeln!(text, "#   load_dataset({dataset:?}{subset}, split={split:?}).to_json({file:?})");
        };
        if data.is_none() {
            export(self.tested().unwrap_or("test"), &format!("{name}.jsonl"));
        }
        if let Some(path) = fewshot.and_then(|fewshot| fewshot.data.as_deref()) {
            let file = path.display().to_string();
            let split = file.strip_prefix(&format!("{name}.")).and_then(|rest| rest.strip_suffix(".jsonl"));
            export(split.unwrap_or("train"), &file);
        }
        if text.is_empty() { text } else { format!("# Its data, with Python's `datasets`:\n{text}") }
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.yaml.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(key, &format!("{other} is no text"), "write a text")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<usize>> {
        match self.yaml.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .map(Some)
                .ok_or_else(|| wrong(key, &format!("{value} is no number of times"), "write a whole number")),
        }
    }
}

/// How texts are generated.
#[derive(Default)]
struct Generation {
    stop: Option<Vec<String>>,
    max_new_tokens: Option<usize>,
    /// Keys of `[run]`.
    run: Map<String, Value>,
}

/// Whether a text can be the name of a field rather than a template.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn wrong(key: &str, what: &str, help: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{key}: {what}")).with_help(help)
}

#[cfg(test)]
mod tests;
