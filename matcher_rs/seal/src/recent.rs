//! The slots of the subjects that were used last: what is used moves to the young generation.

use hashbrown::HashMap;

/// Whom something is about: 16 bytes.
pub type Subject = [u8; 16];

/// Slots by subject, bounded.
pub struct Recent {
    generation_max: usize,
    young: HashMap<Subject, u64>,
    old: HashMap<Subject, u64>,
}

impl Recent {
    /// Room for about `subjects_max`.
    #[must_use]
    pub fn new(subjects_max: usize) -> Self {
        let generation_max = (subjects_max / 2).max(1);
        Self { generation_max, young: HashMap::new(), old: HashMap::new() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot of a subject, which counts as used now.
    pub fn get(&mut self, subject: &Subject) -> Option<u64> {
        if let Some(&slot) = self.young.get(subject) {
            return Some(slot);
        }
        let slot = self.old.remove(subject)?;
        self.add(*subject, slot);
        Some(slot)
    }

    /// Takes in the slot of a subject.
    pub fn add(&mut self, subject: Subject, slot: u64) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&subject);
        self.young.insert(subject, slot);
    }

    /// Lets all of them go.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Recent, Subject};

    fn subject(number: u8) -> Subject {
        [number; 16]
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent = Recent::new(4);
        for number in 0..3 {
            recent.add(subject(number), u64::from(number));
        }
        assert_eq!(recent.get(&subject(0)), Some(0));
        for number in 3..6 {
            recent.add(subject(number), u64::from(number));
            assert_eq!(recent.get(&subject(0)), Some(0));
        }
        assert_eq!(recent.get(&subject(1)), None);
        assert!(recent.len() <= 4);
    }

    #[test]
    fn the_newest_slot_of_a_subject_counts_whichever_generation_held_the_older() {
        let mut recent = Recent::new(2);
        recent.add(subject(1), 1);
        recent.add(subject(2), 2);
        recent.add(subject(1), 9);
        assert_eq!(recent.get(&subject(1)), Some(9));
        recent.clear();
        assert!(recent.is_empty());
    }
}
