//! Forgetting leaves what there would be had the forgotten never been named.

use std::cell::Cell;
use std::collections::BTreeSet;

use matcher_core::{ChangeKind, Key, Resolver};

use crate::world::{
    ANONYMOUS, CANONICAL, CO_OCCUR, Chance, EMAIL, IDENTIFY, LINK, PHONE, Rows, Told, USER, fed,
    feed, history, reloaded, resolver, seen, tight_rules, told, wide_history,
};

fn rows_of(resolver: &mut Resolver, history: &[Told]) -> Rows {
    feed(resolver, history).rows.into_iter().collect()
}

fn nodes_of(rows: &Rows) -> Vec<Key> {
    let nodes = rows.keys().filter(|key| key[0] == b'n');
    nodes.map(|key| Key::from_bytes(&key[1..]).unwrap()).collect()
}

/// Some of them: a whole profile, several, or any.
fn some(resolver: &Resolver, nodes: &[Key], chance: &mut Chance) -> Vec<Key> {
    let one = nodes[chance.below(nodes.len())];
    match chance.below(4) {
        0 => nodes.iter().copied().filter(|_| chance.below(3) == 0).collect(),
        1 => vec![one],
        2 => {
            let other = nodes[chance.below(nodes.len())];
            [resolver.members(one), resolver.members(other)].concat()
        }
        _ => resolver.members(one),
    }
}

/// The rows without those that name a forgotten node, and without twins that are forgotten.
fn rest_of(rows: &Rows, deleted: &[Vec<u8>]) -> Rows {
    let gone: BTreeSet<&[u8]> =
        deleted.iter().filter(|key| key[0] == b'n').map(|key| &key[1..]).collect();
    let is_left = |key: &&Vec<u8>| !key[1..].chunks(16).any(|node| gone.contains(node));
    let left = rows.iter().filter(|(key, _)| is_left(key));
    left.map(|(key, value)| {
        let has_gone_twin = key[0] == b'n' && value.len() == 27 && gone.contains(&value[11..]);
        let end = if has_gone_twin { 11 } else { value.len() };
        (key.clone(), value[..end].to_vec())
    })
    .collect()
}

#[test]
fn what_is_left_equals_a_store_that_never_had_the_forgotten() {
    let moved = Cell::new(0);
    for seed in 0..4_000 {
        let chance = &mut Chance::new(seed);
        let rules = tight_rules(chance);
        let told = if seed % 4 == 0 { wide_history(chance, 60) } else { history(chance, 40) };
        let mut resolver = resolver(&rules);
        let mut rows = rows_of(&mut resolver, &told);
        if rows.is_empty() {
            continue;
        }
        let wanted = some(&resolver, &nodes_of(&rows), chance);
        let done = resolver.forget(&wanted).unwrap();
        let left = rest_of(&rows, &done.deleted);
        rows.extend(done.rows);
        for key in &done.deleted {
            assert!(rows.remove(key).is_some(), "seed {seed}: what is deleted was there");
        }
        assert_eq!(rows, left, "seed {seed}: the rows that are left");
        let mut never = reloaded(&rules, &rows, chance);
        assert_eq!(resolver.digest(), never.digest(), "seed {seed}");
        let (mut numbers, mut expected) = (resolver.statistics(), never.statistics());
        (numbers.memory_bytes, expected.memory_bytes) = (0, 0);
        assert_eq!(numbers, expected, "seed {seed}");
        for node in &wanted {
            assert_eq!(resolver.profile_of(*node), None, "seed {seed}");
            assert!(resolver.members(*node).is_empty(), "seed {seed}");
        }
        moved.set(moved.get() + usize::from(!done.changes.is_empty()));
        for one in history(chance, 15) {
            let after = feed(&mut resolver, std::slice::from_ref(&one));
            let expected = feed(&mut never, &[one]);
            assert_eq!(seen(&after), seen(&expected), "seed {seed}: whoever comes back is new");
            assert_eq!(after.identifiers, expected.identifiers, "seed {seed}");
        }
        assert_eq!(resolver.digest(), never.digest(), "seed {seed}: later");
    }
    assert!(moved.get() > 300, "the property was put to the test: {}", moved.get());
}

/// What an observation says without its forgotten parts: pairs with its leaf where the leaf is
/// left, and otherwise each identifier alone.
fn stripped(one: &Told, gone: &BTreeSet<Key>, keys: &Resolver) -> Vec<Told> {
    let usable = |(code, value): &&(u8, String)| keys.node(*code, value).is_some();
    let is_left = |(code, value): &(u8, String)| !gone.contains(&keys.node(*code, value).unwrap());
    let mut named = one.named.iter().filter(usable).cloned();
    let Some(leaf) = named.next() else { return Vec::new() };
    let rest: Vec<(u8, String)> = named.filter(is_left).collect();
    let of = |named| Told { named, ..one.clone() };
    if is_left(&leaf) {
        return vec![of([vec![leaf], rest].concat())];
    }
    rest.into_iter().map(|alone| of(vec![alone])).collect()
}

#[test]
fn what_is_left_equals_a_resolver_that_was_never_told_of_the_forgotten() {
    let tried = Cell::new(0);
    for seed in 0..4_000 {
        let chance = &mut Chance::new(seed);
        let rules = tight_rules(chance);
        // An alias without its leaf is no observation that anybody can make.
        let told: Vec<Told> = history(chance, 30).into_iter().filter(|one| one.kind != 2).collect();
        let mut straight = resolver(&rules);
        let rows = rows_of(&mut straight, &told);
        if rows.is_empty() {
            continue;
        }
        let wanted = some(&straight, &nodes_of(&rows), chance);
        let mut gone: BTreeSet<Key> = wanted.into_iter().collect();
        // An address brings its canonical form along, so they are forgotten together.
        let address =
            |value: &str| [straight.node(EMAIL, value), straight.node(CANONICAL, "ann@gmail.com")];
        let addresses: Vec<Key> = ["an.n@gmail.com", "ann+x@gmail.com"]
            .iter()
            .flat_map(|one| address(one))
            .flatten()
            .collect();
        if addresses.iter().any(|key| gone.contains(key)) {
            gone.extend(addresses);
        }
        let keys: Vec<Key> = gone.iter().copied().collect();
        straight.forget(&keys).unwrap();
        let parts: Vec<Told> =
            told.iter().flat_map(|one| stripped(one, &gone, &straight)).collect();
        assert_eq!(straight.digest(), fed(&rules, &parts).digest(), "seed {seed}");
        tried.set(tried.get() + 1);
    }
    assert!(tried.get() > 3_000, "the property was put to the test: {}", tried.get());
}

#[test]
fn forgetting_twice_finds_nothing() {
    for seed in 0..300 {
        let chance = &mut Chance::new(seed);
        let rules = tight_rules(chance);
        let mut resolver = resolver(&rules);
        let rows = rows_of(&mut resolver, &history(chance, 30));
        if rows.is_empty() {
            continue;
        }
        let wanted = some(&resolver, &nodes_of(&rows), chance);
        resolver.forget(&wanted).unwrap();
        let digest = resolver.digest();
        let again = resolver.forget(&wanted).unwrap();
        assert!(again.deleted.is_empty() && again.rows.is_empty() && again.changes.is_empty());
        assert_eq!(resolver.digest(), digest, "seed {seed}");
    }
}

const RULES: &str = r#"{"hull_nodes_max": 5000, "namespaces": {
    "user_id": {"code": 0, "priority": 1, "limit": 1},
    "email": {"code": 1, "priority": 3, "limit": 5, "persons_max": 2},
    "phone": {"code": 2, "priority": 4, "limit": 5, "persons_max": 5},
    "anonymous_id": {"code": 6, "priority": 10, "limit": 0, "persons_max": 1}}}"#;

#[test]
fn a_device_of_two_is_the_others_once_one_is_forgotten() {
    let mut resolver = fed(
        RULES,
        &[
            told(1, IDENTIFY, &[(USER, "ann"), (ANONYMOUS, "tablet")]),
            told(2, IDENTIFY, &[(USER, "bob"), (ANONYMOUS, "tablet")]),
        ],
    );
    let key = |code, value| resolver.node(code, value).unwrap();
    let (ann, bob, tablet) = (key(USER, "ann"), key(USER, "bob"), key(ANONYMOUS, "tablet"));
    assert!(resolver.is_shared(tablet));
    assert_eq!(resolver.seen_with(&[ann]), [tablet]);
    assert!(resolver.seen_with(&[ann, bob, tablet]).is_empty());
    let done = resolver.forget(&[ann]).unwrap();
    assert!(!resolver.is_shared(tablet));
    assert_eq!(resolver.profile_of(ann), None);
    assert_eq!(resolver.profile_of(bob), Some(tablet), "the tablet was seen before bob");
    assert_eq!(done.changes.len(), 1);
    assert_eq!(done.changes[0].kind, ChangeKind::Merged);
    assert_eq!(done.deleted.len(), 2, "one node and one pair");
}

#[test]
fn what_is_left_of_a_profile_has_its_name_from_its_oldest_part() {
    let mut resolver = fed(
        RULES,
        &[
            told(1, CO_OCCUR, &[(USER, "ann"), (PHONE, "+16502530000")]),
            told(2, CO_OCCUR, &[(USER, "ann"), (ANONYMOUS, "a1")]),
            told(3, CO_OCCUR, &[(ANONYMOUS, "a1"), (EMAIL, "ann@shop.example")]),
        ],
    );
    let key = |code, value| resolver.node(code, value).unwrap();
    let (ann, phone) = (key(USER, "ann"), key(PHONE, "+16502530000"));
    let (device, address) = (key(ANONYMOUS, "a1"), key(EMAIL, "ann@shop.example"));
    let done = resolver.forget(&[ann]).unwrap();
    let told: Vec<_> = done.changes.iter().map(|c| (c.kind, c.profile, c.other)).collect();
    let expected = [(ChangeKind::Renamed, phone, ann), (ChangeKind::Split, phone, device)];
    assert_eq!(told, expected);
    assert_eq!(resolver.profile_of(address), Some(device));
}

#[test]
fn a_reading_of_an_alias_that_nobody_used_goes_with_the_other() {
    let mut resolver = fed(
        RULES,
        &[
            told(1, CO_OCCUR, &[(USER, "old")]),
            told(2, 2, &[(USER, "new"), (USER, "old"), (ANONYMOUS, "old")]),
        ],
    );
    let members = resolver.members(resolver.node(USER, "new").unwrap());
    assert_eq!(members.len(), 2, "the unused reading is hidden");
    resolver.forget(&members).unwrap();
    assert_eq!(resolver.statistics().nodes, 0);
    assert_eq!(resolver.statistics().edges, 0);
}

#[test]
fn one_of_a_kiosk_is_forgotten_at_the_cost_of_the_kiosks_list() {
    let people = 50_000_u64;
    let sign_in = |person: u64| {
        let user = format!("user-{person}");
        told(person as i64, IDENTIFY, &[(USER, &user), (ANONYMOUS, "kiosk")])
    };
    let mut resolver = fed(RULES, &(0..people).map(sign_in).collect::<Vec<Told>>());
    let before = resolver.work();
    let user = resolver.node(USER, "user-7").unwrap();
    resolver.forget(&[user]).unwrap();
    assert!(resolver.work() - before < 2 * people);
    assert!(resolver.is_shared(resolver.node(ANONYMOUS, "kiosk").unwrap()));
    let word = told(people as i64, LINK, &[(USER, "user-7"), (USER, "user-8")]);
    assert_eq!(feed(&mut resolver, &[word]).identifiers.len(), 1, "whoever comes back is new");
}
