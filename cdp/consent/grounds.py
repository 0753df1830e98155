"""On what ground something may go somewhere, or why it may not, told in full. Pure.

The gate answers with one reason. Here is everything that it looked at: for each purpose of the
destination the basis under the event's regime, what the event said, where the person stands now
and since which record, and the policy text that was agreed to, with its hash. Nothing is decided
again: each answer is the gate's own.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cdp.clock import isoformat
from cdp.consent.access import stamp_form
from cdp.consent.policy import REASONS, Decision, may, term_decision
from cdp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from cdp.config_consent import Policy
    from cdp.consent.rules import Term, Use
    from cdp.domain.consent import Latest, Standing
    from cdp.domain.event import ConsentStamp

Json = dict[str, Any]

POLICY_BYTES_MAX: Final = 1 << 20

# What each basis asks for, in words.
BASIS_WORDS: Final = {
    "opt_in": "only with consent: the person must have agreed",
    "opt_out": "until the person refuses",
    "legitimate_interest": "legitimate interest, until the person objects",
    "necessary": "necessary: contract, legal obligation, or the service itself",
}


class PolicyText(NamedTuple):
    """A policy text that holds now."""

    id: str
    version: str
    language: str
    purposes: tuple[str, ...]  # empty: all
    sha256: str
    text: str

    @property
    def label(self) -> str:
        """Id and version, as stamps and records carry them."""
        return f"{self.id}@{self.version}"


def read_policies(policies: Mapping[str, Policy]) -> tuple[PolicyText, ...]:
    """The configured texts with their hashes. Raises ConfigError for one that cannot be read."""
    return tuple(
        PolicyText(
            name,
            policy.version,
            policy.language,
            policy.purposes,
            sha256(body := _read(name, policy.text)).hexdigest(),
            body.decode("utf-8", "replace"),
        )
        for name, policy in policies.items()
    )


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(POLICY_BYTES_MAX + 1)
    except OSError as error:
        text = f"consent.policies.{name}.text: {path} cannot be read: {error.strerror or error}"
        raise ConfigError(text) from error
    if len(body) > POLICY_BYTES_MAX:
        raise ConfigError(f"consent.policies.{name}.text: longer than {POLICY_BYTES_MAX} bytes")
    return body


def ground(
    use: Use,
    stamp: ConsentStamp,
    standing: Standing,
    now_us: int,
    policies: Collection[PolicyText] = (),
) -> Json:
    """Everything that the gate looks at for one event and one destination, and its answer."""
    decision = may(use, stamp, standing, now_us)
    terms = use.terms(stamp.regime) or ()
    told = [_purpose(term, stamp, standing, now_us) for term in terms]
    return {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "because": REASONS[decision.reason],
        "regime": stamp.regime or None,
        "jurisdiction": stamp.jurisdiction or None,
        "purposes": told,
        "event_said": stamp_form(stamp),
        "person_now": standing_form(standing),
        "policies": [
            _policy(policy)
            for policy in policies
            if not policy.purposes or set(policy.purposes) & set(use.purposes)
        ],
    }


def _purpose(term: Term, stamp: ConsentStamp, standing: Standing, now_us: int) -> Json:
    decision = _term_decision(term, stamp, standing, now_us)
    latest = standing.purposes.get(term.purpose)
    return {
        "purpose": term.purpose,
        "basis": term.basis,
        "basis_means": BASIS_WORDS[term.basis],
        "allowed": decision.allowed,
        "reason": decision.reason,
        "event_said": _said(stamp, term.purpose),
        "person_now": None if latest is None else latest_form(latest),
        "global_privacy_control_binds": term.gpc_binds,
    }


def _term_decision(term: Term, stamp: ConsentStamp, standing: Standing, now_us: int) -> Decision:
    """The gate's answer for one purpose, with what holds for every purpose before it."""
    if standing.suppressed:
        return Decision(False, "suppressed")
    if standing.restricted:
        return Decision(False, "restricted")
    if not stamp.readable:
        return Decision(False, "unreadable")
    return term_decision(term, stamp, standing, now_us)


def _said(stamp: ConsentStamp, purpose: str) -> str:
    if not stamp.readable:
        return "unreadable"
    if not stamp.present:
        return "nothing"
    said = stamp.purposes.get(purpose)
    return "not named" if said is None else "granted" if said else "denied"


def standing_form(standing: Standing) -> Json:
    """Where a person stands now."""
    return {
        "suppressed": standing.suppressed,
        "restricted": standing.restricted,
        "global_privacy_control": standing.gpc,
        "purposes": {
            name: latest_form(latest) for name, latest in sorted(standing.purposes.items())
        },
    }


def latest_form(latest: Latest) -> Json:
    """Where one purpose stands, and which record made it so."""
    return {
        "state": latest.state,
        "record": latest.seq,
        "at": isoformat(latest.at_us),
        "how": latest.kind or None,
        "said_by": latest.authority,
        "policy": latest.policy or None,
        "expires_at": isoformat(latest.expires_at_us) if latest.expires_at_us else None,
    }


def _policy(policy: PolicyText) -> Json:
    return {
        "policy": policy.label,
        "language": policy.language,
        "text_sha256": policy.sha256,
        "text": policy.text,
    }
