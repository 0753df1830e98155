//! The nodes of identifiers without a graph: for those who must know whom an event names before,
//! or without, knowing which profile that is.

use crate::error::Result;
use crate::key::{Hasher, Key};
use crate::normalise::normalise;
use crate::prepare::canonical_of;
use crate::rules::Rules;

/// Names identifiers exactly as a `Resolver` of the same secret and rules does.
pub struct Namer {
    hasher: Hasher,
    rules: Rules,
}

impl Namer {
    /// A namer.
    ///
    /// # Errors
    /// The secret has fewer than 16 or more than 64 bytes.
    pub fn new(secret: &[u8], rules: Rules) -> Result<Self> {
        Ok(Self { hasher: Hasher::new(secret)?, rules })
    }

    /// The key of an identifier; `None` where its value is not usable.
    #[must_use]
    pub fn node(&self, namespace: u8, value: &str) -> Option<Key> {
        let normal = normalise(&self.rules, namespace, value).ok()?;
        Some(self.hasher.key(namespace, &normal))
    }

    /// Gives the keys that naming an identifier uses: its own, and after an address the one of
    /// its canonical form. None where its value is not usable.
    ///
    /// # Errors
    /// What `take` returns.
    pub fn each<E>(
        &self,
        namespace: u8,
        value: &str,
        mut take: impl FnMut(Key) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let Ok(normal) = normalise(&self.rules, namespace, value) else { return Ok(()) };
        take(self.hasher.key(namespace, &normal))?;
        match canonical_of(&self.rules, namespace, &normal) {
            Some((canonical, value)) => take(self.hasher.key(canonical, &value)),
            None => Ok(()),
        }
    }
}
