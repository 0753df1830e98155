"""Who an event is about, and who says what about purposes: by node, for a few events at a time.

Named where a request is read, a chunk in one call, and not where it is written: nodes are what the
log writer needs, and the identifiers themselves need not be kept until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.domain.naming import ANONYMOUS_ID, CRM_ID, USER_ID
from cdp.ingestion.submission import ALONE, Spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdp.domain.event import Event
    from cdp.domain.naming import Named
    from cdp.ingestion.collaborators import Namer
    from cdp.ingestion.stamp import Sender
    from cdp.ingestion.submission import Submission

_LOGINS: Final = (USER_ID, CRM_ID)  # namespaces of what only somebody who logged in is known by
_NO_NODES: Final[tuple[bytes, ...]] = ()


def statements_in(event: Event, sender: Sender, place: int = ALONE) -> list[Spoken]:
    """What an event states about purposes, for its user and its device; `place` is its record's."""
    stamp = event.stamp
    if not (stamp.present or stamp.gpc):
        return []
    speakers = []
    if event.user_id is not None:
        speakers.append((USER_ID, event.user_id))
    if event.anonymous_id is not None:
        speakers.append((ANONYMOUS_ID, event.anonymous_id))
    received_us = event.received_at_us
    return [
        # A header is about the browser as it was when the request came in.
        Spoken(
            place,
            one,
            received_us if one.kind == "gpc" else event.event_time_us,
            received_us,
            speakers,
        )
        for one in sender.statements_of(event)
    ]


def hear(
    submission: Submission,
    named: Sequence[Sequence[Named]],
    said: Iterable[Spoken],
    namer: Namer | None,
) -> None:
    """Adds the nodes of records, by the identifiers of each, and what was said beside them.

    Without a namer nobody is known, so nothing that is said is about anybody.
    """
    if namer is None:
        return
    first, found = len(submission.nodes), namer.nodes(named)
    submission.nodes += found
    for spoken in said:
        place = spoken.place - first
        if spoken.place == ALONE or not _leads(spoken, named[place], found[place]):
            logins = [one for one in spoken.named if one[0] in _LOGINS]
            spoken.nodes, spoken.verified = namer.nodes([spoken.named, logins])
        else:
            nodes, count = found[place], len(spoken.named)
            spoken.nodes = nodes if count == len(nodes) else nodes[:count]
            spoken.verified = nodes[:1] if spoken.named[0][0] == USER_ID else _NO_NODES
        spoken.named = ()
        submission.said.append(spoken)


def _leads(spoken: Spoken, named: Sequence[Named], nodes: Sequence[bytes]) -> bool:
    """Whether the first nodes of the event are those of the speakers.

    That is so where every identifier of the event could be used, which is where it has as many
    nodes as identifiers.
    """
    speakers = spoken.named
    return len(nodes) == len(named) and named[: len(speakers)] == speakers
