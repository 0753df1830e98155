//! Why identifiers are one profile, and why they are not. JSON, nodes in hexadecimal.
//!
//! Resolution keeps no trail: a hull is resolved once more when somebody asks, by the same code.

use std::collections::VecDeque;

use hashbrown::HashMap;
use serde::Serialize;

use crate::cluster::State;
use crate::evidence::KIND_NAMES;
use crate::graph::{CROWDED, Graph, SEEN, SHARED};
use crate::key::Key;
use crate::resolve::{Hull, Outcome, Verdict, resolve};
use crate::resolver::Resolver;

/// How many identifiers a search for a path visits before it gives up.
const PATH_NODES_MAX: usize = 20_000;

/// What holds a profile together.
#[derive(Serialize, Default)]
struct Explanation<'a> {
    profile: Option<Key>,
    state: &'static str,
    shared: bool,
    crowded: bool,
    members: Vec<Member<'a>>,
    accepted: Vec<Pair<'a>>,
    suppressed: Vec<Pair<'a>>,
    shared_neighbours: Vec<Key>,
}

#[derive(Serialize)]
struct Member<'a> {
    node: Key,
    namespace: &'a str,
    first_us: i64,
    seen: bool,
    /// A reading of an alias that nobody used.
    hidden: bool,
}

/// What was said of a pair, and what became of it.
#[derive(Serialize)]
struct Pair<'a> {
    a: Key,
    b: Key,
    assurance: u8,
    kinds: Vec<&'static str>,
    sources: Vec<u32>,
    first_us: Option<i64>,
    last_hour_us: Option<i64>,
    /// Whether it joined two clusters, rather than confirmed one. Of accepted pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<bool>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason<'a>>,
}

/// A rule that refused, and the two identifiers that it kept apart; none where size did.
#[derive(Serialize)]
struct Reason<'a> {
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    witness: Vec<Key>,
}

/// Why two nodes are not one profile.
#[derive(Serialize, Default)]
struct WhyNot<'a> {
    one_profile: bool,
    reason: &'static str,
    path: Vec<Step<'a>>,
    /// Identifiers on the path that join nobody.
    shared: Vec<Key>,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(flatten)]
    pair: Pair<'a>,
    outcome: Reason<'a>,
}

impl Resolver {
    /// The members of the profile of a node; its edges in the order they were taken, each with
    /// what became of it; shared identifiers around it.
    #[must_use]
    pub fn explain(&self, node: Key) -> String {
        let graph = &self.graph;
        let Some(index) = graph.find(node) else { return text_of(&Explanation::default()) };
        let (accepted, suppressed) = graph.explained(index);
        let mut members: Vec<u32> = graph.members_of(index).collect();
        members.sort_unstable_by_key(|member| {
            (graph.nodes[*member].first_us, graph.nodes[*member].key)
        });
        text_of(&Explanation {
            profile: Some(graph.nodes[graph.founder(index)].key),
            state: state_name(graph.state(index)),
            shared: graph.nodes[index].flags & SHARED != 0,
            crowded: graph.nodes[index].flags & CROWDED != 0,
            members: members.into_iter().map(|member| graph.explained_member(member)).collect(),
            accepted,
            suppressed,
            shared_neighbours: self.shared_neighbours(node),
        })
    }

    /// Why two nodes are not one profile: the shortest path of evidence between them, and what
    /// became of each of its pairs.
    #[must_use]
    pub fn why_not(&self, a: Key, b: Key) -> String {
        let graph = &self.graph;
        let (Some(x), Some(y)) = (graph.find(a), graph.find(b)) else {
            return text_of(&WhyNot { reason: "never seen", ..WhyNot::default() });
        };
        if graph.founder(x) == graph.founder(y) {
            return text_of(&WhyNot {
                one_profile: true,
                reason: "one profile",
                ..WhyNot::default()
            });
        }
        let path = graph.path(x, y);
        let crossed = path.iter().filter(|node| graph.is_apart(**node));
        let shared: Vec<Key> = crossed.map(|node| graph.nodes[*node].key).collect();
        let parted = graph.find_edge(x, y).is_some_and(|edge| graph.edges[edge].standing().cannot);
        let reason = match (parted, path.is_empty(), shared.is_empty()) {
            (true, _, _) => "an operator parted them",
            (_, true, _) => "no evidence connects them",
            (_, _, false) => "they meet only at a shared or crowded identifier",
            (_, _, true) => "a link between them was refused",
        };
        let path = graph.explained_path(&path);
        text_of(&WhyNot { one_profile: false, reason, path, shared })
    }
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists have a JSON form")
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Anonymous => "anonymous",
        State::Transitioning => "transitioning",
        State::Identified => "identified",
    }
}

impl Graph {
    fn explained_member(&self, index: u32) -> Member<'_> {
        let node = &self.nodes[index];
        Member {
            node: node.key,
            namespace: self.rules.name(node.namespace),
            first_us: node.first_us,
            seen: node.flags & SEEN != 0,
            hidden: self.is_hidden(index),
        }
    }

    fn resolved(&self, node: u32) -> (Hull, Verdict) {
        let hull = self.hull_of(&self.hull_members(node));
        let verdict = resolve(&hull, &self.rules);
        (hull, verdict)
    }

    /// The edges of the profile of a node that joined or confirmed, and those that were refused,
    /// in the order they were taken.
    fn explained(&self, index: u32) -> (Vec<Pair<'_>>, Vec<Pair<'_>>) {
        let (hull, verdict) = self.resolved(index);
        let own = verdict.cluster_of[0];
        let is_own = |place: u32| verdict.cluster_of[place as usize] == own;
        let (mut accepted, mut suppressed) = (Vec::new(), Vec::new());
        for (edge, outcome) in &verdict.taken {
            if !is_own(edge.a) && !is_own(edge.b) {
                continue;
            }
            let mut pair = self.explained_pair(edge.edge);
            if outcome.is_refusal() {
                pair.reason = Some(self.reason(*outcome, &hull));
                suppressed.push(pair);
            } else {
                pair.joined = Some(*outcome == Outcome::Joined);
                accepted.push(pair);
            }
        }
        (accepted, suppressed)
    }

    fn explained_pair(&self, index: u32) -> Pair<'_> {
        let edge = &self.edges[index];
        let evidence = edge.evidence;
        let (a, b) = (&self.nodes[edge.a], &self.nodes[edge.b]);
        let linked = edge.standing().linked;
        let kinds = KIND_NAMES.iter().enumerate();
        Pair {
            a: a.key,
            b: b.key,
            assurance: evidence.assurance(linked, &self.rules, a.namespace, b.namespace),
            kinds: kinds
                .filter(|(bit, _)| evidence.kinds & (1 << bit) != 0)
                .map(|k| *k.1)
                .collect(),
            sources: (0..32).filter(|bit| evidence.sources & (1 << bit) != 0).collect(),
            first_us: Some(evidence.first_us).filter(|first_us| *first_us != i64::MAX),
            last_hour_us: evidence.last_us(),
            joined: None,
            reason: None,
        }
    }

    fn reason(&self, outcome: Outcome, hull: &Hull) -> Reason<'_> {
        let keys = |places: [u32; 2]| places.map(|place| hull.nodes[place as usize].key).to_vec();
        match outcome {
            Outcome::Limit { namespace, held, other } => Reason {
                rule: "limit",
                namespace: Some(self.rules.name(namespace)),
                limit: Some(u32::from(self.rules.limit(namespace))),
                witness: keys([held, other]),
            },
            Outcome::Forbidden { pair: (x, y) } => {
                Reason { witness: keys([x, y]), ..plain("cannot_link") }
            }
            Outcome::Size => {
                Reason { limit: Some(self.rules.hull_nodes_max), ..plain("hull_nodes_max") }
            }
            Outcome::Joined | Outcome::Confirmed => plain("accepted"),
        }
    }

    fn explained_path(&self, path: &[u32]) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        for ends in path.windows(2) {
            let (a, b) = (ends[0], ends[1]);
            let index = self.find_edge(a, b).expect("a path goes along edges");
            let outcome = if self.is_apart(a) || self.is_apart(b) {
                plain("shared")
            } else if self.founder(a) == self.founder(b) {
                plain("accepted")
            } else {
                let (hull, verdict) = self.resolved(a);
                let taken = verdict.taken.iter().find(|(edge, _)| edge.edge == index);
                let (_, outcome) = taken.expect("a hull has the live edges of its members");
                self.reason(*outcome, &hull)
            };
            steps.push(Step { pair: self.explained_pair(index), outcome });
        }
        steps
    }

    /// The shortest path along live edges; of those, the one that is found first when neighbours
    /// are taken by key. Through identifiers that join nobody only where there is no other.
    fn path(&self, from: u32, to: u32) -> Vec<u32> {
        let path = self.path_by(from, to, |node| node == to || !self.is_apart(node));
        if path.is_empty() { self.path_by(from, to, |_| true) } else { path }
    }

    fn path_by(&self, from: u32, to: u32, may_pass: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut came_from: HashMap<u32, u32> = HashMap::from([(from, from)]);
        let mut open = VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            if node == to {
                return walked(&came_from, from, to);
            }
            if came_from.len() > PATH_NODES_MAX {
                break;
            }
            let mut next: Vec<u32> = self.neighbours(node).filter(|next| may_pass(*next)).collect();
            next.sort_unstable_by_key(|next| self.nodes[*next].key);
            for next in next {
                if !came_from.contains_key(&next) {
                    came_from.insert(next, node);
                    open.push_back(next);
                }
            }
        }
        Vec::new()
    }
}

fn walked(came_from: &HashMap<u32, u32>, from: u32, to: u32) -> Vec<u32> {
    let mut path = vec![to];
    while let Some(last) = path.last().filter(|last| **last != from) {
        path.push(came_from[last]);
    }
    path.reverse();
    path
}

const fn plain(rule: &'static str) -> Reason<'static> {
    Reason { rule, namespace: None, limit: None, witness: Vec::new() }
}
