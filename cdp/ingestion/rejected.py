"""Rejected events: kept for a while, listed, repaired and sent again.

A row is keyed by when it was received and a sequence, and its id is that key in hexadecimal.
There is a limit to the rows; the oldest make room. How many there are is counted in `meta`, in
the batches that change it. Rows are sealed under the key of their day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import trio

from cdp.clock import DAY_US
from cdp.domain.event import EVENT_SCHEMA, Event, encode_event
from cdp.domain.naming import ANONYMOUS_ID, USER_ID, Named, named_in_event
from cdp.domain.subjects import rejected_on
from cdp.errors import Overloaded
from cdp.ingestion.decoding import JSON_ERRORS, decode_json, repair
from cdp.ingestion.hearing import hear, statements_in
from cdp.ingestion.normalisation import Scope, normalise, read_id, read_wire
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.stamp import Sender
from cdp.ingestion.submission import RejectedEvent, Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from cdp.config import Limits
    from cdp.ingestion.actor import Intake
    from cdp.ingestion.collaborators import Namer, RowSeal
    from cdp.ingestion.stamp import Stamper
    from cdp.storage.store import Batch, Store

EXPIRED_ROWS_MAX: Final = 1_024
_LOOKED_AT_ONCE: Final = 64  # rows opened and read between two chances for other tasks
_TEXT_CHARS_MIN: Final = 4  # a shorter identifier is in too many texts by chance

_COUNT_KEY: Final = b"rejected:rows"
_FAMILY: Final = "rejected"
_KEY_BYTES: Final = 12
_RETRY_AFTER_S: Final = 1
_OBJECTS: Final = ("traits", "properties", "context")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RejectedEvent).decode


class Listed(NamedTuple):
    """A rejected event and its id."""

    id: str
    event: RejectedEvent


class Resubmitted(NamedTuple):
    """What became of a repaired event: accepted, one that we had already, or not to be stored."""

    duplicate: bool
    suppressed: bool = False


def count_rejected(store: Store) -> int:
    """How many rows there are."""
    stored = store.get("meta", _COUNT_KEY)
    return int.from_bytes(stored, "big") if stored else 0


def list_rejected(
    store: Store,
    *,
    limit: int = 100,
    before: str | None = None,
    source: str | None = None,
    vault: RowSeal | None = None,
) -> list[Listed]:
    """The latest rejected events, newest first; those before the id `before`, to read on.

    With `source` only those of one source, out of at most a thousand times `limit` rows. Rows whose
    key was destroyed are not there any more.
    """
    end = _key_of(before) if before else None
    found: list[Listed] = []
    for _ in range(1_000):
        rows = store.scan(_FAMILY, b"", end, limit=limit, reverse=True)
        opened = ((key, _open(key, value, vault)) for key, value in rows)
        listed = (Listed(key.hex(), event) for key, event in opened if event is not None)
        found += (row for row in listed if source in (None, row.event.source))
        if len(rows) < limit or len(found) >= limit:
            break
        end = rows[-1][0]
    return found[:limit]


def get_rejected(store: Store, row_id: str, vault: RowSeal | None = None) -> RejectedEvent | None:
    """One rejected event by its id; None where there is none."""
    key = _key_of(row_id)
    stored = store.get(_FAMILY, key) if key else None
    return _open(key, stored, vault) if key and stored else None


def _open(key: bytes, stored: bytes, vault: RowSeal | None) -> RejectedEvent | None:
    record = stored if vault is None else vault.open_row(stored, key)
    return _decode(record) if record else None


async def resubmit(
    *,
    store: Store,
    intake: Intake,
    limits: Limits,
    new_id: Callable[[], str],
    row_id: str,
    body: bytes | None = None,
    stamper: Stamper | None = None,
) -> Resubmitted:
    """Sends a rejected event again, repaired as `body` or as it is, under its first received_at.

    Its stamp is that of its first arrival too. Where it names somebody of whom nothing may be
    stored, it is not, and the row goes.

    The row goes in the batch that stores the event. Where the event is still not acceptable, the
    row stays.

    Raises:
        KeyError: no row has this id.
        Rejection: the event is still wrong, or only its beginning was kept and no body is given.
        Overloaded: the log writer has no room, or the store is not available.
    """
    row = get_rejected(store, row_id, intake.vault)
    if row is None:
        raise KeyError(row_id)
    if body is None and row.truncated:
        raise Rejection("truncated", "only the beginning of the event was kept; give a whole one")
    scope = Scope(
        source=row.source,
        received_at_us=row.received_at_us,
        new_id=new_id,
        limits=limits,
        fallback_type=row.path_type,
        sender=Sender.again(stamper, row),
    )
    event = normalise(read_wire(row.body if body is None else body, limits), scope)
    if intake.plan is not None:
        intake.plan.hold(event)
    submission = Submission(row.source, intake.clock.now_us())
    said = statements_in(event, scope.sender, 0)
    hear(submission, [named_in_event(event)], said, intake.namer)
    submission.message_ids.append(event.message_id)
    submission.records.append(encode_event(event))
    submission.repairs = _key_of(row_id)
    if not intake.offer(submission):
        raise Overloaded("too many events wait to be stored", retry_after_s=_RETRY_AFTER_S)
    await submission.settled()
    return Resubmitted(submission.duplicates == 1, submission.suppressed == 1)


def named_in_rejected(row: RejectedEvent) -> list[Named]:
    """The identifiers of an event that is wrong, as far as it can be read at all."""
    try:
        wire = decode_json(repair(row.body))
    except JSON_ERRORS:
        return []
    if type(wire) is not dict:
        return []
    traits, properties, context = (
        value if type(value := wire.get(key)) is dict else {} for key in _OBJECTS
    )
    event = Event(
        EVENT_SCHEMA,
        "identify",
        "",
        row.source,
        row.received_at_us,
        row.received_at_us,
        user_id=read_id(wire.get("userId")),
        anonymous_id=read_id(wire.get("anonymousId")),
        traits=traits,
        properties=properties,
        context=context,
    )
    previous = read_id(wire.get("previousId"))
    before = [(USER_ID, previous), (ANONYMOUS_ID, previous)] if previous else []
    return named_in_event(event) + before


def update_rejected(
    store: Store,
    batch: Batch,
    added: Sequence[RejectedEvent],
    repaired: dict[bytes, str],
    limits: Limits,
    vault: RowSeal | None = None,
) -> list[str]:
    """Adds rows and takes repaired ones out; the oldest make room where the limit is reached.

    `repaired` maps keys to sources; returns the sources of those that were still there.
    """
    added = added[-limits.rejected_events_max :]
    found = [key for key in repaired if store.get(_FAMILY, key) is not None]
    for key in found:
        batch.delete(_FAMILY, key)
    count = count_rejected(store) - len(found)
    count -= _evict(store, batch, count + len(added) - limits.rejected_events_max, found)
    for received_at_us, rows in _by_time(added).items():
        _put_rows(store, batch, received_at_us, rows, vault)
    _put_count(batch, count + len(added))
    return [repaired[key] for key in found]


def expire_rejected(
    store: Store, batch: Batch, now_us: int, age_days_max: float, rows_max: int = EXPIRED_ROWS_MAX
) -> int:
    """Forgets rejected events that are too old; returns how many. Call again while it is not 0."""
    end = max(0, now_us - int(age_days_max * DAY_US)).to_bytes(8, "big")
    keys = [key for key, _ in store.scan(_FAMILY, b"", end, limit=rows_max)]
    if keys:
        batch.delete_range(_FAMILY, b"", keys[-1] + b"\x00")
        _put_count(batch, count_rejected(store) - len(keys))
    return len(keys)


async def delete_naming(
    store: Store,
    vault: RowSeal,
    namer: Namer,
    nodes: Collection[bytes | None],
    identifiers: Collection[tuple[str, str]],
) -> int:
    """Deletes rejected events that are about a person; returns how many.

    Those are rows that name one of the nodes, and those that have one of the identifiers anywhere
    in their text, since nobody knows what is what in an event that is wrong.
    """
    texts = [value.lower().encode() for _, value in identifiers if len(value) >= _TEXT_CHARS_MIN]
    start, count = b"", 0
    while rows := store.scan(_FAMILY, start, limit=_LOOKED_AT_ONCE):
        keys = [key for key, row in rows if _is_about(_open(key, row, vault), namer, nodes, texts)]
        # Asked for again: some may have been repaired, or have expired, since the last turn.
        keys = [key for key in keys if store.get(_FAMILY, key) is not None]
        if keys:
            batch = store.batch()
            for key in keys:
                batch.delete(_FAMILY, key)
            _put_count(batch, count_rejected(store) - len(keys))
            store.write(batch)
            count += len(keys)
        start = rows[-1][0] + b"\x00"
        await trio.lowlevel.checkpoint()
    return count


def _is_about(
    row: RejectedEvent | None,
    namer: Namer,
    nodes: Collection[bytes | None],
    texts: Collection[bytes],
) -> bool:
    if row is None:
        return False
    body = row.body.lower()
    if any(text in body for text in texts):
        return True
    return not set(namer.nodes([named_in_rejected(row)])[0]).isdisjoint(nodes)


def _evict(store: Store, batch: Batch, surplus: int, gone: list[bytes]) -> int:
    if surplus <= 0:
        return 0
    rows = store.scan(_FAMILY, limit=surplus + len(gone))
    keys = [key for key, _ in rows if key not in gone][:surplus]
    if keys:
        batch.delete_range(_FAMILY, b"", keys[-1] + b"\x00")
    return len(keys)


def _by_time(rows: Sequence[RejectedEvent]) -> dict[int, list[RejectedEvent]]:
    grouped: dict[int, list[RejectedEvent]] = {}
    for row in rows:
        grouped.setdefault(row.received_at_us, []).append(row)
    return grouped


def _put_rows(
    store: Store,
    batch: Batch,
    received_at_us: int,
    rows: Sequence[RejectedEvent],
    vault: RowSeal | None,
) -> None:
    """Continues the sequence of this microsecond, so that no row takes another's place."""
    start = received_at_us.to_bytes(8, "big")
    last = store.scan(_FAMILY, start, start + b"\xff" * 5, limit=1, reverse=True)
    sequence = int.from_bytes(last[0][0][8:], "big") + 1 if last else 0
    subject = rejected_on(received_at_us)
    for row in rows:
        key, record = start + sequence.to_bytes(4, "big"), _encode(row)
        if vault is not None:
            record = vault.seal_row(batch, subject, record, key)
        batch.put(_FAMILY, key, record)
        sequence += 1


def _put_count(batch: Batch, count: int) -> None:
    batch.put("meta", _COUNT_KEY, max(0, count).to_bytes(8, "big"))


def _key_of(row_id: str) -> bytes | None:
    try:
        key = bytes.fromhex(row_id)
    except ValueError:
        return None
    return key if len(key) == _KEY_BYTES else None
