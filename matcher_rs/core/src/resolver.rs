//! The resolver: takes observations in, answers who is who.

use crate::batch::{Batch, Decided, Introduced, Observed, Resolution};
use crate::cluster::State;
use crate::error::Result;
use crate::evidence::Statement;
use crate::graph::{Graph, KNOWN, NONE, SEEN, SHARED};
use crate::key::{Hasher, Key};
use crate::normalise::normalise;
use crate::persist::Loaded;
use crate::prepare::{Prepared, Use, prepare};
use crate::rules::Rules;

/// Deterministic profiles as a pure function of the evidence set and the rules.
pub struct Resolver {
    pub(crate) hasher: Hasher,
    pub(crate) graph: Graph,
    /// Rows were loaded that are not resolved yet.
    pub(crate) is_loading: bool,
    /// Rows that wait until there are enough of them.
    pub(crate) loading: Vec<Loaded>,
    /// Observations were taken in: nothing may be loaded any more.
    pub(crate) has_resolved: bool,
}

/// Numbers of a resolver, for people and gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Identifiers.
    pub nodes: usize,
    /// Pairs of identifiers that something was said about.
    pub edges: usize,
    /// Profiles; shared identifiers are none.
    pub profiles: usize,
    /// Shared identifiers.
    pub shared: usize,
    /// Pairs that were refused.
    pub suppressed: usize,
    /// What all of it takes.
    pub memory_bytes: usize,
}

/// Look-ups that are made in one go, so that the machine waits for memory once for all of them.
const LOOKUPS_AHEAD: usize = 64;

impl Resolver {
    /// A resolver that knows nobody.
    ///
    /// # Errors
    /// The secret has fewer than 16 or more than 64 bytes.
    pub fn new(secret: &[u8], rules: Rules) -> Result<Self> {
        let (hasher, graph) = (Hasher::new(secret)?, Graph::new(rules));
        Ok(Self { hasher, graph, is_loading: false, loading: Vec::new(), has_resolved: false })
    }

    /// Takes in observations one after the other. How they are cut into batches changes nothing.
    ///
    /// # Errors
    /// Loaded rows contradict each other; see `finish_load`.
    pub fn resolve(&mut self, batch: &Batch) -> Result<Resolution> {
        self.finish_load()?;
        self.has_resolved = true;
        let mut resolution = Resolution::default();
        resolution.decided.reserve_exact(batch.len());
        let mut prepared =
            prepare(&self.graph.rules, &self.hasher, batch, &mut resolution.rejected);
        for (observation, observed) in batch.observed().iter().enumerate() {
            if observation % LOOKUPS_AHEAD == 0 {
                let last = (observation + LOOKUPS_AHEAD).min(batch.len()) - 1;
                self.look_up(&mut prepared, observation, last);
            }
            let uses = prepared.of(observation);
            self.graph.journal.begin(self.graph.nodes.len());
            self.observe(batch, observation, observed, uses, &mut resolution.identifiers);
            self.graph.changes(observation, &mut resolution.changes);
            let leaf = uses.first().map(|used| used.node);
            resolution.decided.push(self.decided(leaf, prepared.rejected_end(observation)));
        }
        self.take_rows(&mut resolution.rows);
        Ok(resolution)
    }

    /// Finds what is known already. Nothing is removed meanwhile, so what is found stays true.
    fn look_up(&self, prepared: &mut Prepared, first: usize, last: usize) {
        for uses in prepared.each(first, last) {
            for used in uses {
                used.node = self.graph.find(used.key).unwrap_or(NONE);
            }
        }
        for uses in prepared.each(first, last) {
            let (Some(leaf), mut before) = (uses.first().map(|leaf| leaf.node), NONE) else {
                continue;
            };
            for used in uses {
                let other = if used.is_canonical { before } else { leaf };
                if other != NONE && used.node != NONE && used.node != other {
                    used.edge = self.graph.find_edge(other, used.node).unwrap_or(NONE);
                }
                before = used.node;
            }
        }
    }

    fn observe(
        &mut self,
        batch: &Batch,
        observation: usize,
        observed: &Observed,
        uses: &mut [Use],
        identifiers: &mut Vec<Introduced>,
    ) {
        let mut seeds = Vec::new();
        let leaf = uses.first().map(|used| used.key);
        for (place, used) in uses.iter_mut().enumerate() {
            // The previous id of an alias is told of, not used.
            let is_seen = match observed.statement {
                Statement::Alias => place == 0,
                statement => statement.is_event(),
            };
            if used.node == NONE {
                used.node = self.graph.find(used.key).unwrap_or(NONE);
            }
            if used.node == NONE {
                used.node = self.graph.introduce(used, observed.time_us, is_seen);
                let value = self.value(batch, observation, used);
                let (node, namespace) = (used.key, used.namespace);
                let leaf = leaf.unwrap_or(node);
                identifiers.push(Introduced { node, namespace, value, leaf });
            } else {
                self.graph.touch(used.node, observed.time_us, is_seen, &mut seeds);
            }
        }
        if uses.len() < 2 {
            self.graph.settle(&[], &mut seeds);
            return;
        }
        if observed.statement == Statement::Alias {
            self.note_twins(batch, observation, uses);
        }
        self.graph.tell_all(observed, uses, seeds);
    }

    /// The normalised value of a new identifier, worked out again: it is asked for once.
    fn value(&self, batch: &Batch, observation: usize, used: &Use) -> String {
        let (_, text) = batch.named(batch.places(observation).start + used.place as usize);
        let normal = normalise(&self.graph.rules, used.namespace, text);
        normal.map(std::borrow::Cow::into_owned).unwrap_or_default()
    }

    /// An alias does not say of which namespace the previous id is. What only stood in the wrong
    /// reading of it is hidden once the other reading is seen.
    fn note_twins(&mut self, batch: &Batch, observation: usize, uses: &[Use]) {
        let start = batch.places(observation).start;
        let text = |used: &Use| batch.named(start + used.place as usize).1.trim();
        for one in &uses[1..] {
            for other in &uses[1..] {
                if one.namespace != other.namespace && text(one) == text(other) {
                    let key = self.graph.nodes[other.node].key;
                    if self.graph.twins.insert(one.node, key) != Some(key) {
                        self.graph.mark_node(one.node);
                    }
                }
            }
        }
    }

    fn decided(&self, leaf: Option<u32>, rejected_end: usize) -> Decided {
        let Some(leaf) = leaf else {
            return Decided { leaf: None, state: State::Anonymous, shared: false, rejected_end };
        };
        let graph = &self.graph;
        let founder = graph.founder(leaf);
        Decided {
            leaf: Some((graph.nodes[leaf].key, graph.nodes[founder].key)),
            state: graph.state(leaf),
            shared: graph.nodes[leaf].flags & SHARED != 0,
            rejected_end,
        }
    }

    /// The key of an identifier; `None` where its value is not usable.
    #[must_use]
    pub fn node(&self, namespace: u8, value: &str) -> Option<Key> {
        let normal = normalise(&self.graph.rules, namespace, value).ok()?;
        Some(self.hasher.key(namespace, &normal))
    }

    /// The one spelling of a value; `None` where it is not usable.
    #[must_use]
    pub fn normalise(&self, namespace: u8, value: &str) -> Option<String> {
        normalise(&self.graph.rules, namespace, value).ok().map(std::borrow::Cow::into_owned)
    }

    /// The profile of a node now, or of any profile id ever issued. `None`: never seen.
    #[must_use]
    pub fn profile_of(&self, node: Key) -> Option<Key> {
        let node = self.graph.find(node)?;
        Some(self.graph.nodes[self.graph.founder(node)].key)
    }

    /// The identifiers of the profile that a node belongs to, the oldest first. The reading of an
    /// alias that nobody ever used is left out where the other one was used.
    #[must_use]
    pub fn members(&self, node: Key) -> Vec<Key> {
        let graph = &self.graph;
        let Some(node) = graph.find(node) else { return Vec::new() };
        let shown = graph.members_of(node).filter(|member| !graph.is_hidden(*member));
        let mut members: Vec<(i64, Key)> =
            shown.map(|member| (graph.nodes[member].first_us, graph.nodes[member].key)).collect();
        members.sort_unstable();
        members.into_iter().map(|(_, key)| key).collect()
    }

    /// The state of the profile that a node belongs to.
    #[must_use]
    pub fn state(&self, node: Key) -> State {
        self.graph.find(node).map_or(State::Anonymous, |node| self.graph.state(node))
    }

    /// Whether a node was seen with more persons than it may have.
    #[must_use]
    pub fn is_shared(&self, node: Key) -> bool {
        self.graph.find(node).is_some_and(|node| self.graph.nodes[node].flags & SHARED != 0)
    }

    /// Shared identifiers that members of a profile were seen with, by key.
    #[must_use]
    pub fn shared_neighbours(&self, node: Key) -> Vec<Key> {
        let graph = &self.graph;
        let Some(node) = graph.find(node) else { return Vec::new() };
        let around = graph.members_of(node).flat_map(|member| graph.neighbours(member));
        let shared = around.filter(|other| graph.nodes[*other].flags & SHARED != 0);
        let mut keys: Vec<Key> = shared.map(|other| graph.nodes[other].key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The other ends of every pair at these nodes that anything was ever said about, by key.
    #[must_use]
    pub fn seen_with(&self, keys: &[Key]) -> Vec<Key> {
        let graph = &self.graph;
        let nodes = keys.iter().filter_map(|key| graph.find(*key));
        let others = nodes.flat_map(|node| graph.edges_of(node)).map(|(_, other)| other);
        let mut found: Vec<Key> = others.map(|other| graph.nodes[other].key).collect();
        found.sort_unstable();
        found.dedup();
        let mut own = keys.to_vec();
        own.sort_unstable();
        found.retain(|other| own.binary_search(other).is_err());
        found
    }

    /// Numbers for people and gauges.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let graph = &self.graph;
        Statistics {
            nodes: graph.nodes.len() - graph.gone_nodes,
            edges: graph.edges.len() - graph.gone_edges,
            profiles: graph.profiles(),
            shared: graph.shared,
            suppressed: graph.suppressed,
            memory_bytes: size_of::<Self>() + graph.memory_bytes(),
        }
    }

    /// Steps of walks through the graph so far: what its worst case is measured in.
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.graph.work
    }
}

impl Graph {
    /// A node that was never seen before, alone in a cluster.
    fn introduce(&mut self, used: &Use, time_us: i64, is_seen: bool) -> u32 {
        let index = self.add_node(used.key);
        let node = &mut self.nodes[index];
        node.namespace = used.namespace;
        node.first_us = time_us;
        node.flags = KNOWN | if is_seen { SEEN } else { 0 };
        self.make_cluster(&[index], 0);
        self.mark_node(index);
        index
    }

    /// A node is named again: it may be older than we knew, or seen for the first time.
    fn touch(&mut self, index: u32, time_us: i64, is_seen: bool, seeds: &mut Vec<u32>) {
        let node = &mut self.nodes[index];
        let is_older = time_us < node.first_us;
        if !is_older && (!is_seen || node.flags & SEEN != 0) {
            return;
        }
        node.first_us = node.first_us.min(time_us);
        if is_seen {
            node.flags |= SEEN;
        }
        let namespace = node.namespace;
        self.mark_node(index);
        self.reconsider_founder(index);
        if is_older && self.rules.window_us(namespace).is_some() && self.is_contested(index) {
            seeds.push(index);
        }
    }

    /// Whether a node stood only in an alias, in the wrong reading of the previous id.
    pub(crate) fn is_hidden(&self, node: u32) -> bool {
        if self.nodes[node].flags & SEEN != 0 || self.twins.is_empty() {
            return false;
        }
        let twin = self.twins.get(&node).and_then(|twin| self.find(*twin));
        twin.is_some_and(|twin| self.nodes[twin].flags & SEEN != 0)
    }
}
