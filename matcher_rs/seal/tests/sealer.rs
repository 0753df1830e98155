//! The rules of sealing, from outside.

use seal_core::envelope::OVERHEAD_BYTES;
use seal_core::slot::SLOT_BYTES;
use seal_core::{Error, Sealer, Survey};

const MASTER: [u8; 32] = [7; 32];
const SEED: [u8; 32] = [1; 32];

fn sealer() -> Sealer {
    Sealer::new(&MASTER, 1, &SEED, 1_000).expect("good arguments")
}

/// A sealer with `count` slots, and the slots.
fn with_slots(count: usize) -> (Sealer, Vec<u8>) {
    let mut sealer = sealer();
    let (wrapped, made) = sealer.slot_maker(0, count).make();
    sealer.take(made);
    (sealer, wrapped)
}

fn one(sealer: &mut Sealer, slot: u64, record: &[u8], context: &[u8]) -> Vec<u8> {
    sealer.seal(&[slot], &[record], &[context]).expect("a key at hand").bytes
}

#[test]
fn what_was_sealed_opens_under_its_context_and_costs_37_bytes() {
    let (mut sealer, _) = with_slots(3);
    let records: [&[u8]; 3] = [b"a", b"bb", &[0; 600]];
    let contexts: [&[u8]; 3] = [b"0", b"1", b"2"];
    let sealed = sealer.seal(&[2, 0, 2], &records, &contexts).expect("keys at hand");
    let parts: Vec<&[u8]> = sealed.iter().collect();
    assert_eq!(parts[2].len(), 600 + OVERHEAD_BYTES);
    assert_eq!(OVERHEAD_BYTES, 37);
    let opened = sealer.open(&parts, &contexts).expect("untouched");
    assert_eq!(opened.iter().collect::<Vec<_>>(), records);
}

#[test]
fn every_flipped_bit_of_envelope_and_context_is_found() {
    let (mut sealer, _) = with_slots(300);
    let sealed = one(&mut sealer, 3, b"a record", b"context");
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let found = sealer.open(&[&changed], &[b"context"]);
        // A slot that never was is asked for; one that is, does not fit.
        let refused = matches!(found, Err(Error::Tampered { index: 0, .. } | Error::Missing(_)));
        assert!(refused, "bit {bit}: {found:?}");
    }
    for bit in 0..b"context".len() * 8 {
        let mut changed = *b"context";
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(sealer.open(&[&sealed], &[&changed]).is_err(), "bit {bit}");
    }
}

#[test]
fn records_that_changed_places_are_found_with_their_place() {
    let (mut sealer, _) = with_slots(2);
    let (a, b) = (one(&mut sealer, 0, b"a", b"0"), one(&mut sealer, 0, b"b", b"1"));
    let found = sealer.open(&[&a, &a], &[b"0", b"1"]);
    assert_eq!(found.expect_err("moved"), Error::Tampered { index: 1, slot: Some(0) });
    assert!(sealer.open(&[&b, &a], &[b"0", b"1"]).is_err());
}

#[test]
fn a_record_whose_key_is_destroyed_opens_to_nothing_and_others_open() {
    let (mut sealer, _) = with_slots(2);
    let (a, b) = (one(&mut sealer, 0, b"a", b""), one(&mut sealer, 1, b"b", b""));
    sealer.forget(&[0]);
    assert_eq!(sealer.open(&[&a], &[b""]).expect_err("forgotten"), Error::Missing(vec![0]));
    sealer.admit(&[0], &[0; SLOT_BYTES]).expect("a destroyed slot");
    let opened = sealer.open(&[&a, &b], &[b"", b""]).expect("one erased, one whole");
    assert_eq!(opened.iter().collect::<Vec<_>>(), [b"" as &[u8], b"b"]);
    let refused = sealer.seal(&[0], &[b"more"], &[b""]).expect_err("destroyed");
    assert_eq!(refused, Error::Destroyed { slot: 0 });
    assert_eq!(sealer.live(&[0, 1]), Ok(vec![false, true]));
}

#[test]
fn another_sealer_with_the_same_master_admits_the_slots() {
    let (mut first, wrapped) = with_slots(4);
    let sealed = one(&mut first, 2, b"kept", b"c");
    let mut second = Sealer::new(&MASTER, 1, &[9; 32], 10).expect("good arguments");
    assert_eq!(second.missing([2, 0, 2]), [0, 2]);
    second.admit(&[2], &wrapped[2 * SLOT_BYTES..3 * SLOT_BYTES]).expect("the slot");
    assert_eq!(second.open(&[&sealed], &[b"c"]).expect("its key").bytes, b"kept");
}

#[test]
fn every_flipped_bit_of_a_slot_and_another_number_are_found() {
    let (_, wrapped) = with_slots(2);
    let mut other = sealer();
    let slot = &wrapped[SLOT_BYTES..];
    other.admit(&[1], slot).expect("untouched");
    assert_eq!(other.admit(&[0], slot), Err(Error::BadSlot { slot: 0 }));
    for bit in 0..SLOT_BYTES * 8 {
        let mut changed = slot.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(other.admit(&[1], &changed), Err(Error::BadSlot { slot: 1 }), "bit {bit}");
    }
}

#[test]
fn rewrapping_keeps_keys_and_destruction_and_needs_the_right_master() {
    let (mut old, mut wrapped) = with_slots(3);
    let sealed = one(&mut old, 1, b"kept", b"");
    wrapped[..SLOT_BYTES].fill(0);
    let mut new = Sealer::new(&[8; 32], 2, &[2; 32], 10).expect("good arguments");
    assert_eq!(new.rewrap(&[9; 32], 0, &wrapped), Err(Error::BadSlot { slot: 1 }));
    let anew = new.rewrap(&MASTER, 0, &wrapped).expect("the right master");
    assert_eq!(new.survey(0, &anew), Ok(Survey { live: 2, destroyed: 1 }));
    assert_eq!(old.survey(0, &anew), Err(Error::BadSlot { slot: 1 }));
    new.admit(&[1], &anew[SLOT_BYTES..2 * SLOT_BYTES]).expect("its own");
    assert_eq!(new.open(&[&sealed], &[b""]).expect("the same key").bytes, b"kept");
}

#[test]
fn keys_at_hand_are_bounded_and_a_batch_keeps_what_it_was_given() {
    let (_, wrapped) = with_slots(5_000);
    let mut sealer = Sealer::new(&MASTER, 1, &SEED, 100).expect("good arguments");
    for start in (0..5_000_u64).step_by(250) {
        let slots: Vec<u64> = (start..start + 250).collect();
        assert_eq!(sealer.missing(slots.iter().copied()), slots);
        let from = usize::try_from(start).expect("small") * SLOT_BYTES;
        sealer.admit(&slots, &wrapped[from..from + 250 * SLOT_BYTES]).expect("slots");
        assert_eq!(sealer.live(&slots), Ok(vec![true; 250]));
        assert!(sealer.keys_at_hand() <= 500);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let made = |seed: u8| {
        let mut sealer = Sealer::new(&MASTER, 1, &[seed; 32], 10).expect("good arguments");
        let (wrapped, made) = sealer.slot_maker(0, 2).make();
        sealer.take(made);
        (wrapped, one(&mut sealer, 0, b"a", b""))
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
}

#[test]
fn bad_arguments_are_refused_with_what_to_give() {
    let text = |error: Error| error.to_string();
    let refused = Sealer::new(&[0; 16], 1, &SEED, 1).err().map(text).unwrap_or_default();
    assert!(refused.contains("16 bytes; give 32"), "{refused}");
    assert!(Sealer::new(&MASTER, 1 << 24, &SEED, 1).is_err());
    assert!(Sealer::new(&MASTER, 1, &[0; 31], 1).is_err());
    let (mut sealer, wrapped) = with_slots(1);
    assert!(sealer.admit(&[0], &wrapped[1..]).is_err());
    assert!(sealer.seal(&[0], &[], &[]).is_err());
    let empty = sealer.seal(&[0], &[b""], &[b""]).map(|_| ()).map_err(text);
    assert!(empty.is_err_and(|text| text.contains("record 0 is empty")));
}
