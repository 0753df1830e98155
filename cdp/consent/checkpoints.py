"""Signed checkpoints of the audit log, and the witness: a file outside that gets each of them.

Whoever has the store and the keys can write another history, chain, tree and signatures and all.
What they cannot change is what was sent elsewhere before: so every checkpoint goes to the witness
file, on another disk or another machine's mount. Without a witness a rewritten history cannot be
told; with one, it can be rewritten only as far back as the last checkpoint, a minute at most.

A checkpoint is stored and on disk before the witness gets it. Where the witness is not there, the
checkpoints wait in the store, in order, and the journal and the metrics say so.
"""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import trio
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdp.consent.audit import FAMILY
from cdp.storage.directory import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from cdp.clock import Clock
    from cdp.config_consent import Privacy
    from cdp.consent.audit import AuditLog
    from cdp.environment import RunInThread
    from cdp.storage.store import Store
    from cdp.telemetry import Journal, Metrics

INTERVAL_S: Final = 60.0
RETRY_S: Final = 5.0
SENT_MAX: Final = 1_000  # checkpoints in one append to the witness
WORDS: Final = "cdp audit log"  # the first line of what is signed

_PREFIX: Final = b"\xff"
_PREFIX_END: Final = b"\xff" * 10
_WITNESSED_KEY: Final = b"audit:witnessed"


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That the log had this root when it was this long. Binary fields are base64 in JSON."""

    size: int
    root: bytes
    time_us: int
    key_id: str
    signature: bytes

    def statement(self) -> bytes:
        """What is signed."""
        return statement(self.size, self.root, self.time_us)


class _Witnessed(msgspec.Struct, array_like=True):
    """How far a witness file has been told."""

    path: str = ""
    size: int = 0


class WitnessFile(Protocol):
    """Where checkpoints go. `append` returns once they are on the disk there."""

    def append(self, lines: bytes, *, known: bool) -> None:
        """Adds whole lines. `known`: it has had some, so it must not be made anew.

        Raises OSError.
        """
        ...

    def last(self) -> bytes:
        """The last whole line; empty where there is none. Raises OSError."""
        ...


class Signer:
    """The key that checkpoints are signed with."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw()
        self.key_id = key_id(self.public_key)

    def sign(self, size: int, root: bytes, time_us: int) -> Checkpoint:
        """The checkpoint of a log of this size and root."""
        signature = self._key.sign(statement(size, root, time_us))
        return Checkpoint(size, root, time_us, self.key_id, signature)


def open_signer(privacy: Privacy, identity_key: bytes) -> Signer:
    """The signer of `privacy.audit_key`, or of a key that is derived from `identity.key`."""
    own = privacy.audit_key
    secret = identity_key if own is None else own.reveal().strip().encode()
    info = b"cdp audit checkpoints" if own is None else b"cdp audit checkpoints, own key"
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
    return Signer(Ed25519PrivateKey.from_private_bytes(seed))


def key_id(public_key: bytes) -> str:
    """How a checkpoint names the key that signed it."""
    return sha256(public_key).hexdigest()[:16]


def statement(size: int, root: bytes, time_us: int) -> bytes:
    """The text of a checkpoint, as it is signed: four lines."""
    return f"{WORDS}\n{size}\n{b64encode(root).decode()}\n{time_us}\n".encode()


def is_signed_by(checkpoint: Checkpoint, public_key: bytes) -> bool:
    """Whether the signature is that key's."""
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(checkpoint.signature, checkpoint.statement())
    except (InvalidSignature, ValueError):
        return False
    return True


_encode = msgspec.msgpack.Encoder().encode
_to_line = msgspec.json.Encoder().encode
encode_checkpoint = _encode
decode_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
parse_line = msgspec.json.Decoder(Checkpoint).decode


def line_of(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as the witness has it, without the end of the line."""
    return _to_line(checkpoint)


def checkpoint_key(size: int) -> bytes:
    """Where the checkpoint of this size is stored."""
    return _PREFIX + size.to_bytes(8, "big")


def stored_checkpoints(
    store: Store, after: int = -1, limit: int | None = None
) -> list[tuple[bytes, bytes]]:
    """The checkpoints as they are stored, of more than `after` records, in order."""
    return store.scan(FAMILY, checkpoint_key(after + 1), _PREFIX_END, limit=limit)


def last_checkpoint(store: Store) -> Checkpoint | None:
    """The newest one; None where there is none."""
    rows = store.scan(FAMILY, _PREFIX, _PREFIX_END, limit=1, reverse=True)
    return decode_checkpoint(rows[0][1]) if rows else None


class Checkpoints:
    """The actor that signs and sends. `run` makes a last checkpoint when it is told to stop."""

    def __init__(
        self,
        *,
        store: Store,
        audit: AuditLog,
        signer: Signer,
        clock: Clock,
        run_in_thread: RunInThread,
        metrics: Metrics,
        journal: Journal,
        witness: Path | None = None,
        witness_file: WitnessFile | None = None,
    ) -> None:
        self._store = store
        self._audit = audit
        self._signer = signer
        self._clock = clock
        self._run_in_thread = run_in_thread
        self._journal = journal
        self._path = "" if witness is None else str(witness)
        self._file = witness_file or (None if witness is None else AppendedFile(witness))
        self._failing = False
        self._compared = False
        newest = last_checkpoint(store)
        self._size = newest.size if newest else 0
        self._time_us = newest.time_us if newest else 0
        self._witnessed = self._read_witnessed()
        self._failures = metrics.counter("cdp_audit_witness_failures_total")
        metrics.gauge("cdp_audit_unwitnessed_records", lambda: self.unwitnessed)

    @property
    def unwitnessed(self) -> int:
        """Records of the last checkpoint that the witness does not have; 0 without a witness."""
        return self._size - self._witnessed if self._file is not None else 0

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "checkpoint_size": self._size,
            "checkpoint_time_us": self._time_us,
            "key_id": self._signer.key_id,
            "public_key": self._signer.public_key.hex(),
            "witness": self._file is not None,
            "witness_available": self._file is not None and not self._failing,
            "witnessed_size": self._witnessed if self._file is not None else 0,
        }

    async def run(self, stopping: trio.Event) -> None:
        """Makes checkpoints until `stopping` is set, and one more.

        Raises:
            StorageError: the store failed.
        """
        await self._send()
        next_s = trio.current_time()  # what the last run left is signed at once
        while not stopping.is_set():
            if self._audit.due.is_set() or trio.current_time() >= next_s:
                next_s = trio.current_time() + INTERVAL_S
                await self._make()
            await self._send()
            retry_s = trio.current_time() + RETRY_S
            await self._wait(stopping, min(next_s, retry_s) if self._failing else next_s)
        await self._make()
        await self._send()

    async def _wait(self, stopping: trio.Event, until_s: float) -> None:
        with trio.move_on_at(until_s):
            async with trio.open_nursery() as nursery:
                for event in (stopping, self._audit.due):
                    nursery.start_soon(_cancel_after, event, nursery.cancel_scope)

    async def _make(self) -> None:
        """Signs what is stored, if anything but the last checkpoint's own record is new."""
        head = self._audit.settle()
        if head.size <= self._size + (self._size > 0):
            return
        made = self._signer.sign(head.size, head.root, self._clock.now_us())
        batch = self._store.batch()
        self._audit.save_edge(batch)
        batch.put(FAMILY, checkpoint_key(made.size), _encode(made))
        self._audit.add(
            batch,
            actor="cdp",
            action="checkpoint",
            object=made.root,
            details={"size": made.size, "root": made.root, "key_id": made.key_id},
        )
        self._store.write(batch)
        await self._store.sync()
        self._size, self._time_us = made.size, made.time_us

    async def _send(self) -> None:
        """Tells the witness everything that it does not have yet."""
        if self._file is None or (self._compared and self._witnessed >= self._size):
            return
        try:
            if not self._compared:
                self._compare(await self._run_in_thread(self._file.last))
            while waiting := stored_checkpoints(self._store, self._witnessed, SENT_MAX):
                found = [decode_checkpoint(value) for _, value in waiting]
                lines = b"".join(line_of(one) + b"\n" for one in found)
                await self._run_in_thread(self._append, lines, self._witnessed > 0)
                self._note_witnessed(found[-1].size)
        except OSError as error:
            self._note_failure(error)
        else:
            if self._failing:
                self._journal.info("audit_witness_available", records=self._witnessed)
            self._failing = False

    def _compare(self, line: bytes) -> None:
        """Looks once at the last line of the witness: it may know more than was noted, or other."""
        self._compared = True
        if not line:
            return
        try:
            seen = parse_line(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._journal.error("audit_witness_unreadable", reason="its last line is not ours")
            return
        if self._store.get(FAMILY, checkpoint_key(seen.size)) == _encode(seen):
            self._witnessed = max(self._witnessed, seen.size)
            return
        size = self._audit.settle().size
        self._journal.error("audit_behind_witness", found=size, expected=seen.size)
        batch = self._store.batch()
        details = {"size": size, "witnessed": seen.size}
        self._audit.add(batch, actor="cdp", action="behind_witness", object=line, details=details)
        self._store.write(batch)

    def _note_failure(self, error: OSError) -> None:
        self._failures.add()
        if not self._failing:
            reason = os.strerror(error.errno) if error.errno else "not available"
            self._journal.error("audit_witness_unavailable", reason=reason)
        self._failing = True

    def _append(self, lines: bytes, known: bool) -> None:
        assert self._file is not None, "asked only where there is a witness"
        self._file.append(lines, known=known)

    def _note_witnessed(self, size: int) -> None:
        self._witnessed = size
        batch = self._store.batch()
        batch.put("meta", _WITNESSED_KEY, _encode(_Witnessed(self._path, size)))
        self._store.write(batch)

    def _read_witnessed(self) -> int:
        """How far this witness was told; another file than last time starts from nothing."""
        stored = self._store.get("meta", _WITNESSED_KEY)
        if stored is None or self._file is None:
            return 0
        noted = msgspec.msgpack.decode(stored, type=_Witnessed)
        return min(noted.size, self._size) if noted.path == self._path else 0


class AppendedFile:
    """A witness that is a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, lines: bytes, *, known: bool) -> None:
        """Appends and forces to disk. Never makes a file anew that was there before, as it would
        then lie on the wrong disk, or stand for one that was taken away.
        """
        made = 0 if known else os.O_CREAT
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | made, 0o644)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            left = memoryview(b"\n" + lines if torn else lines)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        finally:
            os.close(file)
        if size == 0:
            sync_directory(self._path.parent)

    def last(self) -> bytes:
        """The last whole line."""
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 4_096))
                tail = file.read()
        except FileNotFoundError:
            return b""
        lines = tail[: tail.rfind(b"\n") + 1].splitlines()
        return lines[-1] if lines else b""


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
