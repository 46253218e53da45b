//! The samples of one variant and task.

use std::{collections::BTreeMap, ops::ControlFlow, ops::Range};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_engine::{Cancel, Decoder, Event, FinishReason, Request, ScoreRequest, Timings};
use logitfuse_pipeline::is_plugin_failure;
use logitfuse_rundir::{Response, SCHEMA_VERSION, SampleRecord, TimingRecord, TokenRecord};

use super::{
    models::Opened,
    record::{Labels, prompts_sha256, timing_record},
};
use crate::task::{Doc, Task, TaskRequest};

/// Prompts are written for this many samples at a time: enough for a batch to stay full, few enough for the memory.
const WINDOW: usize = 512;
/// Most probable tokens of each source that a trace lists.
const TOP_LOGPROBS: usize = 5;

/// One sample to make.
#[derive(Clone, Copy)]
pub(super) struct SampleJob<'a> {
    pub(super) doc: &'a Doc,
    pub(super) repeat: usize,
    /// Whether its trace is kept.
    pub(super) traced: bool,
}

/// Takes finished samples.
pub(super) type Done<'a> = dyn FnMut(SampleRecord, TimingRecord) -> Result<()> + 'a;

/// One variant of one task, ready to run.
pub(super) struct CellRun<'a> {
    pub(super) variant: &'a str,
    pub(super) name: &'a str,
    pub(super) task: &'a Task,
    pub(super) opened: &'a mut Opened,
    /// Sequences that run at once.
    pub(super) batch: usize,
    pub(super) cancel: &'a Cancel,
}

/// What the engine is asked for one sample: some of its requests.
struct PendingSample<'a> {
    todo: SampleJob<'a>,
    prompt_sha256: String,
    requests: Range<usize>,
    /// The texts that are scored, of each request.
    texts: Vec<Vec<String>>,
}

/// All requests of a window; a task asks either for texts or for scores.
enum Requests {
    Generate(Vec<Request>),
    Score(Vec<ScoreRequest>),
}

impl CellRun<'_> {
    /// Makes samples and hands each to `done`, in the order of the list: one that ends early waits for those before it, so
    /// that what is written does not depend on the batch. `earlier` are the responses to the first item that were made
    /// before. Returns false if it was cancelled; samples that were not handed over are as if they had not begun.
    pub(super) fn make(
        &mut self,
        todo: &[SampleJob<'_>],
        mut earlier: Vec<Option<Vec<Response>>>,
        done: &mut Done<'_>,
    ) -> Result<bool> {
        for window in todo.chunks(WINDOW) {
            if !self.window(window, &mut earlier, done)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn window(
        &mut self,
        todo: &[SampleJob<'_>],
        earlier: &mut Vec<Option<Vec<Response>>>,
        done: &mut Done<'_>,
    ) -> Result<bool> {
        let mut asked = Vec::with_capacity(todo.len());
        let mut requests = Requests::Generate(Vec::new());
        // A sample that cannot be asked for is an error when its turn comes: those before it are finished first.
        let mut refused = Ok(());
        for &todo in todo {
            match self.ask(todo, &mut requests) {
                Ok(ask) => asked.push(ask),
                Err(e) => {
                    refused = Err(e.context(format_args!("{}/{}/{}", self.variant, self.name, todo.doc.id)));
                    break;
                }
            }
        }
        let labels = Labels::of(&self.opened.pipeline);
        let mut queue =
            Queue { cell: (self.variant, self.name, self.task), labels, asked: &asked, next: 0, earlier, done };
        let complete = match requests {
            Requests::Generate(requests) => {
                generate(&mut self.opened.decoder, requests, self.batch, self.cancel, &mut queue)?
            }
            Requests::Score(requests) => {
                score(&mut self.opened.decoder, requests, self.batch, self.cancel, &mut queue)?
            }
        };
        if complete { refused.map(|()| true) } else { Ok(false) }
    }

    fn ask<'t>(&self, todo: SampleJob<'t>, requests: &mut Requests) -> Result<PendingSample<'t>> {
        let wanted = self.task.requests(&self.opened.pipeline, todo.doc, todo.repeat)?;
        let mut texts = Vec::new();
        let prompts = wanted.iter().flat_map(|wanted| match wanted {
            TaskRequest::Generate(request) => &request.prompts,
            TaskRequest::Score { request, .. } => &request.prompts,
        });
        let prompt_sha256 = prompts_sha256(prompts);
        let first = requests.len();
        for wanted in wanted {
            match wanted {
                TaskRequest::Generate(mut request) => {
                    request.trace = todo.traced;
                    request.top_logprobs = if todo.traced { TOP_LOGPROBS } else { 0 };
                    requests.generations()?.push(request);
                }
                TaskRequest::Score { texts: of, mut request } => {
                    request.trace = todo.traced;
                    request.top_logprobs = if todo.traced { TOP_LOGPROBS } else { 0 };
                    texts.push(of);
                    requests.scores()?.push(request);
                }
            }
        }
        Ok(PendingSample { todo, prompt_sha256, requests: first..requests.len(), texts })
    }
}

impl Requests {
    fn len(&self) -> usize {
        match self {
            Self::Generate(requests) => requests.len(),
            Self::Score(requests) => requests.len(),
        }
    }

    fn generations(&mut self) -> Result<&mut Vec<Request>> {
        match self {
            Self::Generate(requests) => Ok(requests),
            Self::Score(_) => Err(Error::new(ErrorKind::Internal, "a task asks for texts and for scores")),
        }
    }

    fn scores(&mut self) -> Result<&mut Vec<ScoreRequest>> {
        if self.len() == 0 {
            *self = Self::Score(Vec::new());
        }
        match self {
            Self::Score(requests) => Ok(requests),
            Self::Generate(_) => Err(Error::new(ErrorKind::Internal, "a task asks for texts and for scores")),
        }
    }
}

/// Samples whose responses arrive in any order and leave in that of the list.
struct Queue<'a, 'q> {
    cell: (&'a str, &'a str, &'a Task),
    labels: Labels,
    asked: &'q [PendingSample<'q>],
    next: usize,
    /// Responses to the item of the next sample, by earlier repeats; none of one that failed.
    earlier: &'q mut Vec<Option<Vec<Response>>>,
    done: &'q mut Done<'a>,
}

impl Queue<'_, '_> {
    /// The sample that a request belongs to, and the request's place in it.
    fn sample_of(&self, request: usize) -> (&PendingSample<'_>, usize) {
        let index = self.asked.partition_point(|asked| asked.requests.end <= request);
        (&self.asked[index], request - self.asked[index].requests.start)
    }

    /// Hands over every sample whose turn it is and whose responses are there.
    fn hand_over(&mut self, answered: &mut BTreeMap<usize, Answered>) -> Result<()> {
        while let Some(asked) = self.asked.get(self.next) {
            if !asked.requests.clone().all(|request| answered.contains_key(&request)) {
                break;
            }
            let (mut of, mut timings): (Result<Vec<Response>>, _) = (Ok(Vec::new()), Timings::default());
            for answer in asked.requests.clone().filter_map(|request| answered.remove(&request)) {
                timings.add(&answer.timings);
                // Of several requests the first that failed is the reason, whichever failed first.
                of = of.and_then(|mut of| {
                    of.extend(answer.responses?);
                    Ok(of)
                });
            }
            let (variant, name, task) = self.cell;
            let SampleJob { doc, repeat, .. } = asked.todo;
            if repeat == 0 {
                self.earlier.clear();
            }
            let (of, error) = match of {
                Ok(of) => (Some(of), None),
                Err(error) => (None, Some(error.to_string())),
            };
            self.earlier.push(of.clone());
            // An item one of whose repeats failed has too few answers for a score.
            let answers: Vec<&[Response]> = self.earlier.iter().filter_map(Option::as_deref).collect();
            let outcome =
                task.outcome(doc, &answers).map_err(|e| e.context(format_args!("{variant}/{name}/{}", doc.id)))?;
            let sample = SampleRecord {
                schema_version: SCHEMA_VERSION,
                variant: variant.to_owned(),
                task: name.to_owned(),
                doc_id: doc.id.clone(),
                doc_index: doc.index,
                repeat,
                doc: doc.fields.clone(),
                target: outcome.target,
                prompt_sha256: asked.prompt_sha256.clone(),
                responses: of.unwrap_or_default(),
                filtered: outcome.filtered,
                metrics: outcome.metrics,
                fallback_tokens: if error.is_none() { timings.fallbacks } else { 0 },
                error,
            };
            let timing = timing_record(sample.key(), &timings, &self.labels.sources);
            (self.done)(sample, timing)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Takes the failure of a request: that of a plugin ends its sample, any other ends the run.
    fn take_failure(&self, request: usize, error: Error) -> Result<Answered> {
        if is_plugin_failure(&error) {
            return Ok(Answered { responses: Err(error), timings: Timings::default() });
        }
        let (variant, name, _) = self.cell;
        Err(error.context(format_args!("{variant}/{name}/{}", self.sample_of(request).0.todo.doc.id)))
    }

    fn is_complete(&self) -> bool {
        self.next == self.asked.len()
    }
}

/// What came of one request.
struct Answered {
    /// Or why there are none, of a request whose plugin failed.
    responses: Result<Vec<Response>>,
    timings: Timings,
}

fn generate(
    decoder: &mut Decoder,
    requests: Vec<Request>,
    batch: usize,
    cancel: &Cancel,
    queue: &mut Queue<'_, '_>,
) -> Result<bool> {
    let mut traces: BTreeMap<usize, Vec<TokenRecord>> = BTreeMap::new();
    let mut answered: BTreeMap<usize, Answered> = BTreeMap::new();
    let mut failed = None;
    let mut on_event = |event: Event<'_>| {
        match event {
            // Samples that end beside one that could not be made or written.
            _ if failed.is_some() => {}
            Event::Token(report) if queue.sample_of(report.request).0.todo.traced => {
                traces.entry(report.request).or_default().push(queue.labels.reported(report));
            }
            Event::Done { generation, .. } if generation.finish == FinishReason::Cancelled => {}
            Event::Done { request, generation } => {
                let trace = traces.remove(&request).unwrap_or_default();
                let responses = Ok(vec![Labels::generated(&generation, trace)]);
                answered.insert(request, Answered { responses, timings: generation.timings });
                failed = queue.hand_over(&mut answered).err();
            }
            Event::Failed { request, error } => {
                traces.remove(&request);
                failed = queue
                    .take_failure(request, error)
                    .and_then(|answer| {
                        answered.insert(request, answer);
                        queue.hand_over(&mut answered)
                    })
                    .err();
            }
            _ => {}
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // A request that fails is told as an event, too.
    let _ = decoder.generate_stream(&mut requests.into_iter().map(Ok), batch, cancel, &mut on_event);
    failed.map_or(Ok(()), Err)?;
    Ok(queue.is_complete())
}

fn score(
    decoder: &mut Decoder,
    requests: Vec<ScoreRequest>,
    batch: usize,
    cancel: &Cancel,
    queue: &mut Queue<'_, '_>,
) -> Result<bool> {
    let mut answered: BTreeMap<usize, Answered> = BTreeMap::new();
    let mut failed = None;
    let mut on_event = |event: Event<'_>| {
        let (request, answer) = match event {
            _ if failed.is_some() => return ControlFlow::Break(()),
            Event::Scored(scored) => {
                let (asked, place) = queue.sample_of(scored.request);
                let texts = asked.texts[place].iter().cloned();
                let of = texts.zip(&scored.scores);
                let responses = of.map(|(text, score)| queue.labels.scored(text, score, asked.todo.traced)).collect();
                (scored.request, Ok(Answered { responses: Ok(responses), timings: scored.timings }))
            }
            // What was running when the run was cancelled.
            Event::Failed { error, .. } if cancel.is_cancelled() && error.kind() == ErrorKind::Cancelled => {
                return ControlFlow::Continue(());
            }
            Event::Failed { request, error } => (request, queue.take_failure(request, error)),
            _ => return ControlFlow::Continue(()),
        };
        let handed_over = answer.and_then(|answer| {
            answered.insert(request, answer);
            queue.hand_over(&mut answered)
        });
        failed = handed_over.err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let result = decoder.score_observed(&mut requests.into_iter().map(Ok), batch, cancel, &mut on_event);
    failed.map_or(Ok(()), Err)?;
    match result {
        // Its sample says so.
        Err(e) if is_plugin_failure(&e) => Ok(queue.is_complete()),
        Err(e) if e.kind() == ErrorKind::Cancelled => Ok(false),
        result => result.map(|_| queue.is_complete()),
    }
}
