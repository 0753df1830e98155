//! Clusters: making, joining and renaming them.

use crate::graph::{CONTESTED, Cluster, Graph, NONE, PENDING, SEEN};
use crate::rules::{Kind, NAMESPACES_MAX};

/// How well a profile is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Devices only.
    Anonymous = 0,
    /// Something to reach a person by, or a sign-in whose link was refused.
    Transitioning = 1,
    /// A person's id.
    Identified = 2,
}

impl Graph {
    /// The member that names the cluster of a node.
    pub(crate) fn founder(&self, node: u32) -> u32 {
        self.clusters[self.nodes[node].cluster].founder
    }

    /// Whether `x` names a cluster rather than `y`: seen on events, then first seen, then by key.
    pub(crate) fn is_older(&self, x: u32, y: u32) -> bool {
        let rank = |node: u32| {
            let node = &self.nodes[node];
            (node.flags & SEEN == 0, node.first_us, node.key)
        };
        rank(x) < rank(y)
    }

    pub(crate) fn state(&self, node: u32) -> State {
        let cluster = &self.clusters[self.nodes[node].cluster];
        let mut state =
            if cluster.flags & PENDING == 0 { State::Anonymous } else { State::Transitioning };
        for (code, count) in (0_u8..).zip(cluster.counts) {
            if count > 0 {
                state = state.max(match self.rules.kind(code) {
                    Kind::Person => State::Identified,
                    Kind::Device => State::Anonymous,
                    Kind::Contact | Kind::Email | Kind::Phone => State::Transitioning,
                });
            }
        }
        state
    }

    /// A cluster of these nodes, which are in none; `flags` are added to what follows from them.
    pub(crate) fn make_cluster(&mut self, members: &[u32], flags: u8) -> u32 {
        let mut cluster = Cluster { founder: NONE, size: 0, counts: [0; NAMESPACES_MAX], flags };
        for (place, member) in members.iter().enumerate() {
            let next = members.get(place + 1).unwrap_or(&members[0]);
            let node = &mut self.nodes[*member];
            node.next = *next;
            let count = &mut cluster.counts[usize::from(node.namespace)];
            *count = count.saturating_add(1);
            cluster.size += 1;
            if cluster.founder == NONE || self.is_older(*member, cluster.founder) {
                cluster.founder = *member;
            }
        }
        let number = self.put_cluster(cluster);
        for member in members {
            self.nodes[*member].cluster = number;
        }
        number
    }

    fn put_cluster(&mut self, cluster: Cluster) -> u32 {
        match self.free_clusters.pop() {
            Some(number) => {
                self.clusters[number] = cluster;
                number
            }
            None => self.clusters.push(cluster),
        }
    }

    /// Takes a node out of its cluster's count; the number is free with the last one.
    pub(crate) fn leave_cluster(&mut self, node: u32) {
        let number = std::mem::replace(&mut self.nodes[node].cluster, NONE);
        if number == NONE {
            return;
        }
        self.clusters[number].size -= 1;
        if self.clusters[number].size == 0 {
            self.free_clusters.push(number);
            self.journal.forget_cluster(number);
        }
    }

    /// Whether nothing could refuse to join these two uncontested clusters, so that a hull and
    /// its profile are the same and stay it.
    pub(crate) fn fits(&self, a: u32, b: u32) -> bool {
        let (left, right) = (&self.clusters[a], &self.clusters[b]);
        let within = |code: u8| {
            let slot = usize::from(code);
            let limit = u16::from(self.rules.limit(code));
            limit == 0 || u16::from(left.counts[slot]) + u16::from(right.counts[slot]) <= limit
        };
        (left.flags | right.flags) & CONTESTED == 0
            && left.size + right.size <= self.rules.hull_nodes_max
            && (0..NAMESPACES_MAX as u8).all(within)
    }

    /// Joins the clusters of two nodes, the smaller into the larger.
    pub(crate) fn join(&mut self, x: u32, y: u32) {
        let (a, b) = (self.nodes[x].cluster, self.nodes[y].cluster);
        let (kept, gone) =
            if self.clusters[a].size >= self.clusters[b].size { (a, b) } else { (b, a) };
        let (old, other) = (self.clusters[kept].founder, self.clusters[gone].founder);
        self.journal.note_cluster(kept, old);
        let mut member = other;
        loop {
            self.journal.note_node(member, gone, other);
            self.nodes[member].cluster = kept;
            member = self.nodes[member].next;
            self.work += 1;
            if member == other {
                break;
            }
        }
        // Two rings become one when two of their members change successors.
        let (after_old, after_other) = (self.nodes[old].next, self.nodes[other].next);
        self.nodes[old].next = after_other;
        self.nodes[other].next = after_old;
        self.absorb(kept, gone);
    }

    fn absorb(&mut self, kept: u32, gone: u32) {
        let (counts, size, flags) = {
            let gone = &self.clusters[gone];
            (gone.counts, gone.size, gone.flags)
        };
        let other = self.clusters[gone].founder;
        let is_older = self.is_older(other, self.clusters[kept].founder);
        let cluster = &mut self.clusters[kept];
        for (count, more) in cluster.counts.iter_mut().zip(counts) {
            *count = count.saturating_add(more);
        }
        cluster.size += size;
        cluster.flags |= flags;
        if is_older {
            cluster.founder = other;
        }
        self.journal.forget_cluster(gone);
        self.clusters[gone].size = 0;
        self.free_clusters.push(gone);
    }

    /// After a node became older or was seen: it may name its cluster now.
    pub(crate) fn reconsider_founder(&mut self, node: u32) {
        let number = self.nodes[node].cluster;
        let founder = self.clusters[number].founder;
        if founder != node && self.is_older(node, founder) {
            self.journal.note_cluster(number, founder);
            self.clusters[number].founder = node;
        }
    }
}
