use std::fmt;

use logitfuse_core::Error;

/// A law that was broken, and how. It is an error, so `?` in a property test turns it into a failed case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The law's name, such as `rollback-is-replay`.
    pub law: &'static str,
    /// What was seen instead.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(law: &'static str, detail: impl fmt::Display) -> Self {
        Self { law, detail: detail.to_string() }
    }

    /// For a call that the law needs and that returned an error.
    pub(crate) fn because(law: &'static str) -> impl Fn(Error) -> Self {
        move |error| Self::new(law, error)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.detail)
    }
}

impl std::error::Error for Violation {}
