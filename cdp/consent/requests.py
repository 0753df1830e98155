"""What people ask for as their right: rows of requests, and how far they are.

Whom a request is about is sealed under a key of the request's own, which is destroyed when the
request ends: what stays says what was done and when, and of whom nothing. Everything else that a
request says is no personal data.
"""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from cdp.errors import CdpError, Overloaded, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cdp.clock import Clock
    from cdp.storage.store import Batch, Store

FAMILY: Final = "requests"
ID_BYTES: Final = 16
KINDS: Final = ("erasure", "access", "portability", "restriction", "suppression")
WAITING: Final = frozenset({"received", "on_hold", "verified", "approved"})  # can be cancelled
ENDED: Final = frozenset({"complete", "partially_complete", "denied", "cancelled"})
LISTED_ROWS: Final = 500  # read at a time

Pair: TypeAlias = tuple[str, str]  # namespace, value


class RequestRefused(CdpError):
    """The order makes no sense for this request, or at this point of it."""


class RequestUnknown(CdpError):
    """There is no such request."""


class Asked(Protocol):
    """A request as it was made."""

    @property
    def kind(self) -> str: ...
    @property
    def identifiers(self) -> Sequence[Pair]: ...
    @property
    def external_id(self) -> str: ...
    @property
    def regulation(self) -> str: ...
    @property
    def hold(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def verified_by(self) -> str: ...
    @property
    def suppress(self) -> bool: ...
    @property
    def downstream(self) -> bool: ...
    @property
    def lift(self) -> bool: ...


class Vault(Protocol):
    """Seals rows; what a destroyed key sealed opens to nothing."""

    def seal_row(self, batch: Batch, subject: bytes, record: bytes, context: bytes) -> bytes: ...

    def open_row(self, sealed: bytes, context: bytes) -> bytes: ...

    def forget_unwritten(self) -> None: ...


class Secret(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whom a request is about, for as long as it runs. `received`: destination -> profile ids."""

    identifiers: list[Pair] = []
    named: list[bytes] = []
    nodes: list[bytes] = []
    slots: list[int] = []
    received: dict[str, list[bytes]] = {}


class Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A row. `times`: state -> when it was reached; `by`: state -> who ordered it."""

    id: bytes
    kind: str
    state: str
    times: dict[str, int]
    external_id: str = ""
    regulation: str = ""
    channel: str = "api"
    hold: str = ""
    reason: str = ""  # why it was denied, or how somebody was verified
    by: dict[str, str] = {}
    suppress: bool = True
    downstream: bool = True
    lift: bool = False
    counts: dict[str, int] = {}  # store -> what was erased there
    checks: dict[str, int] = {}  # store -> what was still found there at the end
    scan: dict[str, Any] = {}
    rounds: int = 0  # of purging again after something was found
    problems: list[str] = []
    sealed: bytes = b""
    alarms_told: int = 0  # see cdp.consent.deadlines
    key_left: bool = True  # the request's own key is not destroyed yet

    @property
    def name(self) -> str:
        """The id, as everybody outside sees it."""
        return self.id.hex()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode
_decode_secret = msgspec.msgpack.Decoder(Secret).decode


class RequestBook:
    """Reads and writes the rows. Whoever changes one reads, changes and writes it in one turn."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        open_max: int = 100_000,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._new_id = new_id
        self._open_max = open_max
        # Called after a batch that was not written, so that memory is as the store again.
        self.on_unwritten: list[Callable[[], None]] = [vault.forget_unwritten]
        self.open: dict[bytes, str] = {}  # requests that are not over, and their states
        self.reload()

    def reload(self) -> None:
        """Reads which requests are under way."""
        self.open.clear()
        for one in self.all():
            self._note(one)

    def waiting_in(self, *states: str) -> list[bytes]:
        """The requests in these states whose end is not settled, in the order they came."""
        return sorted(one for one, state in self.open.items() if state in states)

    def all(self) -> Iterator[Request]:
        """Every request, oldest first."""
        start = b""
        while rows := self._store.scan(FAMILY, start, limit=LISTED_ROWS):
            yield from (_read(value) for _, value in rows)
            start = rows[-1][0] + b"\x00"

    def get(self, request_id: str | bytes) -> Request:
        """One request. Raises RequestUnknown."""
        try:
            key = bytes.fromhex(request_id) if isinstance(request_id, str) else request_id
        except ValueError:
            key = b""
        if len(key) != ID_BYTES or self._store.get(FAMILY, key) is None:
            raise RequestUnknown("there is no such request; list them to see their ids")
        return self._stored(key)

    def find(self, external_id: str) -> Request | None:
        """The request that somebody made under an id of theirs."""
        key = self._store.get("meta", _external_key(external_id)) if external_id else None
        return None if key is None else self._stored(key)

    def listing(
        self, after: str | None, limit: int, *, kind: str | None, state: str | None
    ) -> tuple[list[Request], str | None]:
        """Requests, newest first, and what to pass as `after` for the next ones."""
        end = bytes.fromhex(after) if after else None
        found: list[Request] = []
        while rows := self._store.scan(FAMILY, b"", end, limit=LISTED_ROWS, reverse=True):
            read = (_read(value) for _, value in rows)
            found += [
                one for one in read if kind in (None, one.kind) and state in (None, one.state)
            ]
            if len(found) > limit:
                return found[:limit], found[limit - 1].name
            end = rows[-1][0]
        return found, None

    def new(self, batch: Batch, asked: Asked, named: Sequence[bytes]) -> Request:
        """Puts a new request into a batch. Raises Overloaded where too many are open."""
        if len(self.open) >= self._open_max:
            raise Overloaded("too many requests are open; finish some first", retry_after_s=3600)
        now_us = self._clock.now_us()
        state = "on_hold" if asked.hold else "verified" if asked.verified_by else "received"
        request = Request(
            id=now_us.to_bytes(8, "big") + bytes.fromhex(self._new_id())[:8],
            kind=asked.kind,
            state=state,
            times={"received": now_us, state: now_us},
            external_id=asked.external_id,
            regulation=asked.regulation,
            channel=asked.channel,
            hold=asked.hold,
            by={"verified": asked.verified_by} if asked.verified_by else {},
            suppress=asked.suppress,
            downstream=asked.downstream,
            lift=asked.lift,
        )
        if asked.verified_by:
            request.times["verified"] = now_us
        self.seal(batch, request, Secret(identifiers=list(asked.identifiers), named=list(named)))
        self.put(batch, request)
        if request.external_id:
            batch.put("meta", _external_key(request.external_id), request.id)
        return request

    def put(self, batch: Batch, request: Request) -> None:
        """Puts a changed request into a batch."""
        batch.put(FAMILY, request.id, _encode(request))
        self._note(request)

    def move(self, request: Request, state: str, *, by: str = "") -> None:
        """Gives a request its next state."""
        request.state = state
        request.times[state] = self._clock.now_us()
        if by:
            request.by[state] = by

    def seal(self, batch: Batch, request: Request, secret: Secret) -> None:
        """Puts whom a request is about into its row, under its own key."""
        request.sealed = self._vault.seal_row(
            batch, request.id, _encode(secret), _context(request.id)
        )

    def secret(self, request: Request) -> Secret | None:
        """Whom a request is about; None where its key is destroyed."""
        if not request.sealed:
            return None
        opened = self._vault.open_row(request.sealed, _context(request.id))
        return _decode_secret(opened) if opened else None

    @contextmanager
    def change(self) -> Iterator[Batch]:
        """A batch that is written at the end of the block, or taken back in memory, too.

        Nothing may be awaited in the block. Raises StorageError.
        """
        batch = self._store.batch()
        try:
            yield batch
            self._store.write(batch)
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        for undo in self.on_unwritten:
            undo()
        self.reload()

    def _note(self, request: Request) -> None:
        if request.state in ENDED and not request.key_left:
            self.open.pop(request.id, None)
        else:
            self.open[request.id] = request.state

    def _stored(self, key: bytes) -> Request:
        row = self._store.get(FAMILY, key)
        assert row is not None, "a request is never deleted"
        return _read(row)


def _read(row: bytes) -> Request:
    try:
        return _decode(row)
    except msgspec.MsgspecError as error:
        raise StoreDamaged("requests: a row is not what was written; run `cdp check`") from error


def _context(request_id: bytes) -> bytes:
    return b"requests\0" + request_id


def _external_key(external_id: str) -> bytes:
    return b"request:" + blake2b(external_id.encode(), digest_size=16).digest()
