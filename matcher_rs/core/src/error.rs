//! What can be wrong with what we are given. Everything else is a bug and panics.

use std::fmt;

/// A refusal: rules, a key, a row or an observation that cannot be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The result of what can be refused.
pub type Result<T> = std::result::Result<T, Error>;
