//! The decoding thread of a pipeline: what `generate`, `stream` and `score` are served by.

use std::{
    ops::ControlFlow,
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_engine::{
    Cancel, Decoder, Event, EventSink, Fusion, Generation, Request, Score, ScoreRequest, Submitter, TokenReport,
    request_queue,
};
use serde_json::{Value, json};

use crate::Pipeline;

/// Requests that are decoded at once; further ones wait.
const MAX_BATCH: usize = 16;
/// Requests that may wait before those who submit do.
const QUEUE: usize = 1024;

/// A decoder on a thread of its own, which ends with the pipeline.
pub(crate) struct Service {
    submitter: Option<Submitter>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    pub(crate) fn start(fusion: &Fusion) -> Self {
        let (submitter, queue) = request_queue(QUEUE);
        let cancel = Cancel::new();
        let (fusion, ended) = (fusion.clone(), cancel.clone());
        let decode = move || {
            Decoder::new(&fusion).serve(&queue, MAX_BATCH, &ended);
        };
        // Without a thread the queue has no receiver, which submitting reports.
        let thread = std::thread::Builder::new().name("logitfuse-decoder".to_owned()).spawn(decode).ok();
        Self { submitter: Some(submitter), cancel, thread }
    }

    fn submitter(&self) -> Result<&Submitter> {
        self.submitter.as_ref().ok_or_else(|| Error::new(ErrorKind::Cancelled, "the pipeline has ended"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.cancel.cancel();
        drop(self.submitter.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What fills the places of a pipeline's prompt templates: a text for `{{ prompt }}`, or an object of fields.
#[derive(Clone, Debug)]
pub struct Prompt(Value);

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self(json!({ "prompt": text }))
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Value> for Prompt {
    fn from(fields: Value) -> Self {
        Self(fields)
    }
}

impl Pipeline {
    /// The request that generates for a prompt, to be changed before it is
    /// [submitted](Self::stream_request): other limits, sampling, processors, traces, another fusion.
    ///
    /// # Errors
    /// Where a template fails on the prompt's fields.
    pub fn request(&self, prompt: impl Into<Prompt>) -> Result<Request> {
        self.request_for(0, &prompt.into().0)
    }

    /// Generates for a prompt.
    ///
    /// # Errors
    /// Those of the request, the models and the strategy.
    pub fn generate(&self, prompt: impl Into<Prompt>) -> Result<Generation> {
        self.stream(prompt)?.finish()
    }

    /// Generates for a prompt, token by token.
    ///
    /// # Errors
    /// Those of the request; what happens later is in the stream.
    pub fn stream(&self, prompt: impl Into<Prompt>) -> Result<TokenStream> {
        self.stream_request(self.request(prompt)?)
    }

    /// Generates for a request, token by token. Requests that are submitted at the same time are decoded in one batch.
    ///
    /// # Errors
    /// If the decoding thread is gone.
    pub fn stream_request(&self, request: Request) -> Result<TokenStream> {
        let (sender, messages) = channel();
        let sink: EventSink = Box::new(move |event| {
            let message = match event {
                Event::Token(report) => Message::Token(Box::new(report.clone())),
                Event::Done { generation, .. } => Message::Done(generation),
                Event::Failed { error, .. } => Message::Failed(error),
                _ => return ControlFlow::Continue(()),
            };
            // A stream that was dropped ends its request.
            if sender.send(message).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let cancel = self.service().submitter()?.submit(request, sink)?;
        Ok(TokenStream { messages, cancel, ended: None })
    }

    /// Scores the continuations of a prompt, teacher-forced: the log-probability of each under the fused distribution.
    /// Continuations are encoded as they stand, without special tokens; one usually begins with a space.
    ///
    /// # Errors
    /// Those of the request, the models and the strategy.
    pub fn score<S: AsRef<str>>(
        &self,
        prompt: impl Into<Prompt>,
        continuations: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Score>> {
        let prompts = self.request(prompt)?.prompts;
        let encode = |text: S| self.tokenizer().encode(text.as_ref(), false);
        let continuations = continuations.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        let (sender, scored) = channel();
        let sink: EventSink = Box::new(move |event| {
            let result = match event {
                Event::Scored(scored) => Ok(scored.scores),
                Event::Failed { error, .. } => Err(error),
                _ => return ControlFlow::Continue(()),
            };
            let _ = sender.send(result);
            ControlFlow::Continue(())
        });
        self.service().submitter()?.submit_score(ScoreRequest::new(prompts, continuations), sink)?;
        scored.recv().map_err(|_| gone())?
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the decoding thread is gone").with_help("please report this")
}

enum Message {
    Token(Box<TokenReport>),
    Done(Box<Generation>),
    Failed(Error),
}

/// The tokens of a text as they are generated: an iterator that waits for the next one. Dropping it cancels the text.
///
/// Each token comes with the text that became final with it, its log-probability, and the strategy's trace where the request
/// asks for it.
pub struct TokenStream {
    messages: Receiver<Message>,
    cancel: Cancel,
    ended: Option<Result<Box<Generation>>>,
}

impl TokenStream {
    /// Ends the text at the next token; tokens that are there already still come.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for the end and returns the whole text.
    ///
    /// # Errors
    /// Those of the models, the strategy and the logits processors.
    pub fn finish(mut self) -> Result<Generation> {
        for token in self.by_ref() {
            token?;
        }
        self.ended.take().unwrap_or_else(|| Err(gone())).map(|generation| *generation)
    }
}

impl Iterator for TokenStream {
    type Item = Result<TokenReport>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended.is_some() {
            return None;
        }
        match self.messages.recv() {
            Ok(Message::Token(report)) => Some(Ok(*report)),
            Ok(Message::Done(generation)) => {
                self.ended = Some(Ok(generation));
                None
            }
            Ok(Message::Failed(error)) => {
                self.ended = Some(Err(error.clone()));
                Some(Err(error))
            }
            Err(_) => {
                self.ended = Some(Err(gone()));
                Some(Err(gone()))
            }
        }
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.cancel.cancel();
        }
    }
}
