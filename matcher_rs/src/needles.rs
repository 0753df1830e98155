//! Looks for many strings of bytes at once, beside the event loop: an erasure looks for what it left.

use aho_corasick::{AhoCorasick, MatchKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Strings of bytes to look for, all of them in one pass.
#[pyclass(module = "cdp._matcher", frozen)]
pub struct Needles {
    automaton: AhoCorasick,
}

#[pymethods]
impl Needles {
    #[new]
    fn new(needles: Vec<Vec<u8>>) -> PyResult<Self> {
        if needles.iter().any(Vec::is_empty) {
            return Err(PyValueError::new_err("a needle is empty: it would be found everywhere"));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&needles)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { automaton })
    }

    /// How many there are in a piece of data, none overlapping, and where the last one ends; 0
    /// where there is none. The GIL is released meanwhile.
    fn count(&self, py: Python<'_>, data: &[u8]) -> (usize, usize) {
        py.detach(|| {
            let found = self.automaton.find_iter(data);
            found.fold((0, 0), |(count, _), one| (count + 1, one.end()))
        })
    }
}
