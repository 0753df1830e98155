//! Forgetting identifiers: as if nobody had ever named them.
//!
//! First every pair at them loses its evidence, by the way that a pair whose evidence was taken
//! back goes: who is shared is decided anew, and what the pairs held together is resolved. Then
//! they are alone, and are taken out of the tables. Their slots stay empty until the process ends:
//! a used slot's number must never mean two identifiers, and people are forgotten rarely.

use hashbrown::HashSet;

use crate::batch::Resolution;
use crate::error::Result;
use crate::evidence::Evidence;
use crate::graph::{GONE, Graph};
use crate::key::Key;
use crate::resolver::Resolver;
use crate::tell::Effects;

impl Resolver {
    /// Removes identifiers with everything that was ever said about them, and resolves what they
    /// held together. A reading of an alias that was never used goes with the other reading: it is
    /// the same value. Identifiers that are not there are passed over.
    ///
    /// The result has no `decided`; its changes are those of the profiles that are left, all of
    /// `observation` 0. A profile of which nothing is left has no change.
    ///
    /// # Errors
    /// Loaded rows contradict each other; see `finish_load`.
    pub fn forget(&mut self, keys: &[Key]) -> Result<Resolution> {
        self.finish_load()?;
        self.has_resolved = true;
        let mut resolution = Resolution::default();
        let graph = &mut self.graph;
        let gone = graph.with_unused_readings(keys);
        graph.journal.begin(graph.nodes.len());
        graph.take_back(&gone);
        for node in &gone {
            graph.nodes[*node].flags |= GONE;
        }
        graph.changes(0, &mut resolution.changes);
        for node in gone {
            graph.remove(node, &mut resolution.deleted);
        }
        graph.journal.begin(graph.nodes.len());
        self.take_rows(&mut resolution.rows);
        Ok(resolution)
    }
}

impl Graph {
    fn with_unused_readings(&self, keys: &[Key]) -> Vec<u32> {
        let mut found: HashSet<u32> = HashSet::new();
        let mut gone = Vec::new();
        for key in keys {
            let Some(node) = self.find(*key) else { continue };
            let reading = self.twins.get(&node).and_then(|twin| self.find(*twin));
            let reading = reading.filter(|reading| self.is_hidden(*reading));
            gone.extend([Some(node), reading].into_iter().flatten().filter(|n| found.insert(*n)));
        }
        gone
    }

    /// Ends the evidence of every pair at these nodes, and settles what follows.
    fn take_back(&mut self, gone: &[u32]) {
        let mut effects = Effects::default();
        for node in gone {
            let edges: Vec<(u32, u32)> = self.edges_of(*node).collect();
            self.work += edges.len() as u64;
            for (edge, _) in edges {
                self.edges[edge].evidence = Evidence::NONE;
                self.said.remove(&edge);
                let (before, after) = self.restand(edge);
                if before != after {
                    self.stand(edge, before, after, &mut effects);
                }
            }
        }
        if !effects.seeds.is_empty() {
            self.settle(&[], &mut effects.seeds);
        }
    }

    /// Takes out a node that is alone, with its pairs.
    fn remove(&mut self, node: u32, deleted: &mut Vec<Vec<u8>>) {
        let edges: Vec<(u32, u32)> = self.edges_of(node).collect();
        for (edge, other) in edges {
            deleted.push(self.edge_row(edge).0);
            self.unlink(other, edge);
            self.remove_edge(edge);
        }
        deleted.push(self.node_row(node).0);
        let twin = self.twins.remove(&node).and_then(|twin| self.find(twin));
        if let Some(twin) = twin
            && self.twins.remove(&twin).is_some()
            && self.nodes[twin].flags & GONE == 0
        {
            self.mark_node(twin);
        }
        debug_assert!(!self.same.contains_key(&node), "what was declared was taken back");
        self.leave_cluster(node);
        self.remove_node(node);
    }
}
