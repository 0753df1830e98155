//! The obvious twin: from the whole history at once, by sets and maps, without any short cut.
//!
//! It shares no code with the crate but normalisation and the keys of identifiers.

use std::collections::{BTreeMap, BTreeSet};

use matcher_core::{Key, Resolver};
use serde_json::Value;

use crate::world::{
    ALIAS, ANONYMOUS, CANONICAL, CO_OCCUR, CRM, CRM_ROW, DAY, EMAIL, HOUR, LINK, LOGIN, PHONE,
    RETRACT, Told, UNLINK, USER,
};

type Pair = (Key, Key);

#[derive(Default, Clone)]
struct Evidence {
    kinds: BTreeSet<u8>,
    first_us: Option<i64>,
    last_hour_us: Option<i64>,
    link_us: Option<i64>,
    unlink_us: Option<i64>,
    retract_us: Option<i64>,
}

impl Evidence {
    fn is_linked(&self) -> bool {
        self.link_us > self.retract_us && self.link_us > self.unlink_us
    }

    fn is_forbidden(&self) -> bool {
        self.unlink_us.is_some()
            && self.unlink_us > self.retract_us
            && self.unlink_us >= self.link_us
    }

    fn is_told(&self) -> bool {
        self.last_hour_us.is_some() && self.last_hour_us > self.retract_us
    }

    fn is_live(&self) -> bool {
        self.is_told() || self.is_linked()
    }
}

/// The profile, state and sharing of every identifier, and the pairs that were refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Result {
    pub nodes: BTreeMap<Key, (Key, u8, bool)>,
    pub refused: BTreeSet<Pair>,
}

pub struct Oracle {
    rules: Value,
    names: BTreeMap<u8, String>,
    namespace: BTreeMap<Key, u8>,
    first_us: BTreeMap<Key, i64>,
    used: BTreeSet<Key>,
    pairs: BTreeMap<Pair, Evidence>,
}

fn pair(x: Key, y: Key) -> Pair {
    if x < y { (x, y) } else { (y, x) }
}

impl Oracle {
    pub fn new(rules: &str) -> Self {
        let rules: Value = serde_json::from_str(rules).unwrap();
        let names = rules["namespaces"].as_object().unwrap().iter();
        let names = names.map(|(name, rule)| (rule["code"].as_u64().unwrap() as u8, name.clone()));
        Self {
            names: names.collect(),
            rules,
            namespace: BTreeMap::new(),
            first_us: BTreeMap::new(),
            used: BTreeSet::new(),
            pairs: BTreeMap::new(),
        }
    }

    fn rule(&self, code: u8, name: &str) -> u64 {
        self.rules["namespaces"][&self.names[&code]][name].as_u64().unwrap_or(0)
    }

    pub fn tell(&mut self, told: &Told, keys: &Resolver) {
        let mut leaf: Option<(Key, String)> = None;
        for (code, value) in &told.named {
            let Some(normal) = keys.normalise(*code, value) else { continue };
            if let Some((_, of_leaf)) = &leaf
                && told.kind == ALIAS
                && *of_leaf == normal
            {
                continue;
            }
            let node = keys.node(*code, value).unwrap();
            self.name(node, *code, told, leaf.is_none());
            if let Some((leaf, _)) = &leaf {
                self.tell_pair(*leaf, node, told.kind, told);
            }
            leaf.get_or_insert((node, normal.clone()));
            if *code == EMAIL
                && told.kind != UNLINK
                && told.kind != RETRACT
                && let Some(canonical) =
                    keys.normalise(CANONICAL, &normal).filter(|_| is_gmail(&normal))
            {
                let other = keys.node(CANONICAL, &canonical).unwrap();
                self.name(other, CANONICAL, told, false);
                let kind = if told.kind == LINK { CO_OCCUR } else { told.kind };
                self.tell_pair(node, other, kind, told);
            }
        }
    }

    fn name(&mut self, node: Key, code: u8, told: &Told, is_leaf: bool) {
        self.namespace.insert(node, code);
        let first_us = self.first_us.entry(node).or_insert(told.time_us);
        *first_us = told.time_us.min(*first_us);
        if told.kind < LINK && (is_leaf || told.kind != ALIAS) {
            self.used.insert(node);
        }
    }

    fn tell_pair(&mut self, x: Key, y: Key, kind: u8, told: &Told) {
        if x == y {
            return;
        }
        let evidence = self.pairs.entry(pair(x, y)).or_default();
        evidence.kinds.insert(kind);
        let time_us = Some(told.time_us);
        match kind {
            LINK => evidence.link_us = evidence.link_us.max(time_us),
            UNLINK => evidence.unlink_us = evidence.unlink_us.max(time_us),
            RETRACT => evidence.retract_us = evidence.retract_us.max(time_us),
            _ => {
                let hour_us = Some(told.time_us.div_euclid(HOUR) * HOUR);
                evidence.last_hour_us = evidence.last_hour_us.max(hour_us);
            }
        }
        if kind <= LINK {
            let first_us = evidence.first_us.map_or(told.time_us, |first| first.min(told.time_us));
            evidence.first_us = Some(first_us);
        }
    }

    /// Values of one namespace that an alias or an operator declared to be one, by their smallest.
    fn classes(&self) -> BTreeMap<Key, Key> {
        let mut class: BTreeMap<Key, Key> = self.first_us.keys().map(|key| (*key, *key)).collect();
        for ((x, y), evidence) in &self.pairs {
            let declared =
                evidence.is_linked() || (evidence.is_told() && evidence.kinds.contains(&ALIAS));
            if self.namespace[x] == self.namespace[y] && declared && !evidence.is_forbidden() {
                let (from, to) = (class[x].max(class[y]), class[x].min(class[y]));
                class.values_mut().filter(|of| **of == from).for_each(|of| *of = to);
            }
        }
        class
    }

    fn neighbours(&self, node: Key) -> Vec<Key> {
        let live = self.pairs.iter().filter(|(_, evidence)| evidence.is_live());
        live.filter_map(|((x, y), _)| match node {
            _ if node == *x => Some(*y),
            _ if node == *y => Some(*x),
            _ => None,
        })
        .collect()
    }

    fn is_shared(&self, node: Key, class: &BTreeMap<Key, Key>) -> bool {
        let most = self.rule(self.namespace[&node], "persons_max") as usize;
        let persons = |code: u8| {
            let around = self.neighbours(node).into_iter();
            let of = around.filter(|other| self.namespace[other] == code);
            of.map(|other| class[&other]).collect::<BTreeSet<_>>().len()
        };
        most > 0 && (persons(USER) > most || persons(CRM) > most)
    }

    fn assurance(&self, (x, y): &Pair) -> u8 {
        let evidence = &self.pairs[&(*x, *y)];
        let codes = [self.namespace[x], self.namespace[y]];
        let has = |of: &[u8]| codes.iter().any(|code| of.contains(code));
        let vouched = evidence.kinds.contains(&LOGIN) || evidence.kinds.contains(&CRM_ROW);
        match () {
            () if evidence.is_linked() => 5,
            () if has(&[EMAIL, PHONE, CANONICAL]) && has(&[USER, CRM]) && vouched => 3,
            () if has(&[EMAIL, PHONE, CANONICAL]) => 2,
            () if has(&[USER, CRM]) => 4,
            () => 1,
        }
    }

    fn breaks_a_limit(&self, members: &BTreeSet<Key>, class: &BTreeMap<Key, Key>) -> bool {
        self.names.keys().any(|code| {
            let limit = self.rule(*code, "limit") as usize;
            let mut first: BTreeMap<Key, i64> = BTreeMap::new();
            for member in members.iter().filter(|member| self.namespace[member] == *code) {
                let at = first.entry(class[member]).or_insert(i64::MAX);
                *at = self.first_us[member].min(*at);
            }
            let window = self.rules["namespaces"][&self.names[code]]["limit_window"].as_str();
            let window_us = match window.unwrap_or("ever") {
                "weekly" => 7 * DAY,
                "daily" => DAY,
                _ => i64::MAX,
            };
            let within = |from: i64| {
                first.values().filter(|at| **at >= from && **at - from < window_us).count()
            };
            limit > 0 && first.values().any(|from| within(*from) > limit)
        })
    }

    pub fn resolve(&self) -> Result {
        let class = self.classes();
        let shared: BTreeSet<Key> =
            self.first_us.keys().copied().filter(|key| self.is_shared(*key, &class)).collect();
        let size = self.rules["hull_nodes_max"].as_u64().unwrap() as usize;
        let crowded = self.first_us.keys().filter(|key| self.neighbours(**key).len() > size);
        let apart: BTreeSet<Key> = crowded.chain(&shared).copied().collect();
        let mut edges: Vec<Pair> = self
            .pairs
            .iter()
            .filter(|((x, y), told)| told.is_live() && !apart.contains(x) && !apart.contains(y))
            .map(|(pair, _)| *pair)
            .collect();
        edges.sort_by_key(|pair| {
            let priority = |key: &Key| self.rule(self.namespace[key], "priority");
            let first_us = self.pairs[pair].first_us;
            (255 - self.assurance(pair), priority(&pair.0) + priority(&pair.1), first_us, *pair)
        });
        let forbidden: Vec<&Pair> = self
            .pairs
            .iter()
            .filter(|(_, told)| told.is_forbidden())
            .map(|(pair, _)| pair)
            .collect();
        let mut cluster: BTreeMap<Key, BTreeSet<Key>> =
            self.first_us.keys().map(|key| (*key, BTreeSet::from([*key]))).collect();
        for (x, y) in &edges {
            let both: BTreeSet<Key> = cluster[x].union(&cluster[y]).copied().collect();
            let parted = forbidden.iter().any(|(p, q)| {
                both.contains(p)
                    && both.contains(q)
                    && cluster[x].contains(p) != cluster[x].contains(q)
            });
            if cluster[x] == cluster[y]
                || both.len() > size
                || parted
                || self.breaks_a_limit(&both, &class)
            {
                continue;
            }
            for member in both.clone() {
                cluster.insert(member, both.clone());
            }
        }
        let refused: BTreeSet<Pair> =
            edges.into_iter().filter(|(x, y)| cluster[x] != cluster[y]).collect();
        let nodes = self.first_us.keys().map(|key| {
            let members = &cluster[key];
            let rank = |key: &&Key| (!self.used.contains(*key), self.first_us[*key], **key);
            let founder = *members.iter().min_by_key(rank).unwrap();
            (*key, (founder, self.state(members, &refused), shared.contains(key)))
        });
        Result { nodes: nodes.collect(), refused: refused.clone() }
    }

    fn state(&self, members: &BTreeSet<Key>, refused: &BTreeSet<Pair>) -> u8 {
        let person = |key: &Key| [USER, CRM].contains(&self.namespace[key]);
        let waits = |(x, y): &Pair| {
            (members.contains(x) && person(y)) || (members.contains(y) && person(x))
        };
        let contact = |key: &Key| [EMAIL, PHONE, CANONICAL].contains(&self.namespace[key]);
        if members.iter().any(person) {
            2
        } else {
            u8::from(members.iter().any(contact) || refused.iter().any(waits))
        }
    }

    /// The same of the resolver under test.
    pub fn of(&self, resolver: &Resolver) -> BTreeMap<Key, (Key, u8, bool)> {
        let found = |key: &Key| {
            let profile = resolver.profile_of(*key).unwrap();
            (profile, resolver.state(*key) as u8, resolver.is_shared(*key))
        };
        self.first_us.keys().map(|key| (*key, found(key))).collect()
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.first_us.keys().copied()
    }

    pub fn namespace(&self, key: Key) -> u8 {
        self.namespace[&key]
    }

    /// Pairs that must not be in one profile.
    pub fn forbidden(&self) -> impl Iterator<Item = Pair> + '_ {
        self.pairs.iter().filter(|(_, told)| told.is_forbidden()).map(|(pair, _)| *pair)
    }

    /// Whether no values of it were declared one, so that limits count plain values.
    pub fn is_plain(&self) -> bool {
        self.classes().iter().all(|(key, class)| key == class)
    }
}

fn is_gmail(address: &str) -> bool {
    address.ends_with("@gmail.com")
}

const _: u8 = ANONYMOUS;
