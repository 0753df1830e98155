"""Who has which key, and sealing with it.

A *subject* is whom data is about: 16 bytes, mostly the leaf node of an event. Its slots in the key
file stand in family `subjects`, newest last; the newest that is not destroyed seals, and all of
them open. A row is written in the batch that first uses its slot, so that whatever is sealed can be
found and shredded: an assignment whose batch may not have been written is put again into the next
batch that uses it, and never forgotten.

What is opened where its key is destroyed is `b""`, not an error. What was changed, or lies where it
was not sealed, raises StoreDamaged.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from cdp._matcher import RecentSlots, Sealer, Tampered
from cdp.errors import StoreDamaged
from cdp.storage.rotation import SLOTS_MARK, chunks, claim, mark_of, read_mark
from cdp.storage.slot_pool import SlotPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import trio

    from cdp.environment import RunInThread
    from cdp.storage.keyfile import KeyFile
    from cdp.storage.store import Batch, Store

CACHE_MAX: Final = 200_000  # subjects, about 100 bytes each, and as many keys of about 100
SUBJECT_BYTES: Final = 16
SLOT_NUMBER_BYTES: Final = 8
_DOUBTFUL_MAX: Final = 16_384
_DESTROYED_MAX: Final = 65_536


class Vault:
    """Seals what is about a subject, and opens it as long as the subject's key is there.

    Made once a process, over an open store; the event loop's thread calls it.

    Raises:
        ConfigError: the key file is wrapped under another master key.
        StoreDamaged: the key file is missing, older than the store, or changed.
    """

    def __init__(
        self,
        keys: KeyFile,
        store: Store,
        *,
        master: bytes,
        seed: bytes,
        previous: Sequence[bytes] = (),
        cache_max: int = CACHE_MAX,
    ) -> None:
        self.was_rotated = claim(keys, store, master=master, previous=previous, seed=seed)
        # Mixed with what differs from run to run, should a seed ever come twice.
        seed = blake2b(seed, salt=keys.count.to_bytes(8, "big"), digest_size=32).digest()
        self._keys = keys
        self._store = store
        self._sealer = Sealer(master, keys.epoch, seed, cache_max)
        self._pool = SlotPool(keys, self._sealer)
        self._known = RecentSlots(cache_max)
        self._used, self._serial = read_mark(store)
        self._batch: Batch | None = None  # the one that subjects were last asked for
        self._assigned: dict[bytes, bytes] = {}  # rows in it: whether it is written shows later
        self._doubtful: dict[bytes, bytes] = {}  # rows of batches of which nobody knows
        self._destroyed: set[int] = set()

    def slots(self, batch: Batch, subjects: Sequence[bytes]) -> list[int]:
        """The slot of each subject, one that is given to it in this batch where it has none.

        Raises:
            StorageError: no new slot can be made durable, or the key file cannot be read.
        """
        if batch is not self._batch:
            self._settle()
            self._batch = batch
        found = self._known.find(subjects)
        if found is None or (self._destroyed and not self._destroyed.isdisjoint(found)):
            return self._find_all(batch, subjects)
        return found

    def seal(
        self, slots: Sequence[int], records: Sequence[bytes], contexts: Sequence[bytes]
    ) -> list[bytes]:
        """Seals each record for its context: the place where it will be found again.

        Raises:
            ValueError: a record is empty, or a key is destroyed.
        """
        return self._with_keys(lambda: self._sealer.seal(slots, records, contexts))

    def open(self, sealed: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        """Opens each record where it was found; b"" where its key is destroyed.

        Raises:
            StoreDamaged: a record, or the slot of its key, was changed or moved.
        """
        return self._with_keys(lambda: self._sealer.open(sealed, contexts))

    def seal_run(
        self, slots: Sequence[int], records: Sequence[bytes], prefix: bytes, first: int
    ) -> list[bytes]:
        """Seals records that lie one after the other; see `seal`.

        The context of each is `prefix` and its number, counted from `first`, as 8 bytes.
        """
        return self._with_keys(lambda: self._sealer.seal_run(slots, records, prefix, first))

    def open_run(self, sealed: Sequence[bytes], prefix: bytes, first: int) -> list[bytes]:
        """Opens what `seal_run` sealed, from number `first` on; see `open`."""
        return self._with_keys(lambda: self._sealer.open_run(sealed, prefix, first))

    def _with_keys(self, work: Callable[[], list[bytes]]) -> list[bytes]:
        """Works on records, and once more where keys had to be read first."""
        try:
            try:
                return work()
            except KeyError as missing:
                self._admit(missing.args[0])
            return work()
        except Tampered as error:
            raise StoreDamaged(f"opening sealed records: {error}; {_RESTORE}") from error

    def seal_row(self, batch: Batch, subject: bytes, record: bytes, context: bytes) -> bytes:
        """One record, sealed for a subject."""
        return self.seal(self.slots(batch, [subject]), [record], [context])[0]

    def open_row(self, sealed: bytes, context: bytes) -> bytes:
        """One record, or b"" where its key is destroyed."""
        return self.open([sealed], [context])[0]

    def forget_unwritten(self) -> None:
        """After a batch that was not written. What it assigned is put again when next used."""
        self._settle()
        self._batch = None

    def slots_of(self, subject: bytes) -> list[int]:
        """Every slot that something of the subject may be sealed with, oldest first."""
        row = self._store.get("subjects", subject) or b""
        slots = dict.fromkeys(slots_in(row))
        slots.update(dict.fromkeys(slots_in(self._assigned.get(subject, b""))))
        slots.update(dict.fromkeys(slots_in(self._doubtful.get(subject, b""))))
        return list(slots)

    async def destroy(self, slots: Sequence[int], run_in_thread: RunInThread) -> None:
        """Destroys keys, in the file and in memory. What they sealed is gone when it returns.

        From the call on, nothing new is sealed with them.
        """
        self._shun(slots)
        await run_in_thread(self._keys.destroy, list(slots))
        self._sealer.forget(slots)  # what was opened meanwhile had read them again

    async def keep_pool(self, stopping: trio.Event, run_in_thread: RunInThread) -> None:
        """An actor: keeps slots ready for new people."""
        await self._pool.keep(stopping, run_in_thread)

    def survey(self) -> tuple[int, int]:
        """How many slots hold a key, and how many are destroyed. Reads all: not for the loop.

        Raises:
            StoreDamaged: a slot was changed.
        """
        live = destroyed = 0
        try:
            for first, part in chunks(self._keys):
                counts = self._sealer.survey(first, part)
                live, destroyed = live + counts[0], destroyed + counts[1]
        except Tampered as error:
            raise StoreDamaged(f"the key file: {error}; {_RESTORE}") from error
        return live, destroyed

    def statistics(self) -> dict[str, int]:
        """Numbers for gauges."""
        return {
            "slots": self._keys.count,
            "slots_ready": len(self._pool),
            "subjects_in_memory": len(self._known),
            "keys_in_memory": self._sealer.keys_at_hand(),
        }

    def close(self) -> None:
        """Lets go of the key file."""
        self._keys.close()

    def _find_all(self, batch: Batch, subjects: Sequence[bytes]) -> list[int]:
        assigned_count = len(self._assigned)
        found = self._find(batch, dict.fromkeys(subjects))
        if len(self._assigned) > assigned_count:
            self._serial += assigned_count == 0
            batch.put("meta", SLOTS_MARK, mark_of(self._used, self._serial))
        return [found[subject] for subject in subjects]

    def _find(self, batch: Batch, subjects: Iterable[bytes]) -> dict[bytes, int]:
        """Slots of subjects, wherever they stand; of new ones too."""
        found: dict[bytes, int] = {}
        unread: list[bytes] = []
        for subject in subjects:
            slot = self._known.get(subject)
            if slot is None or slot in self._destroyed:
                slot = self._given(batch, subject)
            if slot is None:
                unread.append(subject)
            else:
                found[subject] = slot
        if unread:
            found.update(self._find_stored(batch, unread))
        return found

    def _given(self, batch: Batch, subject: bytes) -> int | None:
        """A slot that was given to the subject, and that may not have been written yet."""
        row = self._assigned.get(subject)
        if row is None and (row := self._doubtful.pop(subject, None)) is not None:
            self._put(batch, subject, row)
        return None if row is None else _newest(row)

    def _find_stored(self, batch: Batch, subjects: list[bytes]) -> dict[bytes, int]:
        """Slots of subjects that only the store may know; a new one where it has no live one."""
        found: dict[bytes, int] = {}
        rows = self._store.get_many("subjects", subjects)
        live = self._live_slots([row for row in rows if row])
        for subject, row in zip(subjects, rows, strict=True):
            slot = live.get(_newest(row)) if row else None
            if slot is None:
                slot = self._assign(batch, subject, row or b"")
            else:
                self._known.add(subject, slot)
            found[subject] = slot
        return found

    def _live_slots(self, rows: list[bytes]) -> dict[int, int]:
        """Of the newest slot of each row, the newest slot of that row that is not destroyed."""
        if not rows:
            return {}
        candidates = [slot for row in rows for slot in slots_in(row)]
        missing = self._sealer.missing(candidates)
        if missing:
            self._admit(missing)
        is_live = dict(zip(candidates, self._sealer.live(candidates), strict=True))
        found: dict[int, int] = {}
        for row in rows:
            for slot in reversed(slots_in(row)):
                if is_live[slot] and slot not in self._destroyed:
                    found[_newest(row)] = slot
                    break
        return found

    def _assign(self, batch: Batch, subject: bytes, row: bytes) -> int:
        assert len(subject) == SUBJECT_BYTES, "a subject is a node, or as long as one"
        slot = self._pool.take()
        self._used = max(self._used, slot + 1)
        self._put(batch, subject, row + slot.to_bytes(SLOT_NUMBER_BYTES, "big"))
        return slot

    def _put(self, batch: Batch, subject: bytes, row: bytes) -> None:
        batch.put("subjects", subject, row)
        self._assigned[subject] = row

    def _settle(self) -> None:
        """Finds out whether the last batch was written: all of it was, or nothing."""
        assigned, self._assigned = self._assigned, {}
        if not assigned:
            return
        # Not by a row: another batch may have put the same one. The mark is this batch's alone.
        if read_mark(self._store)[1] == self._serial:
            for subject, row in assigned.items():
                self._known.add(subject, _newest(row))
            return
        self._doubtful.update(assigned)
        if len(self._doubtful) > _DOUBTFUL_MAX:
            self._sift()

    def _sift(self) -> None:
        """Drops the doubts that the store settles."""
        subjects = list(self._doubtful)
        for subject, row in zip(subjects, self._store.get_many("subjects", subjects), strict=True):
            if row == self._doubtful[subject]:
                del self._doubtful[subject]

    def _shun(self, slots: Sequence[int]) -> None:
        """Sees that a key that is about to be destroyed is not used again."""
        gone = set(slots)
        for rows in (self._assigned, self._doubtful):
            for subject in [one for one, row in rows.items() if _newest(row) in gone]:
                del rows[subject]
        self._sealer.forget(slots)
        if len(self._destroyed) > _DESTROYED_MAX:
            self._known.clear()
            self._destroyed.clear()
        self._destroyed |= gone

    def _admit(self, slots: list[int]) -> None:
        wrapped = b"".join(self._keys.read(slots))
        try:
            self._sealer.admit(slots, wrapped)
        except Tampered as error:
            raise StoreDamaged(f"the key file: {error}; {_RESTORE}") from error


_RESTORE: Final = "restore the last checkpoint, and the key file as it is now or its last copy"


def _newest(row: bytes) -> int:
    return int.from_bytes(row[-SLOT_NUMBER_BYTES:], "big")


def slots_in(row: bytes) -> list[int]:
    """The slots in a row of `subjects`, oldest first."""
    step = SLOT_NUMBER_BYTES
    return [int.from_bytes(row[at : at + step], "big") for at in range(0, len(row), step)]
