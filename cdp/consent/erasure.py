"""Runs people's requests: takes them in, and carries each one to its end, over any crash.

Five loops. The first seals as soon as a request is approved, and answers what can be answered at
once; the second shreds, purges and verifies; the third tells the destinations; the fourth destroys
the keys of requests that are over; the fifth tells the operator of what stays open for long. A
request is always in one state that its row names, so after a crash each loop finds its work in the
store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from cdp.clock import SECOND_US
from cdp.consent import receipts
from cdp.consent.deadlines import Reminders
from cdp.consent.destinations_told import SETTLED, DestinationsTold, done_at
from cdp.consent.erasure_steps import LocalSteps
from cdp.consent.requests import ENDED, KINDS, WAITING, RequestRefused, Secret
from cdp.errors import Overloaded, StoreFull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cdp.consent.destinations_told import Job, Outside
    from cdp.consent.erasure_steps import Holders, House
    from cdp.consent.requests import Asked, Request, RequestBook
    from cdp.storage.store import Batch
    from cdp.telemetry import Journal, Metrics

VERIFIED_TOGETHER_MAX: Final = 32  # people whose traces one reading of the files looks for
LOOK_S: Final = 600.0  # at the latest, a loop looks again whether there is something to do
TELL_S: Final = 10.0  # of one destination's part in a round of telling
AGAIN_S: Final = 10.0  # after something that is not the store's failed
EXPORT_AGAIN_S: Final = 60.0
ACTOR: Final = "erasure"
_AT_WORK: Final = ("sealed", "shredding", "purging")

Json = dict[str, Any]


class Exports(Protocol):
    """Who makes documents of what is held of a person."""

    async def make(self, profile_id: bytes, request_id: str) -> int | None: ...

    def forms_of(self, request_id: str) -> Sequence[str]: ...


class Erasures:
    """Every request of a data subject, erasures above all. `name` turns an identifier to its node.

    `run` is an actor; the other verbs may be called at any time, and are durable at return.
    """

    def __init__(
        self,
        *,
        house: House,
        holders: Holders,
        book: RequestBook,
        outside: Outside,
        exports: Exports,
        name: Callable[[str, str], bytes | None],
        retry_us_max: int,
        metrics: Metrics | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._house = house
        self._store = house.store
        self._book = book
        self._exports = exports
        self._name = name
        self._metrics = metrics
        self._journal = journal
        self._steps = LocalSteps(house, holders, book)
        self._told = DestinationsTold(
            store=house.store,
            book=book,
            audit=house.audit,
            clock=house.clock,
            outside=outside,
            retry_us_max=retry_us_max,
        )
        self._reminders = Reminders(book, house.clock, metrics, journal)
        self._news = trio.Event()

    @property
    def steps(self) -> LocalSteps:
        """What is done in the house, for erasures that are applied again."""
        return self._steps

    # -- orders ---------------------------------------------------------------------------------

    async def submit(self, asked: Asked) -> Json:
        """Records a request. The same `external_id` again gives the same request.

        Raises:
            RequestRefused: no identifier is usable, or the id is that of another kind of request.
            Overloaded: too many requests are open.
        """
        found = self._book.find(asked.external_id)
        if found is not None:
            if found.kind != asked.kind:
                raise RequestRefused(f"external_id is that of a request of kind {found.kind}")
            await self._store.sync()
            return self.told(found)
        named = self._named(asked)
        with self._book.change() as batch:
            request = self._book.new(batch, asked, named)
            details = {"kind": request.kind, "regulation": request.regulation}
            self._audit(batch, request, "request_received", asked.channel, details)
            if request.hold:
                self._audit(batch, request, "request_held", asked.channel)
            if asked.verified_by:
                self._audit(batch, request, "request_verified", asked.verified_by)
        await self._store.sync()
        return self.told(request)

    async def verify(self, request_id: str, *, by: str, method: str) -> Json:
        """The person is who they say. One that is on hold stays there."""
        request = self._waiting(request_id)
        if "verified" in request.times:
            raise RequestRefused("the request is verified already")
        request.reason = method
        request.by["verified"] = by
        state = "on_hold" if request.state == "on_hold" else "verified"
        request.times["verified"] = self._house.clock.now_us()
        return await self._moved(request, state, "request_verified", by)

    async def approve(self, request_id: str, *, by: str) -> Json:
        """It may run. Raises RequestRefused unless it is verified and not on hold."""
        request = self._waiting(request_id)
        if request.state == "approved":
            return self.told(request)
        if request.state != "verified":
            raise RequestRefused(
                "the request is on hold; release it first"
                if request.state == "on_hold"
                else "the request is not verified; verify who asked first"
            )
        return await self._moved(request, "approved", "request_approved", by)

    async def deny(self, request_id: str, *, by: str, reason: str) -> Json:
        """It will not run."""
        request = self._waiting(request_id)
        request.reason, request.sealed = reason, b""
        return await self._moved(request, "denied", "request_denied", by)

    async def hold(self, request_id: str, *, by: str, reason: str) -> Json:
        """It has to wait for something, such as a legal claim."""
        request = self._waiting(request_id)
        request.hold = reason
        return await self._moved(request, "on_hold", "request_held", by)

    async def release(self, request_id: str, *, by: str) -> Json:
        """It need not wait any more; it has to be approved anew."""
        request = self._waiting(request_id)
        if request.state != "on_hold":
            raise RequestRefused("the request is not on hold")
        request.hold = ""
        state = "verified" if "verified" in request.times else "received"
        return await self._moved(request, state, "request_released", by)

    async def cancel(self, request_id: str, *, by: str) -> Json:
        """Takes it back, before anything was done."""
        request = self._waiting(request_id)
        request.sealed = b""
        return await self._moved(request, "cancelled", "request_cancelled", by)

    async def attest(
        self, request_id: str, destination: str, *, by: str, evidence_sha256: str
    ) -> Json:
        """Somebody erased the person at a destination by hand, and says so."""
        request = self._book.get(request_id)
        await self._told.attest(request, destination, by=by, evidence_sha256=evidence_sha256)
        request = self._book.get(request_id)
        jobs = self._told.jobs(request.id)
        was_only_told = request.state == "partially_complete" and not request.problems
        if was_only_told and len(done_at(jobs)) == len(jobs):
            return await self._moved(request, "complete", "erasure_complete", by)
        self._wake()
        return self.told(request)

    # -- questions ------------------------------------------------------------------------------

    def get(self, request_id: str) -> Json:
        """One request. Raises RequestUnknown."""
        return self.told(self._book.get(request_id))

    def listing(
        self, after: str | None, limit: int, *, kind: str | None = None, state: str | None = None
    ) -> tuple[list[Json], str | None]:
        """Requests, newest first, and what to pass as `after` for the next ones."""
        found, following = self._book.listing(after, limit, kind=kind, state=state)
        return [self.told(one) for one in found], following

    def told(self, request: Request) -> Json:
        """A request as everybody outside sees it."""
        has_exports = request.kind in ("access", "portability")
        forms = self._exports.forms_of(request.name) if has_exports else ()
        return receipts.told(request, self._told.jobs(request.id), forms)

    def receipt(self, request_id: str) -> Json:
        """What was done. Raises RequestUnknown, RequestRefused where it still runs."""
        request = self._book.get(request_id)
        if request.state not in ENDED:
            raise RequestRefused("the request is not over; there is a receipt when it is")
        return receipts.receipt(request, self._told.jobs(request.id))

    # -- the actor ------------------------------------------------------------------------------

    async def run(self, stopping: trio.Event) -> None:
        """Carries requests to their ends until told to stop."""
        self._house.suppression.reload()
        self._book.reload()
        async with trio.open_nursery() as nursery:
            for step in (
                *(self._start_approved, self._erase, self._tell, self._burn_keys),
                self._reminders.remind,
            ):
                nursery.start_soon(self._loop, step, stopping)
            await stopping.wait()
            nursery.cancel_scope.cancel()

    async def _loop(self, step: Callable[[], Awaitable[float]], stopping: trio.Event) -> None:
        while not stopping.is_set():
            news = self._news
            wait_s = AGAIN_S
            try:
                wait_s = await step()
            except* StoreFull as full:
                # What was begun is begun again once there is room.
                self._complain("erasure_waits_for_room", full)
            with trio.move_on_after(wait_s):
                await news.wait()
            await trio.lowlevel.checkpoint()

    async def _start_approved(self) -> float:
        """Seals erasures, and does at once what takes no steps."""
        wait_s = LOOK_S
        for request_id in self._book.waiting_in("approved"):
            await self._steps.ready()
            request = self._book.get(request_id)
            if request.state != "approved":
                continue
            secret = self._book.secret(request)
            if secret is None:
                await self._lost(request)
            elif request.kind in ("access", "portability"):
                wait_s = min(wait_s, await self._export(request, secret))
            elif request.kind == "restriction":
                await self._restrict(request, secret)
            elif self._steps.person(secret):
                await self._steps.seal(request, secret)
                self._wake()
            else:
                request.problems.append("shared_identifiers")
                await self._end(request)
        return wait_s

    async def _erase(self) -> float:
        """Takes every sealed request to the point where destinations are told."""
        failed: set[bytes] = set()
        while request_ids := self._left(_AT_WORK, failed):
            for request_id in request_ids:
                await self._try(failed, [request_id], self._erase_one)
        while request_ids := self._left(("verifying",), failed)[:VERIFIED_TOGETHER_MAX]:
            await self._try(failed, request_ids, self._verify)
        if failed:
            return AGAIN_S
        return 0 if self._left(_AT_WORK, failed) else LOOK_S

    def _left(self, states: Sequence[str], failed: set[bytes]) -> list[bytes]:
        return [one for one in self._book.waiting_in(*states) if one not in failed]

    async def _try(
        self,
        failed: set[bytes],
        request_ids: Sequence[bytes],
        step: Callable[[Sequence[bytes]], Awaitable[None]],
    ) -> None:
        """Takes a step. One that cannot be taken now must not keep others waiting."""
        try:
            await step(request_ids)
        except (OSError, Overloaded) as error:
            failed.update(request_ids)
            self._complain("erasure_step_failed", error)

    async def _erase_one(self, request_ids: Sequence[bytes]) -> None:
        request = self._book.get(request_ids[0])
        secret = self._book.secret(request)
        if secret is None:
            await self._lost(request)
        elif request.kind == "suppression":
            await self._steps.note_suppression(request, secret)
            await self._end(request)
        elif request.state == "sealed":
            await self._steps.collect(request, secret)
        elif request.state == "shredding":
            await self._steps.shred(request, secret)
        else:
            await self._steps.purge(request, secret)

    async def _verify(self, request_ids: Sequence[bytes]) -> None:
        jobs: list[tuple[Request, Secret]] = []
        for request_id in request_ids:
            request = self._book.get(request_id)
            secret = self._book.secret(request)
            if secret is None:
                await self._lost(request)
            else:
                jobs.append((request, secret))
        if jobs:
            await self._steps.verify(jobs)
            self._wake()

    async def _tell(self) -> float:
        """Tells destinations what is due, each destination one thing at a time."""
        due: dict[str, list[tuple[bytes, Job]]] = {}
        begun: list[bytes] = []
        for request_id in self._book.waiting_in("downstream"):
            request = self._book.get(request_id)
            secret = self._book.secret(request)
            if secret is None:
                await self._lost(request)
                continue
            await self._told.begin(request, secret)
            begun.append(request_id)
            for job in self._told.due(request):
                due.setdefault(job.destination, []).append((request_id, job))
        async with trio.open_nursery() as nursery:
            for jobs in due.values():
                nursery.start_soon(self._tell_one, jobs)
        return await self._finish_told(begun)

    async def _tell_one(self, jobs: Sequence[tuple[bytes, Job]]) -> None:
        """Tells one destination, for so long that one which hangs does not hold up the others."""
        until_s = trio.current_time() + TELL_S
        for request_id, job in jobs:
            if trio.current_time() >= until_s:
                return  # the rest is due in the next round
            request = self._book.get(request_id)
            secret = self._book.secret(request)
            if secret is not None and request.state == "downstream":
                await self._told.advance(request, secret, job)

    async def _finish_told(self, request_ids: Sequence[bytes]) -> float:
        """Ends requests of which every destination is settled; how long to wait for others."""
        wait_us = int(LOOK_S * SECOND_US)
        for request_id in request_ids:
            request = self._book.get(request_id)
            if all(job.state in SETTLED for job in self._told.jobs(request_id)):
                await self._end(request)
                continue
            next_us = self._told.next_due_us(request)
            if next_us is not None:
                wait_us = min(wait_us, next_us - self._house.clock.now_us())
        return max(0, wait_us) / SECOND_US

    async def _burn_keys(self) -> float:
        """Destroys the keys of requests that are over."""
        for request_id in self._book.waiting_in(*ENDED):
            await self._steps.destroy(self._house.vault.slots_of(request_id))
            request = self._book.get(request_id)
            request.key_left = False
            with self._book.change() as batch:
                batch.delete("subjects", request_id)
                self._book.put(batch, request)
            await self._store.sync()
        return LOOK_S

    # -- ends -----------------------------------------------------------------------------------

    async def _end(self, request: Request) -> None:
        """The last step: whom it was about is forgotten here, too."""
        jobs = self._told.jobs(request.id)
        done = done_at(jobs)
        is_whole = len(done) == len(jobs) and not request.problems
        state = "complete" if is_whole else "partially_complete"
        secret = self._book.secret(request)
        request.sealed = b""
        with self._book.change() as batch:
            if secret is not None and request.suppress and request.downstream:
                self._steps.delete_received(batch, secret, done)
            self._book.move(request, state)
            self._book.put(batch, request)
            self._audit(batch, request, f"erasure_{state}", ACTOR, {"kind": request.kind})
        await self._store.sync()
        if self._metrics is not None and request.kind == "erasure":
            for stage, seconds in receipts.durations_s(request).items():
                self._metrics.histogram("cdp_erasure_stage_seconds", stage=stage).observe(seconds)
            for name, seconds in receipts.told_after_s(request, jobs).items():
                series = "cdp_erasure_destination_seconds"
                self._metrics.histogram(series, destination=name).observe(seconds)
        self._wake()

    async def _lost(self, request: Request) -> None:
        """Its key is destroyed: it was over when the store was restored from before its end."""
        request.problems.append("restored_after_its_end")
        await self._end(request)

    async def _restrict(self, request: Request, secret: Secret) -> None:
        nodes = sorted(self._steps.person(secret))
        with self._book.change() as batch:
            records = self._house.ledger.restrict(
                batch, nodes, not request.lift, now_us=self._house.clock.now_us(), source="request"
            )
            request.counts["consent"] = records
            request.sealed = b""
            self._book.move(request, "complete")
            self._book.put(batch, request)
            action = "unrestricted" if request.lift else "restricted"
            self._audit(batch, request, action, ACTOR, {"identifiers": len(nodes)})
        await self._store.sync()
        self._wake()

    async def _export(self, request: Request, secret: Secret) -> float:
        """Makes a person's document; how long to wait where it has to be tried again."""
        people = self._house.people
        alone = [node for node in secret.named if not people.is_shared(node)]
        profiles = {found for node in alone if (found := people.profile_of(node)) is not None}
        if len(profiles) > 1:
            request.hold = "the identifiers are those of several people"
            await self._moved(request, "on_hold", "request_held", ACTOR)
            return LOOK_S
        events: int | None = None
        try:
            for profile_id in profiles:
                events = await self._exports.make(profile_id, request.name)
        except OSError as error:
            self._complain("export_failed", error)
            return EXPORT_AGAIN_S
        request = self._book.get(request.id)
        if request.state != "approved":
            return LOOK_S
        request.counts["events"] = events or 0
        request.sealed = b""
        request.reason = request.reason if events is not None else "nothing is held"
        await self._moved(request, "complete", "access_exported", ACTOR)
        return LOOK_S

    # -- inside ---------------------------------------------------------------------------------

    def _named(self, asked: Asked) -> list[bytes]:
        if asked.kind not in KINDS:
            raise RequestRefused(f"kind must be one of {', '.join(KINDS)}")
        found = [self._name(*one) for one in asked.identifiers]
        named = [node for node in found if node is not None]
        if not named:
            raise RequestRefused("none of the identifiers can tell people apart")
        return list(dict.fromkeys(named))

    def _waiting(self, request_id: str) -> Request:
        request = self._book.get(request_id)
        if request.state not in WAITING:
            raise RequestRefused(f"the request is {request.state}; it is too late for that")
        return request

    async def _moved(self, request: Request, state: str, action: str, by: str) -> Json:
        with self._book.change() as batch:
            self._book.move(request, state, by=by)
            self._book.put(batch, request)
            self._audit(batch, request, action, by)
        await self._store.sync()
        self._wake()
        return self.told(request)

    def _audit(
        self,
        batch: Batch,
        request: Request,
        action: str,
        by: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        self._house.audit.add(
            batch, actor=by, action=action, object=request.id, details=details or {}
        )

    def _complain(self, event: str, error: BaseException) -> None:
        if self._journal is not None:
            self._journal.error(event, error=f"{type(error).__name__}: {error}")

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()
