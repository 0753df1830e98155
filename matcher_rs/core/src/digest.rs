//! A canonical dump of evidence and result: equal for equal evidence, however it arrived.

use crate::graph::{GONE, Graph, REMOVED, SEEN, SHARED, SUPPRESSED};
use crate::key::Hasher;
use crate::resolver::Resolver;

impl Resolver {
    /// A hash of the canonical dump, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        Hasher::plain(&self.graph.dump()).hex()
    }
}

impl Graph {
    /// Every identifier and pair by key, each with what was made of it.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = Vec::with_capacity(self.nodes.len() + self.edges.len());
        let is_there = |node: &u32| self.nodes[*node].flags & GONE == 0;
        for node in (0..self.nodes.len() as u32).filter(is_there) {
            let (mut line, value) = self.node_row(node);
            line.extend(value);
            line.extend(self.nodes[self.founder(node)].key.0);
            let apart = self.is_apart(node);
            let flags = self.nodes[node].flags & (SEEN | SHARED);
            line.extend([flags, u8::from(apart), self.state(node) as u8]);
            lines.push(line);
        }
        let is_there = |edge: &u32| self.edges[*edge].flags & REMOVED == 0;
        for edge in (0..self.edges.len() as u32).filter(is_there) {
            let (mut line, value) = self.edge_row(edge);
            line.extend(value);
            line.push(self.edges[edge].flags & SUPPRESSED);
            lines.push(line);
        }
        lines.sort_unstable();
        lines.concat()
    }
}
