//! The store in memory: identifiers, evidence and clusters by dense numbers.
//!
//! An identifier costs one `Node`, four bytes of an index and its share of a cluster; a pair costs
//! one `Edge` and four bytes of an index. Lists are threaded through the items. Nothing here
//! decides anything.

use hashbrown::{HashMap, HashTable};

use crate::arena::Arena;
use crate::evidence::{Evidence, Said, Standing};
use crate::journal::Journal;
use crate::key::{KEY_BYTES, Key};
use crate::rules::{NAMESPACES_MAX, Rules};

/// No node, edge or cluster.
pub(crate) const NONE: u32 = u32::MAX;

/// An identifier.
pub(crate) struct Node {
    pub(crate) key: Key,
    pub(crate) first_us: i64,
    /// The first of its edges; the rest follows `Edge::next_*`.
    pub(crate) edges: u32,
    pub(crate) cluster: u32,
    /// The next member of its cluster, round and round.
    pub(crate) next: u32,
    /// Live edges; saturates.
    pub(crate) degree: u16,
    pub(crate) namespace: u8,
    pub(crate) flags: u8,
}

/// Its row is to be written.
pub(crate) const DIRTY: u8 = 1;
/// An event used it, rather than an alias or an operator only.
pub(crate) const SEEN: u8 = 2;
/// Seen with too many persons: joins nobody.
pub(crate) const SHARED: u8 = 4;
/// Seen with too many identifiers: joins nobody, but is a profile of its own.
pub(crate) const CROWDED: u8 = 8;
/// The walk has been here.
pub(crate) const VISITED: u8 = 16;
/// Stands in a pair that may not be one profile, or once did.
pub(crate) const PARTED: u8 = 32;
/// Its row is there, rather than only edges that name it.
pub(crate) const KNOWN: u8 = 64;
/// Forgotten: its slot is empty.
pub(crate) const GONE: u8 = 128;

/// A pair of identifiers.
pub(crate) struct Edge {
    pub(crate) evidence: Evidence,
    pub(crate) a: u32,
    pub(crate) b: u32,
    next_a: u32,
    next_b: u32,
    pub(crate) flags: u8,
}

/// The standing of an edge, and what resolution made of it. `DIRTY` is 1 here too.
pub(crate) const LIVE: u8 = 2;
pub(crate) const CANNOT: u8 = 4;
pub(crate) const SAME: u8 = 8;
pub(crate) const LINKED: u8 = 16;
pub(crate) const SUPPRESSED: u8 = 32;
/// Of a forgotten node: its slot is empty. `GONE` of nodes has another number.
pub(crate) const REMOVED: u8 = 64;

impl Edge {
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            live: self.flags & LIVE != 0,
            cannot: self.flags & CANNOT != 0,
            same: self.flags & SAME != 0,
            linked: self.flags & LINKED != 0,
        }
    }

    pub(crate) fn set_standing(&mut self, standing: Standing) {
        self.flags &= !(LIVE | CANNOT | SAME | LINKED);
        let bits = [
            (standing.live, LIVE),
            (standing.cannot, CANNOT),
            (standing.same, SAME),
            (standing.linked, LINKED),
        ];
        self.flags |= bits.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
    }

    /// The next edge of one of its ends.
    const fn next_of(&self, node: u32) -> u32 {
        if self.a == node { self.next_a } else { self.next_b }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }
}

/// A profile. `counts` of its members by namespace saturate.
pub(crate) struct Cluster {
    pub(crate) founder: u32,
    pub(crate) size: u32,
    pub(crate) counts: [u8; NAMESPACES_MAX],
    pub(crate) flags: u8,
}

/// Its hull has more than one profile, or could have, as every one with a `PARTED` member: a change
/// of the hull resolves it anew.
pub(crate) const CONTESTED: u8 = 1;
/// Evidence joins a member with a person, and was refused.
pub(crate) const PENDING: u8 = 2;

/// Evidence and its resolution.
pub(crate) struct Graph {
    pub(crate) rules: Rules,
    pub(crate) nodes: Arena<Node>,
    pub(crate) edges: Arena<Edge>,
    pub(crate) clusters: Arena<Cluster>,
    pub(crate) free_clusters: Vec<u32>,
    node_index: HashTable<u32>,
    edge_index: HashTable<u32>,
    /// By edge: what operators said.
    pub(crate) said: HashMap<u32, Said>,
    /// By node: the nodes that statements say are the same value.
    pub(crate) same: HashMap<u32, Vec<u32>>,
    /// By node: the other reading of the previous id of an alias.
    pub(crate) twins: HashMap<u32, Key>,
    pub(crate) journal: Journal,
    pub(crate) dirty_nodes: Vec<u32>,
    pub(crate) dirty_edges: Vec<u32>,
    pub(crate) shared: usize,
    pub(crate) suppressed: usize,
    /// Slots of nodes and edges that are empty.
    pub(crate) gone_nodes: usize,
    pub(crate) gone_edges: usize,
    /// Steps of walks so far, so that a test can bound them.
    pub(crate) work: u64,
}

impl Graph {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            nodes: Arena::new(),
            edges: Arena::new(),
            clusters: Arena::new(),
            free_clusters: Vec::new(),
            node_index: HashTable::new(),
            edge_index: HashTable::new(),
            said: HashMap::new(),
            same: HashMap::new(),
            twins: HashMap::new(),
            journal: Journal::default(),
            dirty_nodes: Vec::new(),
            dirty_edges: Vec::new(),
            shared: 0,
            suppressed: 0,
            gone_nodes: 0,
            gone_edges: 0,
            work: 0,
        }
    }

    pub(crate) fn find(&self, key: Key) -> Option<u32> {
        let nodes = &self.nodes;
        self.node_index.find(key.short(), |index| nodes[*index].key == key).copied()
    }

    /// Adds a node that is not there yet, in no cluster.
    pub(crate) fn add_node(&mut self, key: Key) -> u32 {
        let index = self.nodes.push(Node {
            key,
            first_us: i64::MAX,
            edges: NONE,
            cluster: NONE,
            next: NONE,
            degree: 0,
            namespace: u8::MAX,
            flags: 0,
        });
        let nodes = &self.nodes;
        self.node_index.insert_unique(key.short(), index, |other| nodes[*other].key.short());
        index
    }

    pub(crate) fn find_edge(&self, x: u32, y: u32) -> Option<u32> {
        let edges = &self.edges;
        let is_it = |index: &u32| {
            let edge = &edges[*index];
            (edge.a == x && edge.b == y) || (edge.a == y && edge.b == x)
        };
        self.edge_index.find(pair_hash(x, y), is_it).copied()
    }

    /// Adds an edge that is not there yet, without evidence. Its `a` has the smaller key.
    pub(crate) fn add_edge(&mut self, x: u32, y: u32) -> u32 {
        let (a, b) = if self.nodes[x].key < self.nodes[y].key { (x, y) } else { (y, x) };
        let (next_a, next_b) = (self.nodes[a].edges, self.nodes[b].edges);
        let edge = Edge { evidence: Evidence::NONE, a, b, next_a, next_b, flags: 0 };
        let index = self.edges.push(edge);
        self.nodes[a].edges = index;
        self.nodes[b].edges = index;
        let edges = &self.edges;
        let hash = |other: &u32| pair_hash(edges[*other].a, edges[*other].b);
        self.edge_index.insert_unique(pair_hash(x, y), index, hash);
        index
    }

    /// Takes an edge out of the list of one of its ends. The list is walked up to it.
    pub(crate) fn unlink(&mut self, node: u32, edge: u32) {
        let after = self.edges[edge].next_of(node);
        let mut before = NONE;
        let mut at = self.nodes[node].edges;
        while at != edge {
            (before, at) = (at, self.edges[at].next_of(node));
            self.work += 1;
        }
        match before {
            NONE => self.nodes[node].edges = after,
            before if self.edges[before].a == node => self.edges[before].next_a = after,
            before => self.edges[before].next_b = after,
        }
    }

    /// Empties the slot of an edge that is in no list but that of a node which goes with it.
    pub(crate) fn remove_edge(&mut self, edge: u32) {
        let hash = pair_hash(self.edges[edge].a, self.edges[edge].b);
        if let Ok(found) = self.edge_index.find_entry(hash, |index| *index == edge) {
            found.remove();
        }
        self.edges[edge].flags = REMOVED;
        self.gone_edges += 1;
    }

    /// Empties the slot of a node that is in no cluster and has no edges.
    pub(crate) fn remove_node(&mut self, node: u32) {
        let hash = self.nodes[node].key.short();
        if let Ok(found) = self.node_index.find_entry(hash, |index| *index == node) {
            found.remove();
        }
        let slot = &mut self.nodes[node];
        (slot.key, slot.first_us, slot.edges) = (Key([0; KEY_BYTES]), i64::MAX, NONE);
        (slot.next, slot.degree, slot.flags) = (NONE, 0, GONE);
        self.gone_nodes += 1;
    }

    /// The edges of a node with the node at the other end, live or not, newest first.
    pub(crate) fn edges_of(&self, node: u32) -> EdgesOf<'_> {
        EdgesOf { edges: &self.edges, node, next: self.nodes[node].edges }
    }

    /// The edge at a place, the node at its other end, and the next place.
    pub(crate) fn step(&self, at: At) -> Option<(u32, u32, At)> {
        let mut rest = EdgesOf { edges: &self.edges, node: at.node, next: at.next };
        let (edge, other) = rest.next()?;
        Some((edge, other, rest.after()))
    }

    /// The ends of live edges of a node.
    pub(crate) fn neighbours(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let live = |(edge, other)| self.edges[edge].is_live().then_some(other);
        self.edges_of(node).filter_map(live)
    }

    /// The members of the cluster of a node, itself first.
    pub(crate) fn members_of(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = Some(node);
        std::iter::from_fn(move || {
            let member = next?;
            next = Some(self.nodes[member].next).filter(|following| *following != node);
            Some(member)
        })
    }

    /// Whether a node stays out of hulls.
    pub(crate) fn is_apart(&self, node: u32) -> bool {
        self.nodes[node].flags & (SHARED | CROWDED) != 0
    }

    pub(crate) fn mark_node(&mut self, node: u32) {
        if self.nodes[node].flags & DIRTY == 0 {
            self.nodes[node].flags |= DIRTY;
            self.dirty_nodes.push(node);
        }
    }

    pub(crate) fn mark_edge(&mut self, edge: u32) {
        if self.edges[edge].flags & DIRTY == 0 {
            self.edges[edge].flags |= DIRTY;
            self.dirty_edges.push(edge);
        }
    }

    pub(crate) fn set_suppressed(&mut self, edge: u32, suppressed: bool) {
        let flags = &mut self.edges[edge].flags;
        match (suppressed, *flags & SUPPRESSED != 0) {
            (true, false) => self.suppressed += 1,
            (false, true) => self.suppressed -= 1,
            _ => return,
        }
        *flags ^= SUPPRESSED;
    }

    pub(crate) fn profiles(&self) -> usize {
        self.clusters.len() - self.free_clusters.len() - self.shared
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let map = |items: usize, bytes: usize| items * (bytes + 1);
        let same: usize = self.same.values().map(|list| list.capacity() * 4).sum();
        self.nodes.memory_bytes()
            + self.edges.memory_bytes()
            + self.clusters.memory_bytes()
            + self.node_index.allocation_size()
            + self.edge_index.allocation_size()
            + map(self.said.capacity(), size_of::<(u32, Said)>())
            + map(self.same.capacity(), size_of::<(u32, Vec<u32>)>())
            + map(self.twins.capacity(), size_of::<(u32, Key)>())
            + same
            + 4 * (self.free_clusters.capacity()
                + self.dirty_nodes.capacity()
                + self.dirty_edges.capacity())
    }
}

/// See `Graph::edges_of`.
pub(crate) struct EdgesOf<'a> {
    edges: &'a Arena<Edge>,
    node: u32,
    next: u32,
}

impl Iterator for EdgesOf<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        if self.next == NONE {
            return None;
        }
        let index = self.next;
        let edge = &self.edges[index];
        let other = if edge.a == self.node { edge.b } else { edge.a };
        self.next = edge.next_of(self.node);
        Some((index, other))
    }
}

impl EdgesOf<'_> {
    /// Where it is, so that a walk can go on while it changes flags.
    pub(crate) const fn after(&self) -> At {
        At { node: self.node, next: self.next }
    }
}

/// A place in the list of edges of a node.
#[derive(Clone, Copy)]
pub(crate) struct At {
    node: u32,
    next: u32,
}

/// Symmetric in its arguments. The table takes its bits from both ends of the number.
fn pair_hash(x: u32, y: u32) -> u64 {
    let pair = (u64::from(x.min(y)) << 32) | u64::from(x.max(y));
    let mixed = (pair ^ (pair >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}
