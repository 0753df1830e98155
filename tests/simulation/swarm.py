"""What a seed draws: the size of a world and its faults.

Each fault is off or drawn, so that worlds differ in kind and not only in degree: some have a
perfect disk and a hostile network, some the reverse. Every probability is per attempt, every time
in virtual seconds. A plain world with one fault finds what a world with every fault hides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

PURPOSES: Final = ("analytics", "marketing")


@dataclass(frozen=True)
class OutletOptions:
    """One destination and how badly its service behaves until it is healed."""

    name: str
    purposes: tuple[str, ...]
    receives_changes: bool  # of profiles: merges, splits, renames
    over_http: bool  # through httpx and the simulated network, else a direct call
    batch_max: int
    batch_atomic: bool
    concurrency_max: int
    refuse: float  # answers "try again" without an effect
    hang: float  # takes the request, and never answers in time
    reply_lost: float  # has its effect, and the answer is lost
    reset: float  # cuts the connection before an effect
    throttle: float  # says 429 with Retry-After
    slow: float
    raises: float  # the plugin has a bug
    poison: float  # part of the events that it never takes
    outages: tuple[tuple[float, float], ...]  # from, until


@dataclass(frozen=True)
class Options:
    """One world."""

    seed: int
    duration_s: float
    # people and what they do
    people: int
    devices_each: int
    devices_shared: int
    events: int
    alias_part: float
    traits_conflict: float  # part of identifies that carry contested traits
    late_part: float  # part of events whose own time lies far back
    stamp_part: float
    grant_part: float
    # senders
    senders: int
    batch_events_max: int
    bad_event: float
    request_cut: float
    reply_unread: float
    request_repeated: float
    reordered: float
    trickle: float  # part of requests that arrive in pieces
    gzip: float
    client_timeout_s: float
    # disk
    sync_s_mean: float
    sync_broken: float  # EIO, sticky
    disk_full: tuple[tuple[float, float], ...]
    # process and machine
    crash_every_s: float | None
    crash_at_write: int | None  # about one in so many writes
    crash_at_sync: int | None  # and while about one in so many flushes is under way
    power_cut: float  # part of crashes that lose the unsynced tail
    terminate: float  # part of stops that are a SIGTERM
    # wall clock
    clock_skew_us: int
    clock_jump_every_s: float | None
    clock_jump_s_max: float
    # consent: what is configured, and what the operator sets it to at a restart
    consent_before: tuple[tuple[str, bool], ...]
    consent_after: tuple[tuple[str, bool], ...]
    consent_changes_at_s: float | None
    # operators
    redrives: int
    replays: int
    repairs: int  # of rejected events
    # limits of the daemon
    fold_batch_max: int
    pending_max: int
    attempts_max: int
    fragment_cache_max: int
    intake_requests_max: int
    backoff_s_max: float
    deliver_timeout_s: float
    outlets: tuple[OutletOptions, ...]
    # people who ask to be erased: when, and which of them
    erasures: tuple[tuple[float, int], ...] = ()


def draw(seed: int) -> Options:
    """The options of a seed."""
    rng = Random(f"swarm {seed}")
    duration_s = rng.choice((120.0, 900.0, 3_600.0))
    consent = _consent(rng)
    return Options(
        seed=seed,
        duration_s=duration_s,
        people=rng.randint(1, 6),
        devices_each=rng.randint(1, 2),
        devices_shared=rng.choice((0, 0, 1, 2)),
        events=rng.randint(15, 70),
        alias_part=_maybe(rng, 0.08),
        traits_conflict=_maybe(rng, 1.0),
        late_part=_maybe(rng, 0.5),
        stamp_part=rng.choice((0.0, 0.5, 0.9)),
        grant_part=rng.choice((0.5, 0.8, 1.0)),
        senders=rng.randint(1, 4),
        batch_events_max=rng.choice((1, 4, 20)),
        bad_event=_maybe(rng, 0.2),
        request_cut=_maybe(rng, 0.3),
        reply_unread=_maybe(rng, 0.3),
        request_repeated=_maybe(rng, 0.8),
        reordered=_maybe(rng, 1.0),
        trickle=_maybe(rng, 0.3),
        gzip=_maybe(rng, 0.5),
        client_timeout_s=rng.choice((2.0, 10.0, 15.0)),
        sync_s_mean=rng.choice((0.0005, 0.05, 1.0)),
        sync_broken=_maybe(rng, 0.03),
        disk_full=_windows(rng, duration_s),
        crash_every_s=rng.choice((None, rng.uniform(0.05, 0.5) * duration_s)),
        crash_at_write=rng.choice((None, None, rng.randint(5, 60))),
        crash_at_sync=rng.choice((None, rng.randint(3, 12))),
        power_cut=rng.choice((0.0, 0.7, 1.0)),
        terminate=rng.choice((0.0, 0.0, 0.5)),
        clock_skew_us=rng.choice((0, rng.randint(-3_600_000_000, 3_600_000_000))),
        clock_jump_every_s=rng.choice((None, None, duration_s / 4)),
        clock_jump_s_max=rng.choice((1.0, 600.0)),
        consent_before=consent,
        consent_after=_consent(rng),
        consent_changes_at_s=rng.choice((None, rng.random() * duration_s)),
        redrives=rng.choice((0, 1, 2)),
        replays=rng.choice((0, 0, 1)),
        repairs=rng.choice((0, 1, 3)),
        fold_batch_max=rng.choice((1, 7, 64, 1_024)),
        pending_max=rng.choice((1, 2, 8, 1_000)),
        attempts_max=rng.choice((1, 3, 50)),
        fragment_cache_max=rng.choice((2, 8, 1_000)),
        intake_requests_max=rng.choice((1, 4, 256)),
        backoff_s_max=rng.choice((2.0, 60.0)),
        deliver_timeout_s=rng.choice((5.0, 30.0)),
        outlets=tuple(_outlet(rng, f"outlet{n}", duration_s) for n in range(rng.randint(1, 3))),
        erasures=_erasures(rng, duration_s),
    )


def healed(options: Options) -> Options:
    """The same world without faults: what is owed must now arrive."""
    calm = {"crash_every_s": None, "crash_at_write": None, "crash_at_sync": None}
    return replace(options, sync_broken=0.0, disk_full=(), **calm)


def _outlet(rng: Random, name: str, duration_s: float) -> OutletOptions:
    return OutletOptions(
        name=name,
        purposes=rng.choice((("analytics",), ("marketing",), PURPOSES)),
        receives_changes=rng.random() < 0.4,
        over_http=rng.random() < 0.3,
        batch_max=rng.choice((1, 5, 100)),
        batch_atomic=rng.random() < 0.3,
        concurrency_max=rng.choice((1, 2, 8)),
        refuse=_maybe(rng, 0.5),
        hang=_maybe(rng, 0.15),
        reply_lost=_maybe(rng, 0.25),
        reset=_maybe(rng, 0.2),
        throttle=_maybe(rng, 0.2),
        slow=_maybe(rng, 0.3),
        raises=_maybe(rng, 0.05),
        poison=_maybe(rng, 0.15),
        outages=_windows(rng, duration_s),
    )


def _maybe(rng: Random, high: float) -> float:
    return rng.choice((0.0, rng.uniform(0.0, high)))


def _windows(rng: Random, duration_s: float) -> tuple[tuple[float, float], ...]:
    if rng.random() < 0.6:
        return ()
    start = rng.uniform(0, duration_s)
    return ((start, start + rng.uniform(0.02, 0.4) * duration_s),)


def _erasures(rng: Random, duration_s: float) -> tuple[tuple[float, int], ...]:
    count = rng.choice((0, 0, 1, 2))
    return tuple((rng.uniform(0.2, 1.0) * duration_s, rng.randrange(6)) for _ in range(count))


def _consent(rng: Random) -> tuple[tuple[str, bool], ...]:
    # A purpose that is left out is unknown, and unknown means no.
    listed = [purpose for purpose in PURPOSES if rng.random() < 0.85]
    return tuple((purpose, rng.random() < 0.8) for purpose in listed)
