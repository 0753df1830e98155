//! Keys of identifiers: the keyed 128-bit hash of a namespace code and a normalised value.
//!
//! SipHash-2-4 with 128 bits of output is a pseudo-random function of a secret key: without the
//! key nobody can test whether an address is in the store, and a fast one.

use std::fmt;

use serde::{Serialize, Serializer};
use siphasher::sip128::SipHasher24;

use crate::error::{Error, Result};

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
const SECRET_BYTES_MAX: usize = 64;
const VALUE_BYTES_INLINE: usize = 127;

/// The name of a node wherever it leaves this crate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; KEY_BYTES]);

impl Key {
    /// A key from its bytes; `None` where they are not exactly as many as a key has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// 64 of its bits, for tables: the key is a hash already.
    pub(crate) fn short(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 2 * KEY_BYTES];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        serializer.serialize_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.hex())
    }
}

/// Makes keys. Holds the secret and never shows it.
#[derive(Clone)]
pub(crate) struct Hasher(SipHasher24);

impl Hasher {
    /// A longer secret is folded by the hash that its first 16 bytes key.
    pub(crate) fn new(secret: &[u8]) -> Result<Self> {
        if !(KEY_BYTES..=SECRET_BYTES_MAX).contains(&secret.len()) {
            return Err(Error::new(format!(
                "the key has {} bytes; give a secret of {KEY_BYTES} to {SECRET_BYTES_MAX}",
                secret.len()
            )));
        }
        let (first, rest) = secret.split_at(KEY_BYTES);
        let first: [u8; KEY_BYTES] = first.try_into().expect("it was split there");
        let keyed = SipHasher24::new_with_key(&first);
        if rest.is_empty() {
            return Ok(Self(keyed));
        }
        Ok(Self(SipHasher24::new_with_key(&keyed.hash(rest).as_bytes())))
    }

    pub(crate) fn key(&self, namespace: u8, value: &str) -> Key {
        let value = value.as_bytes();
        let mut buffer = [0_u8; VALUE_BYTES_INLINE + 1];
        if let Some(room) = buffer.get_mut(1..=value.len()) {
            room.copy_from_slice(value);
            buffer[0] = namespace;
            return Key(self.0.hash(&buffer[..=value.len()]).as_bytes());
        }
        let mut long = Vec::with_capacity(value.len() + 1);
        long.push(namespace);
        long.extend_from_slice(value);
        Key(self.0.hash(&long).as_bytes())
    }

    /// The hash of a text of our own, for digests.
    pub(crate) fn plain(bytes: &[u8]) -> Key {
        Key(SipHasher24::new().hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_the_secret_the_namespace_and_the_value() {
        let hasher = Hasher::new(b"0123456789abcdef").expect("16 bytes");
        let other = Hasher::new(b"0123456789abcdef+").expect("17 bytes");
        let key = hasher.key(0, "a");
        assert_eq!(key, hasher.key(0, "a"));
        assert_ne!(key, hasher.key(1, "a"));
        assert_ne!(key, hasher.key(0, "b"));
        assert_ne!(key, other.key(0, "a"));
    }

    #[test]
    fn a_long_value_hashes_as_a_short_one_does() {
        let hasher = Hasher::new(&[7; 64]).expect("64 bytes");
        for length in [0, 1, 126, 127, 128, 500] {
            let value = "x".repeat(length);
            let mut whole = vec![3];
            whole.extend_from_slice(value.as_bytes());
            assert_eq!(hasher.key(3, &value), Key(hasher.0.hash(&whole).as_bytes()));
        }
    }

    #[test]
    fn a_secret_of_a_wrong_length_is_refused() {
        assert!(Hasher::new(b"short").is_err());
        assert!(Hasher::new(&[0; 65]).is_err());
    }

    #[test]
    fn the_hash_is_siphash_2_4_with_128_bits() {
        // The authors' vectors: key 00..0f, inputs 00 and 00 01.
        let secret: Vec<u8> = (0..16).collect();
        let hasher = Hasher::new(&secret).expect("16 bytes");
        assert_eq!(hasher.key(0, "").hex(), "da87c1d86b99af44347659119b22fc45");
        assert_eq!(hasher.key(0, "\u{1}").hex(), "8177228da4a45dc7fca38bdef60affe4");
    }
}
