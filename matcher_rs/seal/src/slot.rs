//! A data key as it lies in the key file.
//!
//! ```text
//!  1  format      1; a destroyed slot is 64 zeros
//!  3  epoch       of the master key that wraps it, big-endian
//! 12  nonce
//! 32  data key    AES-256-GCM under the master key
//! 16  tag         also over the number of the slot and the first four bytes
//! ```
//!
//! The number of the slot is under the tag, so slots cannot change places.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::error::{Error, Result};
use crate::{KEY_BYTES, Key, NONCE_BYTES, TAG_BYTES, new_key};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 4 + NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// The highest epoch that a slot can name.
pub const EPOCH_MAX: u32 = 0xff_ffff;

const FORMAT: u8 = 1;
const NONCE_AT: usize = 4;
const KEY_AT: usize = NONCE_AT + NONCE_BYTES;
const TAG_AT: usize = KEY_AT + KEY_BYTES;

/// A key made ready to encrypt with. Lives on the stack for one record or one batch of slots.
pub(crate) fn cipher(key: &Key) -> LessSafeKey {
    // The length is right by type, which is all that can be wrong.
    let unbound = UnboundKey::new(&AES_256_GCM, &key[..]).expect("a key of 32 bytes");
    LessSafeKey::new(unbound)
}

/// Wraps the key of a slot. A nonce must be new each time.
pub(crate) fn wrap(
    master: &LessSafeKey,
    epoch: u32,
    number: u64,
    key: &Key,
    nonce: [u8; NONCE_BYTES],
) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..NONCE_AT].copy_from_slice(&head(epoch));
    slot[NONCE_AT..KEY_AT].copy_from_slice(&nonce);
    slot[KEY_AT..TAG_AT].copy_from_slice(&key[..]);
    let aad = Aad::from(covered(number, &slot[..NONCE_AT]));
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = master
        .seal_in_place_separate_tag(nonce, aad, &mut slot[KEY_AT..TAG_AT])
        .expect("a slot is far from the longest text");
    slot[TAG_AT..].copy_from_slice(tag.as_ref());
    slot
}

/// The key in a slot, or None where it is destroyed.
///
/// # Errors
/// The slot was changed, belongs elsewhere, or is wrapped under another master key.
pub(crate) fn unwrap(master: &LessSafeKey, number: u64, slot: &[u8]) -> Result<Option<Key>> {
    if slot.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let bad = || Error::BadSlot { slot: number };
    let nonce = slot.get(NONCE_AT..KEY_AT).and_then(|nonce| nonce.try_into().ok());
    let (Some(nonce), SLOT_BYTES, FORMAT) = (nonce, slot.len(), slot[0]) else {
        return Err(bad());
    };
    let mut wrapped = zeroize::Zeroizing::new([0; KEY_BYTES + TAG_BYTES]);
    wrapped.copy_from_slice(&slot[KEY_AT..]);
    let aad = Aad::from(covered(number, &slot[..NONCE_AT]));
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = master.open_in_place(nonce, aad, &mut wrapped[..]).map_err(|_| bad())?;
    let mut key = new_key();
    key.copy_from_slice(opened);
    Ok(Some(key))
}

fn head(epoch: u32) -> [u8; NONCE_AT] {
    debug_assert!(epoch <= EPOCH_MAX, "checked where a sealer is made");
    let mut head = epoch.to_be_bytes();
    head[0] = FORMAT;
    head
}

fn covered(number: u64, head: &[u8]) -> [u8; 8 + NONCE_AT] {
    let mut covered = [0; 8 + NONCE_AT];
    covered[..8].copy_from_slice(&number.to_be_bytes());
    covered[8..].copy_from_slice(head);
    covered
}
