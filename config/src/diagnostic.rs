//! What is wrong with a configuration, as data: a front end draws it.

use std::{collections::HashSet, fmt};

use logitfuse_core::{Error, ErrorKind};

use super::place::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What, in one line.
    pub message: String,
    /// Where; absent for what is nowhere written, such as a missing file on the command line.
    pub place: Option<Place>,
    /// A word at the place; may be empty.
    pub label: String,
    /// What else to look at, with a word for each.
    pub also: Vec<(Place, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(message: impl Into<String>, place: Option<Place>) -> Self {
        let message = one_line(message.into());
        Self { message, place, label: String::new(), also: Vec::new(), help: None }
    }

    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        Self { label: one_line(label.into()), ..self }
    }

    pub(crate) fn also(mut self, place: Option<Place>, label: impl Into<String>) -> Self {
        self.also.extend(place.map(|place| (place, one_line(label.into()))));
        self
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(one_line(help.into())), ..self }
    }
}

/// Names and values of files may be of any length.
const LONGEST: usize = 2000;

/// Words of files and overrides get into messages; [`Error`] has the rule for what they may do there.
fn one_line(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    Error::new(ErrorKind::InvalidConfig, text).to_string()
}

/// `file:line:column: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Everything that is wrong, in the order of the files. It is the [`source`](std::error::Error::source) of errors about
/// configurations; the error's own line tells the first and counts the others.
///
/// ```
/// use std::error::Error as _;
/// use logitfuse_config::{Config, Diagnostics};
///
/// let error = Config::from_toml("schema = 1\n[run]\nsede = 1\n[sources.base]\nmodel = 3\n").unwrap_err();
/// assert_eq!(error.to_string(), "3:1: unknown key `sede` in [run], and 1 more");
/// let found = error.source().and_then(|e| e.downcast_ref::<Diagnostics>()).unwrap();
/// assert_eq!(found.0[0].label, "did you mean `seed`?");
/// assert_eq!(found.0[1].place.as_ref().unwrap().line(), 5);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Diagnostics(vec![diagnostic]).into()
    }
}

impl From<Diagnostics> for Error {
    fn from(mut diagnostics: Diagnostics) -> Self {
        // The same fault of a table that several variants share is one fault.
        let mut seen = HashSet::new();
        diagnostics.0.retain(|one| {
            let place = one.place.as_ref().map(|place| (place.name().to_owned(), place.range()));
            seen.insert((one.message.clone(), place))
        });
        let Some(first) = diagnostics.0.first() else {
            return Self::new(ErrorKind::Internal, "an error without a cause");
        };
        let more = match diagnostics.0.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        let help = first.help.clone().unwrap_or_else(|| "docs/experiment.md lists the keys".to_owned());
        Self::new(ErrorKind::InvalidConfig, format!("{first}{more}")).with_help(help).with_source(diagnostics)
    }
}
