//! What must hold whatever is told, in whatever order. A failure names its seed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use matcher_core::{Key, Resolver};
use serde_json::Value;

use crate::oracle::Oracle;
use crate::world::{
    Chance, DAY, EMAIL, LINK, RETRACT, Rows, Told, UNLINK, fed, feed, history, reloaded, resolver,
    seen, tight_rules, wide_history,
};

/// Runs a property for many seeds.
fn for_all(cases: u64, property: impl Fn(u64, &mut Chance)) {
    for seed in 0..cases {
        property(seed, &mut Chance::new(seed));
    }
}

fn oracle(rules: &str, history: &[Told], keys: &Resolver) -> Oracle {
    let mut oracle = Oracle::new(rules);
    history.iter().for_each(|told| oracle.tell(told, keys));
    oracle
}

#[test]
fn order_independence_and_idempotence() {
    for_all(3_000, |seed, chance| {
        let rules = tight_rules(chance);
        let mut told = history(chance, 40);
        let digest = fed(&rules, &told).digest();
        let again = told[..told.len() / 2].to_vec();
        told.extend(again);
        for _ in 0..3 {
            chance.shuffle(&mut told);
            assert_eq!(fed(&rules, &told).digest(), digest, "seed {seed}");
        }
    });
}

#[test]
fn incremental_equals_the_oracle_after_every_observation() {
    for_all(1_500, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 25);
        let mut resolver = resolver(&rules);
        let mut oracle = Oracle::new(&rules);
        for (step, one) in told.iter().enumerate() {
            feed(&mut resolver, std::slice::from_ref(one));
            oracle.tell(one, &resolver);
            let expected = oracle.resolve();
            assert_eq!(oracle.of(&resolver), expected.nodes, "seed {seed}, step {step}");
            let statistics = resolver.statistics();
            assert_eq!(statistics.suppressed, expected.refused.len(), "seed {seed}, step {step}");
            let shared = expected.nodes.values().filter(|(_, _, shared)| *shared).count();
            let profiles: BTreeSet<Key> = expected.nodes.values().map(|found| found.0).collect();
            assert_eq!(statistics.shared, shared, "seed {seed}, step {step}");
            assert_eq!(statistics.profiles, profiles.len() - shared, "seed {seed}, step {step}");
        }
    });
}

#[test]
fn long_hulls_of_many_profiles_equal_the_oracle() {
    for_all(400, |seed, chance| {
        let rules = tight_rules(chance);
        let told = wide_history(chance, 90);
        let mut resolver = resolver(&rules);
        let mut oracle = Oracle::new(&rules);
        for (step, one) in told.iter().enumerate() {
            feed(&mut resolver, std::slice::from_ref(one));
            oracle.tell(one, &resolver);
            if step % 10 == 9 || step > 80 {
                let expected = oracle.resolve();
                assert_eq!(oracle.of(&resolver), expected.nodes, "seed {seed}, step {step}");
                let suppressed = resolver.statistics().suppressed;
                assert_eq!(suppressed, expected.refused.len(), "seed {seed}, step {step}");
            }
        }
    });
}

#[test]
fn crash_safety_after_every_observation() {
    for_all(600, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 20);
        let mut straight = resolver(&rules);
        let mut expected = Vec::new();
        let mut rows = Rows::new();
        for one in &told {
            let mut crashed = reloaded(&rules, &rows, chance);
            assert_eq!(crashed.digest(), straight.digest(), "seed {seed}");
            let done = feed(&mut straight, std::slice::from_ref(one));
            let after = feed(&mut crashed, std::slice::from_ref(one));
            assert_eq!(seen(&after), seen(&done), "seed {seed}: what a reloaded one answers");
            let of = |rows: &[(Vec<u8>, Vec<u8>)]| rows.iter().cloned().collect::<Rows>();
            assert_eq!(of(&after.rows), of(&done.rows), "seed {seed}: what a reloaded one writes");
            rows.extend(done.rows.iter().cloned());
            expected.push(seen(&done));
        }
        assert_eq!(reloaded(&rules, &rows, chance).digest(), straight.digest(), "seed {seed}");
    });
}

#[test]
fn batches_may_be_cut_anywhere() {
    for_all(1_000, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 30);
        let mut whole = resolver(&rules);
        let expected = feed(&mut whole, &told);
        let mut cut = resolver(&rules);
        let (mut answers, mut rows, mut rest) = (Vec::new(), Rows::new(), &told[..]);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(1 + chance.below(rest.len()));
            let done = feed(&mut cut, part);
            answers.extend(seen(&done));
            rows.extend(done.rows);
            rest = after;
        }
        assert_eq!(answers, seen(&expected), "seed {seed}");
        assert_eq!(rows, expected.rows.into_iter().collect::<Rows>(), "seed {seed}");
        assert_eq!(cut.digest(), whole.digest(), "seed {seed}");
    });
}

#[test]
fn split_merge_inverse() {
    let tried = Cell::new(0);
    for_all(3_000, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 25);
        let mut resolver = fed(&rules, &told);
        let oracle = oracle(&rules, &told, &resolver);
        let before = oracle.of(&resolver);
        let named: Vec<&(u8, String)> = told.iter().flat_map(|one| &one.named).collect();
        let (a, b) = (named[chance.below(named.len())], named[chance.below(named.len())]);
        let key =
            |of: &(u8, String)| resolver.node(of.0, &of.1).filter(|key| before.contains_key(key));
        let (Some(x), Some(y)) = (key(a), key(b)) else { return };
        // Of a pair that something was said about already, a link and its end leave a trace.
        let together = told.iter().any(|one| one.named.contains(a) && one.named.contains(b));
        if before[&x].0 == before[&y].0 || together || a.0 == EMAIL || b.0 == EMAIL {
            return;
        }
        tried.set(tried.get() + 1);
        let late_us = 1_000 * DAY;
        let said =
            |kind, time_us| Told { time_us, kind, source: 0, named: vec![a.clone(), b.clone()] };
        feed(&mut resolver, &[said(LINK, late_us)]);
        feed(&mut resolver, &[said(UNLINK, late_us + 1)]);
        assert_eq!(oracle.of(&resolver), before, "seed {seed}: parted again");
        feed(&mut resolver, &[said(LINK, late_us + 2)]);
        feed(&mut resolver, &[said(RETRACT, late_us + 3)]);
        assert_eq!(oracle.of(&resolver), before, "seed {seed}: as if nothing was said");
    });
    assert!(tried.get() > 500, "the property was put to the test");
}

#[test]
fn limits_and_parted_pairs_are_respected() {
    for_all(2_000, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 40);
        let resolver = fed(&rules, &told);
        let oracle = oracle(&rules, &told, &resolver);
        for (x, y) in oracle.forbidden() {
            assert_ne!(resolver.profile_of(x), resolver.profile_of(y), "seed {seed}");
        }
        if !oracle.is_plain() {
            return;
        }
        let parsed: Value = serde_json::from_str(&rules).unwrap();
        let mut counts: BTreeMap<(Key, u8), u64> = BTreeMap::new();
        for key in oracle.keys() {
            let profile = resolver.profile_of(key).unwrap();
            *counts.entry((profile, oracle.namespace(key))).or_default() += 1;
        }
        for rule in parsed["namespaces"].as_object().unwrap().values() {
            let (code, limit) =
                (rule["code"].as_u64().unwrap() as u8, rule["limit"].as_u64().unwrap());
            let is_ever = rule["limit_window"].as_str().is_none_or(|window| window == "ever");
            let most =
                counts.iter().filter(|((_, of), _)| *of == code).map(|(_, count)| *count).max();
            assert!(limit == 0 || !is_ever || most.unwrap_or(0) <= limit, "seed {seed}");
        }
    });
}

#[test]
fn every_suppressed_edge_has_a_witness() {
    let witnessed = Cell::new(0);
    for_all(1_500, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 30);
        let resolver = fed(&rules, &told);
        let oracle = oracle(&rules, &told, &resolver);
        let expected = oracle.resolve();
        let mut found = BTreeSet::new();
        for key in oracle.keys() {
            let explained: Value = serde_json::from_str(&resolver.explain(key)).unwrap();
            for edge in explained["suppressed"].as_array().unwrap() {
                let (a, b) = (key_of(&edge["a"]), key_of(&edge["b"]));
                found.insert((a, b));
                let ends = [resolver.profile_of(a).unwrap(), resolver.profile_of(b).unwrap()];
                let witness: Vec<Key> =
                    edge["reason"]["witness"].as_array().unwrap().iter().map(key_of).collect();
                if edge["reason"]["rule"] == "hull_nodes_max" {
                    let size: usize = ends.iter().map(|end| resolver.members(*end).len()).sum();
                    // Hidden readings of an alias count, but are not listed.
                    assert!(size > 0, "seed {seed}");
                    continue;
                }
                assert_eq!(witness.len(), 2, "seed {seed}: {edge}");
                let owners: BTreeSet<Key> =
                    witness.iter().map(|key| resolver.profile_of(*key).unwrap()).collect();
                assert_eq!(owners, BTreeSet::from(ends), "seed {seed}: one witness on each side");
                witnessed.set(witnessed.get() + 1);
            }
        }
        assert_eq!(found, expected.refused, "seed {seed}: explained is what was refused");
    });
    assert!(witnessed.get() > 1_000, "the property was put to the test");
}

fn key_of(hex: &Value) -> Key {
    Key(u128::from_str_radix(hex.as_str().unwrap(), 16).unwrap().to_be_bytes())
}

#[test]
fn pid_total() {
    for_all(1_500, |seed, chance| {
        let rules = tight_rules(chance);
        let told = history(chance, 30);
        let mut resolver = resolver(&rules);
        let mut issued: BTreeSet<Key> = BTreeSet::new();
        let mut current: BTreeMap<Key, Key> = BTreeMap::new();
        for one in &told {
            let done = feed(&mut resolver, std::slice::from_ref(one));
            issued.extend(done.decided.iter().filter_map(|is| is.leaf).map(|(_, profile)| profile));
            for change in &done.changes {
                issued.extend([change.profile, change.other]);
                assert_ne!(change.profile, change.other, "seed {seed}");
            }
            check_changes(&resolver, &mut current, &done, seed);
            for id in &issued {
                let profile = resolver.profile_of(*id);
                assert_eq!(profile, profile.and_then(|id| resolver.profile_of(id)), "seed {seed}");
                assert!(profile.is_some(), "seed {seed}: every id that was issued resolves");
            }
        }
    });
}

/// Follows profiles by the changes alone: wherever an identifier's profile is another than before,
/// a change must have told of it.
fn check_changes(
    resolver: &Resolver,
    current: &mut BTreeMap<Key, Key>,
    done: &matcher_core::Resolution,
    seed: u64,
) {
    let told: BTreeSet<(Key, Key)> =
        done.changes.iter().flat_map(|c| [(c.profile, c.other), (c.other, c.profile)]).collect();
    for (node, before) in current.iter_mut() {
        let now = resolver.profile_of(*node).unwrap();
        if now != *before {
            let moved_on = resolver.profile_of(*before).unwrap();
            let known = told.contains(&(*before, now)) || told.contains(&(moved_on, now));
            assert!(known, "seed {seed}: {before:?} became {now:?} in silence: {:?}", done.changes);
        }
        *before = now;
    }
    for key in done.identifiers.iter().map(|one| one.node) {
        current.insert(key, resolver.profile_of(key).unwrap());
    }
}
