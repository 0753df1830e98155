//! Why identifiers are one profile, and why they are not. JSON, nodes in hexadecimal.
//!
//! Resolution keeps no trail: a hull is resolved once more when somebody asks, by the same code.

use std::collections::VecDeque;

use hashbrown::HashMap;
use serde_json::{Value, json};

use crate::cluster::State;
use crate::evidence::KIND_NAMES;
use crate::graph::{CROWDED, Graph, SEEN, SHARED};
use crate::key::Key;
use crate::resolve::{Hull, HullEdge, Outcome, resolve};
use crate::resolver::Resolver;

/// How many identifiers a search for a path visits before it gives up.
const PATH_NODES_MAX: usize = 20_000;

impl Resolver {
    /// The members of the profile of a node; its edges in the order they were taken, each with
    /// what became of it; shared identifiers around it.
    #[must_use]
    pub fn explain(&self, node: Key) -> String {
        let Some(index) = self.graph.find(node) else {
            return json!({"profile": null, "members": [], "accepted": [], "suppressed": [],
                "shared_neighbours": []})
            .to_string();
        };
        let graph = &self.graph;
        let (accepted, suppressed) = graph.explained(index);
        let mut members: Vec<u32> = graph.members_of(index).collect();
        members.sort_unstable_by_key(|member| {
            (graph.nodes[*member].first_us, graph.nodes[*member].key)
        });
        let neighbours: Vec<String> =
            self.shared_neighbours(node).into_iter().map(Key::hex).collect();
        json!({
            "profile": graph.nodes[graph.founder(index)].key.hex(),
            "state": state_name(graph.state(index)),
            "shared": graph.nodes[index].flags & SHARED != 0,
            "crowded": graph.nodes[index].flags & CROWDED != 0,
            "members": members.iter().map(|member| graph.member_json(*member)).collect::<Vec<_>>(),
            "accepted": accepted,
            "suppressed": suppressed,
            "shared_neighbours": neighbours,
        })
        .to_string()
    }

    /// Why two nodes are not one profile: the shortest path of evidence between them, and what
    /// became of each of its pairs.
    #[must_use]
    pub fn why_not(&self, a: Key, b: Key) -> String {
        let graph = &self.graph;
        let (Some(x), Some(y)) = (graph.find(a), graph.find(b)) else {
            return json!({"one_profile": false, "reason": "never seen", "path": []}).to_string();
        };
        if graph.founder(x) == graph.founder(y) {
            return json!({"one_profile": true, "reason": "one profile", "path": []}).to_string();
        }
        let path = graph.path(x, y);
        let steps: Vec<Value> =
            path.windows(2).map(|pair| graph.step_json(pair[0], pair[1])).collect();
        let crossed = path.iter().filter(|node| graph.is_apart(**node));
        let crossed: Vec<String> = crossed.map(|node| graph.nodes[*node].key.hex()).collect();
        let forbidden = graph.find_edge(x, y).is_some_and(|e| graph.edges[e].standing().cannot);
        let reason = match (forbidden, path.is_empty(), crossed.is_empty()) {
            (true, _, _) => "an operator parted them",
            (_, true, _) => "no evidence connects them",
            (_, _, false) => "they meet only at a shared or crowded identifier",
            (_, _, true) => "a link between them was refused",
        };
        json!({"one_profile": false, "reason": reason, "path": steps, "shared": crossed})
            .to_string()
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Anonymous => "anonymous",
        State::Transitioning => "transitioning",
        State::Identified => "identified",
    }
}

impl Graph {
    fn member_json(&self, index: u32) -> Value {
        let node = &self.nodes[index];
        json!({
            "node": node.key.hex(),
            "namespace": self.rules.name(node.namespace),
            "first_us": node.first_us,
            "seen": node.flags & SEEN != 0,
            "hidden": self.is_hidden(index),
        })
    }

    /// The edges of the profile of a node that joined or confirmed, and those that were refused,
    /// in the order they were taken.
    fn explained(&self, index: u32) -> (Vec<Value>, Vec<Value>) {
        let members = self.hull_members(index);
        let hull = self.hull_of(&members);
        let verdict = resolve(&hull, &self.rules);
        let own = verdict.cluster_of[0];
        let touches = |place: u32| verdict.cluster_of[place as usize] == own;
        let (mut accepted, mut suppressed) = (Vec::new(), Vec::new());
        for (edge, outcome) in &verdict.taken {
            if !touches(edge.a) && !touches(edge.b) {
                continue;
            }
            let mut found = self.edge_json(edge);
            if outcome.is_refusal() {
                found["reason"] = self.reason_json(*outcome, &hull);
                suppressed.push(found);
            } else {
                found["joined"] = json!(*outcome == Outcome::Joined);
                accepted.push(found);
            }
        }
        (accepted, suppressed)
    }

    fn edge_json(&self, edge: &HullEdge) -> Value {
        let mut found = self.evidence_json(edge.edge);
        found["assurance"] = json!(edge.assurance);
        found
    }

    fn evidence_json(&self, index: u32) -> Value {
        let evidence = self.edges[index].evidence;
        let (a, b) = self.ends(index);
        let kinds = KIND_NAMES.iter().enumerate();
        let kinds: Vec<&str> = kinds
            .filter(|(bit, _)| evidence.kinds & (1 << bit) != 0)
            .map(|(_, name)| *name)
            .collect();
        let sources: Vec<u32> = (0..32).filter(|bit| evidence.sources & (1 << bit) != 0).collect();
        json!({
            "a": a.hex(),
            "b": b.hex(),
            "kinds": kinds,
            "sources": sources,
            "first_us": Some(evidence.first_us).filter(|first_us| *first_us != i64::MAX),
            "last_hour_us": evidence.last_us(),
        })
    }

    fn reason_json(&self, outcome: Outcome, hull: &Hull) -> Value {
        let hex = |place: u32| hull.nodes[place as usize].key.hex();
        match outcome {
            Outcome::Limit { namespace, held, other } => json!({
                "rule": "limit",
                "namespace": self.rules.name(namespace),
                "limit": self.rules.limit(namespace),
                "witness": [hex(held), hex(other)],
            }),
            Outcome::Forbidden { pair } => {
                json!({"rule": "cannot_link", "witness": [hex(pair.0), hex(pair.1)]})
            }
            Outcome::Size => {
                json!({"rule": "hull_nodes_max", "limit": self.rules.hull_nodes_max, "witness": []})
            }
            Outcome::Joined | Outcome::Confirmed => Value::Null,
        }
    }

    fn step_json(&self, a: u32, b: u32) -> Value {
        let index = self.find_edge(a, b).expect("a path goes along edges");
        let mut found = self.evidence_json(index);
        let standing = self.edges[index].standing();
        let outcome = if self.is_apart(a) || self.is_apart(b) {
            json!({"rule": "shared"})
        } else if self.founder(a) == self.founder(b) {
            json!({"rule": "accepted"})
        } else {
            let members = self.hull_members(a);
            let hull = self.hull_of(&members);
            let verdict = resolve(&hull, &self.rules);
            let taken = verdict.taken.iter().find(|(edge, _)| edge.edge == index);
            taken.map_or(Value::Null, |(_, outcome)| self.reason_json(*outcome, &hull))
        };
        found["assurance"] = json!(self.edges[index].evidence.assurance(
            standing.linked,
            &self.rules,
            self.nodes[a].namespace,
            self.nodes[b].namespace,
        ));
        found["outcome"] = outcome;
        found
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
                let mut path = vec![to];
                while let Some(last) = path.last().filter(|last| **last != from) {
                    path.push(came_from[last]);
                }
                path.reverse();
                return path;
            }
            if came_from.len() > PATH_NODES_MAX {
                break;
            }
            let mut next: Vec<u32> =
                self.neighbours(node).filter(|next| may_pass(*next)).take(PATH_NODES_MAX).collect();
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
