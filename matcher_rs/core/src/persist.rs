//! Rows: what is stored of identifiers and evidence. Profiles are not stored; they follow.
//!
//! A node: `n` + key -> version, namespace, flags, first time, and the key of its twin if any.
//! An edge: `e` + smaller key + larger key -> version, kinds, last hour, sources, first time, and
//! the three times of operators if any. Numbers are little-endian.

use crate::error::{Error, Result};
use crate::evidence::{Evidence, Said};
use crate::graph::{CROWDED, DIRTY, Graph, KNOWN, NONE, PARTED, SEEN, SHARED};
use crate::key::{KEY_BYTES, Key};
use crate::resolver::Resolver;
use crate::rules::NAMESPACES_MAX;

/// A row to store: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

const VERSION: u8 = 1;
const NODE: u8 = b'n';
const EDGE: u8 = b'e';
const NODE_BYTES: usize = 11;
const EDGE_BYTES: usize = 18;
const SAID_BYTES: usize = 24;
const SEEN_BIT: u8 = 1;

/// Rows that are looked up, and hulls that are resolved, in one go while loading.
const LOOKUPS_AHEAD: usize = 64;
const HULLS_AHEAD: usize = 256;

/// A stored row, parsed.
pub(crate) enum Loaded {
    Node { key: Key, namespace: u8, first_us: i64, flags: u8, twin: Option<Key> },
    Edge { a: Key, b: Key, evidence: Evidence, said: Option<Said> },
}

/// Reads numbers off the front of a value that has enough bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        *taken
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }
}

impl Resolver {
    /// Takes a stored row. Rows may come in any order, before the first `resolve`.
    ///
    /// # Errors
    /// The row is none of ours, or observations were taken in already.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.has_resolved {
            return Err(Error::new("rows come before observations; load into a new resolver"));
        }
        self.is_loading = true;
        let of = |range: std::ops::Range<usize>| key.get(range).and_then(Key::from_bytes);
        let row = match (key.first(), key.len(), of(1..17), of(17..33)) {
            (Some(&NODE), 17, Some(node), _) => node_of_row(node, value)?,
            (Some(&EDGE), 33, Some(a), Some(b)) if a < b => edge_of_row(a, b, value)?,
            _ => return Err(refused("key", key.len())),
        };
        self.loading.push(row);
        if self.loading.len() == LOOKUPS_AHEAD {
            self.graph.take_loaded(&mut self.loading);
        }
        Ok(())
    }

    /// Resolves what was loaded. `resolve` does it by itself; queries do not.
    ///
    /// # Errors
    /// An edge names a node that has no row.
    pub fn finish_load(&mut self) -> Result<()> {
        if self.is_loading {
            self.is_loading = false;
            self.graph.take_loaded(&mut self.loading);
            self.loading = Vec::new();
            self.graph.resolve_loaded()?;
        }
        Ok(())
    }

    /// The rows that changed since the last call.
    pub(crate) fn take_rows(&mut self, rows: &mut Vec<Row>) {
        let graph = &mut self.graph;
        let nodes = std::mem::take(&mut graph.dirty_nodes);
        let edges = std::mem::take(&mut graph.dirty_edges);
        rows.reserve_exact(nodes.len() + edges.len());
        for node in nodes {
            graph.nodes[node].flags &= !DIRTY;
            rows.push(graph.node_row(node));
        }
        for edge in edges {
            graph.edges[edge].flags &= !DIRTY;
            rows.push(graph.edge_row(edge));
        }
    }
}

fn refused(part: &str, found: usize) -> Error {
    Error::new(format!(
        "an identity row has a {part} of {found} bytes that this version does not write; \
         restore the store, or run the version that wrote it"
    ))
}

fn node_of_row(key: Key, value: &[u8]) -> Result<Loaded> {
    let has_twin = value.len() == NODE_BYTES + KEY_BYTES;
    if value.first() != Some(&VERSION) || !(has_twin || value.len() == NODE_BYTES) {
        return Err(refused("value", value.len()));
    }
    let mut reader = Reader(value);
    let [_, namespace, seen] = reader.take();
    if usize::from(namespace) >= NAMESPACES_MAX {
        return Err(refused("value", value.len()));
    }
    let first_us = reader.i64();
    let flags = KNOWN | if seen & SEEN_BIT == 0 { 0 } else { SEEN };
    let twin = has_twin.then(|| Key(reader.take()));
    Ok(Loaded::Node { key, namespace, first_us, flags, twin })
}

fn edge_of_row(a: Key, b: Key, value: &[u8]) -> Result<Loaded> {
    let has_said = value.len() == EDGE_BYTES + SAID_BYTES;
    if value.first() != Some(&VERSION) || !(has_said || value.len() == EDGE_BYTES) {
        return Err(refused("value", value.len()));
    }
    let mut reader = Reader(value);
    let [_, kinds] = reader.take();
    let evidence = Evidence {
        kinds,
        last_hour: i32::from_le_bytes(reader.take()),
        sources: u32::from_le_bytes(reader.take()),
        first_us: reader.i64(),
    };
    let said = has_said.then(|| Said {
        link_us: reader.i64(),
        unlink_us: reader.i64(),
        retract_us: reader.i64(),
    });
    Ok(Loaded::Edge { a, b, evidence, said })
}

impl Graph {
    pub(crate) fn node_row(&self, index: u32) -> Row {
        let node = &self.nodes[index];
        let mut key = Vec::with_capacity(1 + KEY_BYTES);
        key.push(NODE);
        key.extend_from_slice(&node.key.0);
        let mut value = Vec::with_capacity(NODE_BYTES);
        let seen = if node.flags & SEEN == 0 { 0 } else { SEEN_BIT };
        value.extend_from_slice(&[VERSION, node.namespace, seen]);
        value.extend_from_slice(&node.first_us.to_le_bytes());
        if let Some(twin) = self.twins.get(&index) {
            value.extend_from_slice(&twin.0);
        }
        (key, value)
    }

    pub(crate) fn edge_row(&self, index: u32) -> Row {
        let edge = &self.edges[index];
        let mut key = Vec::with_capacity(1 + 2 * KEY_BYTES);
        key.push(EDGE);
        key.extend_from_slice(&self.nodes[edge.a].key.0);
        key.extend_from_slice(&self.nodes[edge.b].key.0);
        let mut value = Vec::with_capacity(EDGE_BYTES);
        value.extend_from_slice(&[VERSION, edge.evidence.kinds]);
        value.extend_from_slice(&edge.evidence.last_hour.to_le_bytes());
        value.extend_from_slice(&edge.evidence.sources.to_le_bytes());
        value.extend_from_slice(&edge.evidence.first_us.to_le_bytes());
        if let Some(said) = self.said.get(&index) {
            for time_us in [said.link_us, said.unlink_us, said.retract_us] {
                value.extend_from_slice(&time_us.to_le_bytes());
            }
        }
        (key, value)
    }

    /// Takes in parsed rows: first every look-up, so that the machine waits for memory once.
    fn take_loaded(&mut self, rows: &mut Vec<Loaded>) {
        let look_up = |row: &Loaded| match row {
            Loaded::Node { key, .. } => (self.find(*key), None),
            Loaded::Edge { a, b, .. } => (self.find(*a), self.find(*b)),
        };
        let known: Vec<(Option<u32>, Option<u32>)> = rows.iter().map(look_up).collect();
        for (row, (first, second)) in rows.drain(..).zip(known) {
            match row {
                Loaded::Node { key, namespace, first_us, flags, twin } => {
                    let index = first.unwrap_or_else(|| self.find_or_add(key));
                    let node = &mut self.nodes[index];
                    (node.namespace, node.first_us, node.flags) = (namespace, first_us, flags);
                    if let Some(twin) = twin {
                        self.twins.insert(index, twin);
                    }
                }
                Loaded::Edge { a, b, evidence, said } => {
                    let x = first.unwrap_or_else(|| self.find_or_add(a));
                    let y = second.unwrap_or_else(|| self.find_or_add(b));
                    let index = self.find_edge(x, y).unwrap_or_else(|| self.add_edge(x, y));
                    self.edges[index].evidence = evidence;
                    if let Some(said) = said {
                        self.said.insert(index, said);
                    }
                }
            }
        }
    }

    fn find_or_add(&mut self, key: Key) -> u32 {
        self.find(key).unwrap_or_else(|| self.add_node(key))
    }

    /// From evidence alone: standings, degrees, who joins nobody, and then every hull.
    fn resolve_loaded(&mut self) -> Result<()> {
        self.journal.begin(0);
        let count = |len: usize| u32::try_from(len).expect("items are numbered by u32");
        let nodes = count(self.nodes.len());
        for node in 0..nodes {
            let (cluster, flags) = (self.nodes[node].cluster, self.nodes[node].flags);
            if flags & KNOWN == 0 {
                return Err(Error::new(
                    "an identity row of an edge names an identifier without a row; \
                     restore the store",
                ));
            }
            debug_assert!(cluster == NONE || flags & DIRTY == 0, "nothing was resolved before");
            self.nodes[node].degree = 0;
            self.nodes[node].flags &= !(SHARED | CROWDED);
        }
        self.shared = 0;
        for edge in 0..count(self.edges.len()) {
            self.stand_loaded(edge);
        }
        let mut seeds = Vec::new();
        for node in 0..nodes {
            self.reconsider(node, &mut seeds);
            seeds.clear();
        }
        for node in 0..nodes {
            if self.nodes[node].cluster == NONE {
                seeds.push(node);
            }
            // A few hulls at a time, so that they are still at hand when they are resolved.
            if seeds.len() == HULLS_AHEAD || node + 1 == nodes {
                self.rebuild(&seeds);
                seeds.clear();
            }
        }
        Ok(())
    }

    fn stand_loaded(&mut self, edge: u32) {
        let (a, b) = (self.edges[edge].a, self.edges[edge].b);
        let (_, standing) = self.restand(edge);
        for node in [a, b] {
            let node = &mut self.nodes[node];
            if standing.live {
                node.degree = node.degree.saturating_add(1);
            }
            if standing.cannot {
                node.flags |= PARTED;
            }
        }
        self.note_loaded_same(a, b, standing.same);
    }

    fn note_loaded_same(&mut self, a: u32, b: u32, same: bool) {
        if same || self.same.contains_key(&a) {
            self.note_same(a, b, same);
        }
    }
}
