//! Keys are made, kept at hand, used and let go, a batch at a time.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::envelope;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::slot::{EPOCH_MAX, SLOT_BYTES, cipher, unwrap, wrap};
use crate::{KEY_BYTES, Key, NONCE_BYTES, key_from, new_key};

/// Seals and opens records under data keys that a master key wraps.
///
/// What it knows besides the master key are the keys that were used last. Those that it does not
/// know it names (`Error::Missing`), and the caller gives it their slots of the key file.
pub struct Sealer {
    master: Key,
    epoch: u32,
    random: ChaCha20Rng,
    keys: Keys,
    aad: Vec<u8>,
}

/// Records one after the other, with the end of each: no allocation a record.
#[derive(Debug, Default)]
pub struct Records {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
}

impl Records {
    /// Each record, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

/// How many slots hold a key, and how many held one once.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Slots with a key that the master key wraps.
    pub live: usize,
    /// Slots that are all zeros.
    pub destroyed: usize,
}

/// Makes slots apart from the sealer, which meanwhile goes on sealing.
pub struct SlotMaker {
    master: Key,
    epoch: u32,
    random: ChaCha20Rng,
    first: u64,
    count: usize,
}

/// Keys of new slots, for the sealer to take in once they are in the key file.
pub struct Made {
    first: u64,
    keys: Vec<Key>,
}

impl Sealer {
    /// A sealer that has no keys at hand, with a generator that nobody can guess.
    ///
    /// # Errors
    /// The master key or the seed does not have 32 bytes, or the epoch has more than 24 bits.
    pub fn new(master: &[u8], epoch: u32, seed: &[u8], keys_max: usize) -> Result<Self> {
        if epoch > EPOCH_MAX {
            return Err(Error::argument(format!("epoch {epoch}; give at most {EPOCH_MAX}")));
        }
        let seed: [u8; KEY_BYTES] = seed.try_into().map_err(|_| {
            Error::argument(format!("a seed of {} bytes; give {KEY_BYTES}", seed.len()))
        })?;
        let random = ChaCha20Rng::from_seed(seed);
        let master = key_from(master)?;
        Ok(Self { master, epoch, random, keys: Keys::new(keys_max), aad: Vec::new() })
    }

    /// How many keys are at hand.
    #[must_use]
    pub fn keys_at_hand(&self) -> usize {
        self.keys.len()
    }

    /// Something that makes `count` slots from number `first` on, with randomness of its own.
    pub fn slot_maker(&mut self, first: u64, count: usize) -> SlotMaker {
        let mut seed = zeroize::Zeroizing::new([0; KEY_BYTES]);
        self.random.fill_bytes(&mut seed[..]);
        let random = ChaCha20Rng::from_seed(*seed);
        SlotMaker { master: self.master.clone(), epoch: self.epoch, random, first, count }
    }

    /// Takes in the keys of slots that were made: they need not be read and unwrapped.
    pub fn take(&mut self, made: Made) {
        self.keys.add_fresh(made.first, made.keys);
    }

    /// Takes in slots as they lie in the key file, one after the other in `wrapped`.
    ///
    /// # Errors
    /// There are not 64 bytes a slot, or a slot holds nothing that this master key wraps.
    pub fn admit(&mut self, slots: &[u64], wrapped: &[u8]) -> Result<()> {
        let master = cipher(&self.master);
        for (&number, slot) in slots.iter().zip(slots_in(wrapped, Some(slots.len()))?) {
            self.keys.admit(number, unwrap(&master, number, slot)?);
        }
        Ok(())
    }

    /// The slots whose keys are not at hand, each once. What is at hand stays so for this batch.
    pub fn missing(&mut self, slots: impl IntoIterator<Item = u64>) -> Vec<u64> {
        self.keys.begin();
        let mut missing: Vec<u64> =
            slots.into_iter().filter(|&slot| !self.keys.touch(slot)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Of each slot, whether its key is there to be used.
    ///
    /// # Errors
    /// `Error::Missing`: some are not at hand.
    pub fn live(&mut self, slots: &[u64]) -> Result<Vec<bool>> {
        self.have(slots.iter().copied())?;
        Ok(slots.iter().map(|&slot| matches!(self.keys.get(slot), Some(Some(_)))).collect())
    }

    /// Seals each record with the key in its slot, for its context.
    ///
    /// # Errors
    /// `Error::Missing`: some keys are not at hand; nothing was done. `Error::Destroyed`: one
    /// is gone. A record is empty, which is what a destroyed one opens to.
    pub fn seal(
        &mut self,
        slots: &[u64],
        records: &[&[u8]],
        contexts: &[&[u8]],
    ) -> Result<Records> {
        same_length(slots.len(), records.len(), contexts.len())?;
        if let Some(index) = records.iter().position(|record| record.is_empty()) {
            let text = format!("record {index} is empty; an empty record is what erasure leaves");
            return Err(Error::Argument(text));
        }
        self.have(slots.iter().copied())?;
        let bytes: usize = records.iter().map(|record| record.len()).sum();
        let mut sealed = Records {
            bytes: Vec::with_capacity(bytes + records.len() * envelope::OVERHEAD_BYTES),
            ends: Vec::with_capacity(records.len()),
        };
        for ((&slot, record), context) in slots.iter().zip(records).zip(contexts) {
            let Some(Some(key)) = self.keys.get(slot) else {
                return Err(Error::Destroyed { slot });
            };
            let nonce = new_nonce(&mut self.random);
            let (aad, to) = (&mut self.aad, &mut sealed.bytes);
            envelope::seal(&cipher(key), slot, nonce, record, context, aad, to);
            sealed.ends.push(sealed.bytes.len());
        }
        Ok(sealed)
    }

    /// Opens each sealed record where it was found; one whose key is destroyed opens to nothing.
    ///
    /// # Errors
    /// `Error::Missing`: some keys are not at hand. `Error::Tampered`: one is not what was sealed.
    pub fn open(&mut self, sealed: &[&[u8]], contexts: &[&[u8]]) -> Result<Records> {
        same_length(sealed.len(), sealed.len(), contexts.len())?;
        let slots = slots_of(sealed)?;
        self.have(slots.iter().copied())?;
        let bytes = sealed.iter().map(|one| one.len()).sum();
        let mut opened =
            Records { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(sealed.len()) };
        for (index, ((one, context), &slot)) in sealed.iter().zip(contexts).zip(&slots).enumerate()
        {
            if let Some(Some(key)) = self.keys.get(slot) {
                let (aad, to) = (&mut self.aad, &mut opened.bytes);
                if !envelope::open(&cipher(key), one, context, aad, to) {
                    return Err(Error::Tampered { index, slot: Some(slot) });
                }
            }
            opened.ends.push(opened.bytes.len());
        }
        Ok(opened)
    }

    /// Overwrites and forgets keys, of slots that were destroyed or never came into use.
    pub fn forget(&mut self, slots: &[u64]) {
        for &slot in slots {
            self.keys.forget(slot);
        }
    }

    /// Slots from number `first` on that another master key wraps, wrapped under this one.
    /// Destroyed ones stay destroyed.
    ///
    /// # Errors
    /// A slot holds nothing that the other master key wraps.
    pub fn rewrap(&mut self, other_master: &[u8], first: u64, wrapped: &[u8]) -> Result<Vec<u8>> {
        let (other, master) = (cipher(&key_from(other_master)?), cipher(&self.master));
        let mut anew = Vec::with_capacity(wrapped.len());
        for (number, slot) in (first..).zip(slots_in(wrapped, None)?) {
            match unwrap(&other, number, slot)? {
                None => anew.extend_from_slice(&[0; SLOT_BYTES]),
                Some(key) => {
                    let nonce = new_nonce(&mut self.random);
                    anew.extend_from_slice(&wrap(&master, self.epoch, number, &key, nonce));
                }
            }
        }
        Ok(anew)
    }

    /// Looks at slots from number `first` on without taking them in.
    ///
    /// # Errors
    /// A slot holds nothing that this master key wraps.
    pub fn survey(&self, first: u64, wrapped: &[u8]) -> Result<Survey> {
        let master = cipher(&self.master);
        let mut found = Survey::default();
        for (number, slot) in (first..).zip(slots_in(wrapped, None)?) {
            match unwrap(&master, number, slot)? {
                None => found.destroyed += 1,
                Some(_) => found.live += 1,
            }
        }
        Ok(found)
    }

    fn have(&mut self, slots: impl IntoIterator<Item = u64>) -> Result<()> {
        let missing = self.missing(slots);
        if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
    }
}

impl SlotMaker {
    /// The slots as they are to lie in the key file, and their keys.
    #[must_use]
    pub fn make(mut self) -> (Vec<u8>, Made) {
        let master = cipher(&self.master);
        let mut wrapped = Vec::with_capacity(self.count * SLOT_BYTES);
        let mut keys = Vec::with_capacity(self.count);
        for number in (self.first..).take(self.count) {
            let mut key = new_key();
            self.random.fill_bytes(&mut key[..]);
            let nonce = new_nonce(&mut self.random);
            wrapped.extend_from_slice(&wrap(&master, self.epoch, number, &key, nonce));
            keys.push(key);
        }
        (wrapped, Made { first: self.first, keys })
    }
}

/// The slot that each sealed record names.
///
/// # Errors
/// One cannot be a sealed record.
fn slots_of(sealed: &[&[u8]]) -> Result<Vec<u64>> {
    let slots = sealed
        .iter()
        .enumerate()
        .map(|(index, one)| envelope::slot_of(one).ok_or(Error::Tampered { index, slot: None }));
    slots.collect()
}

fn slots_in(wrapped: &[u8], count: Option<usize>) -> Result<impl Iterator<Item = &[u8]>> {
    let found = wrapped.len() / SLOT_BYTES;
    if !wrapped.len().is_multiple_of(SLOT_BYTES) || count.is_some_and(|count| count != found) {
        let wanted = count.map_or_else(String::new, |count| format!("{count} times "));
        let text = format!("{} bytes of slots; give {wanted}{SLOT_BYTES}", wrapped.len());
        return Err(Error::Argument(text));
    }
    Ok(wrapped.chunks_exact(SLOT_BYTES))
}

fn same_length(slots: usize, records: usize, contexts: usize) -> Result<()> {
    if slots == records && records == contexts {
        return Ok(());
    }
    let text = format!(
        "{slots} slots, {records} records, {contexts} contexts; give as many of one as of another"
    );
    Err(Error::Argument(text))
}

fn new_nonce(random: &mut ChaCha20Rng) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    random.fill_bytes(&mut nonce);
    nonce
}
