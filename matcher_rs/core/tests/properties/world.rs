//! Observations by the handful: seeded chance, small alphabets, and ways to feed a resolver.

use std::collections::BTreeMap;

use matcher_core::{Batch, Change, Key, Resolution, Resolver, Rules};

pub const SECRET: &[u8] = b"a secret of tests";
pub const HOUR: i64 = 3_600_000_000;
pub const DAY: i64 = 24 * HOUR;

pub const USER: u8 = 0;
pub const EMAIL: u8 = 1;
pub const PHONE: u8 = 2;
pub const CRM: u8 = 3;
pub const DEVICE: u8 = 4;
pub const ANONYMOUS: u8 = 6;
pub const CANONICAL: u8 = 7;

pub const CO_OCCUR: u8 = 0;
pub const IDENTIFY: u8 = 1;
pub const ALIAS: u8 = 2;
pub const LOGIN: u8 = 3;
pub const CRM_ROW: u8 = 4;
pub const LINK: u8 = 5;
pub const UNLINK: u8 = 6;
pub const RETRACT: u8 = 7;

/// One observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub time_us: i64,
    pub kind: u8,
    pub source: u32,
    pub named: Vec<(u8, String)>,
}

pub fn told(time_us: i64, kind: u8, named: &[(u8, &str)]) -> Told {
    let named = named.iter().map(|(code, value)| (*code, (*value).to_owned())).collect();
    Told { time_us, kind, source: 0, named }
}

/// Chance from a seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Rules that bind often: small limits, a window, a small largest profile.
pub fn tight_rules(chance: &mut Chance) -> String {
    let size = [4, 6, 9, 5_000][chance.below(4)];
    let window = ["ever", "weekly", "daily"][chance.below(3)];
    let users = 1 + chance.below(4) / 3;
    let persons = chance.below(3);
    format!(
        r#"{{"hull_nodes_max": {size}, "blocked_values": ["nobody"], "namespaces": {{
        "user_id": {{"code": 0, "priority": 1, "limit": {users}}},
        "crm_id": {{"code": 3, "priority": 2, "limit": 1}},
        "email": {{"code": 1, "priority": 3, "limit": 2, "persons_max": 2}},
        "email_canonical": {{"code": 7, "priority": 5, "limit": 1, "persons_max": 2}},
        "phone": {{"code": 2, "priority": 4, "limit": 1, "limit_window": "{window}",
                   "persons_max": {persons}}},
        "device_id": {{"code": 4, "priority": 6, "limit": 2, "limit_window": "{window}",
                       "persons_max": 1}},
        "anonymous_id": {{"code": 6, "priority": 10, "limit": 0, "persons_max": 1}}}}}}"#
    )
}

const VALUES: [(u8, &[&str]); 6] = [
    (USER, &["ann", "bob", "cid", "nobody"]),
    (CRM, &["c-1", "c-2"]),
    (EMAIL, &["an.n@gmail.com", "ann+x@gmail.com", "bob@shop.example", "test@shop.example"]),
    (PHONE, &["+16502530000", "+442070313000", "911"]),
    (DEVICE, &["device-1", "device-2", "device-3"]),
    (ANONYMOUS, &["a1", "a2", "a3", "ann"]),
];

fn identifier(chance: &mut Chance) -> (u8, String) {
    let (code, values) = VALUES[chance.below(VALUES.len())];
    (code, values[chance.below(values.len())].to_owned())
}

/// A history: mostly events, some words of operators, times out of order and often equal.
pub fn history(chance: &mut Chance, most: usize) -> Vec<Told> {
    (0..1 + chance.below(most)).map(|_| observation(chance)).collect()
}

/// A history of many people who share phone numbers, addresses and devices with their neighbours,
/// so that long hulls of many profiles come about.
pub fn wide_history(chance: &mut Chance, most: usize) -> Vec<Told> {
    let one = |chance: &mut Chance| {
        let place = chance.below(16);
        let beside = place + chance.below(2);
        let named = [
            (USER, format!("user-{place}")),
            (EMAIL, format!("p{beside}@shop.example")),
            (PHONE, format!("+1650253{:04}", 1_000 + beside / 2)),
            (ANONYMOUS, format!("browser-{beside}")),
            (DEVICE, format!("device-{place}")),
            (CRM, format!("crm-{}", place / 2)),
        ];
        let kinds = if chance.below(4) == 0 { 9 } else { 6 };
        let kind = [IDENTIFY, IDENTIFY, CO_OCCUR, CO_OCCUR, CRM_ROW, LOGIN, LINK, UNLINK, RETRACT]
            [chance.below(kinds)];
        let first = chance.below(named.len());
        let others = 1 + chance.below(2);
        let picked = (0..=others).map(|step| named[(first + step * 2 + step / 2) % 6].clone());
        let time_us = chance.below(600) as i64 * HOUR;
        Told { time_us, kind, source: 0, named: picked.collect() }
    };
    (0..most).map(|_| one(chance)).collect()
}

fn observation(chance: &mut Chance) -> Told {
    let kind =
        [CO_OCCUR, CO_OCCUR, IDENTIFY, IDENTIFY, ALIAS, LOGIN, CRM_ROW, LINK, UNLINK, RETRACT]
            [chance.below(10)];
    let time_us = chance.below(12) as i64 * 16 * HOUR + chance.below(3) as i64 * 20 * 60_000_000;
    let named = if kind == ALIAS {
        let (new, old) = (chance.below(3), ["ann", "bob", "a1", "a2"][chance.below(4)].to_owned());
        let new = VALUES[0].1[new].to_owned();
        vec![(USER, new), (USER, old.clone()), (ANONYMOUS, old)]
    } else {
        (0..1 + chance.below(3)).map(|_| identifier(chance)).collect()
    };
    Told { time_us, kind, source: chance.below(40) as u32, named }
}

pub fn resolver(rules: &str) -> Resolver {
    Resolver::new(SECRET, Rules::from_json(rules).unwrap()).unwrap()
}

pub fn batch(history: &[Told]) -> Batch {
    let mut batch = Batch::new();
    for told in history {
        batch.observe(told.time_us, told.kind, told.source).unwrap();
        for (code, value) in &told.named {
            batch.name(*code, value);
        }
    }
    batch
}

pub fn feed(resolver: &mut Resolver, history: &[Told]) -> Resolution {
    resolver.resolve(&batch(history)).unwrap()
}

pub fn fed(rules: &str, history: &[Told]) -> Resolver {
    let mut resolver = resolver(rules);
    feed(&mut resolver, history);
    resolver
}

/// Rows as a store keeps them.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A resolver of stored rows, loaded in another order than they were written.
pub fn reloaded(rules: &str, rows: &Rows, chance: &mut Chance) -> Resolver {
    let mut resolver = resolver(rules);
    let mut rows: Vec<_> = rows.iter().collect();
    chance.shuffle(&mut rows);
    for (key, value) in rows {
        resolver.load(key, value).unwrap();
    }
    resolver.finish_load().unwrap();
    resolver
}

/// What callers see of a batch, one entry an observation.
pub type Seen = (Option<(Key, Key)>, u8, bool, Vec<Change>);

pub fn seen(done: &Resolution) -> Vec<Seen> {
    let of = |observation: usize| {
        let changes = done.changes.iter().filter(move |change| change.observation == observation);
        changes.map(|change| Change { observation: 0, ..*change }).collect()
    };
    let decided = done.decided.iter().enumerate();
    decided.map(|(at, is)| (is.leaf, is.state as u8, is.shared, of(at))).collect()
}
