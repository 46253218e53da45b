use std::{fmt, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Interrupt, LogitSource, Result, Rows, SequenceId, SourceInfo, Step};
use smallvec::SmallVec;

use crate::{
    KvChoice, KvPolicy, LoadReport, ModelFolder, OnnxOptions, Runtime, TensorInfo,
    decoder::Decoder,
    error,
    graph::GraphSummary,
    kv::{Cache, InPlace, PassThrough, Recompute, SequenceStep},
    providers::TensorRtProfile,
    session, shapes,
    signature::Signature,
};

/// A model that yields logits: one ONNX Runtime session and the key/value caches of its sequences.
///
/// Everything that differs between exports is discovered when it is opened and hidden behind [`LogitSource`]: which
/// inputs there are, whether the cache is a buffer that past and present share, which rows come out, f16 or f32. What
/// cannot be handled is named then, not by a kernel error at the first token.
///
/// * Rows never depend on which other sequences are in a batch. Where several sequences step together, the first such
///   call of each batch size is checked bit by bit against stepping them alone.
/// * A call with an error leaves every sequence as long as it was.
/// * On the CPU, rows do not depend on the number of threads.
///
/// ```no_run
/// use logitfuse_core::{LogitSource, Rows, Step};
/// use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime};
///
/// let runtime = Runtime::load("libonnxruntime.so".as_ref())?;
/// let folder = ModelFolder::open("models/smollm2-135m-int8".as_ref(), None)?;
/// let mut model = OnnxSource::open(&runtime, &folder, &OnnxOptions::default())?;
///
/// let mut rows = Rows::new();
/// let sequence = model.open()?;
/// model.forward(&[Step { sequence, tokens: &[504, 3575, 282, 4649, 314], rows: 1 }], &mut rows)?;
/// assert_eq!(rows.row(0).len(), model.info().logit_width);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub struct OnnxSource {
    info: SourceInfo,
    report: LoadReport,
    // Before the decoder: bindings are dropped before their session.
    cache: Box<dyn Cache>,
    decoder: Decoder,
    next_sequence: u64,
}

/// A chunk's logits are kept below this size: larger gains no speed and costs memory.
const CHUNK_BYTES: usize = 12 << 20;

impl OnnxSource {
    /// Loads a model.
    ///
    /// # Errors
    /// `InvalidData` for a graph that is no text decoder, `Unsupported` for one with inputs that are not known or
    /// where no provider of the list works, `Backend` where ONNX Runtime cannot load the file.
    pub fn open(runtime: &Runtime, folder: &ModelFolder, options: &OnnxOptions) -> Result<Self> {
        let config = folder.config();
        // From the file first: what is no decoder is refused before its weights are read.
        let stated = Signature::discover(folder.onnx(), folder.inputs(), folder.outputs(), config)?;
        let context_length = options.context_length.or_else(|| folder.context_length());
        let chunk_tokens = options.chunk_tokens.unwrap_or_else(|| chunk_tokens(&stated)).max(1);
        let profile = TensorRtProfile { signature: &stated, context_length, chunk_tokens };
        let (session, provider, refused) = session::open(runtime, folder, options, &profile)?;
        let inputs: Vec<TensorInfo> = session.inputs().iter().map(TensorInfo::from_outlet).collect();
        let outputs: Vec<TensorInfo> = session.outputs().iter().map(TensorInfo::from_outlet).collect();
        let signature = Signature::discover(folder.onnx(), &inputs, &outputs, config)?;
        let name = options.name.clone().unwrap_or_else(|| default_name(folder));
        let stop = runtime.stops().add().map_err(error::backend(&name))?;
        let mut decoder = Decoder::new(session, signature, name.clone(), provider.cuda_device(), stop)?;
        decoder.probe(folder.onnx())?;
        // What only a trial shows is within bounds, too.
        shapes::check_width(folder.onnx(), decoder.signature.width.unwrap_or_default())?;
        decoder.signature.cache.iter().try_for_each(|tensor| shapes::check_size(folder.onnx(), tensor))?;
        decoder.chunk_tokens = options.chunk_tokens.unwrap_or_else(|| chunk_tokens_of(&decoder)).max(1);
        let (kv, kv_reason) = choose_policy(folder, &decoder.signature, options.kv)?;
        let cache: Box<dyn Cache> = match kv {
            KvPolicy::InPlace => Box::new(InPlace::new(context_length)),
            KvPolicy::PassThrough => Box::new(PassThrough::new(&decoder)?),
            KvPolicy::Recompute => Box::new(Recompute::new(&decoder)?),
        };
        let ends = if config.end_of_sequence.is_empty() { &options.end_of_sequence } else { &config.end_of_sequence };
        let info = SourceInfo::new(name, decoder.signature.width.unwrap_or_default())
            .with_context_length(context_length)
            .with_end_of_sequence(ends.iter().copied())
            .with_kv_bytes_per_token(decoder.signature.kv_bytes_per_token())
            .with_chunk_tokens(decoder.chunk_tokens);
        let report = LoadReport {
            onnx: folder.onnx().to_owned(),
            provider: provider.to_string(),
            refused,
            threads: options.threads,
            spin: options.spin,
            inputs,
            outputs,
            kv,
            kv_reason,
            chunk_tokens: decoder.chunk_tokens,
        };
        Ok(Self { info, report, cache, decoder, next_sequence: 0 })
    }

    /// What was found and decided when the model was opened.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    fn new_id(&mut self) -> SequenceId {
        let id = SequenceId(self.next_sequence);
        self.next_sequence += 1;
        id
    }

    fn length(&self, sequence: SequenceId) -> Result<usize> {
        self.cache.len(sequence).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("{}: sequence {} is not open", self.info.name, sequence.0))
                .with_help("use a sequence that this source has opened and not closed")
        })
    }

    /// A run that failed on a token that has no logits failed because of it. Not checked before: embeddings may be wider.
    fn explain(&self, error: Error, batch: &[Step<'_>]) -> Error {
        let SourceInfo { name, logit_width, .. } = &self.info;
        let mut tokens = batch.iter().flat_map(|step| step.tokens);
        match tokens.find(|&&token| token as usize >= *logit_width) {
            Some(token) if error.kind() == ErrorKind::Backend => {
                let message = format!("{name}: token {token} is not in the model's vocabulary of {logit_width}");
                Error::new(ErrorKind::InvalidConfig, message)
                    .with_help("check that the tokenizer belongs to the model")
                    .with_source(error)
            }
            _ => error,
        }
    }

    /// Checks everything that can be wrong with a batch before anything runs.
    fn steps<'a>(&self, batch: &[Step<'a>]) -> Result<SmallVec<[SequenceStep<'a>; 16]>> {
        let name = &self.info.name;
        let wrong = |what: String| {
            Error::new(ErrorKind::InvalidConfig, format!("{name}: {what}")).with_help("see `LogitSource::forward`")
        };
        let mut steps: SmallVec<[SequenceStep<'a>; 16]> = SmallVec::new();
        let mut first_row = 0;
        for &Step { sequence, tokens, rows } in batch {
            let len = self.length(sequence)?;
            if tokens.is_empty() || rows > tokens.len() {
                return Err(wrong(format!("a step with {} tokens and {rows} rows", tokens.len())));
            }
            if steps.iter().any(|step| step.sequence == sequence) {
                return Err(wrong(format!("sequence {} is twice in one batch", sequence.0)));
            }
            if let Some(limit) = self.info.context_length
                && len + tokens.len() > limit
            {
                let asked = len + tokens.len();
                let message = format!("{name}: {asked} tokens do not fit into the context of {limit} tokens");
                return Err(Error::new(ErrorKind::ContextOverflow, message)
                    .with_help("shorten the prompt or ask for fewer tokens"));
            }
            steps.push(SequenceStep { sequence, tokens, rows, first_row });
            first_row += rows;
        }
        Ok(steps)
    }
}

impl LogitSource for OnnxSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SequenceId> {
        let id = self.new_id();
        self.cache.open(id);
        Ok(id)
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.length(of)?;
        let id = self.new_id();
        self.cache.fork(&self.decoder, of, id)?;
        Ok(id)
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        let now = self.length(sequence)?;
        if len > now {
            let message = format!("{}: sequence {} has {now} tokens, fewer than {len}", self.info.name, sequence.0);
            return Err(Error::new(ErrorKind::InvalidConfig, message).with_help("truncate to what is there or less"));
        }
        self.cache.truncate(sequence, len);
        Ok(())
    }

    fn close(&mut self, sequence: SequenceId) {
        self.cache.close(sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.cache.len(sequence)
    }

    fn reserve(&mut self, sequence: SequenceId, tokens: usize) -> Result<()> {
        self.length(sequence)?;
        self.cache.reserve(sequence, tokens);
        Ok(())
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(self.decoder.stop()) as _)
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        let steps = self.steps(batch)?;
        out.reset(steps.iter().map(|step| step.rows).sum(), self.info.logit_width);
        self.cache.forward(&mut self.decoder, &steps, out).map_err(|e| self.explain(e, batch))
    }
}

impl fmt::Debug for OnnxSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxSource").field("info", &self.info).field("report", &self.report).finish_non_exhaustive()
    }
}

fn default_name(folder: &ModelFolder) -> String {
    folder.root().file_name().unwrap_or(folder.root().as_os_str()).to_string_lossy().into_owned()
}

fn chunk_tokens(signature: &Signature) -> usize {
    let row = signature.width.unwrap_or(1 << 16) * signature.logits.element.bytes();
    // A power of two, so that it divides the chunks in which an engine feeds prompts.
    1 << (CHUNK_BYTES / row.max(1)).clamp(16, 512).ilog2()
}

fn chunk_tokens_of(decoder: &Decoder) -> usize {
    chunk_tokens(&decoder.signature)
}

fn choose_policy(folder: &ModelFolder, signature: &Signature, choice: KvChoice) -> Result<(KvPolicy, String)> {
    let pairs = signature.cache.len();
    if pairs == 0 {
        return Ok((KvPolicy::Recompute, "the graph has no key/value cache".into()));
    }
    let blocker = not_shareable(&folder.graph, signature);
    match (choice, blocker) {
        (KvChoice::PassThrough, _) => Ok((KvPolicy::PassThrough, "as asked for".into())),
        (KvChoice::Auto | KvChoice::InPlace, None) => {
            Ok((KvPolicy::InPlace, format!("GroupQueryAttention reads and writes all {pairs} cache tensors")))
        }
        (KvChoice::Auto, Some(blocker)) => Ok((KvPolicy::PassThrough, blocker)),
        (KvChoice::InPlace, Some(blocker)) => {
            let message =
                format!("{}: its key/value cache cannot be a shared buffer: {blocker}", folder.onnx().display());
            Err(Error::new(ErrorKind::Unsupported, message).with_help("leave the cache policy to `auto`"))
        }
    }
}

/// Why past and present cannot be one buffer.
fn not_shareable(graph: &GraphSummary, signature: &Signature) -> Option<String> {
    signature.cache.iter().find_map(|tensor| {
        let pair = (tensor.past.clone(), tensor.present.clone());
        let shareable = tensor.dims.len() == 4 && graph.shared_pairs.contains(&pair);
        (!shareable).then(|| format!("`{}` does not go through GroupQueryAttention", tensor.past))
    })
}
