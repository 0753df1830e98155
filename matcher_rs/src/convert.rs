//! Python rows to a `Batch`, and what it did to Python. One pass each way.

use matcher_core::{Batch, KEY_BYTES, Key, Row};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PySequence, PyString, PyTuple};

use crate::error::Refused;

/// What one batch did. `events` has one entry an observation, in order.
#[pyclass(module = "cdp._matcher", frozen, get_all)]
pub struct Resolution {
    events: Py<PyList>,
    new_identifiers: Py<PyList>,
    records: Py<PyList>,
    changes: Py<PyList>,
}

/// Reads observations.
pub fn batch_of(observations: &Bound<'_, PyAny>) -> PyResult<Batch> {
    let mut batch = Batch::new();
    for observation in PyIterator::from_object(observations)? {
        let observation = observation?;
        let row = observation.cast::<PyTuple>()?;
        if row.len() != 4 {
            let found = row.len();
            let text =
                format!("an observation has {found} fields; give time, kind, source, identifiers");
            return Err(PyValueError::new_err(text));
        }
        let kind: u8 = row.get_borrowed_item(1)?.extract()?;
        batch
            .observe(
                row.get_borrowed_item(0)?.extract()?,
                kind,
                row.get_borrowed_item(2)?.extract()?,
            )
            .map_err(Refused::from)?;
        name_all(&mut batch, &row.get_item(3)?)?;
    }
    Ok(batch)
}

fn name_all(batch: &mut Batch, identifiers: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(list) = identifiers.cast::<PyList>() {
        return list.iter().try_for_each(|named| name(batch, &named));
    }
    if let Ok(tuple) = identifiers.cast::<PyTuple>() {
        return tuple.iter_borrowed().try_for_each(|named| name(batch, &named));
    }
    identifiers.cast::<PySequence>()?.try_iter()?.try_for_each(|named| name(batch, &named?))
}

fn name(batch: &mut Batch, named: &Bound<'_, PyAny>) -> PyResult<()> {
    let pair = named.cast::<PyTuple>()?;
    let namespace: u8 = pair.get_borrowed_item(0)?.extract()?;
    let value = pair.get_borrowed_item(1)?;
    // A text with half a surrogate pair has no UTF-8; what it says otherwise still names somebody.
    batch.name(namespace, &value.cast::<PyString>()?.to_string_lossy());
    Ok(())
}

/// Writes what a batch did.
pub fn resolution_of(py: Python<'_>, done: matcher_core::Resolution) -> PyResult<Resolution> {
    let events = PyList::empty(py);
    let mut start = 0;
    let nobody = PyBytes::new(py, b"");
    let nothing = PyTuple::empty(py); // one for all: most events reject nothing
    for decided in &done.decided {
        let rejected = &done.rejected[start..decided.rejected_end];
        start = decided.rejected_end;
        let rejected = match rejected {
            [] => nothing.clone(),
            some => PyTuple::new(py, some.iter().map(|(place, why)| (*place, why.as_str())))?,
        };
        let (leaf, profile) = match decided.leaf {
            Some((leaf, profile)) if leaf == profile => {
                let leaf = bytes(py, leaf);
                (leaf.clone(), leaf)
            }
            Some((leaf, profile)) => (bytes(py, leaf), bytes(py, profile)),
            None => (nobody.clone(), nobody.clone()),
        };
        events.append((leaf, profile, decided.state as u8, decided.shared, rejected))?;
    }
    let identifiers = done.identifiers.into_iter();
    let changes = done.changes.into_iter();
    Ok(Resolution {
        events: events.unbind(),
        new_identifiers: list(
            py,
            identifiers
                .map(|one| (bytes(py, one.node), one.namespace, one.value, bytes(py, one.leaf))),
        )?,
        records: records_of(py, &done.rows, &done.deleted)?,
        changes: list(
            py,
            changes.map(|change| {
                let (profile, other) = (bytes(py, change.profile), bytes(py, change.other));
                (change.observation, change.kind.as_str(), profile, other)
            }),
        )?,
    })
}

/// Rows to write, then those to delete, whose value is None.
fn records_of(py: Python<'_>, rows: &[Row], deleted: &[Vec<u8>]) -> PyResult<Py<PyList>> {
    let records =
        list(py, rows.iter().map(|(key, value)| (PyBytes::new(py, key), PyBytes::new(py, value))))?;
    for key in deleted {
        records.bind(py).append((PyBytes::new(py, key), py.None()))?;
    }
    Ok(records)
}

fn list<'py, T: IntoPyObject<'py>>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = T>,
) -> PyResult<Py<PyList>> {
    Ok(PyList::new(py, items)?.unbind())
}

/// A key as Python sees it.
pub fn bytes(py: Python<'_>, key: Key) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &key.0)
}

/// A key from Python; `None` where the bytes are no node's.
pub fn key_of(node: &[u8]) -> Option<Key> {
    (node.len() == KEY_BYTES).then(|| Key::from_bytes(node)).flatten()
}
