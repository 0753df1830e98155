//! Python's way into `matcher_core`: convert, release the GIL, call, convert back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use matcher_core::{Rules, Statement, attribute as attributed};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyTuple};

mod convert;
mod error;
mod namer;
mod needles;
mod seal;

use convert::{Resolution, batch_of, bytes, key_of, resolution_of};
use error::Refused;

/// Deterministic profiles as a pure function of the evidence set and the rules.
#[pyclass(module = "cdp._matcher", frozen)]
struct Resolver {
    core: Mutex<matcher_core::Resolver>,
}

impl Resolver {
    /// The core with everything resolved that was loaded, and the GIL released meanwhile.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        work: impl Send + FnOnce(&mut matcher_core::Resolver) -> matcher_core::Result<T>,
    ) -> PyResult<T> {
        let done = py.detach(|| {
            let mut core = self.lock();
            core.finish_load()?;
            work(&mut core)
        });
        Ok(done.map_err(Refused::from)?)
    }

    /// A question that is answered at once: giving up the GIL would cost more than it.
    fn ask<T>(&self, answer: impl FnOnce(&matcher_core::Resolver) -> T) -> PyResult<T> {
        let mut core = self.lock();
        core.finish_load().map_err(Refused::from)?;
        Ok(answer(&core))
    }

    fn lock(&self) -> MutexGuard<'_, matcher_core::Resolver> {
        // A panic in the core is a bug; the caller crashes and makes a new resolver.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Resolver {
    #[new]
    fn new(key: &[u8], rules: &str) -> PyResult<Self> {
        let rules = Rules::from_json(rules).map_err(Refused::from)?;
        let core = matcher_core::Resolver::new(key, rules).map_err(Refused::from)?;
        Ok(Self { core: Mutex::new(core) })
    }

    /// Takes stored rows, in any order and any number of calls, before the first `resolve`; how
    /// many there were.
    fn load(&self, records: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut core = self.lock();
        let mut count = 0;
        for record in PyIterator::from_object(records)? {
            let record = record?;
            let row = record.cast::<PyTuple>()?;
            let (key, value) = (row.get_borrowed_item(0)?, row.get_borrowed_item(1)?);
            let (key, value) = (key.cast::<PyBytes>()?, value.cast::<PyBytes>()?);
            core.load(key.as_bytes(), value.as_bytes()).map_err(Refused::from)?;
            count += 1;
        }
        Ok(count)
    }

    /// Resolves what was loaded, with the GIL released. Whoever asks first would have to wait for it.
    fn finish_load(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |_| Ok(()))
    }

    fn resolve(&self, py: Python<'_>, observations: &Bound<'_, PyAny>) -> PyResult<Resolution> {
        let batch = batch_of(observations)?;
        let done = self.call(py, |core| core.resolve(&batch))?;
        resolution_of(py, done)
    }

    /// Removes nodes with everything that was said about them, and resolves what they held.
    fn forget(&self, py: Python<'_>, nodes: Vec<Bound<'_, PyBytes>>) -> PyResult<Resolution> {
        let keys: Vec<_> = nodes.iter().filter_map(|node| key_of(node.as_bytes())).collect();
        let done = self.call(py, |core| core.forget(&keys))?;
        resolution_of(py, done)
    }

    /// The node of an identifier after normalisation; None where its value is not usable.
    fn node<'py>(
        &self,
        py: Python<'py>,
        namespace: u8,
        value: &str,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let node = self.ask(|core| core.node(namespace, value))?;
        Ok(node.map(|node| bytes(py, node)))
    }

    fn normalise(&self, namespace: u8, value: &str) -> PyResult<Option<String>> {
        self.ask(|core| core.normalise(namespace, value))
    }

    /// The current profile of a node, or of any profile id ever issued. None: never seen.
    fn profile_of<'py>(
        &self,
        py: Python<'py>,
        node: &[u8],
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let profile = self.ask(|core| core.profile_of(key_of(node)?))?;
        Ok(profile.map(|profile| bytes(py, profile)))
    }

    /// The nodes of the profile that this node belongs to; empty where never seen.
    fn members<'py>(&self, py: Python<'py>, profile: &[u8]) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let members = self.ask(|core| key_of(profile).map(|key| core.members(key)))?;
        Ok(members.unwrap_or_default().into_iter().map(|key| bytes(py, key)).collect())
    }

    fn state(&self, profile: &[u8]) -> PyResult<u8> {
        self.ask(|core| key_of(profile).map_or(0, |key| core.state(key) as u8))
    }

    fn is_shared(&self, node: &[u8]) -> PyResult<bool> {
        self.ask(|core| key_of(node).is_some_and(|key| core.is_shared(key)))
    }

    /// Shared identifiers that members of this profile were seen with.
    fn shared_neighbours<'py>(
        &self,
        py: Python<'py>,
        profile: &[u8],
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let keys = self.ask(|core| key_of(profile).map(|key| core.shared_neighbours(key)))?;
        Ok(keys.unwrap_or_default().into_iter().map(|key| bytes(py, key)).collect())
    }

    /// The other ends of every pair at these nodes that anything was ever said about.
    fn seen_with<'py>(
        &self,
        py: Python<'py>,
        nodes: Vec<Bound<'py, PyBytes>>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let keys: Vec<_> = nodes.iter().filter_map(|node| key_of(node.as_bytes())).collect();
        let found = self.ask(|core| core.seen_with(&keys))?;
        Ok(found.into_iter().map(|key| bytes(py, key)).collect())
    }

    /// JSON: members, accepted edges in the order they were accepted, suppressed edges with reason
    /// and witness, shared neighbours. Nodes in hexadecimal.
    fn explain(&self, py: Python<'_>, profile: &[u8]) -> PyResult<String> {
        let Some(key) = key_of(profile) else { return Ok("{}".to_owned()) };
        self.call(py, |core| Ok(core.explain(key)))
    }

    /// JSON: why two nodes are not one profile: the evidence path and the edges suppressed on it.
    fn why_not(&self, py: Python<'_>, a: &[u8], b: &[u8]) -> PyResult<String> {
        let (Some(a), Some(b)) = (key_of(a), key_of(b)) else { return Ok("{}".to_owned()) };
        self.call(py, |core| Ok(core.why_not(a, b)))
    }

    /// nodes, edges, profiles, shared, suppressed, memory_bytes.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let numbers = self.ask(matcher_core::Resolver::statistics)?;
        let found = PyDict::new(py);
        found.set_item("nodes", numbers.nodes)?;
        found.set_item("edges", numbers.edges)?;
        found.set_item("profiles", numbers.profiles)?;
        found.set_item("shared", numbers.shared)?;
        found.set_item("suppressed", numbers.suppressed)?;
        found.set_item("memory_bytes", numbers.memory_bytes)?;
        Ok(found)
    }

    /// A hash of the canonical dump of evidence and result: equal for equal evidence sets.
    fn digest(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, |core| Ok(core.digest()))
    }
}

/// Who was on a shared device at a time: (user node or b"", rule "interval" | "session" | "none").
///
/// `logins` are (time_us, user node) in time order.
#[pyfunction]
fn attribute<'py>(
    py: Python<'py>,
    logins: Vec<(i64, Bound<'py, PyBytes>)>,
    time_us: i64,
) -> (Bound<'py, PyBytes>, &'static str) {
    let known = logins.iter().filter_map(|(at_us, node)| Some((*at_us, key_of(node.as_bytes())?)));
    let known: Vec<_> = known.collect();
    let (person, rule) = attributed(&known, time_us);
    (person.map_or_else(|| PyBytes::new(py, b""), |person| bytes(py, person)), rule.as_str())
}

/// The Rust extension of cdp: deterministic identity, and sealing.
#[pymodule]
fn _matcher(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let kinds = [
        ("KIND_CO_OCCUR", Statement::CoOccur),
        ("KIND_IDENTIFY", Statement::Identify),
        ("KIND_ALIAS", Statement::Alias),
        ("KIND_LOGIN", Statement::Login),
        ("KIND_CRM_ROW", Statement::CrmRow),
        ("KIND_MANUAL_LINK", Statement::ManualLink),
        ("KIND_MANUAL_UNLINK", Statement::ManualUnlink),
        ("KIND_RETRACT", Statement::Retract),
    ];
    for (name, kind) in kinds {
        module.add(name, kind as u8)?;
    }
    module.add("Observation", module.py().get_type::<PyTuple>())?; // an alias of the stub
    module.add_class::<Resolver>()?;
    module.add_class::<namer::Namer>()?;
    module.add_class::<Resolution>()?;
    module.add_class::<needles::Needles>()?;
    module.add_class::<seal::Sealer>()?;
    module.add_class::<seal::RecentSlots>()?;
    module.add("Tampered", module.py().get_type::<seal::Tampered>())?;
    module.add_function(wrap_pyfunction!(attribute, module)?)
}
