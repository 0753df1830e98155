//! What can be wrong, by who must act.

use std::fmt;

/// What was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The caller's mistake. The text says what to give.
    Argument(String),
    /// Keys that are not at hand: read these slots, admit them, ask again.
    Missing(Vec<u64>),
    /// A record was to be sealed with a key that is destroyed.
    Destroyed {
        /// The slot of the key.
        slot: u64,
    },
    /// A sealed record is not what was sealed under this context.
    Tampered {
        /// Its place in the batch.
        index: usize,
        /// The slot that it names, where it is long enough to name one.
        slot: Option<u64>,
    },
    /// A slot is neither destroyed nor wrapped under this master key.
    BadSlot {
        /// Its number.
        slot: u64,
    },
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::Argument(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) => to.write_str(text),
            Self::Missing(slots) => {
                write!(to, "keys of {} slots are not at hand; admit them first", slots.len())
            }
            Self::Destroyed { slot } => {
                write!(to, "the key in slot {slot} is destroyed; seal with a new one")
            }
            Self::Tampered { index, slot: Some(slot) } => {
                write!(to, "record {index} is not what was sealed there (slot {slot})")
            }
            Self::Tampered { index, slot: None } => {
                write!(to, "record {index} is not a sealed record")
            }
            Self::BadSlot { slot } => {
                write!(to, "slot {slot} holds no key that this master key wraps")
            }
        }
    }
}

impl std::error::Error for Error {}
