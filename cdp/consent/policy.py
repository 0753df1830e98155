"""The gate: whether something about a person may go to a destination. It fails closed.

One pure function, asked when a delivery is offered and again before every attempt: the first, a
retry, a redrive, a replay. Both what the event said when it was collected and where the person
stands now must allow every purpose of the destination, on the ground that the regime of the event
asks for. Whatever is unknown, unmapped or unreadable is a no, with a reason from a closed set.

Global Privacy Control on the event refuses what sells or shares, on every ground but necessity.
On the person it refuses it where consent is not asked for; where it is asked for, it is a denial
in the ledger, which only a later grant lifts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from cdp.consent.rules import Term, Use
    from cdp.domain.consent import Latest, Standing
    from cdp.domain.event import ConsentStamp

__all__ = ["REASONS", "Decision", "Reason", "may", "term_decision"]

Reason = Literal[
    "granted",
    "suppressed",
    "restricted",
    "no_purpose",
    "unreadable",
    "unknown",
    "gpc",
    "denied",
    "not_in_stamp",
    "withdrawn",
    "objected",
    "no_grant",
    "granted_later",
    "expired",
    "superseded",
]

# Every reason that `may` can give, and what it says to a person.
REASONS: Final[dict[Reason, str]] = {
    "granted": "every purpose of the destination is allowed, by the event and by the person today",
    "suppressed": "the person was erased or suppressed: nothing about them may be sent",
    "restricted": "processing of the person's data is restricted",
    "no_purpose": "the destination declares no purpose, so nothing can have been granted for it",
    "unreadable": "the event says something about consent that cannot be read",
    "unknown": "no rule is known for the event's regime, or for a purpose under it",
    "gpc": "Global Privacy Control is set, and a purpose of the destination sells or shares",
    "denied": "the event says that a purpose of the destination was denied",
    "not_in_stamp": "the event carries consent, but does not name a purpose of the destination",
    "withdrawn": "the person has denied or withdrawn a purpose of the destination",
    "objected": "the person has objected to a purpose of the destination",
    "no_grant": "a purpose of the destination needs consent, and nobody recorded any",
    "granted_later": "the event carries no consent, and the person's was given after the event",
    "expired": "the person's consent for a purpose of the destination is too old",
    "superseded": "the person's consent is for a policy text that has changed materially since",
}


class Decision(NamedTuple):
    """Whether it is allowed, and the code of the reason."""

    allowed: bool
    reason: Reason


_DECISIONS: Final[dict[Reason, Decision]] = {
    reason: Decision(reason == "granted", reason) for reason in REASONS
}

_NOT_DENIED: Final = ("granted", "expired", "superseded")


def may(use: Use, stamp: ConsentStamp, standing: Standing, now_us: int) -> Decision:
    """Whether an event with this stamp may be used for this, and why (not)."""
    if standing.suppressed:
        return _DECISIONS["suppressed"]
    if standing.restricted:
        return _DECISIONS["restricted"]
    if not use.purposes:
        return _DECISIONS["no_purpose"]
    if not stamp.readable:
        return _DECISIONS["unreadable"]
    terms = use.terms(stamp.regime)
    if not terms:
        return _DECISIONS["unknown"]
    for term in terms:
        reason = _refusal(term, stamp, standing, now_us)
        if reason is not None:
            return _DECISIONS[reason]
    return _DECISIONS["granted"]


def term_decision(term: Term, stamp: ConsentStamp, standing: Standing, now_us: int) -> Decision:
    """The answer for one purpose alone, of a stamp that can be read."""
    return _DECISIONS[_refusal(term, stamp, standing, now_us) or "granted"]


def _refusal(term: Term, stamp: ConsentStamp, standing: Standing, now_us: int) -> Reason | None:
    """Why one purpose is not allowed; None where it is."""
    purpose, basis, gpc_binds, _ = term
    if basis == "necessary":
        return None
    if gpc_binds and (stamp.gpc or (standing.gpc and basis != "opt_in")):
        return "gpc"
    said = stamp.purposes.get(purpose) if stamp.present else None
    latest = standing.purposes.get(purpose)
    if basis == "legitimate_interest":
        named = stamp.present and purpose in stamp.purposes
        return "objected" if (named and said is not True) or _denies(latest, term, now_us) else None
    if basis not in ("opt_in", "opt_out"):
        return "unknown"
    if stamp.present and said is not True:
        return "denied" if purpose in stamp.purposes else "not_in_stamp"
    if _denies(latest, term, now_us):
        return "withdrawn"
    if basis == "opt_out":
        return None
    if latest is None:
        return "no_grant"
    if latest.state != "granted":
        return "superseded" if latest.state == "superseded" else "expired"
    if _has_ended(latest, term, now_us):
        return "expired"
    return None if stamp.present or latest.seq < stamp.head else "granted_later"


def _denies(latest: Latest | None, term: Term, now_us: int) -> bool:
    """Whether a person stands against it; where a grant that overruled a denial ended, they do."""
    if latest is None:
        return False
    if latest.lifts:
        return latest.state != "granted" or _has_ended(latest, term, now_us)
    return latest.state not in _NOT_DENIED


def _has_ended(latest: Latest, term: Term, now_us: int) -> bool:
    """Whether a grant has ended by itself."""
    age_us_max = term.grant_age_us_max
    return (0 < age_us_max <= now_us - latest.at_us) or 0 < latest.expires_at_us <= now_us
