use std::{fmt, sync::Arc};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, as far as a program can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder that was named does not exist or cannot be read.
    NotFound,
    /// A file exists and is not what it should be: truncated, corrupt, of another kind.
    InvalidData,
    /// A value given by the user (a flag, a key of a TOML, a parameter of a strategy) is wrong.
    InvalidConfig,
    /// Parts that are sound by themselves do not fit together: tokenizers that differ, a missing role.
    Incompatible,
    /// The request is sound and this build, model or machine cannot do it.
    Unsupported,
    /// A prompt or generation does not fit into a model's context.
    ContextOverflow,
    /// A row broke the contract on numbers: NaN, `+inf`, or nothing finite.
    Numeric,
    /// A library or model failed at run time.
    Backend,
    /// Reading, writing or running another program failed.
    Io,
    /// The caller cancelled the call.
    Cancelled,
    /// An invariant of logitfuse itself was broken; please report it.
    Internal,
}

/// An error of any logitfuse library: a [`kind`](Error::kind), one line that names what failed, and usually a
/// [`help`](Error::help) line with what to do about it.
///
/// ```
/// use logitfuse_core::{Error, ErrorKind};
///
/// let e = Error::new(ErrorKind::NotFound, "models/x: no such folder").with_help("list what is there with `ls models`");
/// assert_eq!(e.kind(), ErrorKind::NotFound);
/// assert_eq!(e.to_string(), "models/x: no such folder");
/// assert!(e.help().unwrap().contains("ls models"));
/// ```
///
/// A clone is cheap and shares the cause, so that one failure can be told to everything that it ends.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    help: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error. The message starts with the file or value it is about and has no period at the end. It is one line
    /// whatever was put into it: text from files and libraries in a message must neither break a line nor send a
    /// terminal control codes.
    ///
    /// ```
    /// use logitfuse_core::{Error, ErrorKind};
    ///
    /// let e = Error::new(ErrorKind::InvalidData, "a name from a file: \u{1b}[31mred\nblue");
    /// assert_eq!(e.to_string(), "a name from a file: \\u{1b}[31mred blue");
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: one_line(message.into()), help: None, source: None }))
    }

    /// Adds the line that tells the user what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).help = Some(one_line(help.into()));
        self
    }

    /// Adds the error that caused this one; [`std::error::Error::source`] gives it back.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source.into()));
        self
    }

    /// The same error, its message prefixed with what was being done or to what.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        let message = one_line(format!("{what}: {}", self.0.message));
        Arc::make_mut(&mut self.0).message = message;
        self
    }

    /// What a program can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What a person can do about it.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => line.push(' '),
            '\r' => {}
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Error");
        s.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(help) = &self.0.help {
            s.field("help", help);
        }
        if let Some(source) = &self.0.source {
            s.field("source", source);
        }
        s.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Turns foreign results into ours at the place where the context is known.
pub trait ResultExt<T> {
    /// Wraps the error: `kind`, and a message made of `what` followed by the cause's own words.
    fn or_err(self, kind: ErrorKind, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn or_err(self, kind: ErrorKind, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| {
            let e = e.into();
            Error::new(kind, format!("{what}: {e}")).with_source(e)
        })
    }
}
