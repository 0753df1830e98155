"""The events of one request to a submission: each is normalised or rejected, none is lost.

Every event ends in exactly one list, so that accepted + duplicates + rejected is what was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cdp.domain.event import Event, encode_event
from cdp.domain.naming import named_in_event
from cdp.ingestion.decoding import DEPTH_MAX, decode_json, repair
from cdp.ingestion.hearing import hear, statements_in
from cdp.ingestion.normalisation import Scope, normalise, read_wire
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.submission import REJECTED_SCHEMA, RejectedEvent, Spoken, Submission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from cdp.domain.naming import Named
    from cdp.ingestion.plan import PlanCheck

_SHOWN_ID_CHARS_MAX: Final = 100


def admit(submission: Submission, raws: Sequence[bytes | Raw], first: int, scope: Scope) -> None:
    """Adds events to a submission; `first` is the place of the first of them in its request."""
    message_ids, records = submission.message_ids, submission.records
    named: list[list[Named]] = []
    said: list[Spoken] = []
    for index, raw in enumerate(raws, first):
        text = bytes(raw)
        try:
            event, record = _admit_one(submission, text, scope)
        except Rejection as rejection:
            reject(submission, text, index, rejection, scope)
        else:
            named.append(named_in_event(event))
            said += statements_in(event, scope.sender, len(records))
            message_ids.append(event.message_id)
            records.append(record)
    hear(submission, named, said, scope.namer)


def admit_surplus(
    submission: Submission, raws: Sequence[bytes | Raw], first: int, scope: Scope
) -> None:
    """Rejects what is beyond the limit of a batch. Keeps at most as many as a batch may have."""
    limit = scope.limits.batch_events_max
    rejection = Rejection("batch_too_long", f"batch has more than {limit} events; split it")
    for index, raw in enumerate(raws[:limit], first):
        reject(submission, bytes(raw), index, rejection, scope)
    submission.rejected_count += max(0, len(raws) - limit)


def _admit_one(submission: Submission, text: bytes, scope: Scope) -> tuple[Event, bytes]:
    event = normalise(read_wire(text, scope.limits), scope)
    if scope.plan is not None:
        _hold(submission, event, scope, scope.plan)
    try:
        return event, encode_event(event)
    except OverflowError:  # an integer beyond 64 bits, which only a repair finds
        event = normalise(read_wire(repair(text), scope.limits), scope)
        if scope.plan is not None:
            _hold(submission, event, scope, scope.plan)
        return event, encode_event(event)


def _hold(submission: Submission, event: Event, scope: Scope, plan: PlanCheck) -> None:
    """Holds an event against the plan. What a quarantined one says of consent counts at once."""
    try:
        plan.hold(event)
    except Rejection:
        hear(submission, [], statements_in(event, scope.sender), scope.namer)
        raise


def reject(
    submission: Submission, text: bytes, index: int, rejection: Rejection, scope: Scope
) -> None:
    """Adds one rejected event to a submission."""
    bytes_max = scope.limits.event_bytes_max
    row = RejectedEvent(
        REJECTED_SCHEMA,
        scope.source,
        scope.received_at_us,
        index,
        _shown_id(text[:bytes_max]),
        rejection.code,
        rejection.message,
        rejection.path,
        text[:bytes_max],
        len(text) > bytes_max,
        scope.path_type or scope.fallback_type,
        scope.sender.stamp,
        scope.sender.authority,
        scope.sender.grants_count,
    )
    submission.rejected.append(row)
    submission.rejected_count += 1


def _shown_id(text: bytes) -> str | None:
    """The id for the answer, so that a sender finds its event; decoded again, as few need it."""
    if text.count(b"{") + text.count(b"[") > DEPTH_MAX:
        return None
    try:
        wire: Any = decode_json(text)
    except ValueError:
        return None
    value = wire.get("messageId") if type(wire) is dict else None
    return value[:_SHOWN_ID_CHARS_MAX] if type(value) is str else None
