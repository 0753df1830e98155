//! The data keys in memory: those just made, and those used last.
//!
//! Two generations bound the second kind: what is used moves to the young one; when that is full it
//! becomes the old one, and what the old one held is overwritten and let go. The turn comes only at
//! the start of a batch, so a batch never loses a key that it has just been given.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::Key;

/// A key that is known, or known to be destroyed.
type Known = Option<Key>;

/// Keys by slot.
pub struct Keys {
    generation_max: usize,
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
    /// Slots that were just made, by the first of each run of them.
    fresh: BTreeMap<u64, Fresh>,
}

/// A run of slots that nobody has used yet. A key leaves it when it is first used.
struct Fresh {
    keys: Vec<Option<Key>>,
    left: usize,
}

impl Keys {
    /// Room for about `keys_max` keys that were used.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        let generation_max = keys_max.div_ceil(2).max(1);
        Self { generation_max, young: HashMap::new(), old: HashMap::new(), fresh: BTreeMap::new() }
    }

    /// How many keys are at hand.
    #[must_use]
    pub fn len(&self) -> usize {
        let fresh: usize = self.fresh.values().map(|run| run.left).sum();
        self.young.len() + self.old.len() + fresh
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a batch: the one moment at which keys are let go.
    pub fn begin(&mut self) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// Moves a key to the young generation; false where it is nowhere.
    pub fn touch(&mut self, slot: u64) -> bool {
        if self.young.contains_key(&slot) {
            return true;
        }
        let found = self.old.remove(&slot).or_else(|| self.take_fresh(slot).map(Some));
        found.map(|known| self.young.insert(slot, known)).is_some()
    }

    /// A key that was touched in this batch; None inside where it is destroyed.
    #[must_use]
    pub fn get(&self, slot: u64) -> Option<Option<&Key>> {
        self.young.get(&slot).map(Option::as_ref)
    }

    /// Takes in what a slot of the key file holds.
    pub fn admit(&mut self, slot: u64, known: Known) {
        self.old.remove(&slot);
        self.young.insert(slot, known);
    }

    /// Takes in slots that were just made, under consecutive numbers.
    pub fn add_fresh(&mut self, first: u64, keys: Vec<Key>) {
        let left = keys.len();
        if left > 0 {
            self.fresh.insert(first, Fresh { keys: keys.into_iter().map(Some).collect(), left });
        }
    }

    /// Overwrites and forgets a key.
    pub fn forget(&mut self, slot: u64) {
        self.young.remove(&slot);
        self.old.remove(&slot);
        drop(self.take_fresh(slot));
    }

    fn take_fresh(&mut self, slot: u64) -> Option<Key> {
        let (&first, run) = self.fresh.range_mut(..=slot).next_back()?;
        let index = usize::try_from(slot - first).ok()?;
        let key = run.keys.get_mut(index)?.take()?;
        run.left -= 1;
        if run.left == 0 {
            self.fresh.remove(&first);
        }
        Some(key)
    }
}
