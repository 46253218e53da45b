//! Requests from other threads.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::ControlFlow,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    Cancel, Decoder, Event, Request, ScoreRequest, Timings,
    decoder::{Context, Intake, Job},
};

/// Hears the events of one request, on the decoder's thread; breaking off cancels the request.
pub type EventSink = Box<dyn FnMut(Event<'_>) -> ControlFlow<()> + Send>;

enum Message {
    Submit(Box<Submission>),
    Stop,
}

struct Submission {
    job: Job,
    cancel: Cancel,
    sink: EventSink,
}

/// The sending end of a [`request_queue`]: submits requests to a decoder from any thread. Clones send to the same decoder.
#[derive(Clone)]
pub struct Submitter(SyncSender<Message>);

/// The receiving end of a [`request_queue`], for [`Decoder::serve`].
pub struct RequestQueue(Receiver<Message>);

/// A bounded queue of requests: at most `capacity` wait while the decoder is full, and further ones make their sender wait.
///
/// ```
/// use std::{ops::ControlFlow, sync::{Arc, mpsc}, thread};
/// use logitfuse_engine::{BaseOnly, Cancel, Decoder, Event, Request, Role, request_queue};
/// use logitfuse_replay::SyntheticSource;
///
/// let mut decoder = Decoder::builder(Arc::new(BaseOnly::new()))
///     .source(Box::new(SyntheticSource::new("toy", 32, 1)))
///     .roles([Role::new("base", 0)])
///     .build()?;
/// let (submitter, queue) = request_queue(4);
/// let decoding = thread::spawn(move || decoder.serve(&queue, 8, &Cancel::new()));
///
/// let (tokens, received) = mpsc::channel();
/// submitter.submit(Request::new([vec![1, 2]]).max_new_tokens(5), Box::new(move |event| {
///     if let Event::Token(report) = event {
///         let _ = tokens.send(report.token);
///     }
///     ControlFlow::Continue(())
/// }))?;
/// assert_eq!(received.iter().count(), 5);
/// drop(submitter);
/// assert_eq!(decoding.join().unwrap().tokens, 5);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub fn request_queue(capacity: usize) -> (Submitter, RequestQueue) {
    let (sender, receiver) = sync_channel(capacity);
    (Submitter(sender), RequestQueue(receiver))
}

impl Submitter {
    /// Submits a text to generate; waits while the queue is full. The events that come are those of the request alone, all
    /// with index 0. The flag that is returned cancels it.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the decoder serves no more.
    pub fn submit(&self, request: Request, sink: EventSink) -> Result<Cancel> {
        self.send(submission(request, sink))
    }

    /// Submits continuations to score; waits while the queue is full.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_score(&self, request: ScoreRequest, sink: EventSink) -> Result<Cancel> {
        self.send(scoring(request, sink))
    }

    /// As [`submit`](Self::submit), but hands the request back, as `None`, where the queue is full.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn try_submit(&self, request: Request, sink: EventSink) -> Result<Option<Cancel>> {
        self.try_send(submission(request, sink))
    }

    /// As [`submit_score`](Self::submit_score), but hands the request back, as `None`, where the queue is full.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn try_submit_score(&self, request: ScoreRequest, sink: EventSink) -> Result<Option<Cancel>> {
        self.try_send(scoring(request, sink))
    }

    fn try_send(&self, submission: Submission) -> Result<Option<Cancel>> {
        let cancel = submission.cancel.clone();
        match self.0.try_send(Message::Submit(Box::new(submission))) {
            Ok(()) => Ok(Some(cancel)),
            Err(TrySendError::Full(_)) => Ok(None),
            Err(TrySendError::Disconnected(_)) => Err(stopped()),
        }
    }

    /// Ends the decoder's [`serve`](Decoder::serve) once it has finished what was submitted before.
    pub fn stop(&self) {
        // A decoder that serves no more has stopped already.
        let _ = self.0.send(Message::Stop);
    }

    fn send(&self, submission: Submission) -> Result<Cancel> {
        let cancel = submission.cancel.clone();
        self.0.send(Message::Submit(Box::new(submission))).map_err(|_| stopped())?;
        Ok(cancel)
    }
}

fn submission(mut request: Request, sink: EventSink) -> Submission {
    let cancel = request.cancel.get_or_insert_default().clone();
    Submission { job: Job::Generate(request), cancel, sink }
}

fn scoring(mut request: ScoreRequest, sink: EventSink) -> Submission {
    let cancel = request.cancel.get_or_insert_default().clone();
    Submission { job: Job::Score(request), cancel, sink }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the decoder has stopped and takes no more requests")
}

/// Requests that are running, by number, with who hears of them.
type Listeners = RefCell<BTreeMap<usize, (Cancel, EventSink)>>;

struct Queued<'a> {
    queue: &'a RequestQueue,
    listeners: &'a Listeners,
    next: usize,
    stopped: bool,
}

impl Intake for Queued<'_> {
    fn next(&mut self, idle: bool) -> Option<Result<Job>> {
        if self.stopped {
            return None;
        }
        let message = if idle { self.queue.0.recv().ok() } else { self.queue.0.try_recv().ok() };
        match message? {
            Message::Stop => {
                self.stopped = true;
                None
            }
            Message::Submit(submission) => {
                let Submission { job, cancel, sink } = *submission;
                self.listeners.borrow_mut().insert(self.next, (cancel, sink));
                self.next += 1;
                Some(Ok(job))
            }
        }
    }
}

impl Decoder {
    /// Serves requests from a queue, at most `limit` at a time, until all submitters are dropped or one
    /// [stops](Submitter::stop) it. It sleeps while there is nothing to do. A request that fails or is cancelled ends alone;
    /// `cancel` ends all that are running.
    pub fn serve(&mut self, queue: &RequestQueue, limit: usize, cancel: &Cancel) -> Timings {
        let listeners = Listeners::default();
        let mut intake = Queued { queue, listeners: &listeners, next: 0, stopped: false };
        let mut on_event = |event: Event<'_>| {
            tell(&listeners, event);
            ControlFlow::Continue(())
        };
        let mut context = Context::new(cancel, &mut on_event, self.pool().len());
        // The intake yields no error.
        let _ = self.run(&mut intake, limit, &mut context);
        context.timings
    }
}

/// Hands an event to its request's listener, and lets go of one that hears no more.
fn tell(listeners: &Listeners, event: Event<'_>) {
    let Some(request) = event.request() else { return };
    let last = matches!(event, Event::Done { .. } | Event::Scored(_) | Event::Failed { .. });
    // Taken out while it hears, so that it may submit another request from within.
    let Some((cancel, mut sink)) = listeners.borrow_mut().remove(&request) else { return };
    if sink(event).is_break() {
        cancel.cancel();
    }
    if !last {
        listeners.borrow_mut().insert(request, (cancel, sink));
    }
}
