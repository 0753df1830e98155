"""The contract of destinations in executable form: a plugin that passes it is done.

Each case hands the destination batches as the host would, in a world without sockets whose one
service does what the case says, and judges what comes back. A destination that makes no requests
(a file, a vendor's own library) is held to everything that does not need them.
"""

from __future__ import annotations

import copy
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from cdp.delivery.attempt import Attempt, attempt, judged
from cdp.delivery.destination import (
    Delivered,
    Erased,
    ErasureAccepted,
    ErasureOutcome,
    ErasureRetry,
    ErasureUnsupported,
    Rejected,
    Retry,
)
from cdp.delivery.http import open_client
from cdp.delivery.registry import check_type
from cdp.delivery.setup import build
from cdp.testing.factories import make_change, make_delivery, make_erasure
from cdp.testing.faults import Answer, Drop, Fault, Hang, Refuse, Service
from cdp.testing.world import FakeNetwork, make_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cdp.delivery.destination import Delivery, Destination, Erasure, Settings
    from cdp.environment import Network

PUBLIC_ADDRESS: Final = "93.184.215.14"  # what every name resolves to
RESPONSE_BYTES_MAX: Final = 64 * 2**10
ERASE_TIMEOUT_S: Final = 30.0  # where the service is well; far more than any test should need

_STRANGE: Final[dict[str, Any]] = {
    "traits": {
        "unknown trait": None,
        "nested": {"list": [1, 2.5, True, None, {"deep": {"er": "x"}}]},
        "": "an empty name",
        "$set": "an operator",
        "a.b": "dots",
    },
    "properties": {"huge": 2**63, "tiny": 5e-324, "long": "x" * 5_000},
}
_FOREIGN: Final[dict[str, Any]] = {
    "event": "Überweisung \u2713 \U0001f600",
    "traits": {"name": "Łukasz 山田 أحمد", "zero": "a\u0000b", "line": "a\u2028b\r\nc"},
    "userId": "ユーザー-1",
}


class _Check:
    """One destination type under test, and what every case needs."""

    def __init__(
        self,
        type_: type[Destination[Any]],
        settings: Settings,
        service: Service,
        timeout_s: float,
        *,
        erases: bool | None = None,
    ) -> None:
        self.type = type_
        self.settings = settings
        self.erases = type_.erases if erases is None else erases
        self.service = service
        self.timeout_s = timeout_s
        self.number = 0  # so that no case repeats another one's delivery ids by accident

    def batch(self, size: int, **fields: Any) -> list[Delivery]:
        self.number += size
        first = self.number - size
        return [make_delivery(first + place, **fields) for place in range(size)]

    async def deliver(self, destination: Destination[Any], batch: Sequence[Delivery]) -> Attempt:
        before = copy.deepcopy(list(batch))
        result = await attempt(destination, batch, self.timeout_s)
        assert list(batch) == before, "deliver changed the deliveries that it was given"
        assert result.cause != "broken_contract", (
            f"deliver must return a sequence of {len(batch)} outcomes, one a delivery"
        )
        return result

    async def deliver_well(self, destination: Destination[Any], batch: Sequence[Delivery]) -> None:
        result = await self.deliver(destination, batch)
        if result.error is not None:
            raise AssertionError("deliver raised while the service was well") from result.error
        wrong = [one for one in result.outcomes if not isinstance(one, Delivered)]
        assert not wrong, f"the service was well, and {len(wrong)} got {wrong[0]}"

    async def ask(self, answer: Awaitable[ErasureOutcome]) -> ErasureOutcome:
        """What it says of an erasure while the service is well."""
        try:
            with trio.fail_after(ERASE_TIMEOUT_S):
                outcome: object = await answer
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError("it raised while the service was well") from error
        return _outcome(outcome)

    async def erase_well(
        self, destination: Destination[Any], erasure: Erasure
    ) -> Erased | ErasureAccepted | None:
        """What it made of an erasure; None where it told how to do it by hand, and may."""
        outcome = await self.ask(destination.erase(erasure))
        if not self.erases:
            assert isinstance(outcome, ErasureUnsupported), (
                f"it is said not to erase, and answers {outcome}: set `erases` to True"
            )
            return None
        assert not isinstance(outcome, ErasureUnsupported), (
            "`erases` is True, and it says that it cannot: give settings with which it can, or "
            "erases=False for a test of those with which it cannot"
        )
        assert not isinstance(outcome, ErasureRetry), f"the service was well, and it says {outcome}"
        return outcome


async def check_destination(
    type_: type[Destination[Any]],
    settings: Settings,
    *,
    server: Service | None = None,
    partial: Service | None = None,
    timeout_s: float = 0.1,
    erases: bool | None = None,
) -> list[str]:
    """Holds a destination type to its contract; returns the names of the cases it was held to.

    `server` is a `Service` whose handler answers as the real service does when it is well; by
    default everything is answered 200 with `{}`. `partial` is one that takes a request with
    several deliveries and refuses some of them: give it where the service answers item by item.
    `erases` is whether it can erase with these settings, where that is not what its type says.

    Raises:
        AssertionError: names the case and what was wrong.
    """
    check_type(type_)
    assert type_.erases or not erases, "its type says that it does not erase: set `erases` to True"
    held: list[str] = []
    for case in _CASES:
        check = _Check(type_, settings, server or Service(), timeout_s, erases=erases)
        check.number = len(held) * 100_000
        check.service.heal()
        check.service.requests.clear()
        try:
            await case(check)
        except AssertionError as error:
            raise AssertionError(f"{case.__name__.strip('_')}: {error}") from error
        held.append(case.__name__.strip("_"))
    if partial is not None:
        await _a_partial_failure(_Check(type_, settings, partial, timeout_s))
        held.append("a_partial_failure")
    return held


@asynccontextmanager
async def open_destination(
    type_: type[Destination[Any]],
    settings: Settings,
    service: Service | None = None,
    *,
    network: Network | None = None,
    name: str = "under_test",
) -> AsyncIterator[Destination[Any]]:
    """A started destination in a world whose one service is the given one."""
    service = service or Service()
    network = network or FakeNetwork(service.transport, {"*": [[PUBLIC_ADDRESS]]})
    environment = make_environment(network)
    destination = build(type_, settings, name, environment)
    client = open_client(network.transport(), timeout_s=30.0, response_bytes_max=RESPONSE_BYTES_MAX)
    async with client:
        destination.http = client
        await destination.start()
        try:
            yield destination
        finally:
            with trio.CancelScope(shield=True):
                await destination.close()


def _opened(check: _Check) -> Any:
    return open_destination(check.type, check.settings, check.service)


async def _one_many_and_batch_max(check: _Check) -> None:
    async with _opened(check) as destination:
        for size in sorted({1, min(3, check.type.batch_max), check.type.batch_max}):
            await check.deliver_well(destination, check.batch(size))


async def _every_kind_that_it_receives(check: _Check) -> None:
    kinds = sorted(check.type.receives - {"event"})
    async with _opened(check) as destination:
        for number, kind in enumerate(kinds):
            await check.deliver_well(destination, [make_change(kind, check.number + number)])


async def _unknown_traits(check: _Check) -> None:
    async with _opened(check) as destination:
        await check.deliver_well(destination, check.batch(1, event=_STRANGE))


async def _text_that_is_not_ascii(check: _Check) -> None:
    async with _opened(check) as destination:
        await check.deliver_well(destination, check.batch(1, event=_FOREIGN))


async def _an_event_of_nobody(check: _Check) -> None:
    async with _opened(check) as destination:
        await check.deliver_well(destination, check.batch(1, profile_id=None))


async def _the_same_id_again(check: _Check) -> None:
    batch = check.batch(min(2, check.type.batch_max))
    again = [msgspec.structs.replace(delivery, attempt=2) for delivery in batch]
    async with _opened(check) as destination:
        await check.deliver_well(destination, batch)
        await check.deliver_well(destination, again)


async def _a_refusal_is_not_a_delivery(check: _Check) -> None:
    for status in (400, 401, 403, 404, 422):
        for one in await _outcomes_under(check, Answer(status)):
            assert not isinstance(one, Delivered), f"answered {status}, and it says Delivered"


async def _a_redirect_is_not_followed(check: _Check) -> None:
    elsewhere = Answer(302, headers={"location": "http://169.254.169.254/latest/meta-data"})
    for one in await _outcomes_under(check, elsewhere):
        assert not isinstance(one, Delivered), "answered 302, and it says Delivered"
    hosts = {request.url.host for request in check.service.requests}
    assert "169.254.169.254" not in hosts, "it followed a redirect"


async def _what_may_pass_is_tried_again(check: _Check) -> None:
    for status in (429, 500, 502, 503, 504):
        for one in await _outcomes_under(check, Answer(status, headers={"retry-after": "7"})):
            assert isinstance(one, Retry), f"answered {status}, and it says {one}"
            asked = one.after_s
            assert asked is None or asked >= 7, f"Retry-After was 7, and it says after {asked}"


async def _a_service_that_hangs(check: _Check) -> None:
    for one in await _outcomes_under(check, Hang()):
        assert isinstance(one, Retry), f"there was no answer, and it says {one}"


async def _a_connection_that_breaks(check: _Check) -> None:
    for one in await _outcomes_under(check, Drop()):
        assert isinstance(one, Retry), f"the answer was lost, and it says {one}"


async def _a_closed_server(check: _Check) -> None:
    async with _opened(check) as destination:
        check.service.always(Refuse())
        result = await check.deliver(destination, check.batch(1))
        check.service.heal()
        seen = len(check.service.requests)
        await check.deliver_well(destination, check.batch(1))
        if len(check.service.requests) > seen:  # it makes requests, so it met the closed server
            for one in result.outcomes:
                assert isinstance(one, Retry), f"there was no server, and it says {one}"


async def _cancellation_half_way(check: _Check) -> None:
    async with _opened(check) as destination:
        batch = check.batch(min(2, check.type.batch_max))
        check.service.always(Answer(delay_s=60.0))
        with trio.move_on_after(check.timeout_s / 2) as scope:
            judged(await destination.deliver(batch), len(batch))
        waited = scope.cancelled_caught
        assert waited or not check.service.requests, "it swallowed its cancellation"
        check.service.heal()
        await check.deliver_well(destination, batch)


async def _a_restart(check: _Check) -> None:
    batch = check.batch(1)
    async with _opened(check) as destination:
        await check.deliver_well(destination, batch)
    async with _opened(check) as destination:
        await check.deliver_well(destination, batch)
        await destination.tick()


async def _an_erasure(check: _Check) -> None:
    number, batch = check.number, check.batch(min(2, check.type.batch_max))
    async with _opened(check) as destination:
        await check.deliver_well(destination, batch)
        await check.erase_well(destination, make_erasure(number))
        await check.deliver_well(destination, check.batch(1))


async def _the_same_erasure_again(check: _Check) -> None:
    number, batch = check.number, check.batch(1)
    async with _opened(check) as destination:
        await check.deliver_well(destination, batch)
        await check.erase_well(destination, make_erasure(number))
        await check.erase_well(destination, make_erasure(number))
    async with _opened(check) as destination:
        await check.erase_well(destination, make_erasure(number))


async def _an_erasure_of_somebody_unknown(check: _Check) -> None:
    nobody = make_erasure(
        check.number,
        profile_ids=("f" * 32,),
        identifiers=(("user_id", "nobody"), ("email", "nobody@example.com")),
    )
    async with _opened(check) as destination:
        await check.erase_well(destination, nobody)


async def _how_far_an_erasure_is(check: _Check) -> None:
    async with _opened(check) as destination:
        accepted = await check.erase_well(destination, make_erasure(check.number))
        if not isinstance(accepted, ErasureAccepted):
            return
    async with _opened(check) as destination:  # whatever it needs is in the id
        outcome = await check.ask(destination.erasure_status(accepted.remote_id))
        assert isinstance(outcome, (Erased, ErasureAccepted)), (
            f"it accepted an erasure, and when asked how far it is it says {outcome}"
        )


async def _an_erasure_that_fails_is_not_done(check: _Check) -> None:
    elsewhere = Answer(302, headers={"location": "http://169.254.169.254/latest/meta-data"})
    for refusal in (*map(Answer, (400, 401, 403, 422)), elsewhere):
        outcome = await _erasure_under(check, refusal)
        assert not isinstance(outcome, (Erased, ErasureAccepted)), (
            f"answered {refusal.status}, and it says {outcome}"
        )
    hosts = {request.url.host for request in check.service.requests}
    assert "169.254.169.254" not in hosts, "it followed a redirect"


async def _an_erasure_that_may_pass_is_asked_again(check: _Check) -> None:
    later = {"retry-after": "7"}
    busy = [Answer(status, headers=later) for status in (429, 500, 502, 503, 504)]
    faults: tuple[Fault, ...] = (*busy, Drop(), Hang())
    for fault in faults:
        outcome = await _erasure_under(check, fault)
        assert outcome is None or isinstance(outcome, ErasureRetry), f"{fault}: it says {outcome}"
        asked = None if outcome is None else outcome.after_s
        assert asked is None or asked >= 7, f"Retry-After was 7, and it says after {asked}"


async def _a_partial_failure(check: _Check) -> None:
    async with _opened(check) as destination:
        result = await check.deliver(destination, check.batch(min(5, check.type.batch_max)))
        good = sum(isinstance(one, Delivered) for one in result.outcomes)
        assert 0 < good < len(result.outcomes), (
            f"some of {len(result.outcomes)} were refused, and it says that {good} were taken"
        )
        assert all(isinstance(one, (Delivered, Retry, Rejected)) for one in result.outcomes)


async def _outcomes_under(check: _Check, fault: Fault) -> Sequence[Any]:
    """What it says of a batch under a fault; nothing where it makes no requests."""
    async with _opened(check) as destination:
        check.service.always(fault)
        result = await check.deliver(destination, check.batch(min(2, check.type.batch_max)))
        check.service.heal()
        return result.outcomes if check.service.requests else ()


async def _erasure_under(check: _Check, fault: Fault) -> ErasureOutcome | None:
    """What it says of an erasure under a fault, as the host sees it; None without requests."""
    async with _opened(check) as destination:
        check.service.always(fault)
        before = len(check.service.requests)
        outcome: object = ErasureRetry("timeout")
        with trio.move_on_after(check.timeout_s):
            try:
                outcome = await destination.erase(make_erasure(check.number))
            except Exception:
                outcome = ErasureRetry("exception")
        check.service.heal()
        asked = len(check.service.requests) > before
        return _outcome(outcome) if asked else None


def _outcome(outcome: object) -> ErasureOutcome:
    """The outcome, if it is one, and says what the host needs."""
    assert isinstance(outcome, ErasureOutcome), (
        "an erasure must be answered by Erased, ErasureAccepted, ErasureUnsupported or "
        f"ErasureRetry, and not by {type(outcome).__name__}"
    )
    if isinstance(outcome, ErasureAccepted):
        assert outcome.remote_id, "it accepted an erasure without an id to ask about"
    if isinstance(outcome, ErasureUnsupported):
        assert outcome.instructions.strip(), "it does not say how to erase by hand"
    return outcome


_CASES: Final[tuple[Callable[[_Check], Awaitable[None]], ...]] = (
    _one_many_and_batch_max,
    _every_kind_that_it_receives,
    _unknown_traits,
    _text_that_is_not_ascii,
    _an_event_of_nobody,
    _the_same_id_again,
    _a_refusal_is_not_a_delivery,
    _a_redirect_is_not_followed,
    _what_may_pass_is_tried_again,
    _a_service_that_hangs,
    _a_connection_that_breaks,
    _a_closed_server,
    _cancellation_half_way,
    _a_restart,
    _an_erasure,
    _the_same_erasure_again,
    _an_erasure_of_somebody_unknown,
    _how_far_an_erasure_is,
    _an_erasure_that_fails_is_not_done,
    _an_erasure_that_may_pass_is_asked_again,
)
