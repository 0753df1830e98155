"""What an erasure does in the house: seal, shred, purge, verify.

Each step ends in one synced batch with the request's next state and an audit record, and can be
done again from its beginning, whatever was killed in the middle of it. Keys are destroyed before
rows are deleted: should the rows survive, nobody can read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import trio

from cdp.consent import byte_scan
from cdp.consent.suppression import FOR_GOOD
from cdp.consent.tombstones import note_applied
from cdp.domain.identifier import NODE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from cdp.clock import Clock
    from cdp.consent.audit import AuditLog
    from cdp.consent.ledger import ConsentLedger
    from cdp.consent.requests import Pair, Request, RequestBook, Secret
    from cdp.consent.suppression import Suppression
    from cdp.consent.tombstones import Tombstones
    from cdp.environment import RunInThread
    from cdp.storage.keyfile import KeyFile
    from cdp.storage.store import Batch, Store
    from cdp.storage.vault import Vault

ROUNDS_MAX: Final = 3  # of purging again where something was left
NODES_IN_BATCH: Final = 256
KEYS_IN_BATCH: Final = 1_000
ACTOR: Final = "erasure"
READY_LOOK_S: Final = 0.1

# Families with a row of the node itself, and those whose keys begin with one.
_OF_NODE: Final = ("identifiers", "fragments", "subjects", "standing")
_UNDER_NODE: Final = ("timeline", "logins")
_SHREDDED: Final = ("keys", "subjects")

_END: Final = b"\xff" * 16

Nodes: TypeAlias = "Collection[bytes]"


class People(Protocol):
    """Which identifiers are one person."""

    @property
    def ready(self) -> bool: ...

    def members(self, profile_id: bytes) -> Sequence[bytes]: ...

    def profile_of(self, node: bytes) -> bytes | None: ...

    def is_shared(self, node: bytes) -> bool: ...


async def _settled() -> None:
    await trio.lowlevel.checkpoint()


def _forget_nothing(_: Nodes) -> None:
    """Where nobody remembers who received what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Everybody else who holds something of people, as far as an erasure must ask them.

    All of it can be called again for people of whom nothing is left. `settled` returns once
    identity has seen every event that was stored before the call.
    """

    identifiers_of: Callable[[Nodes], Awaitable[Iterable[Pair]]]  # raw, before the keys go
    message_keys_of: Callable[[Nodes], AsyncIterator[Sequence[bytes]]]  # keys of `seen`
    identity_erase: Callable[[Nodes], Awaitable[None]]
    purge_deliveries: Callable[[Nodes], Awaitable[int]]
    erase_exports: Callable[[Nodes], Awaitable[int]]
    purge_rejected: Callable[[Collection[Pair]], Awaitable[int]]
    resolves: Callable[[bytes], bool]  # whether identity still knows a node
    settled: Callable[[], Awaitable[None]] = _settled
    forget_cached: Sequence[Callable[[], None]] = field(default_factory=list)
    forget_recipients: Callable[[Nodes], None] = _forget_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the erasure works on itself. `data_dir` is None where there is no disk to scan."""

    store: Store
    vault: Vault
    keys: KeyFile
    suppression: Suppression
    ledger: ConsentLedger
    people: People
    audit: AuditLog
    tombstones: Tombstones
    clock: Clock
    run_in_thread: RunInThread
    data_dir: Path | None = None


class LocalSteps:
    """The steps of one request at a time, each from the state that it is in to the next."""

    def __init__(self, house: House, holders: Holders, book: RequestBook) -> None:
        self._house = house
        self._holders = holders
        self._book = book
        self._store = house.store
        self.slots_before = house.keys.count  # keys with a higher number were made by this process
        book.on_unwritten += [house.suppression.reload, house.ledger.forget_unwritten]

    @property
    def house(self) -> House:
        """What the steps work on."""
        return self._house

    @property
    def holders(self) -> Holders:
        """Everybody else who is asked."""
        return self._holders

    @property
    def book(self) -> RequestBook:
        """The rows of requests."""
        return self._book

    async def ready(self) -> None:
        """Returns when it is known who is who."""
        while not self._house.people.ready:  # noqa: ASYNC110 - there is no event to wait for
            await trio.sleep(READY_LOOK_S)

    async def seal(self, request: Request, secret: Secret) -> None:
        """From now on nothing about the person is stored or sent."""
        self._seal(request, secret, self.person(secret), "sealed")
        await self._store.sync()

    def person(self, secret: Secret) -> set[bytes]:
        """All identifiers of the people whom a request names, without those of several people."""
        people = self._house.people
        found: set[bytes] = set()
        for node in {*secret.named, *secret.nodes}:
            if people.is_shared(node):
                continue
            found.add(node)
            profile_id = people.profile_of(node)
            if profile_id is not None:
                found.update(people.members(profile_id))
        return found

    async def collect(self, request: Request, secret: Secret) -> None:
        """From sealed to shredding: notes what is found only while the keys are there."""
        await self._holders.settled()
        await self.ready()
        self._let_go_of_shared(request, secret)
        while wider := self.person(secret).difference(secret.nodes):
            self._seal(request, secret, wider, request.state)
        identifiers = await self._holders.identifiers_of(secret.nodes)
        secret.identifiers = list(dict.fromkeys([*secret.identifiers, *identifiers]))
        await self.forget_messages(secret.nodes, request)
        secret.received = await self._received(secret.nodes)
        secret.slots = await self.slots(secret.nodes)
        with self._book.change() as batch:
            self._book.seal(batch, request, secret)
            self._move(batch, request, "shredding", identifiers=len(secret.nodes))
        await self._store.sync()

    async def shred(self, request: Request, secret: Secret) -> None:
        """From shredding to purging: writes the ledger of erasures, then destroys the keys."""
        slots = sorted({*secret.slots, *await self.slots(secret.nodes)})
        seq = await self._house.tombstones.append(
            request.name, secret.nodes, slots, suppress=request.suppress
        )
        await self.destroy(slots)
        with self._book.change() as batch:
            if slots != secret.slots:
                secret.slots = slots
                self._book.seal(batch, request, secret)
            note_applied(self._store, batch, seq)
            request.counts["keys"] = len(slots)
            details = {"keys": len(slots), "tombstone": seq}
            self._audit(batch, request, "key_destroyed", details)
            self._move(batch, request, "purging")
        await self._store.sync()

    async def note_suppression(self, request: Request, secret: Secret) -> None:
        """Writes a suppression without an erasure into the ledger, for restored stores."""
        seq = await self._house.tombstones.append(
            request.name, secret.nodes, [], suppress=True, erase=False
        )
        with self._book.change() as batch:
            note_applied(self._store, batch, seq)
            self._house.suppression.release(batch, secret.nodes, request.id)

    async def destroy(self, slots: Sequence[int]) -> None:
        """Destroys keys, and what was opened with them in memory."""
        if slots:
            await self._house.vault.destroy(slots, self._house.run_in_thread)
        for forget in self._holders.forget_cached:
            forget()

    async def purge(self, request: Request, secret: Secret) -> None:
        """From purging to verifying: deletes every row and file."""
        counts = await self.delete_held(secret.nodes, secret.identifiers)
        for first in range(0, len(secret.nodes), NODES_IN_BATCH):
            with self._book.change() as batch:
                records = self.delete_rows(batch, secret.nodes[first : first + NODES_IN_BATCH])
                request.counts["consent"] = request.counts.get("consent", 0) + records
                self._book.put(batch, request)
            await trio.lowlevel.checkpoint()
        if counts["rejected"]:  # under keys that others' events share, so the bytes themselves go
            await self._store.reclaim("rejected", b"", _END)
        with self._book.change() as batch:
            for store, count in counts.items():
                request.counts[store] = request.counts.get(store, 0) + count
            self._move(batch, request, "verifying")
        await self._store.sync()

    async def delete_held(self, nodes: Nodes, identifiers: Collection[Pair]) -> dict[str, int]:
        """Has everybody else delete what they hold; how much that was, by who held it."""
        await self._holders.identity_erase(nodes)
        return {
            "identity": len(nodes),
            "deliveries": await self._holders.purge_deliveries(nodes),
            "exports": await self._holders.erase_exports(nodes),
            "rejected": await self._holders.purge_rejected(identifiers),
        }

    def delete_rows(self, batch: Batch, nodes: Sequence[bytes]) -> int:
        """Deletes consent and keys' rows; how many records of consent were about them."""
        records = self._house.ledger.forget(batch, nodes)
        for node in nodes:
            batch.delete("subjects", node)
        return records

    async def verify(self, jobs: Sequence[tuple[Request, Secret]]) -> None:
        """From verifying to downstream, or back: looks for what is left of some people.

        The files are read once for all of them, and once more for each where something is found.
        """
        scans = await self._scans([secret for _, secret in jobs])
        for (request, secret), scanned in zip(jobs, scans, strict=True):
            checks = await self._look(secret.nodes, secret.slots)
            request.scan = {} if scanned is None else scanned._asdict()
            checks["files"] = 0 if scanned is None else sum(scanned.hits.values())
            request.checks = checks
            left = sorted(store for store, count in checks.items() if count)
            with self._book.change() as batch:
                self._judge(batch, request, secret, left)
            if not self._house.suppression.nodes.issuperset(secret.nodes):
                self._house.ledger.suppressed(secret.nodes)  # they are no longer
        await self._store.sync()

    def _judge(self, batch: Batch, request: Request, secret: Secret, left: list[str]) -> None:
        if left and request.rounds < ROUNDS_MAX:
            request.rounds += 1
            again = "shredding" if set(left).intersection(_SHREDDED) else "purging"
            self._move(batch, request, again, round=request.rounds, left=left)
            return
        request.problems += [f"still_found:{store}" for store in left]
        self._house.suppression.release(batch, secret.nodes, request.id)
        if not request.suppress and request.downstream:  # those who come back are received anew
            self.delete_received(batch, secret)
        self._move(batch, request, "downstream", left=left)

    def delete_received(
        self, batch: Batch, secret: Secret, destinations: Collection[str] | None = None
    ) -> None:
        """Forgets that destinations ever had the person: all, or those that erased them."""
        for name, profile_ids in secret.received.items():
            if destinations is None or name in destinations:
                for profile_id in profile_ids:
                    batch.delete("recipients", profile_id + name.encode())
        self._holders.forget_recipients(secret.nodes)

    async def forget_messages(self, nodes: Nodes, request: Request | None = None) -> None:
        """Deletes what says that events of these people were seen, while they can be opened."""
        async for keys in self._holders.message_keys_of(nodes):
            for first in range(0, len(keys), KEYS_IN_BATCH):
                part = keys[first : first + KEYS_IN_BATCH]
                rows = self._store.get_many("seen", part)
                gone = [key for key, row in zip(part, rows, strict=True) if row is not None]
                with self._book.change() as batch:
                    for key in gone:
                        batch.delete("seen", key)
                    if request is not None and gone:
                        request.counts["seen"] = request.counts.get("seen", 0) + len(gone)
                        self._book.put(batch, request)
                await trio.lowlevel.checkpoint()

    def _seal(self, request: Request, secret: Secret, nodes: set[bytes], state: str) -> None:
        house = self._house
        secret.nodes = sorted(nodes.union(secret.nodes))
        with self._book.change() as batch:
            house.suppression.add(
                batch,
                nodes,
                reason=request.kind,
                now_us=house.clock.now_us(),
                holders=_holders(request),
            )
            self._book.seal(batch, request, secret)
            if state == request.state:
                self._book.put(batch, request)
            else:
                self._move(batch, request, state, identifiers=len(secret.nodes))
        house.ledger.suppressed(sorted(nodes))

    def _let_go_of_shared(self, request: Request, secret: Secret) -> None:
        """An event from before the seal may show that an identifier is several people's."""
        house = self._house
        shared = [node for node in secret.nodes if house.people.is_shared(node)]
        if not shared:
            return
        secret.nodes = sorted(set(secret.nodes).difference(shared))
        with self._book.change() as batch:
            house.suppression.release(batch, shared, *_holders(request))
            self._book.seal(batch, request, secret)
            self._book.put(batch, request)
        house.ledger.suppressed(shared)

    def _move(self, batch: Batch, request: Request, state: str, **details: Any) -> None:
        self._book.move(request, state)
        self._book.put(batch, request)
        self._audit(batch, request, f"erasure_{state}", details)

    def _audit(self, batch: Batch, request: Request, action: str, details: dict[str, Any]) -> None:
        self._house.audit.add(batch, actor=ACTOR, action=action, object=request.id, details=details)

    async def slots(self, nodes: Nodes) -> list[int]:
        """The keys that anything of these nodes may be sealed with."""
        found: set[int] = set()
        for place, node in enumerate(nodes, 1):
            found.update(self._house.vault.slots_of(node))
            if place % NODES_IN_BATCH == 0:
                await trio.lowlevel.checkpoint()
        return sorted(found)

    async def _received(self, nodes: Nodes) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for place, node in enumerate(nodes, 1):
            for key, _ in self._store.scan("recipients", node, node + b"\xff"):
                found.setdefault(key[NODE_BYTES:].decode(), []).append(node)
            if place % NODES_IN_BATCH == 0:
                await trio.lowlevel.checkpoint()
        return found

    async def live(self, slots: Sequence[int]) -> list[int]:
        """Those of some keys that are not destroyed."""
        there = [slot for slot in slots if slot < self._house.keys.count]
        read = await self._house.run_in_thread(self._house.keys.read, there)
        return [slot for slot, value in zip(there, read, strict=True) if any(value)]

    async def _look(self, nodes: Nodes, slots: Sequence[int]) -> dict[str, int]:
        """How much is left of some people, by store."""
        await self.ready()
        found = dict.fromkeys((*_OF_NODE, *_UNDER_NODE), 0)
        found["identity"] = sum(map(self._holders.resolves, nodes))
        for place, node in enumerate(nodes, 1):
            for family in _OF_NODE:
                found[family] += self._store.get(family, node) is not None
            for family in _UNDER_NODE:
                rows = self._store.scan(family, node, node + b"\xff" * NODE_BYTES, limit=1)
                found[family] += len(rows)
            if place % NODES_IN_BATCH == 0:
                await trio.lowlevel.checkpoint()
        found["keys"] = len(await self.live(slots))
        return found

    async def _scans(self, secrets: Sequence[Secret]) -> list[byte_scan.Scanned | None]:
        if self._house.data_dir is None:
            return [None] * len(secrets)
        values = [{value for _, value in secret.identifiers} for secret in secrets]
        together = await self._scan(set().union(*values))
        if not together.hits or len(values) == 1:
            return [together] * len(values)
        return [await self._scan(one) for one in values]

    async def _scan(self, values: set[str]) -> byte_scan.Scanned:
        assert self._house.data_dir is not None
        return await self._house.run_in_thread(byte_scan.scan, self._house.data_dir, sorted(values))


def _holders(request: Request) -> tuple[bytes, ...]:
    """Who holds the person suppressed: the erasure while it runs, and mostly for good."""
    return (request.id, FOR_GOOD) if request.suppress else (request.id,)
