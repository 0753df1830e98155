//! Which identifiers join nobody, and which values are one: functions of a node's own evidence.
//!
//! *Shared*: seen with more persons than its namespace allows. *Crowded*: seen with more other
//! identifiers than a profile may have, as an id that somebody hard-coded; it stays a profile of
//! its own, but joins nothing. Both are decided by live evidence alone, never by who is in which
//! profile, so that they cannot depend on order, and one new edge can change its two ends only.

use std::collections::BTreeSet;

use crate::graph::{CROWDED, Graph, SHARED};

impl Graph {
    /// Whether the persons of one namespace that a node was seen with are more than it may have.
    /// Ids that the company or an operator declared to be one count once.
    fn has_too_many_persons(&mut self, node: u32) -> bool {
        let most = self.rules.persons_max(self.nodes[node].namespace) as usize;
        if most == 0 || usize::from(self.nodes[node].degree) <= most {
            return false;
        }
        let mut persons: BTreeSet<(u8, u32)> = BTreeSet::new();
        let mut steps = 0;
        let mut found = false;
        for other in self.neighbours(node) {
            steps += 1;
            let namespace = self.nodes[other].namespace;
            if self.rules.is_person(namespace) && persons.insert((namespace, self.class_of(other)))
            {
                let of_namespace = (namespace, 0)..=(namespace, u32::MAX);
                if persons.range(of_namespace).count() > most {
                    found = true;
                    break;
                }
            }
        }
        self.work += steps;
        found
    }

    /// Decides anew whether a node joins nobody. Where that changed, notes in `seeds` whose hulls
    /// change with it.
    pub(crate) fn reconsider(&mut self, node: u32, seeds: &mut Vec<u32>) {
        let before = self.nodes[node].flags & (SHARED | CROWDED);
        let mut after = 0;
        if self.has_too_many_persons(node) {
            after |= SHARED;
        }
        if u32::from(self.nodes[node].degree) > self.rules.hull_nodes_max {
            after |= CROWDED;
        }
        if before == after {
            return;
        }
        match (before & SHARED, after & SHARED) {
            (0, SHARED) => self.shared += 1,
            (SHARED, 0) => self.shared -= 1,
            _ => {}
        }
        self.nodes[node].flags ^= before ^ after;
        if (before == 0) == (after == 0) {
            return;
        }
        seeds.push(node);
        if after != 0 {
            let edges: Vec<(u32, u32)> = self.edges_of(node).collect();
            self.work += edges.len() as u64;
            for (edge, other) in edges {
                self.set_suppressed(edge, false);
                if self.edges[edge].is_live() {
                    seeds.push(other);
                }
            }
        }
    }

    /// After a new live edge: both ends may join nobody from now on.
    pub(crate) fn reconsider_ends(&mut self, a: u32, b: u32, seeds: &mut Vec<u32>) {
        for (node, other) in [(a, b), (b, a)] {
            let (this, that) = (&self.nodes[node], &self.nodes[other]);
            let may_share = this.flags & SHARED == 0 && self.rules.is_person(that.namespace);
            let may_crowd = u32::from(this.degree) > self.rules.hull_nodes_max;
            if may_share || (may_crowd && this.flags & CROWDED == 0) {
                self.reconsider(node, seeds);
            }
        }
    }

    /// The smallest node that is declared to be the same value as this one.
    pub(crate) fn class_of(&self, node: u32) -> u32 {
        self.class(node).first().copied().unwrap_or(node)
    }

    fn class(&self, node: u32) -> BTreeSet<u32> {
        let mut class = BTreeSet::from([node]);
        if !self.same.contains_key(&node) {
            return class;
        }
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            for other in self.same.get(&next).into_iter().flatten() {
                if class.insert(*other) {
                    open.push(*other);
                }
            }
        }
        class
    }

    /// Two values are declared to be one, or no longer: limits and persons are counted anew.
    pub(crate) fn declare(&mut self, a: u32, b: u32, same: bool, seeds: &mut Vec<u32>) {
        self.note_same(a, b, same);
        let mut class = self.class(a);
        class.append(&mut self.class(b));
        let around: BTreeSet<u32> = class
            .iter()
            .flat_map(|member| self.neighbours(*member))
            .filter(|node| self.rules.persons_max(self.nodes[*node].namespace) > 0)
            .collect();
        self.work += around.len() as u64;
        for node in around {
            self.reconsider(node, seeds);
        }
        seeds.extend([a, b]);
        seeds.extend(class);
    }

    pub(crate) fn note_same(&mut self, a: u32, b: u32, same: bool) {
        for (node, other) in [(a, b), (b, a)] {
            let list = self.same.entry(node).or_default();
            list.retain(|known| *known != other);
            if same {
                list.push(other);
            }
            if list.is_empty() {
                self.same.remove(&node);
            }
        }
    }
}
