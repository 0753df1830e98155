//! The first pass over a batch: normalise and hash every identifier, touching no memory of the
//! graph. What the second pass finds is a flat list of uses.

use crate::batch::Batch;
use crate::email;
use crate::evidence::Statement;
use crate::graph::NONE;
use crate::key::{Hasher, Key};
use crate::normalise::{Rejection, normalise};
use crate::rules::Rules;

/// An identifier that an observation names and that can be used.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    pub(crate) key: Key,
    /// `NONE` until it was looked up and found.
    pub(crate) node: u32,
    /// The edge of its pair; `NONE` until it was looked up and found.
    pub(crate) edge: u32,
    pub(crate) namespace: u8,
    /// The canonical form of the address before it, and said of that rather than of the leaf.
    pub(crate) is_canonical: bool,
    /// Among the identifiers of the observation.
    pub(crate) place: u32,
}

/// The uses of a batch.
pub(crate) struct Prepared {
    uses: Vec<Use>,
    /// Where the uses, and the rejections, of each observation end.
    ends: Vec<(usize, usize)>,
}

impl Prepared {
    pub(crate) fn of(&mut self, observation: usize) -> &mut [Use] {
        let start = observation.checked_sub(1).map_or(0, |before| self.ends[before].0);
        &mut self.uses[start..self.ends[observation].0]
    }

    /// The uses of some observations, observation by observation.
    pub(crate) fn each(&mut self, first: usize, last: usize) -> impl Iterator<Item = &mut [Use]> {
        let mut start = first.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let mut rest = &mut self.uses[start..self.ends[last].0];
        self.ends[first..=last].iter().map(move |(end, _)| {
            let (uses, after) = std::mem::take(&mut rest).split_at_mut(end - start);
            (start, rest) = (*end, after);
            uses
        })
    }

    pub(crate) fn rejected_end(&self, observation: usize) -> usize {
        self.ends[observation].1
    }
}

/// Normalises and hashes; notes what cannot be used.
pub(crate) fn prepare(
    rules: &Rules,
    hasher: &Hasher,
    batch: &Batch,
    rejected: &mut Vec<(usize, Rejection)>,
) -> Prepared {
    let mut prepared = Prepared {
        uses: Vec::with_capacity(batch.named_count()),
        ends: Vec::with_capacity(batch.len()),
    };
    for (observation, observed) in batch.observed().iter().enumerate() {
        let start = prepared.uses.len();
        let places = batch.places(observation);
        for (place, at) in (0_u32..).zip(places.clone()) {
            let (namespace, text) = batch.named(at);
            let normal = match normalise(rules, namespace, text) {
                Ok(normal) => normal,
                Err(rejection) => {
                    rejected.push((place as usize, rejection));
                    continue;
                }
            };
            if observed.statement == Statement::Alias && prepared.uses.len() > start {
                let leaf = prepared.uses[start].place;
                if batch.named(places.start + leaf as usize).1.trim() == normal {
                    continue; // an alias of an id with itself says nothing
                }
            }
            let of = |namespace, value: &str, is_canonical| {
                let key = hasher.key(namespace, value);
                Use { key, node: NONE, edge: NONE, namespace, is_canonical, place }
            };
            prepared.uses.push(of(namespace, &normal, false));
            let takes_back =
                matches!(observed.statement, Statement::ManualUnlink | Statement::Retract);
            if !takes_back && let Some((canonical, value)) = canonical_of(rules, namespace, &normal)
            {
                prepared.uses.push(of(canonical, &value, true));
            }
        }
        prepared.ends.push((prepared.uses.len(), rejected.len()));
    }
    prepared
}

/// The canonical form of an address and its namespace, where rules ask for one and it differs.
pub(crate) fn canonical_of(rules: &Rules, namespace: u8, normal: &str) -> Option<(u8, String)> {
    let canonical = rules.email_canonical.filter(|_| rules.email == Some(namespace))?;
    Some((canonical, email::canonical(normal)?))
}
