//! What an observation did to profiles: who was whose before, and so what merged, split or was
//! renamed. Only what moves is noted, which is nothing for most observations.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::graph::{GONE, Graph};
use crate::key::Key;

/// What happened to a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The profile was `other`, and is now `profile`.
    Renamed,
    /// `other` left `profile`: identifiers of it belong to `other` now.
    Split,
    /// `profile` took in `other`.
    Merged,
}

impl ChangeKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Renamed => "renamed",
            Self::Split => "split",
            Self::Merged => "merged",
        }
    }
}

/// One change of profiles and the observation that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The place of the observation in its batch.
    pub observation: usize,
    /// What happened.
    pub kind: ChangeKind,
    /// The profile.
    pub profile: Key,
    /// The other one.
    pub other: Key,
}

/// The owners before, of what has moved since the observation began.
#[derive(Default)]
pub(crate) struct Journal {
    /// Nodes from here on are the observation's own: no profile of theirs was ever named.
    mark: u32,
    by_node: HashMap<u32, u32>,
    /// The founder of a cluster before; holds for those of its members that are not in `by_node`.
    by_cluster: Vec<(u32, u32)>,
}

impl Journal {
    pub(crate) fn begin(&mut self, nodes: usize) {
        self.mark = u32::try_from(nodes).expect("nodes are numbered by u32");
        if !self.is_empty() {
            self.by_node.clear();
            self.by_cluster.clear();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_node.is_empty() && self.by_cluster.is_empty()
    }

    /// Before a cluster gets another founder or other members.
    pub(crate) fn note_cluster(&mut self, cluster: u32, founder: u32) {
        if !self.by_cluster.iter().any(|(noted, _)| *noted == cluster) {
            self.by_cluster.push((cluster, founder));
        }
    }

    /// Before a node leaves a cluster that has this founder now.
    pub(crate) fn note_node(&mut self, node: u32, cluster: u32, founder: u32) {
        if node < self.mark {
            let noted = self.by_cluster.iter().find(|(noted, _)| *noted == cluster);
            let before = noted.map_or(founder, |(_, before)| *before);
            self.by_node.entry(node).or_insert(before);
        }
    }

    /// After every member of a cluster was noted and its number is free.
    pub(crate) fn forget_cluster(&mut self, cluster: u32) {
        self.by_cluster.retain(|(noted, _)| *noted != cluster);
    }

    /// The founder before, of a node that stayed in its cluster while others joined that.
    fn unmoved_owner(&self, graph: &Graph, node: u32) -> Option<u32> {
        let cluster = graph.nodes[node].cluster;
        let noted = self.by_cluster.iter().find(|(noted, _)| *noted == cluster);
        noted.filter(|_| node < self.mark).map(|(_, founder)| *founder)
    }

    /// Founders before, by node, and by themselves. In the order of nodes.
    fn owners(&self) -> BTreeMap<u32, u32> {
        let clusters = self.by_cluster.iter().map(|(_, founder)| (*founder, *founder));
        let mut owners: BTreeMap<u32, u32> =
            clusters.filter(|(founder, _)| *founder < self.mark).collect();
        owners.extend(self.by_node.iter().map(|(node, founder)| (*node, *founder)));
        let founders: Vec<u32> = owners.values().copied().collect();
        owners.extend(founders.into_iter().map(|founder| (founder, founder)));
        owners
    }
}

impl Graph {
    /// The changes since the journal began, in an order that does not depend on how they came.
    pub(crate) fn changes(&self, observation: usize, changes: &mut Vec<Change>) {
        if self.journal.is_empty() {
            return;
        }
        let mut owners = self.journal.owners();
        owners.retain(|node, _| self.nodes[*node].flags & GONE == 0);
        let mut found: BTreeSet<(ChangeKind, Key, Key)> = BTreeSet::new();
        let mut renamed: BTreeMap<u32, u32> = BTreeMap::new();
        let founders: BTreeSet<u32> = owners.values().copied().collect();
        let heirs = self.heirs(&owners);
        let now_of = |old: u32| heirs.get(&old).copied().unwrap_or_else(|| self.founder(old));
        for old in &founders {
            let now = now_of(*old);
            let owner = owners.get(&now).copied().or_else(|| self.journal.unmoved_owner(self, now));
            // A founder that is new or was a member: it names one of the profiles anew.
            if now != *old && owner != Some(now) && owner.is_none_or(|owner| owner == *old) {
                let best = renamed.entry(now).or_insert(*old);
                if self.is_older(*old, *best) {
                    *best = *old;
                }
            }
        }
        for old in &founders {
            let now = now_of(*old);
            if now == *old {
                continue;
            }
            let is_renamed = renamed.get(&now) == Some(old);
            let kind = if is_renamed { ChangeKind::Renamed } else { ChangeKind::Merged };
            found.insert((kind, self.nodes[now].key, self.nodes[*old].key));
        }
        for (node, old) in &owners {
            let (stayed, went) = (now_of(*old), self.founder(*node));
            if stayed != went {
                found.insert((ChangeKind::Split, self.nodes[stayed].key, self.nodes[went].key));
            }
        }
        changes.extend(found.into_iter().map(|(kind, profile, other)| Change {
            observation,
            kind,
            profile,
            other,
        }));
    }

    /// For founders that were forgotten: the oldest founder of what is left of their profile.
    fn heirs(&self, owners: &BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
        let mut heirs: BTreeMap<u32, u32> = BTreeMap::new();
        for (node, old) in owners {
            if self.nodes[*old].flags & GONE != 0 {
                let now = self.founder(*node);
                let heir = heirs.entry(*old).or_insert(now);
                if self.is_older(now, *heir) {
                    *heir = now;
                }
            }
        }
        heirs
    }
}
