//! What an observation did to profiles: who was whose before, and so what merged, split or was
//! renamed. Only what moves is noted, which is nothing for most observations.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::graph::Graph;
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
        let owners = self.journal.owners();
        let mut found: BTreeSet<(ChangeKind, Key, Key)> = BTreeSet::new();
        let mut renamed: BTreeMap<u32, u32> = BTreeMap::new();
        let founders: BTreeSet<u32> = owners.values().copied().collect();
        for old in &founders {
            let now = self.founder(*old);
            let took_over = now != *old && owners.get(&now) != Some(&now);
            // A founder that is new or was a member: it names one of the profiles anew.
            if took_over && owners.get(&now).is_none_or(|owner| owner == old) {
                let best = renamed.entry(now).or_insert(*old);
                if self.is_older(*old, *best) {
                    *best = *old;
                }
            }
        }
        for old in &founders {
            let now = self.founder(*old);
            if now == *old {
                continue;
            }
            let is_renamed = renamed.get(&now) == Some(old);
            let kind = if is_renamed { ChangeKind::Renamed } else { ChangeKind::Merged };
            found.insert((kind, self.nodes[now].key, self.nodes[*old].key));
        }
        for (node, old) in &owners {
            let (stayed, went) = (self.founder(*old), self.founder(*node));
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
}
