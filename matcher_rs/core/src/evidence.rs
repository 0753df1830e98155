//! Evidence: what has been said about a pair of identifiers, however often and in whatever order.
//!
//! Every field joins by minimum, maximum or union, so that the record is a function of the set of
//! statements and a replay changes nothing. There are no counters: a counter is not idempotent.
//! The last time is kept by the hour, so that a pair seen all day is written once an hour; a
//! retraction therefore also covers what is said later within its hour.

use crate::rules::{Kind, Rules};

/// What kind of statement an observation makes. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Statement {
    /// Identifiers on one track, page or screen event.
    CoOccur = 0,
    /// Identifiers on an identify call.
    Identify = 1,
    /// The company says that two ids are one person.
    Alias = 2,
    /// A sign-in.
    Login = 3,
    /// A row of the company's own register.
    CrmRow = 4,
    /// An operator joins.
    ManualLink = 5,
    /// An operator parts: the two may not be one profile.
    ManualUnlink = 6,
    /// What was said about the pair until now does not hold.
    Retract = 7,
}

impl Statement {
    /// The statement of a code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::CoOccur,
            1 => Self::Identify,
            2 => Self::Alias,
            3 => Self::Login,
            4 => Self::CrmRow,
            5 => Self::ManualLink,
            6 => Self::ManualUnlink,
            7 => Self::Retract,
            _ => return None,
        })
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether it is an event's, rather than an operator's.
    pub(crate) const fn is_event(self) -> bool {
        (self as u8) < Self::ManualLink as u8
    }
}

/// The names of the kinds, by their bit.
pub(crate) const KIND_NAMES: [&str; 8] = [
    "co_occur",
    "identify",
    "alias",
    "login",
    "crm_row",
    "manual_link",
    "manual_unlink",
    "retract",
];

const HOUR_US: i64 = 3_600_000_000;
const EVENT_KINDS: u8 = Statement::ManualLink.bit() - 1;
/// Before every time: nothing was said.
pub(crate) const NEVER: i64 = i64::MIN;
const NEVER_HOUR: i32 = i32::MIN;

/// What operators said about a pair: the latest of each. Rare, so it is kept beside the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) link_us: i64,
    pub(crate) unlink_us: i64,
    pub(crate) retract_us: i64,
}

impl Said {
    pub(crate) const NOTHING: Self = Self { link_us: NEVER, unlink_us: NEVER, retract_us: NEVER };

    const fn is_linked(self) -> bool {
        self.link_us > self.retract_us && self.link_us > self.unlink_us
    }

    /// Where a link and an unlink have one time, the pair stays apart.
    const fn is_unlinked(self) -> bool {
        self.unlink_us > self.retract_us
            && self.unlink_us >= self.link_us
            && self.unlink_us != NEVER
    }
}

/// The evidence of one pair; what operators said stands elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) first_us: i64,
    pub(crate) last_hour: i32,
    pub(crate) sources: u32,
    pub(crate) kinds: u8,
}

/// What follows from the evidence of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// It joins.
    pub(crate) live: bool,
    /// It forbids to join.
    pub(crate) cannot: bool,
    /// It says that two values of one namespace are one.
    pub(crate) same: bool,
    /// An operator joined the pair.
    pub(crate) linked: bool,
}

impl Evidence {
    pub(crate) const NONE: Self =
        Self { first_us: i64::MAX, last_hour: NEVER_HOUR, sources: 0, kinds: 0 };

    /// Takes in one statement; whether anything is new.
    pub(crate) fn add(&mut self, statement: Statement, time_us: i64, source: u8) -> bool {
        let before = *self;
        self.kinds |= statement.bit();
        if matches!(statement, Statement::ManualUnlink | Statement::Retract) {
            return *self != before;
        }
        self.first_us = self.first_us.min(time_us);
        self.sources |= 1 << (source & 31);
        if statement.is_event() {
            self.last_hour = self.last_hour.max(hour_of(time_us));
        }
        *self != before
    }

    pub(crate) fn last_us(self) -> Option<i64> {
        (self.last_hour != NEVER_HOUR).then(|| i64::from(self.last_hour) * HOUR_US)
    }

    /// What follows, given what operators said and whether both ends are of one namespace.
    pub(crate) fn standing(self, said: Option<Said>, one_namespace: bool) -> Standing {
        let said = said.unwrap_or(Said::NOTHING);
        let last_us = self.last_us().unwrap_or(NEVER);
        let told = self.kinds & EVENT_KINDS != 0 && last_us > said.retract_us;
        let (linked, cannot) = (said.is_linked(), said.is_unlinked());
        let alias = told && self.kinds & Statement::Alias.bit() != 0;
        Standing {
            live: told || linked,
            cannot,
            same: one_namespace && !cannot && (alias || linked),
            linked,
        }
    }

    /// How much a live pair is worth: 5 an operator's word, 4 an id of the company on both sides
    /// or with a device, 3 an address that the company or a sign-in vouches for, 2 an address
    /// that somebody typed in, 1 two devices on one event.
    pub(crate) fn assurance(self, linked: bool, rules: &Rules, a: u8, b: u8) -> u8 {
        let vouched = Statement::Login.bit() | Statement::CrmRow.bit();
        let (a, b) = (rules.kind(a), rules.kind(b));
        let contact = |kind| matches!(kind, Kind::Contact | Kind::Email | Kind::Phone);
        let person = a == Kind::Person || b == Kind::Person;
        if linked {
            5
        } else if contact(a) || contact(b) {
            if person && self.kinds & vouched != 0 { 3 } else { 2 }
        } else if person {
            4
        } else {
            1
        }
    }
}

fn hour_of(time_us: i64) -> i32 {
    let hour = time_us.div_euclid(HOUR_US);
    // Far beyond any calendar, and `i32::MIN` itself means never.
    i32::try_from(hour).unwrap_or(if hour < 0 { i32::MIN + 1 } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(statements: &[(Statement, i64)]) -> Evidence {
        let mut evidence = Evidence::NONE;
        for (statement, time_us) in statements {
            evidence.add(*statement, *time_us, 0);
        }
        evidence
    }

    #[test]
    fn evidence_does_not_depend_on_the_order_or_number_of_statements() {
        let a = (Statement::CoOccur, 5 * HOUR_US);
        let b = (Statement::Identify, 3 * HOUR_US + 7);
        let forth = told(&[a, b]);
        assert_eq!(forth, told(&[b, a, b, a]));
        assert_eq!(forth.first_us, 3 * HOUR_US + 7);
        assert_eq!(forth.last_us(), Some(5 * HOUR_US));
    }

    #[test]
    fn a_retraction_ends_what_was_said_until_its_hour() {
        let evidence = told(&[(Statement::CoOccur, 5 * HOUR_US + 9)]);
        let retract = |retract_us| Some(Said { retract_us, ..Said::NOTHING });
        assert!(evidence.standing(retract(5 * HOUR_US - 1), false).live);
        assert!(!evidence.standing(retract(5 * HOUR_US), false).live);
        assert!(!evidence.standing(retract(9 * HOUR_US), false).live);
    }

    #[test]
    fn the_last_word_of_operators_holds_and_parting_wins_a_tie() {
        let said = |link_us, unlink_us, retract_us| {
            Evidence::NONE.standing(Some(Said { link_us, unlink_us, retract_us }), true)
        };
        assert!(said(2, 1, NEVER).linked && !said(2, 1, NEVER).cannot);
        assert!(said(1, 2, NEVER).cannot && !said(1, 2, NEVER).live);
        assert!(said(2, 2, NEVER).cannot && !said(2, 2, NEVER).live);
        assert_eq!(said(1, 2, 3), Standing::default());
        assert_eq!(said(NEVER, NEVER, NEVER), Standing::default());
    }

    #[test]
    fn an_hour_far_away_is_not_never() {
        assert!(told(&[(Statement::CoOccur, i64::MIN)]).standing(None, false).live);
        assert!(told(&[(Statement::CoOccur, i64::MAX)]).standing(None, false).live);
    }
}
