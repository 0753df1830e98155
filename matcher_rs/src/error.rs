//! The one place where a refusal of the core becomes a Python exception.

use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// What the core refused: rules, a key, a row or an observation.
pub struct Refused(matcher_core::Error);

impl From<matcher_core::Error> for Refused {
    fn from(error: matcher_core::Error) -> Self {
        Self(error)
    }
}

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        PyValueError::new_err(refused.0.to_string())
    }
}
