//! Hulls: everything that live evidence connects, limits aside. A change touches its own hull.
//!
//! Nearly always nothing in a hull can be refused, and then the hull is the profile and a new
//! edge is one join. Where something can (`CONTESTED`), the part that a change can reach is
//! resolved anew (`region.rs`), or the whole hull is walked.

use hashbrown::HashMap;

use crate::graph::{CONTESTED, Graph, NONE, PARTED, PENDING, SUPPRESSED, VISITED};
use crate::resolve::{Hull, HullEdge, HullNode, Verdict, resolve};
use crate::rules::NAMESPACES_MAX;

impl Graph {
    /// Brings profiles up to date with evidence that changed: `joined` are the ends of edges that
    /// became live or stronger, `seeds` nodes whose hull changed in another way.
    pub(crate) fn settle(&mut self, joined: &[(u32, u32)], seeds: &mut Vec<u32>) {
        if !seeds.is_empty() {
            seeds.extend(joined.iter().flat_map(|(a, b)| [*a, *b]));
            self.resolve_around(seeds, true);
            return;
        }
        for (a, b) in joined {
            if !self.is_apart(*a) && !self.is_apart(*b) {
                self.connect(*a, *b);
            }
        }
    }

    fn connect(&mut self, a: u32, b: u32) {
        let (left, right) = (self.nodes[a].cluster, self.nodes[b].cluster);
        if left == right {
            // What holds a profile together already cannot be refused for being stronger.
            if self.clusters[left].flags & CONTESTED != 0 && !self.is_monotone() {
                self.resolve_around(&[a], true);
            }
        } else if self.fits(left, right) || self.hangs_on(a, b) || self.hangs_on(b, a) {
            self.join(a, b);
        } else {
            self.resolve_around(&[a, b], false);
        }
    }

    /// Whether a node has this edge only, and counts towards no limit. It cannot change what is
    /// decided about others: it follows its neighbour. What was refused, stays refused.
    fn hangs_on(&self, node: u32, other: u32) -> bool {
        let hanging = &self.nodes[node];
        let size = self.clusters[self.nodes[other].cluster].size;
        hanging.degree == 1
            && self.clusters[hanging.cluster].size == 1
            && hanging.flags & PARTED == 0
            && self.rules.limit(hanging.namespace) == 0
            && size < self.rules.hull_nodes_max
    }

    /// Resolves the hulls of these nodes from their evidence.
    pub(crate) fn rebuild(&mut self, seeds: &[u32]) {
        let (members, ends) = self.walk(seeds);
        self.take_apart(&members);
        let mut start = 0;
        for end in ends {
            self.resolve_hull(&members[start..end]);
            start = end;
        }
    }

    /// Takes whole clusters apart, after noting whose their members were.
    pub(crate) fn take_apart(&mut self, members: &[u32]) {
        for member in members {
            let cluster = self.nodes[*member].cluster;
            if cluster != NONE {
                self.journal.note_node(*member, cluster, self.clusters[cluster].founder);
            }
        }
        for member in members {
            self.leave_cluster(*member);
        }
    }

    /// The members of the hulls of these nodes, hull by hull, and where each hull ends.
    fn walk(&mut self, seeds: &[u32]) -> (Vec<u32>, Vec<usize>) {
        let (mut members, mut ends) = (Vec::new(), Vec::new());
        for seed in seeds {
            let mut next = members.len();
            self.visit(*seed, &mut members);
            while next < members.len() {
                let node = members[next];
                next += 1;
                if self.is_apart(node) {
                    continue;
                }
                let mut edge = self.edges_of(node).after();
                while let Some((index, other, rest)) = self.step(edge) {
                    edge = rest;
                    if self.edges[index].is_live() && !self.is_apart(other) {
                        self.visit(other, &mut members);
                    }
                }
            }
            if ends.last().copied().unwrap_or(0) < members.len() {
                ends.push(members.len());
            }
        }
        for member in &members {
            self.nodes[*member].flags &= !VISITED;
        }
        (members, ends)
    }

    fn visit(&mut self, node: u32, members: &mut Vec<u32>) {
        self.work += 1;
        let flags = &mut self.nodes[node].flags;
        if *flags & VISITED == 0 {
            *flags |= VISITED;
            members.push(node);
        }
    }

    fn resolve_hull(&mut self, members: &[u32]) {
        if self.is_apart(members[0]) {
            self.make_cluster(members, 0);
            return;
        }
        if self.is_free(members) {
            self.release(members);
            self.make_cluster(members, 0);
            return;
        }
        let hull = self.hull_of(members);
        let verdict = resolve(&hull, &self.rules);
        self.work += verdict.taken.len() as u64;
        self.put_together(members, &verdict);
    }

    /// Makes the clusters of a verdict about these members, which are in none.
    pub(crate) fn put_together(&mut self, members: &[u32], verdict: &Verdict) {
        for (edge, outcome) in &verdict.taken {
            self.set_suppressed(edge.edge, outcome.is_refusal());
        }
        let mut parts: Vec<(u32, u32)> =
            verdict.cluster_of.iter().copied().zip(members.iter().copied()).collect();
        parts.sort_unstable();
        for part in parts.chunk_by(|x, y| x.0 == y.0) {
            let part: Vec<u32> = part.iter().map(|(_, member)| *member).collect();
            let pending = if self.is_pending(&part) { PENDING } else { 0 };
            self.make_cluster(&part, CONTESTED | pending);
        }
    }

    /// Whether evidence that was refused joins one of these with a person.
    fn is_pending(&self, members: &[u32]) -> bool {
        let mut edges = members.iter().flat_map(|member| self.edges_of(*member));
        edges.any(|(edge, other)| {
            self.edges[edge].flags & SUPPRESSED != 0
                && self.rules.is_person(self.nodes[other].namespace)
        })
    }

    /// Whether nothing in a hull could be refused.
    fn is_free(&self, members: &[u32]) -> bool {
        let mut counts = [0_u32; NAMESPACES_MAX];
        for member in members {
            let node = &self.nodes[*member];
            counts[usize::from(node.namespace)] += 1;
            if node.flags & PARTED != 0 {
                return false;
            }
        }
        let within = |(code, count): (u8, u32)| {
            let limit = u32::from(self.rules.limit(code));
            limit == 0 || count <= limit
        };
        members.len() <= self.rules.hull_nodes_max as usize && (0_u8..).zip(counts).all(within)
    }

    /// No edge of a free hull is refused; most were not before.
    fn release(&mut self, members: &[u32]) {
        if self.suppressed == 0 {
            return;
        }
        for member in members {
            let mut edge = self.edges_of(*member).after();
            while let Some((index, _, rest)) = self.step(edge) {
                edge = rest;
                self.set_suppressed(index, false);
            }
        }
    }

    /// What decides about the hull of these members, by their place.
    pub(crate) fn hull_of(&self, members: &[u32]) -> Hull {
        let mut hull = Hull::default();
        let mut places: HashMap<u32, u32> = HashMap::with_capacity(members.len());
        for (place, member) in (0..).zip(members) {
            places.insert(*member, place);
            let node = &self.nodes[*member];
            hull.nodes.push(HullNode {
                key: node.key,
                namespace: node.namespace,
                first_us: node.first_us,
                class: self.class_of(*member),
            });
        }
        for (place, member) in (0_u32..).zip(members) {
            if self.is_apart(*member) {
                continue;
            }
            for (index, other) in self.edges_of(*member) {
                let edge = &self.edges[index];
                let is_within = edge.a == *member && !self.is_apart(other);
                let (true, Some(other)) = (is_within, places.get(&other)) else {
                    continue;
                };
                if edge.standing().cannot {
                    hull.forbidden.push((place, *other));
                }
                if edge.is_live() {
                    let (a, b) = (&hull.nodes[place as usize], &hull.nodes[*other as usize]);
                    let assurance = edge.evidence.assurance(
                        edge.standing().linked,
                        &self.rules,
                        a.namespace,
                        b.namespace,
                    );
                    let first_us = edge.evidence.first_us;
                    hull.edges.push(HullEdge {
                        a: place,
                        b: *other,
                        assurance,
                        first_us,
                        edge: index,
                    });
                }
            }
        }
        hull
    }

    /// The members of the hull of a node, itself first.
    pub(crate) fn hull_members(&self, node: u32) -> Vec<u32> {
        let mut members = vec![node];
        let mut found: hashbrown::HashSet<u32> = [node].into_iter().collect();
        let mut next = 0;
        while next < members.len() {
            let member = members[next];
            next += 1;
            if self.is_apart(member) {
                continue;
            }
            for other in self.neighbours(member) {
                if !self.is_apart(other) && found.insert(other) {
                    members.push(other);
                }
            }
        }
        members
    }
}
