//! The server itself: the decoding thread, the routes, and how both end.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use axum::Router;
use logitfuse::{Cancel, Decoder, Error, ErrorKind, Pipeline, Result, core::ResultExt, engine::request_queue};
use tokio::sync::{Notify, Semaphore};

use crate::{
    app::{App, unix_time},
    connections,
    metrics::Metrics,
    models::{Models, ServedModel, SourceCards},
    options::ServerOptions,
    router,
};

/// Fusions behind the interfaces of OpenAI and of the Open Inference Protocol v2.
///
/// All of them decode in one batch on one thread of the server's own, so they must be over one pool of sources, as
/// [`Pipeline::open_several`] opens them.
///
/// ```no_run
/// use logitfuse::{Pipeline, json};
/// use logitfuse_server::{Server, ServerOptions};
///
/// let pipeline = Pipeline::builder()
///     .model("base", "models/large")
///     .model("expert", "models/small-tuned")
///     .model("anti", "models/small")
///     .strategy("dynamic-kl", json!({}))
///     .build()?;
/// let server = Server::new([("fused".to_owned(), pipeline)], ServerOptions::default())?;
/// let listener = server.bind()?;
/// server.run(listener)?;
/// # Ok::<(), logitfuse::Error>(())
/// ```
pub struct Server {
    app: Arc<App>,
    cancel: Cancel,
    decoding: Option<JoinHandle<()>>,
}

/// Tells a server to shut down, from any thread.
#[derive(Clone)]
pub struct ServerHandle(Arc<App>);

impl ServerHandle {
    /// Answers the requests that were accepted, refuses further ones, and ends [`Server::run`] then.
    pub fn drain(&self) {
        self.0.drain();
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("draining", &self.0.is_draining()).finish()
    }
}

impl Server {
    /// A server of these fusions by name, whose decoding thread runs from now on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is no fusion, if two have one name or other pools, or if the options would let
    /// strangers in.
    pub fn new(models: impl IntoIterator<Item = (String, Pipeline)>, options: ServerOptions) -> Result<Self> {
        options.check()?;
        let metrics = Metrics::new();
        let served = |(name, pipeline): (String, Pipeline)| {
            let of_model = metrics.of_model(&name);
            Arc::new(ServedModel::new(name, pipeline, of_model))
        };
        let models = Models::new(models.into_iter().map(served).collect())?;
        let mut sources = std::collections::BTreeMap::new();
        for model in models.all() {
            sources.extend(model.pipeline.options().sources.iter());
        }
        let sources = SourceCards::new(sources);
        let capacity = options.capacity();
        let (submitter, queue) = request_queue(capacity);
        let max_batch = options.max_batch;
        let app = Arc::new(App {
            options,
            models,
            sources,
            submitter,
            admission: Arc::new(Semaphore::new(capacity)),
            capacity,
            metrics,
            started: unix_time(),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            draining: AtomicBool::new(false),
            decoding: AtomicBool::new(true),
            numbered: AtomicUsize::new(0),
            process: RandomState::new().hash_one(unix_time()),
        });
        let cancel = Cancel::new();
        let (shared, ended) = (Arc::clone(&app), cancel.clone());
        let decode = move || {
            let _end = Decoding(&shared);
            let Some(first) = shared.models.all().first() else { return };
            Decoder::new(first.pipeline.fusion()).serve(&queue, max_batch, &ended);
        };
        let thread = std::thread::Builder::new().name("logitfuse-decoder".to_owned()).spawn(decode);
        let decoding = thread.or_err(ErrorKind::Io, "the decoding thread cannot be started")?;
        Ok(Self { app, cancel, decoding: Some(decoding) })
    }

    /// The routes, for a program that has a server of its own.
    pub fn router(&self) -> Router {
        router::router(&self.app)
    }

    /// What tells the server to shut down.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(Arc::clone(&self.app))
    }

    /// Takes the address of the options, and nobody else may from now on.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the address is taken or may not be.
    pub fn bind(&self) -> Result<TcpListener> {
        let address = self.app.options.address;
        TcpListener::bind(address)
            .or_err(ErrorKind::Io, address)
            .map_err(|error| error.with_help("choose another --port, or end what listens there"))
    }

    /// Serves on this thread until the server was told to [drain](ServerHandle::drain) and has answered what it accepted.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system gives no threads or takes the listener back.
    pub fn run(self, listener: TcpListener) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(4)
            .thread_name("logitfuse-server")
            .enable_io()
            .enable_time()
            .build()
            .or_err(ErrorKind::Io, "the server's threads cannot be started")?;
        listener.set_nonblocking(true).or_err(ErrorKind::Io, "the listener")?;
        let hashing = Arc::clone(&self.app);
        // Reading all weights takes a while; until then the hashes are missing from `/v1/models`.
        let _detached =
            std::thread::Builder::new().name("logitfuse-hashes".to_owned()).spawn(move || hashing.sources.hash());
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).or_err(ErrorKind::Io, "the listener")?;
            connections::serve(&self.app, &self.router(), listener).await;
            Ok::<_, Error>(())
        })?;
        runtime.shutdown_background();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.app.drain();
        self.cancel.cancel();
        self.app.submitter.stop();
        if let Some(thread) = self.decoding.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.app.options).finish_non_exhaustive()
    }
}

/// Tells that the decoding thread is gone, however it ends.
struct Decoding<'a>(&'a App);

impl Drop for Decoding<'_> {
    fn drop(&mut self) {
        self.0.decoding.store(false, Ordering::SeqCst);
    }
}
