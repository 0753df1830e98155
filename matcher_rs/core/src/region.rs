//! Resolving the part of a hull that a change can reach, rather than all of it.
//!
//! Without this, whoever strings identifiers together into one long hull makes every later event
//! on it as dear as the string is long.
//!
//! Not bounded: a change that truly moves many profiles, one after the other along such a string,
//! as an older link at its end can, costs as much as it moves.
//!
//! Why it gives the same. Whether two clusters may join can only turn from yes to no as they grow
//! (`is_monotone`). Call a cluster *kept* where some new cluster contains it. In a region that is
//! resolved from the evidence inside it, each pair that was accepted inside a kept cluster is
//! accepted again: were it refused, what conflicts would be inside the new cluster, which is
//! within the rules. So at every step a kept cluster is at least what it was, and what was refused
//! across the region's border stays refused, seen from there. A cluster that is not kept may leave
//! room for its neighbours: they are taken into the region, until every cluster at the border is
//! kept.

use hashbrown::{HashMap, HashSet};

use crate::graph::Graph;
use crate::resolve::{Verdict, resolve};

/// The clusters of a region, in the order they were taken in, and their members.
#[derive(Default)]
struct Region {
    clusters: Vec<u32>,
    found: HashSet<u32>,
    members: Vec<u32>,
}

impl Graph {
    /// Whether what may not join now, may not join when more is in it. Not where values that
    /// count as one are counted in windows: one value may make another one older.
    pub(crate) fn is_monotone(&self) -> bool {
        self.same.is_empty() || !self.rules.has_windows()
    }

    /// Resolves what a change at these nodes can reach. `changed`: their clusters may fall apart
    /// for more reasons than evidence between them that was added or became stronger.
    pub(crate) fn resolve_around(&mut self, nodes: &[u32], changed: bool) {
        let mut region = Region::default();
        for node in nodes {
            self.take_in(&mut region, *node);
        }
        let mut expanded: HashSet<u32> = HashSet::new();
        let mut open = if changed { region.clusters.clone() } else { Vec::new() };
        if !self.is_monotone() {
            let members = region.members;
            return self.rebuild(&members);
        }
        loop {
            for cluster in open.drain(..) {
                if expanded.insert(cluster) {
                    self.take_in_neighbours(&mut region, cluster);
                }
            }
            if self.is_whole(&region) {
                return self.rebuild(&region.members);
            }
            let hull = self.hull_of(&region.members);
            let verdict = resolve(&hull, &self.rules);
            self.work += (region.members.len() + verdict.taken.len()) as u64;
            let broken = self.broken(&region, &verdict);
            open.extend(broken.into_iter().filter(|cluster| !expanded.contains(cluster)));
            if open.is_empty() {
                self.take_apart(&region.members);
                return self.put_together(&region.members, &verdict);
            }
        }
    }

    fn take_in(&self, region: &mut Region, node: u32) {
        let cluster = self.nodes[node].cluster;
        if region.found.insert(cluster) {
            region.clusters.push(cluster);
            region.members.extend(self.members_of(node));
        }
    }

    fn take_in_neighbours(&self, region: &mut Region, cluster: u32) {
        for member in self.members_of(self.clusters[cluster].founder) {
            if !self.is_apart(member) {
                for other in self.neighbours(member).filter(|other| !self.is_apart(*other)) {
                    self.take_in(region, other);
                }
            }
        }
    }

    /// Whether a region has no border: it is whole hulls, which may be free now.
    fn is_whole(&self, region: &Region) -> bool {
        let joins = |node: &&u32| !self.is_apart(**node);
        let mut around =
            region.members.iter().filter(joins).flat_map(|member| self.neighbours(*member));
        around
            .all(|other| self.is_apart(other) || region.found.contains(&self.nodes[other].cluster))
    }

    /// The clusters that are in no new cluster as a whole.
    fn broken(&self, region: &Region, verdict: &Verdict) -> Vec<u32> {
        let mut first: HashMap<u32, u32> = HashMap::with_capacity(region.clusters.len());
        let mut broken = Vec::new();
        for (member, new) in region.members.iter().zip(&verdict.cluster_of) {
            let cluster = self.nodes[*member].cluster;
            if *first.entry(cluster).or_insert(*new) != *new {
                broken.push(cluster);
            }
        }
        broken.dedup();
        broken
    }
}
