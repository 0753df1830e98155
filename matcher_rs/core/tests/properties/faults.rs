//! Faults that every installation meets, each with the profiles that must come out.

use std::time::{Duration, Instant};

use matcher_core::{Batch, Key, Resolver, State};

use crate::world::{
    ALIAS, ANONYMOUS, CO_OCCUR, CRM, Chance, DAY, EMAIL, HOUR, IDENTIFY, LINK, PHONE, RETRACT,
    Rows, Told, UNLINK, USER, fed, feed, reloaded, resolver, told,
};

const RULES: &str = r#"{"hull_nodes_max": 5000, "namespaces": {
    "user_id": {"code": 0, "priority": 1, "limit": 1},
    "crm_id": {"code": 3, "priority": 2, "limit": 1},
    "email": {"code": 1, "priority": 3, "limit": 5, "persons_max": 2},
    "phone": {"code": 2, "priority": 4, "limit": 5, "persons_max": 5},
    "email_canonical": {"code": 7, "priority": 5, "limit": 5, "persons_max": 2},
    "device_id": {"code": 4, "priority": 6, "limit": 50, "persons_max": 1},
    "anonymous_id": {"code": 6, "priority": 10, "limit": 0, "persons_max": 1}}}"#;

struct Known<'a>(&'a Resolver);

impl Known<'_> {
    fn key(&self, code: u8, value: &str) -> Key {
        self.0.node(code, value).unwrap()
    }

    fn profile(&self, code: u8, value: &str) -> Option<Key> {
        self.0.profile_of(self.key(code, value))
    }

    fn are_one(&self, a: (u8, &str), b: (u8, &str)) -> bool {
        let profile = self.profile(a.0, a.1);
        profile.is_some() && profile == self.profile(b.0, b.1)
    }
}

#[test]
fn a_kiosk_of_ten_thousand_users_joins_nobody_and_costs_little() {
    let mut resolver = resolver(RULES);
    let people = 100_000_u64;
    let mut batch = Batch::new();
    for person in 0..people {
        let time_us = person as i64 * 60_000_000;
        batch.observe(time_us, IDENTIFY, 0).unwrap();
        batch.name(USER, &format!("user-{person}"));
        batch.name(ANONYMOUS, "kiosk");
        batch.name(EMAIL, &format!("user{person}@shop.example"));
    }
    resolver.resolve(&batch).unwrap();
    let work = resolver.work();
    assert!(work < 12 * people, "{work} steps: bounded for each observation");
    let known = Known(&resolver);
    assert!(resolver.is_shared(known.key(ANONYMOUS, "kiosk")));
    assert!(known.are_one((USER, "user-7"), (EMAIL, "user7@shop.example")));
    assert!(!known.are_one((USER, "user-7"), (USER, "user-8")));
    assert_eq!(resolver.members(known.key(USER, "user-7")).len(), 2);
    let neighbours = resolver.shared_neighbours(known.key(USER, "user-7"));
    assert_eq!(neighbours, [known.key(ANONYMOUS, "kiosk")]);
    assert_eq!(resolver.statistics().profiles, people as usize);
}

#[test]
fn a_word_about_a_pair_at_a_kiosk_costs_little() {
    let mut resolver = resolver(RULES);
    let sign_in = |person: usize| {
        let user = format!("user-{person}");
        told(person as i64, IDENTIFY, &[(USER, &user), (ANONYMOUS, "kiosk")])
    };
    let everybody: Vec<Told> = (0..50_000).map(sign_in).collect();
    feed(&mut resolver, &everybody);
    let before = resolver.work();
    for person in 0..100 {
        let user = format!("user-{person}");
        let pair = [(USER, user.as_str()), (ANONYMOUS, "kiosk")];
        feed(&mut resolver, &[told(DAY, RETRACT, &pair), told(2 * DAY, IDENTIFY, &pair)]);
    }
    assert!(resolver.work() - before < 100 * 100, "a walk ends once it has seen enough");
}

#[test]
fn an_address_for_tests_is_nobody() {
    let mut resolver = resolver(RULES);
    let done = feed(
        &mut resolver,
        &[
            told(1, IDENTIFY, &[(USER, "ann"), (EMAIL, "test@test.com")]),
            told(2, IDENTIFY, &[(USER, "bob"), (EMAIL, "Test@Test.com")]),
            told(3, IDENTIFY, &[(EMAIL, "test@test.com")]),
        ],
    );
    assert_eq!(done.rejected.len(), 3);
    assert_eq!(done.decided[2].leaf, None);
    assert_eq!(resolver.statistics().nodes, 2);
    assert!(!Known(&resolver).are_one((USER, "ann"), (USER, "bob")));
}

#[test]
fn a_recycled_phone_number_stays_with_who_had_it_first() {
    let phone = (PHONE, "+16502530000");
    let resolver = fed(
        RULES,
        &[
            told(5 * 365 * DAY, IDENTIFY, &[(USER, "bob"), phone]),
            told(DAY, IDENTIFY, &[(USER, "ann"), phone]),
        ],
    );
    let known = Known(&resolver);
    assert!(known.are_one((USER, "ann"), phone));
    assert!(!known.are_one((USER, "bob"), phone));
    assert_eq!(resolver.statistics().suppressed, 1);
    assert_eq!(resolver.state(known.key(PHONE, phone.1)), State::Identified);
}

#[test]
fn a_hard_coded_user_id_joins_nobody_once_it_is_crowded() {
    let device = |number: usize| format!("device-{number}");
    let event = |number: usize| {
        told(number as i64, CO_OCCUR, &[(USER, "fixed-id"), (ANONYMOUS, &device(number))])
    };
    let mut resolver = resolver(RULES);
    let first: Vec<Told> = (0..5_000).map(event).collect();
    feed(&mut resolver, &first[..4_999]);
    assert_eq!(resolver.statistics().profiles, 1);
    let rest: Vec<Told> = (5_000..100_000).map(event).collect();
    let began = Instant::now();
    feed(&mut resolver, &first[4_999..]);
    feed(&mut resolver, &rest);
    assert!(began.elapsed() < Duration::from_secs(5), "the release happens once");
    assert!(resolver.work() < 30 * 100_000, "{} steps", resolver.work());
    let known = Known(&resolver);
    let (a, b) = (device(1), device(60_000));
    assert!(!known.are_one((ANONYMOUS, &a), (ANONYMOUS, &b)));
    let user = known.key(USER, "fixed-id");
    assert!(!resolver.is_shared(user), "it stays a profile of its own");
    assert_eq!(resolver.members(user), [user]);
    assert_eq!(resolver.statistics().profiles, 100_001);
}

#[test]
fn a_long_string_of_identifiers_costs_what_its_profiles_do() {
    // Each browser names its own address and the one before: one hull, as long as somebody likes.
    let link = |number: i64, time_us: i64| {
        let browser = format!("browser-{number}");
        let (here, before) =
            (format!("p{number}@shop.example"), format!("p{}@shop.example", number - 1));
        told(time_us, IDENTIFY, &[(ANONYMOUS, &browser), (EMAIL, &before), (EMAIL, &here)])
    };
    let mut resolver = resolver(RULES);
    let string: Vec<Told> = (1..40_000).map(|n| link(n, n)).collect();
    feed(&mut resolver, &string);
    assert!(resolver.work() < 40_000 * 50, "{} steps", resolver.work());
    let known = Known(&resolver);
    assert!(!known.are_one((EMAIL, "p1@shop.example"), (EMAIL, "p300@shop.example")));
}

#[test]
fn an_alias_that_an_operator_took_back_counts_two_people() {
    let resolver = fed(
        RULES,
        &[
            told(1, ALIAS, &[(USER, "new"), (USER, "old"), (ANONYMOUS, "old")]),
            told(2, UNLINK, &[(USER, "new"), (USER, "old")]),
            told(3, CO_OCCUR, &[(USER, "new"), (ANONYMOUS, "tablet")]),
            told(4, CO_OCCUR, &[(USER, "old"), (ANONYMOUS, "tablet")]),
        ],
    );
    assert!(resolver.is_shared(Known(&resolver).key(ANONYMOUS, "tablet")));
}

#[test]
fn a_replayed_day_and_seven_days_out_of_order_change_nothing() {
    let mut chance = Chance::new(7);
    let mut day: Vec<Told> = Vec::new();
    for number in 0..2_000_i64 {
        let (user, device) = (format!("u{}", number % 200), format!("d{}", number % 300));
        let time_us = number * 7 * DAY / 2_000;
        let named = [(USER, user.as_str()), (ANONYMOUS, device.as_str())];
        day.push(told(time_us, CO_OCCUR, &named[number as usize % 2..]));
        day.push(told(time_us, IDENTIFY, &named));
    }
    let digest = fed(RULES, &day).digest();
    let mut resolver = fed(RULES, &day);
    feed(&mut resolver, &day);
    assert_eq!(resolver.digest(), digest);
    chance.shuffle(&mut day);
    assert_eq!(fed(RULES, &day).digest(), digest);
}

#[test]
fn a_mistyped_address_is_one_more_of_the_person() {
    let resolver = fed(
        RULES,
        &[
            told(1, IDENTIFY, &[(USER, "ann"), (EMAIL, "ann@shop.exmaple")]),
            told(2, IDENTIFY, &[(USER, "ann"), (EMAIL, "ann@shop.example")]),
        ],
    );
    assert!(Known(&resolver).are_one((EMAIL, "ann@shop.exmaple"), (EMAIL, "ann@shop.example")));
}

#[test]
fn swapped_columns_of_an_import_join_no_two_people() {
    // The mail column holds the same support number of the company for everybody.
    let row = |person: usize| {
        let id = format!("c-{person}");
        told(person as i64, 4, &[(CRM, &id), (PHONE, "+442070313000")])
    };
    let rows: Vec<Told> = (0..50).map(row).collect();
    let resolver = fed(RULES, &rows);
    let known = Known(&resolver);
    assert!(resolver.is_shared(known.key(PHONE, "+442070313000")));
    assert_eq!(resolver.statistics().profiles, 50);
}

#[test]
fn an_alias_carries_a_person_over_to_a_new_id() {
    let mut resolver = fed(
        RULES,
        &[
            told(1, IDENTIFY, &[(USER, "old"), (ANONYMOUS, "a1")]),
            told(2, ALIAS, &[(USER, "new"), (USER, "old"), (ANONYMOUS, "old")]),
            told(3, CO_OCCUR, &[(USER, "new"), (ANONYMOUS, "a1")]),
        ],
    );
    let known = Known(&resolver);
    assert!(known.are_one((USER, "old"), (USER, "new")));
    assert!(!resolver.is_shared(known.key(ANONYMOUS, "a1")), "both ids are one person");
    let members = resolver.members(known.key(USER, "new"));
    assert_eq!(members.len(), 3, "the reading of `old` that nobody used is hidden");
    assert!(!members.contains(&known.key(ANONYMOUS, "old")));
    feed(&mut resolver, &[told(4, CO_OCCUR, &[(ANONYMOUS, "old")])]);
    assert_eq!(resolver.members(Known(&resolver).key(USER, "new")).len(), 4, "now it was used");
}

#[test]
fn an_alias_of_an_id_with_itself_says_nothing() {
    let named = [(USER, "ann"), (USER, "ann"), (ANONYMOUS, "ann")];
    let resolver = fed(RULES, &[told(1, ALIAS, &named)]);
    assert_eq!((resolver.statistics().nodes, resolver.statistics().edges), (1, 0));
}

#[test]
fn an_operator_joins_and_parts_two_user_ids() {
    let (ann, bob) = ((USER, "ann"), (USER, "bob"));
    let mut resolver = fed(RULES, &[told(1, CO_OCCUR, &[ann]), told(2, CO_OCCUR, &[bob])]);
    let merged = feed(&mut resolver, &[told(3, LINK, &[ann, bob])]);
    assert!(Known(&resolver).are_one(ann, bob), "an operator's word counts both as one");
    assert_eq!(merged.changes.len(), 1);
    assert_eq!(merged.changes[0].kind.as_str(), "merged");
    let split = feed(&mut resolver, &[told(4, UNLINK, &[ann, bob])]);
    assert!(!Known(&resolver).are_one(ann, bob));
    assert_eq!(split.changes[0].kind.as_str(), "split");
    assert_eq!(split.changes[0].other, merged.changes[0].other);
    feed(&mut resolver, &[told(5, LINK, &[ann, bob])]);
    assert!(Known(&resolver).are_one(ann, bob), "the last word holds");
}

#[test]
fn an_older_event_renames_and_the_old_id_still_resolves() {
    let (user, device) = ((USER, "ann"), (ANONYMOUS, "a1"));
    let mut resolver =
        fed(RULES, &[told(4, CO_OCCUR, &[user]), told(5, CO_OCCUR, &[user, device])]);
    let before = Known(&resolver).key(USER, "ann");
    assert_eq!(Known(&resolver).profile(ANONYMOUS, "a1"), Some(before));
    let done = feed(&mut resolver, &[told(1, CO_OCCUR, &[device])]);
    let change = done.changes[0];
    assert_eq!((change.kind.as_str(), change.other), ("renamed", before));
    assert_eq!(change.profile, Known(&resolver).key(ANONYMOUS, "a1"));
    assert_eq!(resolver.profile_of(before), Some(change.profile));
}

#[test]
fn a_contested_household_is_explained_and_parted_at_once() {
    // Four people on one line, each with many devices: one hull, resolved as a whole.
    let mut history: Vec<Told> = Vec::new();
    for person in 0..4 {
        let user = format!("user-{person}");
        history.push(told(person, IDENTIFY, &[(USER, &user), (PHONE, "+16502530000")]));
        for device in 0..1_000 {
            let device = format!("device-{person}-{device}");
            history.push(told(person + 10, CO_OCCUR, &[(USER, &user), (ANONYMOUS, &device)]));
        }
    }
    let mut resolver = fed(RULES, &history);
    assert_eq!(resolver.statistics().profiles, 4);
    let user = Known(&resolver).key(USER, "user-0");
    let began = Instant::now();
    let explained = resolver.explain(user);
    let explain = began.elapsed();
    assert!(explained.contains("\"limit\""), "three refused links have a witness");
    let began = Instant::now();
    feed(&mut resolver, &[told(DAY, UNLINK, &[(USER, "user-0"), (ANONYMOUS, "device-0-5")])]);
    let unmerge = began.elapsed();
    println!("a hull of 4,005 identifiers: explain {explain:?}, unmerge {unmerge:?}");
    assert!(!Known(&resolver).are_one((USER, "user-0"), (ANONYMOUS, "device-0-5")));
}

#[test]
fn a_weekly_limit_is_of_any_seven_days() {
    let rules = RULES.replace(
        r#""phone": {"code": 2, "priority": 4, "limit": 5,"#,
        r#""phone": {"code": 2, "priority": 4, "limit": 1, "limit_window": "weekly","#,
    );
    let user = (USER, "ann");
    let (first, second) = ((PHONE, "+16502530000"), (PHONE, "+442070313000"));
    let seen = |days: i64| {
        [told(0, CO_OCCUR, &[user, first]), told(days * DAY, CO_OCCUR, &[user, second])]
    };
    assert!(!Known(&fed(&rules, &seen(6))).are_one(user, second));
    assert!(Known(&fed(&rules, &seen(7))).are_one(user, second));
}

#[test]
fn a_state_rises_with_what_is_known_and_falls_when_it_is_taken_back() {
    let mut resolver = resolver(RULES);
    let device = (ANONYMOUS, "a1");
    let state = |resolver: &mut Resolver, one: Told| {
        let done = feed(resolver, &[one]);
        done.decided[0].state
    };
    assert_eq!(state(&mut resolver, told(1, CO_OCCUR, &[device])), State::Anonymous);
    let contact = told(2, CO_OCCUR, &[device, (EMAIL, "ann@shop.example")]);
    assert_eq!(state(&mut resolver, contact), State::Transitioning);
    let login = told(3, IDENTIFY, &[(USER, "ann"), device]);
    assert_eq!(state(&mut resolver, login), State::Identified);
    feed(&mut resolver, &[told(2 * HOUR, RETRACT, &[(USER, "ann"), device])]);
    assert_eq!(resolver.state(Known(&resolver).key(device.0, device.1)), State::Transitioning);
}

#[test]
fn rows_of_another_version_or_half_a_store_are_refused() {
    let done =
        feed(&mut resolver(RULES), &[told(1, CO_OCCUR, &[(USER, "ann"), (ANONYMOUS, "a1")])]);
    let rows: Rows = done.rows.into_iter().collect();
    let mut chance = Chance::new(1);
    assert_eq!(reloaded(RULES, &rows, &mut chance).statistics().nodes, 2);
    for (key, value) in &rows {
        let mut other = value.clone();
        other[0] = 9;
        assert!(resolver(RULES).load(key, &other).is_err());
        assert!(resolver(RULES).load(key, &value[1..]).is_err());
        assert!(resolver(RULES).load(&key[1..], value).is_err());
    }
    let edge = rows.iter().find(|(key, _)| key[0] == b'e').unwrap();
    let mut half = resolver(RULES);
    half.load(edge.0, edge.1).unwrap();
    assert!(half.finish_load().is_err(), "an edge without its nodes");
    let mut late = fed(RULES, &[]);
    assert!(late.load(edge.0, edge.1).is_err(), "after the first observations");
}

#[test]
fn why_not_names_the_path_and_what_stands_on_it() {
    let resolver = fed(
        RULES,
        &[
            told(1, IDENTIFY, &[(USER, "ann"), (PHONE, "+16502530000")]),
            told(2, IDENTIFY, &[(USER, "bob"), (PHONE, "+16502530000")]),
            told(3, IDENTIFY, &[(USER, "cid"), (ANONYMOUS, "tablet")]),
            told(4, IDENTIFY, &[(USER, "dan"), (ANONYMOUS, "tablet")]),
        ],
    );
    let known = Known(&resolver);
    let why = |a: &str, b: &str| -> serde_json::Value {
        let (a, b) = (known.key(USER, a), known.key(USER, b));
        serde_json::from_str(&resolver.why_not(a, b)).unwrap()
    };
    let refused = why("ann", "bob");
    assert_eq!(refused["path"].as_array().unwrap().len(), 2);
    assert_eq!(refused["path"][0]["outcome"]["rule"], "accepted");
    assert_eq!(refused["path"][1]["outcome"]["rule"], "limit");
    assert_eq!(refused["path"][1]["outcome"]["namespace"], "user_id");
    let shared = why("cid", "dan");
    assert_eq!(shared["shared"][0], known.key(ANONYMOUS, "tablet").hex());
    assert_eq!(why("ann", "cid")["reason"], "no evidence connects them");
    assert_eq!(why("ann", "ann")["one_profile"], true);
}
