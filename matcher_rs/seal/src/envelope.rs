//! A record as it lies in the store.
//!
//! ```text
//!  1  format      1
//!  8  slot        of the key, big-endian
//! 12  nonce
//!  …  record      AES-256-GCM under the key in the slot
//! 16  tag         also over format, slot and the context
//! ```
//!
//! The context is where the record belongs: its offset in the log, or its family and key. It is not
//! stored; who opens a record says where it was found, so a record that was moved does not open.

use ring::aead::{Aad, LessSafeKey, Nonce};

use crate::{NONCE_BYTES, TAG_BYTES};

/// Bytes that sealing adds to a record.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8;
const RECORD_AT: usize = HEAD_BYTES + NONCE_BYTES;

/// The slot that a sealed record names, or None where it cannot be a sealed record.
#[must_use]
pub fn slot_of(sealed: &[u8]) -> Option<u64> {
    if sealed.len() <= OVERHEAD_BYTES || sealed[0] != FORMAT {
        return None;
    }
    sealed[1..HEAD_BYTES].try_into().ok().map(u64::from_be_bytes)
}

/// Appends the sealed form of a record. `aad` is room that is used again from call to call.
pub(crate) fn seal(
    cipher: &LessSafeKey,
    slot: u64,
    nonce: [u8; NONCE_BYTES],
    record: &[u8],
    context: &[u8],
    aad: &mut Vec<u8>,
    to: &mut Vec<u8>,
) {
    let start = to.len();
    to.push(FORMAT);
    to.extend_from_slice(&slot.to_be_bytes());
    aad.clear();
    aad.extend_from_slice(&to[start..]);
    aad.extend_from_slice(context);
    to.extend_from_slice(&nonce);
    to.extend_from_slice(record);
    let text = &mut to[start + RECORD_AT..];
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(&aad[..]), text)
        .expect("a record is far from the longest text, 64 GiB");
    to.extend_from_slice(tag.as_ref());
}

/// Appends the record in a sealed form that `slot_of` accepted; false where the tag does not fit.
pub(crate) fn open(
    cipher: &LessSafeKey,
    sealed: &[u8],
    context: &[u8],
    aad: &mut Vec<u8>,
    to: &mut Vec<u8>,
) -> bool {
    let start = to.len();
    aad.clear();
    aad.extend_from_slice(&sealed[..HEAD_BYTES]);
    aad.extend_from_slice(context);
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&sealed[HEAD_BYTES..RECORD_AT]);
    to.extend_from_slice(&sealed[RECORD_AT..]);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = cipher.open_in_place(nonce, Aad::from(&aad[..]), &mut to[start..]).is_ok();
    to.truncate(if opened { to.len() - TAG_BYTES } else { start });
    opened
}
