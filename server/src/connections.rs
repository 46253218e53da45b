//! Connections: accepted, bounded in number and time, and closed without losing an answer.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::{
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Sleep,
};

use crate::app::App;

/// Time for clients to take the ends of their answers, once all are complete.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// Where connections cannot be accepted (no file descriptor is left), another try makes sense after this long.
const RETRY: Duration = Duration::from_millis(50);

/// Serves until the server is told to shut down and every accepted request is answered. Until then connections are accepted,
/// and further requests are told that the server shuts down.
pub(crate) async fn serve(app: &Arc<App>, router: &Router, listener: TcpListener) {
    let most = app.options.limits.connections.clamp(1, Semaphore::MAX_PERMITS >> 1);
    let open = Arc::new(Semaphore::new(most));
    let (closing, closed) = watch::channel(());
    let quiet = async {
        app.told_to_drain().await;
        tracing::info!("shutting down: accepted requests are answered, further ones are refused");
        let longest = app.options.limits.request_timeout + LAST_BYTES;
        if tokio::time::timeout(longest, app.quiet()).await.is_err() {
            tracing::warn!("shutting down with answers under way: their time was over");
        }
    };
    tokio::pin!(quiet);
    loop {
        tokio::select! {
            () = &mut quiet => break,
            (permit, stream) = accept(&listener, &open) => {
                tokio::spawn(connection(Arc::clone(app), router.clone(), stream, closed.clone(), permit));
            }
        }
    }
    drop(listener);
    drop(closed);
    // Connections finish what they are writing.
    let _ = closing.send(());
    let _ = tokio::time::timeout(LAST_BYTES, closing.closed()).await;
}

/// The next connection, as soon as there may be another one.
async fn accept(listener: &TcpListener, open: &Arc<Semaphore>) -> (Option<OwnedSemaphorePermit>, TcpStream) {
    loop {
        // The semaphore is never closed.
        let permit = Arc::clone(open).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => return (permit, stream),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                drop(permit);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn connection(
    app: Arc<App>,
    router: Router,
    stream: TcpStream,
    mut closed: watch::Receiver<()>,
    _permit: Option<OwnedSemaphorePermit>,
) {
    // A token is a small packet that should not wait for the next one.
    let _ = stream.set_nodelay(true);
    let limits = &app.options.limits;
    let io = Timed { io: TokioIo::new(stream), timeout: limits.write_timeout, waiting: None };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 << 10)
        .serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = closed.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Clients that go away are no news.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A connection whose peer must take what is written within a time.
struct Timed<T> {
    io: T,
    timeout: Duration,
    /// Runs while the peer takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Timed<T> {
    fn bounded<R>(&mut self, written: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<T: Read + Unpin> Read for Timed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bounded(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.bounded(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.bounded(written, context)
    }
}
