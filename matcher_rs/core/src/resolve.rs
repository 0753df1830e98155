//! `Resolve`: which identifiers of one hull are one profile. A pure function.
//!
//! The edges are taken in a total order that is itself a function of the evidence: strongest
//! assurance first, then the priority of the namespaces, then the oldest, then the keys. Each
//! joins the clusters of its ends, unless a limit would be exceeded or a forbidden pair would
//! meet; then it is refused, with what stood in its way. Arrival order is nowhere in it.

use crate::key::Key;
use crate::rules::{NAMESPACES_MAX, Rules};

/// A member of a hull, by its place in it.
pub(crate) struct HullNode {
    pub(crate) key: Key,
    pub(crate) namespace: u8,
    pub(crate) first_us: i64,
    /// Values of one namespace with equal class count as one.
    pub(crate) class: u32,
}

/// A live edge of a hull between two places.
#[derive(Clone, Copy)]
pub(crate) struct HullEdge {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) assurance: u8,
    pub(crate) first_us: i64,
    /// The edge in the graph.
    pub(crate) edge: u32,
}

/// Everything that decides about one hull.
#[derive(Default)]
pub(crate) struct Hull {
    pub(crate) nodes: Vec<HullNode>,
    pub(crate) edges: Vec<HullEdge>,
    pub(crate) forbidden: Vec<(u32, u32)>,
}

/// What became of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It joined two clusters.
    Joined,
    /// Its ends were together already.
    Confirmed,
    /// Joining would exceed the limit of a namespace; two values that do not go together.
    Limit { namespace: u8, held: u32, other: u32 },
    /// Joining would bring a forbidden pair together.
    Forbidden { pair: (u32, u32) },
    /// Joining would make a profile too large.
    Size,
}

impl Outcome {
    pub(crate) const fn is_refusal(self) -> bool {
        !matches!(self, Self::Joined | Self::Confirmed)
    }
}

/// The result: a cluster number for each place, and the edges in the order they were taken.
pub(crate) struct Verdict {
    pub(crate) cluster_of: Vec<u32>,
    pub(crate) taken: Vec<(HullEdge, Outcome)>,
}

/// A cluster while it grows. Only members that count towards a limit are listed.
#[derive(Clone)]
struct Growing {
    size: u32,
    limited: Vec<u32>,
    counts: [u16; NAMESPACES_MAX],
}

struct Resolution<'a> {
    hull: &'a Hull,
    rules: &'a Rules,
    /// The codes of namespaces with a limit.
    limits: Vec<u8>,
    clusters: Vec<Growing>,
    cluster_of: Vec<u32>,
    /// The next member of a place's cluster, round and round.
    next: Vec<u32>,
}

/// Resolves a hull.
pub(crate) fn resolve(hull: &Hull, rules: &Rules) -> Verdict {
    let mut edges = hull.edges.clone();
    edges.sort_by_cached_key(|edge| order(edge, hull, rules));
    let mut resolution = Resolution::new(hull, rules);
    let mut taken: Vec<(HullEdge, Outcome)> = Vec::with_capacity(edges.len());
    for edge in edges {
        taken.push((edge, resolution.take(edge)));
    }
    let cluster_of = resolution.cluster_of;
    for (edge, outcome) in &mut taken {
        // Refused, but a later edge brought its ends together by another way.
        if outcome.is_refusal() && cluster_of[edge.a as usize] == cluster_of[edge.b as usize] {
            *outcome = Outcome::Confirmed;
        }
    }
    Verdict { cluster_of, taken }
}

fn order(edge: &HullEdge, hull: &Hull, rules: &Rules) -> (u8, u64, i64, Key, Key) {
    let (a, b) = (&hull.nodes[edge.a as usize], &hull.nodes[edge.b as usize]);
    let priority = u64::from(rules.priority(a.namespace)) + u64::from(rules.priority(b.namespace));
    let (low, high) = if a.key < b.key { (a.key, b.key) } else { (b.key, a.key) };
    (u8::MAX - edge.assurance, priority, edge.first_us, low, high)
}

impl<'a> Resolution<'a> {
    fn new(hull: &'a Hull, rules: &'a Rules) -> Self {
        let alone = |(place, node): (u32, &HullNode)| {
            let mut counts = [0; NAMESPACES_MAX];
            counts[usize::from(node.namespace)] = 1;
            let limited = if rules.limit(node.namespace) > 0 { vec![place] } else { Vec::new() };
            Growing { size: 1, limited, counts }
        };
        let places = 0..u32::try_from(hull.nodes.len()).expect("nodes are numbered by u32");
        Self {
            hull,
            rules,
            limits: (0..NAMESPACES_MAX as u8).filter(|code| rules.limit(*code) > 0).collect(),
            clusters: places.clone().zip(&hull.nodes).map(alone).collect(),
            cluster_of: places.clone().collect(),
            next: places.collect(),
        }
    }

    fn take(&mut self, edge: HullEdge) -> Outcome {
        let (a, b) = (self.cluster_of[edge.a as usize], self.cluster_of[edge.b as usize]);
        if a == b {
            return Outcome::Confirmed;
        }
        if let Some(refusal) = self.refusal(a, b) {
            return refusal;
        }
        self.join(a, b);
        Outcome::Joined
    }

    fn refusal(&self, a: u32, b: u32) -> Option<Outcome> {
        let (left, right) = (&self.clusters[a as usize], &self.clusters[b as usize]);
        for namespace in &self.limits {
            let limit = u32::from(self.rules.limit(*namespace));
            let slot = usize::from(*namespace);
            let (here, there) = (u32::from(left.counts[slot]), u32::from(right.counts[slot]));
            // Where one side has none, the other was within its limit already.
            let may_exceed = here > 0 && there > 0 && here + there > limit;
            if may_exceed && self.exceeds(left, right, *namespace) {
                return Some(self.limit(left, right, *namespace));
            }
        }
        let in_both = |(x, y): &&(u32, u32)| {
            let (x, y) = (self.cluster_of[*x as usize], self.cluster_of[*y as usize]);
            (x == a && y == b) || (x == b && y == a)
        };
        if let Some(pair) = self.hull.forbidden.iter().filter(in_both).min_by_key(|p| self.keys(p))
        {
            return Some(Outcome::Forbidden { pair: *pair });
        }
        (left.size + right.size > self.rules.hull_nodes_max).then_some(Outcome::Size)
    }

    fn keys(&self, pair: &(u32, u32)) -> (Key, Key) {
        let (x, y) = (self.hull.nodes[pair.0 as usize].key, self.hull.nodes[pair.1 as usize].key);
        if x < y { (x, y) } else { (y, x) }
    }

    /// Whether both together have more distinct values than the limit, in any window of it.
    fn exceeds(&self, left: &Growing, right: &Growing, namespace: u8) -> bool {
        let mut seen: Vec<(u32, i64)> = self.of(left, namespace).collect();
        seen.extend(self.of(right, namespace));
        seen.sort_unstable();
        seen.dedup_by_key(|(class, _)| *class); // keeps the oldest of a class
        let limit = usize::from(self.rules.limit(namespace));
        let Some(window_us) = self.rules.window_us(namespace) else {
            return seen.len() > limit;
        };
        let mut times: Vec<i64> = seen.into_iter().map(|(_, first_us)| first_us).collect();
        times.sort_unstable();
        times.windows(limit + 1).any(|run| run[limit].saturating_sub(run[0]) < window_us)
    }

    fn of<'b>(&'b self, cluster: &'b Growing, namespace: u8) -> impl Iterator<Item = (u32, i64)> {
        let nodes = cluster.limited.iter().map(|place| &self.hull.nodes[*place as usize]);
        nodes
            .filter(move |node| node.namespace == namespace)
            .map(|node| (node.class, node.first_us))
    }

    /// The witness: the value with the smallest key on each side.
    fn limit(&self, left: &Growing, right: &Growing, namespace: u8) -> Outcome {
        let first = |cluster: &Growing| {
            let nodes = &self.hull.nodes;
            let of = |place: &&u32| nodes[**place as usize].namespace == namespace;
            let found = cluster.limited.iter().filter(of);
            *found.min_by_key(|place| nodes[**place as usize].key).expect("both sides have one")
        };
        Outcome::Limit { namespace, held: first(left), other: first(right) }
    }

    fn join(&mut self, a: u32, b: u32) {
        let size = |cluster: u32| self.clusters[cluster as usize].size;
        let (large, small) = if size(a) >= size(b) { (a, b) } else { (b, a) };
        // A cluster is numbered by one of its own places, so its ring can be entered there.
        let mut place = small;
        loop {
            self.cluster_of[place as usize] = large;
            place = self.next[place as usize];
            if place == small {
                break;
            }
        }
        self.next.swap(large as usize, small as usize);
        let moved = std::mem::take(&mut self.clusters[small as usize].limited);
        let Growing { size, counts, .. } = self.clusters[small as usize].clone();
        let kept = &mut self.clusters[large as usize];
        kept.size += size;
        kept.limited.extend(moved);
        for (count, more) in kept.counts.iter_mut().zip(counts) {
            *count = count.saturating_add(more);
        }
    }
}
