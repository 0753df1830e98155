"""Segment's regulations, read and told: types, subjects, statuses. Pure.

A regulation names up to 5,000 user ids. Here each of them is a request of its own, with its own
receipt; what Segment calls one status is the sum of theirs. Both of Segment's interfaces are
read: the Public API (`regulationType`, `subjectIds`) and the older Config API under `/v1beta`
(`regulation_type`, `attributes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cdp.console.privacy_surface import Asked, Kind
from cdp.console.surface import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cdp.console.privacy_surface import Identifiers

Json = dict[str, Any]

SUBJECTS_MAX: Final = 5_000
SUBJECT_CHARS_MAX: Final = 512

UNSUPPRESS: Final = "UNSUPPRESS"


class Verb(NamedTuple):
    """What a type of regulation asks for."""

    kind: Kind
    suppress: bool
    downstream: bool


# `INTERNAL` means: not at destinations. UNSUPPRESS is no request: it takes a suppression back.
VERBS: Final[dict[str, Verb]] = {
    "SUPPRESS_ONLY": Verb("suppression", True, False),
    "SUPPRESS_WITH_DELETE": Verb("erasure", True, True),
    "SUPPRESS_WITH_DELETE_INTERNAL": Verb("erasure", True, False),
    "DELETE_INTERNAL": Verb("erasure", False, False),
    "DELETE_ONLY": Verb("erasure", False, True),
}
TYPES: Final = (*VERBS, UNSUPPRESS)

# The names that the Config API had for them.
_OLD_NAMES: Final = {
    "SUPPRESS": "SUPPRESS_ONLY",
    "DELETE": "DELETE_ONLY",
}

_SUBJECTS: Final = {"USER_ID": "user_id", "ANONYMOUS_ID": "anonymous_id"}
_OLD_SUBJECTS: Final = {"userid": "USER_ID", "anonymousid": "ANONYMOUS_ID"}

# Where our requests stand -> Segment's word for one of them.
_STATUS: Final = {
    "received": "INITIALIZED",
    "on_hold": "INITIALIZED",
    "verified": "INITIALIZED",
    "approved": "INITIALIZED",
    "complete": "FINISHED",
    "partially_complete": "PARTIAL_SUCCESS",
    "denied": "INVALID",
    "cancelled": "INVALID",
}
STATUSES: Final = ("INITIALIZED", "RUNNING", "FINISHED", "PARTIAL_SUCCESS", "FAILED", "INVALID")

# Where a destination's job stands -> Segment's word.
_DESTINATION_STATUS: Final = {
    "queued": "INITIALIZED",
    "confirmed": "FINISHED",
    "attested": "FINISHED",
    "not_needed": "FINISHED",
    "unsupported": "NOT_SUPPORTED",
    "manual_task": "NOT_SUPPORTED",
    "escalated": "FAILED",
}


class Ordered(msgspec.Struct, frozen=True):
    """A regulation as it was ordered."""

    type: str
    subject_type: str
    subjects: tuple[str, ...]

    def asked(self, subject: str, verified_by: str) -> Asked:
        """The request about one of its subjects."""
        verb = VERBS[self.type]
        return Asked(
            kind=verb.kind,
            identifiers=self.identifiers(subject),
            channel="regulation",
            verified_by=verified_by,
            suppress=verb.suppress,
            downstream=verb.downstream,
        )

    def identifiers(self, subject: str) -> Identifiers:
        """A subject as an identifier of ours."""
        return ((_SUBJECTS[self.subject_type], subject),)


def read_public(body: Mapping[str, Any]) -> Ordered:
    """An order in the form of the Public API. Raises Refused."""
    _only(body, {"regulationType", "subjectType", "subjectIds"})
    return _ordered(body.get("regulationType"), body.get("subjectType"), body.get("subjectIds"))


def read_config(body: Mapping[str, Any]) -> Ordered:
    """An order in the form of the Config API, `/v1beta`. Raises Refused."""
    _only(body, {"regulation_type", "attributes", "user_agent", "parent"})
    attributes = body.get("attributes")
    if not isinstance(attributes, dict):
        raise Refused('attributes must be {"name": "userId", "values": [id, ...]}')
    _only(attributes, {"name", "values"})
    kind, name = body.get("regulation_type"), attributes.get("name")
    if isinstance(kind, str):
        kind = _OLD_NAMES.get(kind.upper(), kind.upper())
    if isinstance(name, str):
        name = _OLD_SUBJECTS.get(name.replace("_", "").lower(), name)
    return _ordered(kind, name, attributes.get("values"))


def _ordered(kind: Any, subject_type: Any, subjects: Any) -> Ordered:
    if kind not in TYPES:
        raise Refused(f"the type of a regulation must be one of {', '.join(TYPES)}")
    if subject_type not in _SUBJECTS:
        raise Refused(f"the type of the subjects must be one of {', '.join(_SUBJECTS)}")
    if not isinstance(subjects, list) or not 1 <= len(subjects) <= SUBJECTS_MAX:
        raise Refused(f"the subjects must be a list of 1 to {SUBJECTS_MAX} ids")
    for place, subject in enumerate(subjects):
        if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_CHARS_MAX:
            raise Refused(f"subject {place} must be a text of 1 to {SUBJECT_CHARS_MAX} chars")
    return Ordered(kind, subject_type, tuple(dict.fromkeys(subjects)))


def _only(body: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(body.keys() - known):
        raise Refused(f"{unknown[0]!r} is not known here; there may be {', '.join(sorted(known))}")


def status_of(request: Mapping[str, Any]) -> str:
    """One request of ours in Segment's word. What runs is RUNNING."""
    return _STATUS.get(request["state"], "RUNNING")


def overall(statuses: Iterable[str]) -> str:
    """Many statuses as one: nothing counts as finished before everything is."""
    found = set(statuses)
    if not found:
        return "FINISHED"  # nothing had to be done
    if len(found) == 1:
        return found.pop()
    return "RUNNING" if found & {"INITIALIZED", "RUNNING"} else "PARTIAL_SUCCESS"


def destination_statuses(requests: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Every destination that any of the requests reaches, each with one status for all of them."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for request in requests:
        for job in request["destinations"]:
            by_name.setdefault(job["destination"], []).append(job)
    return [_destination(name, jobs) for name, jobs in sorted(by_name.items())]


def _destination(name: str, jobs: Sequence[Mapping[str, Any]]) -> Json:
    statuses = [_DESTINATION_STATUS.get(job["state"], "RUNNING") for job in jobs]
    told: Json = {"name": name, "id": name, "status": overall(statuses)}
    if problem := next((job["error"] for job in jobs if job.get("error")), None):
        told["errString"] = problem
    return told
