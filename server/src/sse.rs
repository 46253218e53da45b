//! Answers that come in pieces: server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::Instrument;

use crate::{
    app::App,
    error::ApiError,
    generation::{InFlight, Message, Running},
    settings::StreamOptions,
};

/// Events that wait for a client to take them; a sequence that is ahead waits in its own queue.
const EVENTS: usize = 16;
/// A comment is sent after so long a silence, so that nothing between takes the connection for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// How an answer comes.
#[derive(Clone, Copy)]
pub(crate) enum Delivery {
    AtOnce,
    Stream {
        /// Whether the last event tells how many tokens there were.
        include_usage: bool,
    },
}

impl Delivery {
    pub(crate) fn new(stream: Option<bool>, options: Option<&StreamOptions>) -> Self {
        match stream {
            Some(true) => Self::Stream { include_usage: options.is_some_and(|options| options.include_usage) },
            _ => Self::AtOnce,
        }
    }

    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    pub(crate) fn includes_usage(self) -> bool {
        matches!(self, Self::Stream { include_usage: true })
    }
}

/// Writes a stream's events: JSON texts, one event each.
pub(crate) trait EventWriter: Send + 'static {
    /// What comes before the first message.
    fn begin(&mut self) -> Vec<String>;

    /// What a message of a sequence becomes.
    fn write(&mut self, sequence: usize, message: Message) -> Result<Vec<String>, ApiError>;

    /// What comes after the last message.
    fn end(&mut self) -> Vec<String>;
}

/// Answers with a stream. A client that goes away, or does not read before the request's time is over, cancels it.
pub(crate) fn respond(app: &Arc<App>, running: Running, writer: impl EventWriter) -> Response {
    let (sender, events) = channel(EVENTS);
    tokio::spawn(pump(running, writer, sender).instrument(tracing::Span::current()));
    let body = Events { events, _in_flight: InFlight::begin(app) };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx would collect the events otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::new(body)).into_response()
}

async fn pump(mut running: Running, mut writer: impl EventWriter, sender: Sender<Bytes>) {
    let deadline = running.deadline();
    let send = async |events: Vec<String>| {
        for event in events {
            match tokio::time::timeout_at(deadline, sender.send(Bytes::from(format!("data: {event}\n\n")))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        true
    };
    if !send(writer.begin()).await {
        return;
    }
    loop {
        let next = tokio::select! {
            () = sender.closed() => return,
            next = tokio::time::timeout(SILENCE, running.next()) => next,
        };
        let events = match next {
            Err(_) => {
                // Where it cannot be sent, the client is slow and has enough to read.
                let _ = sender.try_send(Bytes::from_static(b": waiting\n\n"));
                continue;
            }
            Ok(None) => break,
            Ok(Some(Ok((sequence, message)))) => writer.write(sequence, message),
            Ok(Some(Err(error))) => Err(error),
        };
        match events {
            Ok(events) => {
                if !send(events).await {
                    return;
                }
            }
            // The status has been sent, so the error is an event, and the last one.
            Err(error) => {
                let event = Bytes::from(format!("data: {}\n\n", error.json()));
                let _ = tokio::time::timeout(Duration::from_secs(1), sender.send(event)).await;
                return;
            }
        }
    }
    send(writer.end()).await;
}

/// The body of a stream.
struct Events {
    events: Receiver<Bytes>,
    _in_flight: InFlight,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
