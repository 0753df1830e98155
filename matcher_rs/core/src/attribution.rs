//! Who was on a shared device at a time: by sign-ins, never by profile.

use crate::key::Key;

const SESSION_US: i64 = 30 * 60 * 1_000_000;

/// How a person was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The last to sign in by then.
    Interval,
    /// Nobody had signed in yet; one person only did within the session.
    Session,
    /// Nobody can be named.
    None,
}

impl Rule {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Session => "session",
            Self::None => "none",
        }
    }
}

/// Who was on a device at a time, of its sign-ins in time order. A sign-in lasts until the next.
#[must_use]
pub fn attribute(logins: &[(i64, Key)], time_us: i64) -> (Option<Key>, Rule) {
    let (before, after) = logins.split_at(logins.partition_point(|(at_us, _)| *at_us <= time_us));
    if let Some((_, person)) = before.last() {
        return (Some(*person), Rule::Interval);
    }
    let mut session =
        after.iter().take_while(|(at_us, _)| at_us.saturating_sub(time_us) <= SESSION_US);
    match session.next() {
        Some((_, person)) if session.all(|(_, other)| other == person) => {
            (Some(*person), Rule::Session)
        }
        _ => (None, Rule::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Key = Key([1; 16]);
    const BOB: Key = Key([2; 16]);
    const MINUTE: i64 = 60_000_000;

    #[test]
    fn a_sign_in_holds_until_somebody_elses() {
        let logins = [(10, ANN), (20, BOB)];
        assert_eq!(attribute(&logins, 10), (Some(ANN), Rule::Interval));
        assert_eq!(attribute(&logins, 19), (Some(ANN), Rule::Interval));
        assert_eq!(attribute(&logins, 20), (Some(BOB), Rule::Interval));
        assert_eq!(attribute(&logins, i64::MAX), (Some(BOB), Rule::Interval));
    }

    #[test]
    fn before_any_sign_in_one_person_in_the_session_is_needed() {
        let logins = [(40 * MINUTE, ANN), (45 * MINUTE, ANN), (50 * MINUTE, BOB)];
        assert_eq!(attribute(&logins, 15 * MINUTE), (Some(ANN), Rule::Session));
        assert_eq!(attribute(&logins, 10 * MINUTE), (Some(ANN), Rule::Session));
        assert_eq!(attribute(&logins, 10 * MINUTE - 1), (None, Rule::None));
        assert_eq!(attribute(&logins, 20 * MINUTE), (None, Rule::None), "two people");
        assert_eq!(attribute(&[], 0), (None, Rule::None));
        assert_eq!(attribute(&[(i64::MAX, ANN)], i64::MIN), (None, Rule::None));
    }
}
