//! Data keys in slots, and records that are sealed with them. Pure: no Python, no files, no clock.
//!
//! A *slot* is 64 bytes of the key file: one data key, wrapped under the master key, or zeros where
//! the key was destroyed. A *sealed record* names the slot of its key. So overwriting 64 bytes makes
//! everything that was sealed with that key unreadable, wherever copies of it lie.
//!
//! What is where:
//! * [`slot`]: a data key to and from the 64 bytes;
//! * [`envelope`]: a record to and from its sealed form;
//! * [`keys`]: the data keys in memory, bounded, overwritten when let go;
//! * [`recent`]: which slot a subject has, of those that were used last;
//! * [`Sealer`]: all of it, a batch at a time.

pub mod envelope;
mod error;
pub mod keys;
pub mod recent;
mod sealer;
pub mod slot;

pub use error::{Error, Result};
pub use sealer::{Made, Records, Sealer, SlotMaker, Survey};

/// Bytes of a key, of the master key as of a data key.
pub const KEY_BYTES: usize = 32;
/// Bytes of the number that an encryption must never use twice with one key.
pub const NONCE_BYTES: usize = 12;
/// Bytes that show whether a sealed form was changed.
pub const TAG_BYTES: usize = 16;

/// A key, overwritten with zeros when it is let go. On the heap, so that moving it copies nothing.
pub type Key = Box<zeroize::Zeroizing<[u8; KEY_BYTES]>>;

/// A key from its bytes.
///
/// # Errors
/// There are not 32 of them.
pub fn key_from(bytes: &[u8]) -> Result<Key> {
    let mut key = new_key();
    if bytes.len() != KEY_BYTES {
        return Err(Error::argument(format!(
            "a key of {} bytes; give {KEY_BYTES}, derive them from what you have",
            bytes.len()
        )));
    }
    key.copy_from_slice(bytes);
    Ok(key)
}

/// Room for a key.
pub(crate) fn new_key() -> Key {
    Box::new(zeroize::Zeroizing::new([0; KEY_BYTES]))
}
