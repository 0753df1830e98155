//! What crosses into and out of a call: observations in one flat piece, and what they did.

use std::ops::Range;

use crate::cluster::State;
use crate::error::{Error, Result};
use crate::evidence::Statement;
use crate::journal::Change;
use crate::key::Key;
use crate::normalise::Rejection;
use crate::persist::Row;

/// Observations to resolve, in order. Their text lies in one piece.
#[derive(Default)]
pub struct Batch {
    text: String,
    named: Vec<(u8, Range<usize>)>,
    observed: Vec<Observed>,
}

/// One observation; the identifiers that it names follow those of the one before.
pub(crate) struct Observed {
    pub(crate) time_us: i64,
    pub(crate) statement: Statement,
    pub(crate) source: u8,
    end: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the next observation. Sources from the 32nd on share the last bit of the set.
    ///
    /// # Errors
    /// The kind is none.
    pub fn observe(&mut self, time_us: i64, kind: u8, source: u32) -> Result<()> {
        let statement = Statement::from_code(kind).ok_or_else(|| {
            let place = self.observed.len();
            Error::new(format!("observation {place} is of kind {kind}; give a KIND_ constant"))
        })?;
        let source = source.min(31) as u8;
        let end = self.named.len();
        self.observed.push(Observed { time_us, statement, source, end });
        Ok(())
    }

    /// Adds an identifier to the last observation.
    ///
    /// # Panics
    /// There is no observation yet.
    pub fn name(&mut self, namespace: u8, value: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.named.push((namespace, start..self.text.len()));
        let last = self.observed.last_mut().expect("an observation was started");
        last.end = self.named.len();
    }

    /// How many observations it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observed.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observed.is_empty()
    }

    pub(crate) fn observed(&self) -> &[Observed] {
        &self.observed
    }

    /// Where the identifiers of an observation stand in `named`.
    pub(crate) fn places(&self, observation: usize) -> Range<usize> {
        let start = observation.checked_sub(1).map_or(0, |before| self.observed[before].end);
        start..self.observed[observation].end
    }

    /// An identifier by its place: the code of its namespace, and its value as it came.
    pub(crate) fn named(&self, place: usize) -> (u8, &str) {
        let (namespace, range) = &self.named[place];
        (*namespace, &self.text[range.clone()])
    }

    pub(crate) fn named_count(&self) -> usize {
        self.named.len()
    }
}

/// What one observation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The first identifier that could be used, and the profile it belongs to after this
    /// observation. `None`: nobody was named.
    pub leaf: Option<(Key, Key)>,
    /// The state of the profile.
    pub state: State,
    /// The leaf is shared: it belongs to no profile, and `profile` is the leaf itself.
    pub shared: bool,
    /// The end of its part of `Resolution::rejected`; it begins where the one before ends.
    pub rejected_end: usize,
}

/// An identifier that was never seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// Its key.
    pub node: Key,
    /// The code of its namespace.
    pub namespace: u8,
    /// Its normalised value.
    pub value: String,
    /// The leaf of the observation that named it first.
    pub leaf: Key,
}

/// What a batch did.
#[derive(Debug, Default)]
pub struct Resolution {
    /// One an observation, in order.
    pub decided: Vec<Decided>,
    /// Identifiers that were not used: their place in their observation, and why.
    pub rejected: Vec<(usize, Rejection)>,
    /// Identifiers that were never seen before.
    pub identifiers: Vec<Introduced>,
    /// The rows that changed, each once.
    pub rows: Vec<Row>,
    /// The keys of rows that are to be deleted.
    pub deleted: Vec<Vec<u8>>,
    /// Merges, splits and renames, in the order of observations.
    pub changes: Vec<Change>,
}
