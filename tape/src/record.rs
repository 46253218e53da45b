//! From an experiment's samples to a tape.

use std::{collections::BTreeMap, fs, ops::ControlFlow, path::Path, sync::Arc};

use logitfuse_config::{Config, Names, SourceConfig, StrategyConfig};

use logitfuse_core::{Error, ErrorKind, PromptReading, Result, ResultExt, RoleRow, TokenId};
use logitfuse_engine::{Cancel, Decoder, ObservedRows, Observing};
use logitfuse_pipeline::{ModelFolder, Runtime};
use logitfuse_pipeline::{Pipeline, PluginSettings, Sample};
use logitfuse_replay::{RowKind, Tape, TapeHeader, TapeSource, TapeVocabulary, TapeWriter, TextInfo, tape::SCHEMA};
use logitfuse_rundir::{sha256, sha256_of_file};
use serde_json::json;

use super::{
    Feeding, Reference,
    feed::{dependence, feed},
    texts::{Text, Texts},
};

/// What goes onto a tape.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// How rows are kept.
    pub rows: RowKind,
    /// The texts.
    pub reference: Reference,
    /// A field with a list of choices, each of which becomes a text of its own.
    pub choices: Option<String>,
    /// The field that holds the right choice, or its number from 0.
    pub gold: Option<String>,
    /// Whether the texts' end is recorded, too: an end-of-sequence token after the last one.
    pub end_of_sequence: bool,
    /// The sources to record; empty is all of the experiment.
    pub sources: Vec<String>,
    /// Only so many samples.
    pub limit: Option<usize>,
    /// How texts are fed. Rows of some models depend on it, those of many int8 exports for one.
    pub feeding: Feeding,
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self {
            rows: RowKind::TopK(64),
            reference: Reference::Field("answer".to_owned()),
            choices: None,
            gold: None,
            end_of_sequence: false,
            sources: Vec::new(),
            limit: None,
            feeding: Feeding::default(),
        }
    }
}

/// What came of recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// Texts that were recorded now.
    pub texts: usize,
    /// Tokens of these.
    pub tokens: usize,
    /// Texts that were on the tape already.
    pub there: usize,
    /// Samples without a text.
    pub without: usize,
    /// Whether it was interrupted; the same call goes on from there.
    pub cancelled: bool,
    /// Of texts that were fed whole: the sources, and by how many nats a log-probability differs at most at the beginning of the
    /// first text when it is fed as decoding does.
    pub dependence: Vec<(String, f64)>,
}

/// Feeds every source of an experiment the texts of its samples, token by token, and keeps the rows: a new tape, or the rest
/// of one that was begun. `progress` is told after each text how many of how many there are.
///
/// What is recorded depends on the sources and their prompts alone, so a tape serves every strategy over them; only a
/// strategy that asks how probable the prompts were has to be the experiment's own while it is recorded.
///
/// # Errors
/// Those of the configuration, the models and the tape; [`ErrorKind::Incompatible`] if the tape is of another experiment.
#[expect(clippy::too_many_arguments, reason = "what the machine gives, what the user wants, where it goes")]
pub fn record(
    config: &Config,
    runtime: &Runtime,
    threads: usize,
    plugins: &PluginSettings,
    options: &RecordOptions,
    path: &Path,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Recorded> {
    let samples = config.samples()?;
    let samples = &samples[..options.limit.unwrap_or(usize::MAX).min(samples.len())];
    let (strategy, _) = config.fusion_strategy(plugins)?;
    let reading = strategy.info().prompt;
    let mut recorded = Recorded::default();
    let texts = if options.reference == Reference::Generated {
        Generated::all(config, runtime, threads, plugins, samples, path, cancel)?
    } else {
        let texts = Texts::new(&options.reference, options.choices.as_deref(), options.gold.as_deref())?;
        let of = |sample: &Sample| Ok(texts.of(sample)?.into_iter().map(Source::Text).collect());
        Some(samples.iter().map(of).collect::<Result<Vec<Vec<Source>>>>()?)
    };
    let Some(texts) = texts else { return Ok(Recorded { cancelled: true, ..recorded }) };
    recorded.without = texts.iter().filter(|of_sample| of_sample.is_empty()).count();
    if recorded.without == texts.len() {
        let what = format!("--reference {}: no sample of {} has such a text", options.reference, texts.len());
        let fields = samples.first().and_then(|s| s.fields.as_object()).map(|f| f.keys().cloned().collect::<Vec<_>>());
        return Err(Error::new(ErrorKind::InvalidConfig, what)
            .with_help(format!("the first sample has {}", fields.unwrap_or_default().join(", "))));
    }

    let names: Vec<String> =
        if options.sources.is_empty() { config.sources.keys().cloned().collect() } else { options.sources.clone() };
    // No strategy can be trusted to ask for prompts that differ; one that wants their rows cannot be replayed anyway.
    let reading = if reading == PromptReading::LogProbs { reading } else { PromptReading::End };
    let mut recording = config.clone();
    recording.speculation = None;
    recording.strategy = StrategyConfig::default();
    recording.strategy.roles.insert(Observing::ROLE.to_owned(), Names(names.clone()));
    let observing = Arc::new(Observing::new(reading));
    let pipeline = Pipeline::open_with(recording.options(), observing, runtime, threads)?;
    let mut decoder = pipeline.decoder();
    let header = header(config, &pipeline, &names, options, strategy.info())?;
    let mut writer = TapeWriter::open(path, &header)?;
    let mut done: BTreeMap<(String, Option<usize>), String> = BTreeMap::new();
    for text in writer.done() {
        done.insert((text.id.clone(), text.choice), text.sha256.clone());
    }

    let total = texts.iter().map(Vec::len).sum();
    for (index, (sample, of_sample)) in samples.iter().zip(texts).enumerate() {
        let prompts = pipeline.request_for(index, &sample.fields).map_err(|e| e.context(&sample.id))?.prompts;
        for text in of_sample {
            if cancel.is_cancelled() {
                recorded.cancelled = true;
                return Ok(recorded);
            }
            let (info, tokens) = text.encode(&pipeline, sample, &prompts, options)?;
            match done.get(&(info.id.clone(), info.choice)) {
                Some(there) if *there == info.sha256 => recorded.there += 1,
                Some(_) => {
                    let what = format!("{}: `{info}` was recorded with another prompt or text", path.display());
                    return Err(
                        Error::new(ErrorKind::Incompatible, what).with_help("name another file, or delete this one")
                    );
                }
                None => match write(&mut decoder, &mut writer, info, &tokens, &prompts, options.feeding, cancel) {
                    Ok(()) => {
                        if recorded.texts == 0 && options.feeding == Feeding::Whole {
                            let found = dependence(&mut decoder, &prompts, &tokens, cancel);
                            let found = found.map_err(|e| e.context(&sample.id))?;
                            recorded.dependence = names.iter().cloned().zip(found).collect();
                        }
                        recorded.texts += 1;
                        recorded.tokens += tokens.len();
                    }
                    Err(e) if e.kind() == ErrorKind::Cancelled => {
                        recorded.cancelled = true;
                        return Ok(recorded);
                    }
                    Err(e) => return Err(e),
                },
            }
            progress(recorded.texts + recorded.there, total);
        }
    }
    Ok(recorded)
}

/// Feeds one text and keeps what every source says of it.
fn write(
    decoder: &mut Decoder,
    writer: &mut TapeWriter,
    info: TextInfo,
    tokens: &[TokenId],
    prompts: &[Vec<TokenId>],
    feeding: Feeding,
    cancel: &Cancel,
) -> Result<()> {
    let name = info.to_string();
    writer.begin(info)?;
    feed(decoder, prompts, tokens, feeding, cancel, &mut |observed| keep(writer, observed)).map_err(|e| {
        match e.kind() {
            ErrorKind::Cancelled => e,
            _ => e.context(format_args!("text `{name}`")),
        }
    })?;
    // Half a text is none.
    if cancel.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "the recording was cancelled"));
    }
    writer.finish()
}

/// Puts the rows of one position onto the tape, and how probable the prompt was before the first.
fn keep(writer: &mut TapeWriter, observed: &ObservedRows<'_>) -> Result<()> {
    if observed.position == 0 {
        writer.prompts(observed.prompt);
    }
    let rows: Option<Vec<RoleRow<'_>>> = observed.roles.iter().copied().collect();
    let rows = rows.ok_or_else(|| Error::new(ErrorKind::Internal, "a source that is recorded yielded no row"))?;
    writer.push(observed.token, &rows)
}

/// A text before it is tokens, or after a model made it of tokens.
enum Source {
    Text(Text),
    Generated(Generated),
}

#[derive(Default)]
struct Generated {
    tokens: Vec<TokenId>,
    text: String,
}

impl Generated {
    /// What the experiment's strategy says to every sample that is not on the tape yet. `None` if it was interrupted.
    fn all(
        config: &Config,
        runtime: &Runtime,
        threads: usize,
        plugins: &PluginSettings,
        samples: &[Sample],
        path: &Path,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Vec<Source>>>> {
        // A text that was recorded need not be made again: the tape holds it.
        let mut tape = path.metadata().is_ok_and(|file| file.len() > 0).then(|| Tape::open(path)).transpose()?;
        let mut there: BTreeMap<String, Vec<TokenId>> = BTreeMap::new();
        if let Some(tape) = &mut tape {
            for text in 0..tape.texts().len() {
                let mut tokens = Vec::new();
                let mut number = 0;
                while let Some(block) = tape.block(text, number)? {
                    tokens.extend(block.tokens());
                    number += 1;
                }
                there.insert(tape.texts()[text].info.id.clone(), tokens);
            }
        }
        let pipeline = config.open(runtime, threads, plugins)?;
        let mut decoder = pipeline.decoder();
        let mut all = Vec::new();
        for (index, sample) in samples.iter().enumerate() {
            let made = if let Some(tokens) = there.remove(&sample.id) {
                Self { text: pipeline.tokenizer().decode(&tokens, true)?, tokens }
            } else {
                let request = pipeline.request_for(index, &sample.fields).map_err(|e| e.context(&sample.id))?;
                let generated = decoder.generate(&[request], cancel, &mut |_| ControlFlow::Continue(()));
                // Half a text is none, and an engine that was stopped at once may have no other answer than an error.
                if cancel.is_cancelled() {
                    return Ok(None);
                }
                let generated = generated?;
                let first = generated.into_iter().next();
                first.map_or_else(Self::default, |g| Self { tokens: g.tokens, text: g.text })
            };
            all.push(if made.tokens.is_empty() { Vec::new() } else { vec![Source::Generated(made)] });
        }
        Ok(Some(all))
    }
}

impl Source {
    fn encode(
        self,
        pipeline: &Pipeline,
        sample: &Sample,
        prompts: &[Vec<TokenId>],
        options: &RecordOptions,
    ) -> Result<(TextInfo, Vec<TokenId>)> {
        let (choice, text, characters, mut tokens) = match self {
            Self::Generated(Generated { tokens, text }) => (None, text.clone(), text.chars().count(), tokens),
            Self::Text(Text { choice, written: text, characters }) => {
                let tokens = pipeline.tokenizer().encode(&text, false)?;
                (choice, text, characters, tokens)
            }
        };
        if options.end_of_sequence && options.reference != Reference::Generated {
            let ends = pipeline.end_of_sequence();
            let end = ends.iter().find(|&&id| pipeline.session().vocabulary.contains(id)).ok_or_else(|| {
                Error::new(ErrorKind::Unsupported, "--end-of-sequence: no source names a token that ends a text")
                    .with_help("leave it out, or add eos_token_id to a model's generation_config.json")
            })?;
            tokens.push(*end);
        }
        if tokens.is_empty() {
            return Err(Error::new(ErrorKind::InvalidData, format!("sample `{}`: its text is empty", sample.id))
                .with_help("give it a text, or leave its field out"));
        }
        let bytes = |tokens: &[TokenId]| tokens.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
        let mut made_of: Vec<u8> = Vec::new();
        for tokens in prompts.iter().chain([&tokens]) {
            made_of.extend((tokens.len() as u64).to_le_bytes());
            made_of.extend(bytes(tokens));
        }
        let info = TextInfo {
            id: sample.id.clone(),
            choice: choice.map(|(number, _)| number),
            gold: choice.is_some_and(|(_, gold)| gold),
            bytes: text.len(),
            characters,
            tokens: tokens.len(),
            sha256: sha256(&made_of),
        };
        Ok((info, tokens))
    }
}

fn header(
    config: &Config,
    pipeline: &Pipeline,
    names: &[String],
    options: &RecordOptions,
    strategy: &logitfuse_core::StrategyInfo,
) -> Result<TapeHeader> {
    let session = pipeline.session();
    // Roles are told for the reader's sake; what a strategy needs is no reason not to record.
    let roles = config.assign(strategy).unwrap_or_default();
    let mut hashes: BTreeMap<&Path, String> = BTreeMap::new();
    let mut sources = Vec::new();
    for (name, binding) in names.iter().zip(&session.bindings) {
        let source = &config.sources[name];
        let model: &Path = &source.model;
        let sha256 = match hashes.get(model) {
            Some(known) => known.clone(),
            None => hashes.entry(model).or_insert(model_sha256(source)?).clone(),
        };
        sources.push(TapeSource {
            name: name.clone(),
            session: binding.source.clone(),
            roles: roles.iter().filter(|(_, player)| player == name).map(|(role, _)| role.clone()).collect(),
            model: model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            sha256,
        });
    }
    let of_source = |name: &String| {
        let SourceConfig { variant, providers, context_length, .. } = &config.sources[name];
        json!([name, variant, providers, context_length])
    };
    let generated = (options.reference == Reference::Generated).then(|| json!([config.strategy, config.run]));
    let mut depends = vec![json!(names.iter().map(of_source).collect::<Vec<_>>()), json!(generated)];
    let mut end = if options.end_of_sequence { ", end of sequence" } else { "" }.to_owned();
    if options.feeding == Feeding::Stepwise {
        depends.push(json!("stepwise"));
        end += ", fed stepwise";
    }
    Ok(TapeHeader {
        schema: SCHEMA,
        rows: options.rows,
        sources,
        vocabulary: TapeVocabulary::new(&session.vocabulary),
        tokenizer: pipeline.tokenizer().fingerprint().to_owned(),
        reference: match &options.choices {
            None => format!("{}{end}", options.reference),
            Some(choices) => format!("{} of {choices}{end}", options.reference),
        },
        config: sha256(json!(depends).to_string().as_bytes()),
    })
}

/// Of the ONNX file and what lies beside it under its name: external data.
fn model_sha256(source: &SourceConfig) -> Result<String> {
    let onnx = ModelFolder::open(&source.model, source.variant.as_deref())?.onnx().to_owned();
    let (Some(folder), Some(name)) = (onnx.parent(), onnx.file_name().and_then(|name| name.to_str())) else {
        return Ok(sha256_of_file(&onnx)?.1);
    };
    let entries = fs::read_dir(folder).or_err(ErrorKind::Io, folder.display())?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| {
        path.is_file() && path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(name))
    });
    files.sort();
    let hashes = files.iter().map(|path| Ok(sha256_of_file(path)?.1)).collect::<Result<Vec<_>>>()?;
    match &hashes[..] {
        [only] => Ok(only.clone()),
        several => Ok(sha256(several.concat().as_bytes())),
    }
}
