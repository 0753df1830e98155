"""What an erasure does outside: every destination that ever got the person is told to forget them.

One job a destination, in a row of its own. A destination that cannot now is asked again, ever more
rarely, for as long as the configuration says, and then somebody has to look after it. One that has
no call for it waits for a person who does it by hand and says so.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from cdp.clock import HOUR_US, SECOND_US, isoformat
from cdp.consent.requests import ID_BYTES, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cdp.clock import Clock
    from cdp.consent.audit import AuditLog
    from cdp.consent.requests import Pair, Request, RequestBook, Secret
    from cdp.storage.store import Batch, Store

FAMILY: Final = "erasures"
BACKOFF_FIRST_US: Final = 30 * SECOND_US
BACKOFF_MAX_US: Final = 6 * HOUR_US
DONE: Final = frozenset({"confirmed", "attested", "not_needed"})
SETTLED: Final = DONE | {"escalated"}
ACTOR: Final = "erasure"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination is told. `erasure_id` is the same over every attempt."""

    erasure_id: str
    nodes: tuple[bytes, ...]  # of the person, so that nothing under way overtakes the erasure
    profile_ids: tuple[str, ...]
    identifiers: tuple[Pair, ...]
    requested_at: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination answers. `text`: evidence, instructions or the reason, by state."""

    state: Literal["erased", "accepted", "unsupported", "retry"]
    text: str = ""
    remote_id: str = ""
    after_s: float = 0.0


class Outside(Protocol):
    """The destinations."""

    def names(self) -> Collection[str]:
        """Those that are configured."""
        ...

    async def erase_at(self, name: str, order: Order) -> Answer:
        """Has a destination forget a person. Whatever fails is a retry."""
        ...

    async def status_at(self, name: str, remote_id: str) -> Answer:
        """How far a destination is with what it accepted."""
        ...


class Job(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A destination's part in an erasure. `times`: state -> when it was first reached."""

    destination: str
    state: str
    times: dict[str, int]
    due_us: int = 0
    attempts: int = 0
    remote_id: str = ""
    evidence_sha256: str = ""
    instructions: str = ""
    error: str = ""
    by: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Job).decode


def backoff_us(attempts: int) -> int:
    """How long to wait after so many attempts."""
    return int(min(BACKOFF_MAX_US, BACKOFF_FIRST_US << min(max(0, attempts - 1), 20)))


class DestinationsTold:
    """The one writer of the family `erasures`."""

    def __init__(
        self,
        *,
        store: Store,
        book: RequestBook,
        audit: AuditLog,
        clock: Clock,
        outside: Outside,
        retry_us_max: int,
    ) -> None:
        self._store = store
        self._book = book
        self._audit = audit
        self._clock = clock
        self._outside = outside
        self._retry_us_max = retry_us_max

    def jobs(self, request_id: bytes) -> list[Job]:
        """Every destination's part in an erasure, in the order of their names."""
        end = (int.from_bytes(request_id, "big") + 1).to_bytes(ID_BYTES + 1, "big")[1:]
        return [_decode(value) for _, value in self._store.scan(FAMILY, request_id, end)]

    async def begin(self, request: Request, secret: Secret) -> None:
        """Makes the jobs of an erasure, unless they are there already."""
        known = {job.destination for job in self.jobs(request.id)}
        now_us = self._clock.now_us()
        wanted = sorted({*secret.received, *self._outside.names()} - known)
        if known or not wanted or not request.downstream:
            return  # they are made together, once
        with self._book.change() as batch:
            for name in wanted:
                state = "queued" if name in secret.received else "not_needed"
                job = Job(destination=name, state=state, times={state: now_us}, due_us=now_us)
                self._put(batch, request, job)
        await self._store.sync()

    def due(self, request: Request) -> list[Job]:
        """The jobs that something has to be done about now."""
        now_us = self._clock.now_us()
        return [
            job
            for job in self.jobs(request.id)
            if job.state not in SETTLED and min(job.due_us, self._deadline_us(request)) <= now_us
        ]

    def next_due_us(self, request: Request) -> int | None:
        """When something has to be done next; None where everything is settled."""
        dues = [job.due_us for job in self.jobs(request.id) if job.state not in SETTLED]
        return min(*dues, self._deadline_us(request)) if dues else None

    async def advance(self, request: Request, secret: Secret, job: Job) -> None:
        """Takes one job a step further."""
        if self._clock.now_us() >= self._deadline_us(request):
            await self._escalate(request, secret, job)
            return
        if job.state == "manual_task":
            return
        asks_status = bool(job.remote_id)
        job.attempts += 1
        self._enter(job, "polling" if asks_status else "sent")
        with self._book.change() as batch:
            self._put(batch, request, job)
        await self._store.sync()
        if asks_status:
            answer = await self._outside.status_at(job.destination, job.remote_id)
        else:
            answer = await self._outside.erase_at(
                job.destination, _order(request, secret, job.destination)
            )
        stored = self._job(request.id, job.destination)
        if stored.state in SETTLED:  # attested while it was asked
            return
        self._take(job, answer, self._deadline_us(request))
        await self._record(request, job)

    async def attest(
        self, request: Request, destination: str, *, by: str, evidence_sha256: str
    ) -> None:
        """Somebody did it by hand. Raises RequestRefused."""
        jobs = {job.destination: job for job in self.jobs(request.id)}
        job = jobs.get(destination)
        if job is None or job.state in DONE:
            raise RequestRefused("nothing is to be done by hand at this destination; see its state")
        job.by, job.evidence_sha256, job.error = by, evidence_sha256, ""
        self._enter(job, "attested")
        with self._book.change() as batch:
            self._put(batch, request, job)
            details = {"destination": destination, "evidence_sha256": evidence_sha256}
            self._audit.add(
                batch, actor=by, action="erasure_attested", object=request.id, details=details
            )
        await self._store.sync()

    async def _escalate(self, request: Request, secret: Secret, job: Job) -> None:
        self._enter(job, "escalated")
        job.error = job.error or "nobody confirmed it in time"
        with self._book.change() as batch:
            # It still has the person: who erases them again must tell it again.
            for profile_id in secret.received.get(job.destination, []):
                key = profile_id + job.destination.encode()
                if self._store.get("recipients", key) is None:
                    batch.put("recipients", key, job.times["queued"].to_bytes(8, "big"))
            self._note(batch, request, job)
        await self._store.sync()

    async def _record(self, request: Request, job: Job) -> None:
        with self._book.change() as batch:
            self._note(batch, request, job)
        await self._store.sync()

    def _note(self, batch: Batch, request: Request, job: Job) -> None:
        self._put(batch, request, job)
        details = {
            "destination": job.destination,
            "state": job.state,
            "attempts": job.attempts,
            "evidence_sha256": job.evidence_sha256,
        }
        self._audit.add(
            batch, actor=ACTOR, action="erasure_destination", object=request.id, details=details
        )

    def _take(self, job: Job, answer: Answer, deadline_us: int) -> None:
        """What an answer makes of a job."""
        now_us = self._clock.now_us()
        wait_us = max(backoff_us(job.attempts), int(answer.after_s * SECOND_US))
        job.due_us, job.error = now_us + wait_us, ""
        if answer.state == "erased":
            job.evidence_sha256 = sha256(answer.text.encode()).hexdigest() if answer.text else ""
            self._enter(job, "confirmed")
        elif answer.state == "accepted":
            job.remote_id = answer.remote_id or job.remote_id
            self._enter(job, "accepted" if "accepted" not in job.times else "polling")
        elif answer.state == "unsupported":
            job.instructions, job.due_us = answer.text, deadline_us
            self._enter(job, "manual_task")
        else:
            job.error = answer.text
            self._enter(job, "polling" if job.remote_id else "retry")

    def _enter(self, job: Job, state: str) -> None:
        job.state = state
        job.times.setdefault(state, self._clock.now_us())

    def _deadline_us(self, request: Request) -> int:
        return request.times["downstream"] + self._retry_us_max

    def _put(self, batch: Batch, request: Request, job: Job) -> None:
        batch.put(FAMILY, request.id + job.destination.encode(), _encode(job))

    def _job(self, request_id: bytes, destination: str) -> Job:
        row = self._store.get(FAMILY, request_id + destination.encode())
        assert row is not None, "a job is never deleted"
        return _decode(row)


def done_at(jobs: Iterable[Job]) -> set[str]:
    """The destinations that no longer have the person."""
    return {job.destination for job in jobs if job.state in DONE}


def _order(request: Request, secret: Secret, destination: str) -> Order:
    return Order(
        erasure_id=request.name,
        nodes=tuple(secret.nodes),
        profile_ids=tuple(one.hex() for one in secret.received.get(destination, [])),
        identifiers=tuple(secret.identifiers),
        requested_at=isoformat(request.times["received"]),
    )
