//! Taking in what an observation says about pairs, and noting what may follow from it.

use crate::batch::Observed;
use crate::evidence::{Evidence, Said, Standing, Statement};
use crate::graph::{CONTESTED, Graph, NONE, PARTED};
use crate::prepare::Use;

/// What evidence changed about hulls.
#[derive(Default)]
pub(crate) struct Effects {
    /// Ends of edges that became live or stronger.
    pub(crate) joined: Vec<(u32, u32)>,
    /// Nodes whose hulls changed otherwise.
    pub(crate) seeds: Vec<u32>,
}

impl Graph {
    /// Tells each pair of an observation, a star from its leaf, and settles what follows.
    pub(crate) fn tell_all(&mut self, observed: &Observed, uses: &[Use], seeds: Vec<u32>) {
        let mut effects = Effects { joined: Vec::new(), seeds };
        let (leaf, mut before) = (uses[0].node, uses[0].node);
        for used in &uses[1..] {
            let other = if used.is_canonical { before } else { leaf };
            before = used.node;
            if used.node == other {
                continue;
            }
            let edge = match used.edge {
                NONE => self.pair(other, used.node),
                edge => edge,
            };
            let statement = match observed.statement {
                // Whatever an operator says of a pair, the address itself says what its provider
                // does.
                Statement::ManualLink if used.is_canonical => Statement::CoOccur,
                statement => statement,
            };
            self.tell(edge, statement, observed, &mut effects);
        }
        let Effects { joined, mut seeds } = effects;
        if !joined.is_empty() || !seeds.is_empty() {
            self.settle(&joined, &mut seeds);
        }
    }

    fn pair(&mut self, x: u32, y: u32) -> u32 {
        self.find_edge(x, y).unwrap_or_else(|| self.add_edge(x, y))
    }

    fn tell(
        &mut self,
        index: u32,
        statement: Statement,
        observed: &Observed,
        effects: &mut Effects,
    ) {
        let edge = &mut self.edges[index];
        let evidence = edge.evidence;
        let mut is_new = edge.evidence.add(statement, observed.time_us, observed.source);
        if !statement.is_event() {
            is_new |= self.note_said(index, statement, observed.time_us);
        }
        if !is_new {
            return;
        }
        self.mark_edge(index);
        let (before, after) = self.restand(index);
        if before != after {
            self.stand(index, before, after, effects);
        } else if after.live {
            self.strengthen(index, evidence, effects);
        }
    }

    /// A live pair may come earlier in the order than before.
    fn strengthen(&self, index: u32, before: Evidence, effects: &mut Effects) {
        let edge = &self.edges[index];
        let (a, b) = (edge.a, edge.b);
        let (x, y) = (self.nodes[a].namespace, self.nodes[b].namespace);
        let linked = edge.standing().linked;
        let rank =
            |evidence: Evidence| (evidence.assurance(linked, &self.rules, x, y), evidence.first_us);
        if self.is_contested(a) && rank(before) != rank(edge.evidence) {
            effects.joined.push((a, b));
        }
    }

    fn note_said(&mut self, edge: u32, statement: Statement, time_us: i64) -> bool {
        let said = self.said.entry(edge).or_insert(Said::NOTHING);
        let before = *said;
        match statement {
            Statement::ManualLink => said.link_us = said.link_us.max(time_us),
            Statement::ManualUnlink => said.unlink_us = said.unlink_us.max(time_us),
            _ => said.retract_us = said.retract_us.max(time_us),
        }
        *said != before
    }

    /// Works out the standing of an edge from its evidence; returns the one before, and it.
    pub(crate) fn restand(&mut self, index: u32) -> (Standing, Standing) {
        let edge = &self.edges[index];
        let before = edge.standing();
        let one = self.nodes[edge.a].namespace == self.nodes[edge.b].namespace;
        // Few stores have an operator's word.
        let said = if self.said.is_empty() { None } else { self.said.get(&index).copied() };
        let after = edge.evidence.standing(said, one);
        self.edges[index].set_standing(after);
        (before, after)
    }

    pub(crate) fn stand(
        &mut self,
        index: u32,
        before: Standing,
        after: Standing,
        effects: &mut Effects,
    ) {
        let (a, b) = (self.edges[index].a, self.edges[index].b);
        if before.live != after.live {
            self.count_degree(a, after.live);
            self.count_degree(b, after.live);
        }
        if after.live && !before.live {
            self.reconsider_ends(a, b, &mut effects.seeds);
            effects.joined.push((a, b));
        } else if before.live && !after.live {
            self.set_suppressed(index, false);
            self.reconsider(a, &mut effects.seeds);
            self.reconsider(b, &mut effects.seeds);
            effects.seeds.extend([a, b]);
        } else {
            effects.seeds.extend([a, b]);
        }
        if before.same != after.same {
            self.declare(a, b, after.same, &mut effects.seeds);
        }
        if before.cannot != after.cannot {
            self.nodes[a].flags |= PARTED;
            self.nodes[b].flags |= PARTED;
            effects.seeds.extend([a, b]);
        }
    }

    fn count_degree(&mut self, node: u32, more: bool) {
        let degree = self.nodes[node].degree;
        self.nodes[node].degree = match (more, degree) {
            (true, _) => degree.saturating_add(1),
            (false, u16::MAX) => {
                let counted = self.neighbours(node).count();
                u16::try_from(counted).unwrap_or(u16::MAX)
            }
            (false, _) => degree - 1,
        };
    }

    pub(crate) fn is_contested(&self, node: u32) -> bool {
        self.clusters[self.nodes[node].cluster].flags & CONTESTED != 0
    }
}
