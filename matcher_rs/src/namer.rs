//! The nodes of identifiers for Python, without a graph and so without waiting for one.

use matcher_core::Rules;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySequence, PyString, PyTuple};

use crate::convert::bytes;
use crate::error::Refused;

/// Names identifiers exactly as a `Resolver` of the same key and rules does.
#[pyclass(module = "cdp._matcher", frozen)]
pub struct Namer {
    core: matcher_core::Namer,
}

#[pymethods]
impl Namer {
    #[new]
    fn new(key: &[u8], rules: &str) -> PyResult<Self> {
        let rules = Rules::from_json(rules).map_err(Refused::from)?;
        Ok(Self { core: matcher_core::Namer::new(key, rules).map_err(Refused::from)? })
    }

    /// The nodes that each event names, in order; the first is its leaf.
    // The GIL is kept: an event takes half a microsecond, and reading and making objects is most
    // of it.
    fn nodes<'py>(
        &self,
        py: Python<'py>,
        named: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let events = PyList::empty(py);
        for identifiers in named.try_iter()? {
            events.append(self.nodes_of(py, &identifiers?)?)?;
        }
        Ok(events)
    }

    /// The node of an identifier after normalisation; None where its value is not usable.
    fn node<'py>(
        &self,
        py: Python<'py>,
        namespace: u8,
        value: &str,
    ) -> Option<Bound<'py, PyBytes>> {
        self.core.node(namespace, value).map(|node| bytes(py, node))
    }
}

impl Namer {
    fn nodes_of<'py>(
        &self,
        py: Python<'py>,
        identifiers: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let nodes = PyList::empty(py);
        let name = |named: &Bound<'py, PyAny>| {
            let pair = named.cast::<PyTuple>()?;
            let namespace: u8 = pair.get_borrowed_item(0)?.extract()?;
            let value = pair.get_borrowed_item(1)?;
            // As in `convert`: half a surrogate pair has no UTF-8, the rest still names somebody.
            let value = value.cast::<PyString>()?;
            let text = value.to_string_lossy();
            self.core.each(namespace, &text, |node| nodes.append(bytes(py, node)))
        };
        if let Ok(list) = identifiers.cast::<PyList>() {
            list.iter().try_for_each(|named| name(&named))?;
        } else {
            let any = identifiers.cast::<PySequence>()?.try_iter()?;
            any.into_iter().try_for_each(|named| name(&named?))?;
        }
        Ok(nodes)
    }
}
