//! Python's way into `seal_core`: borrow the bytes, call, hand out what came of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use seal_core::recent::{Recent, Subject};
use seal_core::{Error, Records};

create_exception!(
    cdp._matcher,
    Tampered,
    PyValueError,
    "What was found in a store is not what was sealed there. The text names the place."
);

/// Bytes of the number in a context.
const NUMBER_BYTES: usize = 8;

/// Below so many bytes a batch takes less than a worker thread may keep the interpreter for once
/// it has it: giving it up would cost up to 5 ms, to save 0.1 ms.
const GIL_KEPT_BYTES_MAX: usize = 512 * 1024;

/// Seals and opens records under data keys that a master key wraps. One crossing a batch.
#[pyclass(module = "cdp._matcher", frozen)]
pub struct Sealer {
    core: Mutex<seal_core::Sealer>,
}

impl Sealer {
    fn lock(&self) -> MutexGuard<'_, seal_core::Sealer> {
        // A panic in the core is a bug; the caller crashes and makes a new sealer.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a batch, with the GIL released where the batch is large.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        bytes: usize,
        work: impl Send + FnOnce(&mut seal_core::Sealer) -> seal_core::Result<T>,
    ) -> PyResult<T> {
        let done = if bytes > GIL_KEPT_BYTES_MAX {
            py.detach(|| work(&mut self.lock()))
        } else {
            work(&mut self.lock())
        };
        done.map_err(raised)
    }
}

#[pymethods]
impl Sealer {
    #[new]
    fn new(master: &[u8], epoch: u32, seed: &[u8], keys_max: usize) -> PyResult<Self> {
        let core = seal_core::Sealer::new(master, epoch, seed, keys_max).map_err(raised)?;
        Ok(Self { core: Mutex::new(core) })
    }

    /// New slots from a number on, as they are to lie in the key file. For a worker thread too:
    /// sealing goes on meanwhile.
    fn make_slots<'py>(
        &self,
        py: Python<'py>,
        first: u64,
        count: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let wrapped = py.detach(|| {
            let maker = self.lock().slot_maker(first, count);
            let (wrapped, made) = maker.make();
            self.lock().take(made);
            wrapped
        });
        Ok(PyBytes::new(py, &wrapped))
    }

    /// Takes in slots as they lie in the key file, one after the other.
    fn admit(&self, py: Python<'_>, slots: Vec<u64>, wrapped: &[u8]) -> PyResult<()> {
        self.call(py, wrapped.len(), |core| core.admit(&slots, wrapped))
    }

    /// The slots whose keys are not at hand, each once, in order.
    fn missing(&self, slots: Vec<u64>) -> Vec<u64> {
        self.lock().missing(slots)
    }

    /// Of each slot, whether its key is there to be used.
    fn live(&self, py: Python<'_>, slots: Vec<u64>) -> PyResult<Vec<bool>> {
        self.call(py, 0, |core| core.live(&slots))
    }

    fn seal<'py>(
        &self,
        py: Python<'py>,
        slots: Vec<u64>,
        records: Vec<Bound<'py, PyBytes>>,
        contexts: Vec<Bound<'py, PyBytes>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (records, contexts) = (borrowed(&records), borrowed(&contexts));
        let work = |core: &mut seal_core::Sealer| core.seal(&slots, &records, &contexts);
        listed(py, &self.call(py, size(&records), work)?)
    }

    fn open<'py>(
        &self,
        py: Python<'py>,
        sealed: Vec<Bound<'py, PyBytes>>,
        contexts: Vec<Bound<'py, PyBytes>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (sealed, contexts) = (borrowed(&sealed), borrowed(&contexts));
        let work = |core: &mut seal_core::Sealer| core.open(&sealed, &contexts);
        listed(py, &self.call(py, size(&sealed), work)?)
    }

    /// The same for records that lie one after the other: the context of each is `prefix` and its
    /// number, counted from `first`, as 8 bytes.
    fn seal_run<'py>(
        &self,
        py: Python<'py>,
        slots: Vec<u64>,
        records: Vec<Bound<'py, PyBytes>>,
        prefix: &[u8],
        first: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (records, contexts) = (borrowed(&records), numbered(prefix, first, records.len()));
        let contexts: Vec<_> = contexts.chunks_exact(prefix.len() + NUMBER_BYTES).collect();
        let work = |core: &mut seal_core::Sealer| core.seal(&slots, &records, &contexts);
        listed(py, &self.call(py, size(&records), work)?)
    }

    /// Opens what `seal_run` sealed, from number `first` on.
    fn open_run<'py>(
        &self,
        py: Python<'py>,
        sealed: Vec<Bound<'py, PyBytes>>,
        prefix: &[u8],
        first: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (sealed, contexts) = (borrowed(&sealed), numbered(prefix, first, sealed.len()));
        let contexts: Vec<_> = contexts.chunks_exact(prefix.len() + NUMBER_BYTES).collect();
        let work = |core: &mut seal_core::Sealer| core.open(&sealed, &contexts);
        listed(py, &self.call(py, size(&sealed), work)?)
    }

    /// Overwrites and forgets keys.
    fn forget(&self, slots: Vec<u64>) {
        self.lock().forget(&slots);
    }

    /// Slots that another master key wraps, from a number on, wrapped under this one.
    fn rewrap<'py>(
        &self,
        py: Python<'py>,
        other_master: &[u8],
        first: u64,
        wrapped: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let work = |core: &mut seal_core::Sealer| core.rewrap(other_master, first, wrapped);
        Ok(PyBytes::new(py, &self.call(py, wrapped.len(), work)?))
    }

    /// How many slots hold a key that this master key wraps, and how many are destroyed.
    fn survey(&self, py: Python<'_>, first: u64, wrapped: &[u8]) -> PyResult<(usize, usize)> {
        let found = self.call(py, wrapped.len(), |core| core.survey(first, wrapped))?;
        Ok((found.live, found.destroyed))
    }

    /// How many keys are in memory.
    fn keys_at_hand(&self) -> usize {
        self.lock().keys_at_hand()
    }
}

/// Slots of the subjects that were used last, bounded. For one thread.
#[pyclass(module = "cdp._matcher", frozen)]
pub struct RecentSlots {
    core: Mutex<Recent>,
}

impl RecentSlots {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl RecentSlots {
    #[new]
    fn new(subjects_max: usize) -> Self {
        Self { core: Mutex::new(Recent::new(subjects_max)) }
    }

    /// The slot of each subject; None where one of them is not known.
    fn find(&self, subjects: Vec<Bound<'_, PyBytes>>) -> Option<Vec<u64>> {
        let mut core = self.lock();
        subjects.iter().map(|one| core.get(&subject_of(one.as_bytes())?)).collect()
    }

    fn get(&self, subject: &[u8]) -> Option<u64> {
        self.lock().get(&subject_of(subject)?)
    }

    fn add(&self, subject: &[u8], slot: u64) -> PyResult<()> {
        let subject = subject_of(subject)
            .ok_or_else(|| PyValueError::new_err("a subject is 16 bytes; give a node"))?;
        self.lock().add(subject, slot);
        Ok(())
    }

    fn clear(&self) {
        self.lock().clear();
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }
}

fn subject_of(bytes: &[u8]) -> Option<Subject> {
    bytes.try_into().ok()
}

/// The contexts of a run, one after the other.
fn numbered(prefix: &[u8], first: u64, count: usize) -> Vec<u8> {
    let mut made = Vec::with_capacity(count * (prefix.len() + NUMBER_BYTES));
    for number in (first..).take(count) {
        made.extend_from_slice(prefix);
        made.extend_from_slice(&number.to_be_bytes());
    }
    made
}

fn raised(error: Error) -> PyErr {
    match error {
        Error::Missing(slots) => PyKeyError::new_err((slots,)),
        Error::Tampered { .. } | Error::BadSlot { .. } => Tampered::new_err(error.to_string()),
        Error::Argument(_) | Error::Destroyed { .. } => PyValueError::new_err(error.to_string()),
    }
}

fn borrowed<'a>(list: &'a [Bound<'_, PyBytes>]) -> Vec<&'a [u8]> {
    list.iter().map(|one| one.as_bytes()).collect()
}

fn size(list: &[&[u8]]) -> usize {
    list.iter().map(|one| one.len()).sum()
}

fn listed<'py>(py: Python<'py>, records: &Records) -> PyResult<Bound<'py, PyList>> {
    let made: Vec<_> = records.iter().map(|one| PyBytes::new(py, one)).collect();
    PyList::new(py, made)
}
