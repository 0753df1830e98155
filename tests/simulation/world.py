"""One world: people, senders, a daemon that dies and starts again, services, a virtual clock.

A world runs in two phases. In the first, everything that the seed drew goes wrong, and nothing may
be lost, counted twice, reordered or sent without consent. Then the world is healed, and in bounded
time everything that is owed must have ended. The checkers look on at every sighting, at every
observation point, and at the end.

Everything in here is a function of the seed: chance, time, and the order in which tasks run.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio
import trio._core._run as trio_run
import trio.testing

from cdp.actors import ActorGaveUp
from cdp.clock import SECOND_US
from cdp.environment import Environment
from cdp.errors import Overloaded, StorageError
from cdp.ingestion.rejected import list_rejected
from tests.simulation import checkers
from tests.simulation.daemon import Daemon
from tests.simulation.disk import Crash, SimDisk
from tests.simulation.network import SimNetwork
from tests.simulation.outlets import Outlet, Sighting, service_of
from tests.simulation.reading import vault_of
from tests.simulation.senders import Answer, Sender
from tests.simulation.story import EPOCH_US, Message, Story
from tests.simulation.swarm import Options, OutletOptions, draw, healed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp.ingestion.rejected import Listed
    from cdp.storage.memory import MemoryStore

HEALED_S_MAX: Final = 24 * 3_600.0  # within which everything that is owed must have ended
_OBSERVATIONS: Final = 6
_STARTS_MAX: Final = 60  # crashes of one world; after that it is left in peace


@dataclass(frozen=True)
class Offence:
    """A promise that was broken."""

    what: str
    details: str
    at_s: float


class SimClock:
    """The wall clock: it starts wrong where the seed says so, and jumps."""

    def __init__(self, skew_us: int) -> None:
        self.offset_us = EPOCH_US + skew_us

    def now_us(self) -> int:
        return self.offset_us + round(trio.current_time() * SECOND_US)


class World:
    """Everything around one daemon, and what is known of what it promised."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = Random(f"world {options.seed}")
        self.began_s = trio.current_time()
        self.history: list[tuple[Any, ...]] = []
        self.offences: list[Offence] = []
        self.healed = False
        self.process = 0  # which start of the daemon this is
        self.ending = False
        self.ended = trio.Event()
        self.consent = dict(options.consent_before)
        self.clock = SimClock(options.clock_skew_us)
        self.network = SimNetwork()
        self.disk = SimDisk(Random(f"disk {options.seed}"), options, self.fall)
        self.outlets = {one.name: Outlet(self, one) for one in options.outlets}
        for name, outlet in self.outlets.items():
            self.network.services[name] = service_of(outlet)
        self.story = Story(options)
        self.messages = {m.message_id: m for m in self.story.messages if m.message_id}
        self.acknowledged: dict[str, float] = {}
        self.turned_down: list[str] = []  # answered 200, and rejected
        self.delivery_ids: dict[tuple[str, str | None], str] = {}  # by outlet and message
        self.taken_in: dict[
            tuple[str, str], int
        ] = {}  # outlet and delivery -> process that heard it
        self.replayed: set[str] = set()  # outlets to which something may be sent again
        self.erased: dict[int, float] = {}  # person -> when it was on disk that they are sealed
        self.asked_to_erase: set[int] = set()  # from the moment that they ask
        self.daemon: Daemon | None = None
        self._fallen = trio.Event()
        self._falls_at_s = 0.0
        self._is_cut = False

    @property
    def store(self) -> MemoryStore:
        """What is on the disk now."""
        return self.disk.store

    def environment(self) -> Environment:
        """The world as the daemon sees it."""
        return Environment(
            clock=self.clock,
            rng=Random(f"daemon {self.options.seed} {self.process}"),
            network=self.network,
            run_in_thread=self._run_in_thread,
            open_store=self._open_store,
            environ=lambda name: None,
            open_keys=lambda path: self.disk.keys,
            open_erasures=lambda path: self.disk.tombstones,
        )

    async def _run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        await trio.sleep(self.rng.choice((0.0, 0.001)))
        return function(*args)

    def _open_store(self, path: Path) -> MemoryStore:
        return self.disk.store

    # -- what is written down -------------------------------------------------------------------

    def record(self, kind: str, *details: Any) -> None:
        """Adds to the history, which must be the same for the same seed."""
        self.history.append((round(trio.current_time(), 6), kind, *details))

    def digest(self) -> str:
        """A hash of the whole history."""
        return blake2b(repr(self.history).encode(), digest_size=16).hexdigest()

    def check(self, holds: bool, what: str, *details: Any) -> None:
        """Notes an offence where it does not hold."""
        if not holds:
            self.offences.append(Offence(what, repr(details)[:600], trio.current_time()))
            self.record("offence", what)

    def answered(self, source: str, messages: list[Message], answer: Answer) -> None:
        """A sender read a 200."""
        good = [message.message_id for message in messages if message.good]
        self.turned_down += [m.message_id for m in messages if not m.good and m.message_id]
        self.record("answered", source, tuple(good))
        for message_id in good:
            assert message_id is not None
            self.acknowledged.setdefault(message_id, trio.current_time())
        checkers.check_answer(self, messages, answer)

    def saw_attempt(self, outlet: OutletOptions, sighting: Sighting) -> None:
        """A service was asked to take a delivery."""
        self.record("attempt", outlet.name, sighting.delivery_id, sighting.attempt)
        checkers.check_attempt(self, outlet, sighting)

    def saw_effect(self, outlet: OutletOptions, sighting: Sighting) -> None:
        """A service took a delivery."""
        self.record("effect", outlet.name, sighting.message_id, sighting.profile_id)

    # -- the daemon's lives ---------------------------------------------------------------------

    def fall(self, after_s: float = 0.0) -> None:
        """The process, or the machine, comes to its end, at the earliest when other tasks run."""
        self._falls_at_s = trio.current_time() + after_s
        self._fallen.set()

    async def keep_alive(self) -> None:
        """Starts the daemon, and starts it again whenever it has ended."""
        while not self.ending:
            self.process += 1
            self._apply_consent()
            await self._one_life()
            if not self.ending:
                await trio.sleep(self.rng.uniform(0, 3))
        self.ended.set()

    def _apply_consent(self) -> None:
        at_s = self.options.consent_changes_at_s
        if at_s is not None and trio.current_time() >= self.began_s + at_s:
            self.consent = dict(self.options.consent_after)

    async def _one_life(self) -> None:
        self._fallen = trio.Event()
        self.record("start", self.process)
        self.daemon = Daemon(self)
        how = "ended"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._reap, nursery.cancel_scope)
                nursery.start_soon(self._schedule_crash)
                nursery.start_soon(self._schedule_configuration)
                await self.daemon.run()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            how = self._cause_of_death(group)
        self.daemon = None
        if how == "ended" and not self._fallen.is_set():
            self._cut(power=False)
        elif not self._is_cut:
            self._cut(power=self._loses_power())
        self._is_cut = False
        self.record("stop", how)
        checkers.check_kept(self)
        checkers.check_books(self, "after a stop")

    def _cause_of_death(self, group: BaseExceptionGroup[BaseException]) -> str:
        _, other = group.split((Crash, StorageError, ActorGaveUp))
        if other is not None:
            raise other
        gave_up, _ = group.split(ActorGaveUp)
        self.check(gave_up is None, "an actor gave up", gave_up)
        return type(_first_leaf(group)).__name__

    async def _reap(self, scope: trio.CancelScope) -> None:
        await self._fallen.wait()
        await trio.sleep_until(self._falls_at_s)
        # The disk and the network go first: nothing that still runs may reach them.
        self._cut(power=self._loses_power())
        self._is_cut = True
        scope.cancel()

    def _cut(self, *, power: bool) -> None:
        self.network.power_off()
        unsynced = self.disk.cut(power=power)
        self.record("cut", power, unsynced)

    def _loses_power(self) -> bool:
        return self.rng.random() < self.options.power_cut

    async def _schedule_crash(self) -> None:
        every_s = self.disk.options.crash_every_s
        if every_s is None or self.healed or self.process > _STARTS_MAX:
            return
        await trio.sleep(self.rng.expovariate(1 / every_s))
        if self.healed:
            return
        if self.daemon is not None and self.rng.random() < self.options.terminate:
            self.daemon.drain()
        else:
            self.fall()

    async def _schedule_configuration(self) -> None:
        """The operator changes what is configured, and starts the daemon again."""
        at_s = self.options.consent_changes_at_s
        if at_s is None or trio.current_time() >= self.began_s + at_s:
            return
        await trio.sleep_until(self.began_s + at_s)
        if self.daemon is not None:
            self.daemon.drain()

    # -- time, disk, operators ------------------------------------------------------------------

    async def jump_clock(self) -> None:
        """Moves the wall clock, as a time service does after a long silence."""
        every_s = self.options.clock_jump_every_s
        while every_s is not None and not self.healed:
            await trio.sleep(self.rng.expovariate(1 / every_s))
            by_s = self.rng.uniform(-1, 1) * self.options.clock_jump_s_max
            self.clock.offset_us += round(by_s * SECOND_US)
            self.record("jump", by_s)

    async def fill_disk(self) -> None:
        """Lets the disk be full for a while."""
        for start_s, end_s in self.options.disk_full:
            await trio.sleep_until(self.began_s + start_s)
            self.disk.full = not self.healed
            await trio.sleep_until(self.began_s + end_s)
            self.disk.full = False

    async def operate(self) -> None:
        """What operators do: redrive dead letters, replay a stretch of the log, repair events."""
        o, rng = self.options, Random(f"operator {self.options.seed}")
        acts = ["redrive"] * o.redrives + ["replay"] * o.replays + ["repair"] * o.repairs
        for at_s, act in sorted((rng.uniform(0, o.duration_s), act) for act in acts):
            await trio.sleep_until(self.began_s + at_s)
            if self.daemon is None or not self.daemon.ready:
                continue
            said: int | str = "no answer"
            try:
                with trio.move_on_after(30):  # the daemon may end before it answers
                    said = await self._act(self.daemon, act, rng)
            except (StorageError, Overloaded, Crash) as error:  # an error is shown, and that is all
                said = type(error).__name__
            self.record("operator", act, said)

    async def _act(self, daemon: Daemon, act: str, rng: Random) -> int | str:
        name = rng.choice(sorted(self.outlets))
        if act == "redrive":
            return await daemon.redrive(name)
        if act == "replay":
            self.replayed.add(name)
            return daemon.replay(name, rng.random())
        rows = list_rejected(self.store, limit=1, vault=vault_of(self))
        return await self._repair(daemon, rows[0]) if rows else "nothing to repair"

    async def _repair(self, daemon: Daemon, row: Listed) -> str:
        message_id = row.event.message_id or f"repaired-{row.id}"
        body = {"type": "track", "event": "Repaired", "userId": "user-0", "messageId": message_id}
        # Known before it is sent: whether it arrived is not known when no answer comes.
        self.messages[message_id] = Message(trio.current_time(), 0, body, message_id, good=True)
        said = await daemon.repair(row.id, body)
        self.acknowledged.setdefault(message_id, trio.current_time())
        return said

    async def erase(self) -> None:
        """People ask to be forgotten, and ask again until they are heard."""
        async with trio.open_nursery() as nursery:
            for number, (at_s, person) in enumerate(self.options.erasures):
                nursery.start_soon(self._erase_one, at_s, person, f"erasure-{number}")

    async def _erase_one(self, at_s: float, person: int, external_id: str) -> None:
        """Each asks until their own request is heard, though another may have been for the same."""
        await trio.sleep_until(self.began_s + at_s)
        is_sealed = False
        while not self.ending and not is_sealed:
            if self.daemon is not None and self.daemon.ready:
                self.asked_to_erase.add(person)
                with suppress(StorageError, Overloaded, Crash), trio.move_on_after(60):
                    is_sealed = await self._until_sealed(self.daemon, person, external_id)
            await trio.sleep(1)

    async def _until_sealed(self, daemon: Daemon, person: int, external_id: str) -> bool:
        request_id = await daemon.erase(f"user-{person}", external_id)
        waiting = ("verified", "approved")
        while self.daemon is daemon and daemon.state_of(request_id) in waiting:  # noqa: ASYNC110
            await trio.sleep(0.5)
        is_sealed = self.daemon is daemon and not self._is_cut
        if is_sealed:
            self.erased.setdefault(person, trio.current_time())
            self.record("sealed", person)
        return is_sealed

    async def observe(self) -> None:
        """Looks at the books while everything runs."""
        rng = Random(f"observer {self.options.seed}")
        for at_s in sorted(rng.uniform(0, self.options.duration_s) for _ in range(_OBSERVATIONS)):
            await trio.sleep_until(self.began_s + at_s)
            with suppress(StorageError):  # a store that failed is looked at after the restart
                checkers.check_books(self, "while running")

    def heal(self) -> None:
        """Ends every fault."""
        self.record("heal")
        self.healed = True
        self.disk.full = False
        self.disk.options = healed(self.options)

    async def settle(self) -> bool:
        """Waits until nothing is owed any more, and tells whether that came in time."""
        deadline_s = trio.current_time() + HEALED_S_MAX
        while trio.current_time() < deadline_s:
            await trio.sleep(20)
            if self.daemon is not None and checkers.is_quiet(self):
                return True
        return False


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _history(options: Options) -> World:
    world = World(options)
    async with trio.open_nursery() as nursery:
        for task in (world.keep_alive, world.jump_clock, world.fill_disk, world.observe):
            nursery.start_soon(task)
        nursery.start_soon(world.operate)
        nursery.start_soon(world.erase)
        async with trio.open_nursery() as senders:
            for number in range(options.senders):
                mine = [m for m in world.story.messages if m.sender == number]
                senders.start_soon(Sender(world, number, mine).run)
            await trio.sleep(options.duration_s)
            world.heal()
        settled = await world.settle()
        world.check(settled, "what is owed never ended", checkers.what_is_open(world))
        world.ending = True
        if world.daemon is not None:
            world.daemon.drain()
        with trio.move_on_after(120):
            await world.ended.wait()
        world.check(world.ended.is_set(), "the daemon did not drain")
        nursery.cancel_scope.cancel()
    checkers.check_end(world)
    return world


def run_world(seed: int, **changed: Any) -> World:
    """Runs the world of a seed from its beginning to its end. `changed` replaces options."""
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    options = replace(draw(seed), **changed)
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_history, options, clock=clock, strict_exception_groups=True)
