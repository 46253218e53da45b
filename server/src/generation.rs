//! Between a request and the thread that decodes: admission, submission, what is heard, and its end.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use logitfuse::{
    Cancel, Event, Generation, Request, ScoreRequest, TokenReport,
    engine::{EventSink, Scored},
};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{app::App, error::ApiError, models::ServedModel};

/// One sequence to decode.
pub(crate) enum Job {
    Generate(Request),
    Score(ScoreRequest),
}

/// What is heard of a sequence.
pub(crate) enum Message {
    Token(Box<TokenReport>),
    /// The text that was held back; nothing follows.
    Finished(String),
    Done(Box<Generation>),
    Scored(Box<Scored>),
    Failed(logitfuse::Error),
}

impl Message {
    /// Whether nothing follows of this sequence.
    fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Scored(_) | Self::Failed(_))
    }
}

/// The sequences of one request on their way. Dropping it cancels them.
pub(crate) struct Running {
    messages: UnboundedReceiver<(usize, Message)>,
    cancels: Vec<Cancel>,
    /// Sequences whose last message did not come yet.
    left: usize,
    deadline: tokio::time::Instant,
    timeout: f64,
}

impl Running {
    /// The next message, with the number of its sequence; `None` after the last one of all.
    pub(crate) async fn next(&mut self) -> Option<Result<(usize, Message), ApiError>> {
        if self.left == 0 {
            return None;
        }
        match tokio::time::timeout_at(self.deadline, self.messages.recv()).await {
            Err(_) => {
                self.left = 0;
                self.cancel();
                Some(Err(ApiError::timed_out(self.timeout)))
            }
            Ok(None) => {
                self.left = 0;
                Some(Err(ApiError::stopped()))
            }
            Ok(Some((sequence, message))) => {
                self.left -= usize::from(message.is_last());
                Some(Ok((sequence, message)))
            }
        }
    }

    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        self.deadline
    }

    fn cancel(&self) {
        self.cancels.iter().for_each(Cancel::cancel);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl App {
    /// Submits the sequences of a request, all or none; never waits.
    pub(crate) fn submit(self: &Arc<Self>, model: &Arc<ServedModel>, jobs: Vec<Job>) -> Result<Running, ApiError> {
        let count = jobs.len();
        if count > self.capacity {
            let capacity = self.capacity;
            let message = format!(
                "{count} sequences are more than the {capacity} that this server holds; ask for fewer at a time"
            );
            return Err(ApiError::invalid("n", message));
        }
        let permits = u32::try_from(count).map_err(|_| ApiError::stopped())?;
        let Ok(mut permits) = Arc::clone(&self.admission).try_acquire_many_owned(permits) else {
            self.metrics.refused("queue_full");
            return Err(ApiError::overloaded("as many requests are waiting as may wait; try again in a moment"));
        };
        let (sender, messages) = unbounded_channel();
        let timeout = self.options.limits.request_timeout;
        let mut running = Running {
            messages,
            cancels: Vec::with_capacity(count),
            left: count,
            deadline: tokio::time::Instant::now() + timeout,
            timeout: timeout.as_secs_f64(),
        };
        for (sequence, job) in jobs.into_iter().enumerate() {
            let Some(permit) = permits.split(1) else { return Err(ApiError::stopped()) };
            let sink = Listener::new(self, model, sequence, &sender, permit).into_sink();
            let submitted = match job {
                Job::Generate(request) => self.submitter.try_submit(request, sink),
                Job::Score(request) => self.submitter.try_submit_score(request, sink),
            };
            match submitted {
                Ok(Some(cancel)) => running.cancels.push(cancel),
                // The queue has room for all that are admitted, so it is the decoder that is gone.
                Ok(None) | Err(_) => return Err(ApiError::stopped()),
            }
        }
        Ok(running)
    }
}

/// Hears the events of one sequence on the decoding thread, counts them, and passes them on.
struct Listener {
    app: Arc<App>,
    model: Arc<ServedModel>,
    sequence: usize,
    sender: UnboundedSender<(usize, Message)>,
    submitted: Instant,
    /// When the last token came.
    last: Option<Instant>,
    started: bool,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    fn new(
        app: &Arc<App>,
        model: &Arc<ServedModel>,
        sequence: usize,
        sender: &UnboundedSender<(usize, Message)>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        app.metrics.waiting.inc();
        Self {
            app: Arc::clone(app),
            model: Arc::clone(model),
            sequence,
            sender: sender.clone(),
            submitted: Instant::now(),
            last: None,
            started: false,
            _permit: permit,
        }
    }

    fn into_sink(mut self) -> EventSink {
        Box::new(move |event| self.hear(event))
    }

    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let message = match event {
            Event::Started { .. } => {
                self.started = true;
                self.app.metrics.waiting.dec();
                self.app.metrics.running.inc();
                // A request that nobody waits for any more leaves before its prompt is run.
                return if self.sender.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            Event::Token(report) => {
                self.observe(report);
                Message::Token(Box::new(report.clone()))
            }
            Event::Finished { text, .. } => Message::Finished(text),
            Event::Done { generation, .. } => {
                self.app.metrics.generated(&self.model, &generation);
                Message::Done(generation)
            }
            Event::Scored(scored) => {
                self.app.metrics.spent(&self.model, &scored.timings);
                Message::Scored(Box::new(scored))
            }
            Event::Failed { error, .. } => Message::Failed(error),
            _ => return ControlFlow::Continue(()),
        };
        if self.sender.send((self.sequence, message)).is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn observe(&mut self, report: &TokenReport) {
        let now = Instant::now();
        let metrics = &self.model.metrics;
        match self.last.replace(now) {
            None => metrics.first_token.observe((now - self.submitted).as_secs_f64()),
            Some(last) => metrics.next_token.observe((now - last).as_secs_f64()),
        }
        let alpha = self.model.alpha.and_then(|column| report.trace.get(column));
        if let Some(alpha) = alpha.filter(|alpha| alpha.is_finite()) {
            metrics.alpha.observe(*alpha);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let counted = if self.started { &self.app.metrics.running } else { &self.app.metrics.waiting };
        counted.dec();
    }
}

/// Counts answers that are under way, so that a server that shuts down knows when the last one is complete.
pub(crate) struct InFlight(Arc<App>);

impl InFlight {
    pub(crate) fn begin(app: &Arc<App>) -> Self {
        app.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(app))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.idle.notify_waiters();
    }
}
