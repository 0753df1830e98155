"""The conformance suite catches plugins that break the contract, and names the case."""

from __future__ import annotations

import json
from typing import ClassVar

import httpx
import pytest
import trio

from cdp.delivery import (
    Delivered,
    Destination,
    Erased,
    ErasureAccepted,
    ErasureRetry,
    ErasureUnsupported,
    Rejected,
    Retry,
    Settings,
)
from cdp.errors import PluginError
from cdp.testing import Service, check_destination


class Address(Settings):
    """Where to."""

    url: str = "https://api.example.com/"


class Good(Destination[Address]):
    """Keeps the contract."""

    settings_type = Address
    purposes = frozenset({"marketing"})
    batch_max = 20

    async def deliver(self, batch):
        """One request a batch."""
        answer = await self.http.post(self.settings.url, json=[one.event for one in batch])
        return [self.meaning(answer)] * len(batch)

    def meaning(self, answer):
        if answer.status_code < 300:
            return Delivered()
        if answer.status_code == 429 or answer.status_code >= 500:
            return Retry("later")
        return Rejected("no")


async def test_a_good_plugin_passes_every_case():
    held = await check_destination(Good, Address())
    assert held == [
        "one_many_and_batch_max",
        "every_kind_that_it_receives",
        "unknown_traits",
        "text_that_is_not_ascii",
        "an_event_of_nobody",
        "the_same_id_again",
        "a_refusal_is_not_a_delivery",
        "a_redirect_is_not_followed",
        "what_may_pass_is_tried_again",
        "a_service_that_hangs",
        "a_connection_that_breaks",
        "a_closed_server",
        "cancellation_half_way",
        "a_restart",
        "an_erasure",
        "the_same_erasure_again",
        "an_erasure_of_somebody_unknown",
        "how_far_an_erasure_is",
        "an_erasure_that_fails_is_not_done",
        "an_erasure_that_may_pass_is_asked_again",
    ]


class TooFewOutcomes(Good):
    async def deliver(self, batch):
        return (await super().deliver(batch))[:1]


class EverythingIsWell(Good):
    def meaning(self, answer):
        return Delivered()


class RejectsWhatMayPass(Good):
    def meaning(self, answer):
        return Delivered() if answer.is_success else Rejected("no")


class FollowsRedirects(Good):
    async def deliver(self, batch):
        answer = await self.http.post(self.settings.url, json=[], follow_redirects=True)
        return [self.meaning(answer)] * len(batch)


class SwallowsErrors(Good):
    async def deliver(self, batch):
        try:
            return await super().deliver(batch)
        except httpx.HTTPError:
            return [Rejected("gone")] * len(batch)


class ChangesTheEvent(Good):
    async def deliver(self, batch):
        batch[0].event["seen"] = True
        return await super().deliver(batch)


class NeedsAscii(Good):
    async def deliver(self, batch):
        for one in batch:
            json.dumps(one.event, ensure_ascii=False).encode("ascii")
        return await super().deliver(batch)


class NeedsAProfile(Good):
    async def deliver(self, batch):
        for one in batch:
            one.profile_id.upper()
        return await super().deliver(batch)


class LimitsItself(Good):
    async def deliver(self, batch):
        assert len(batch) < 20
        return await super().deliver(batch)


class IgnoresCancellation(Good):
    async def deliver(self, batch):
        with trio.move_on_after(0.3, shield=True):
            return await super().deliver(batch)
        return [Retry("slow")] * len(batch)


class CannotStartTwice(Good):
    started = False

    async def start(self):
        assert not CannotStartTwice.started, "started twice"
        CannotStartTwice.started = True


class WantsMerges(Good):
    receives = frozenset({"event", "merged"})

    async def deliver(self, batch):
        for one in batch:
            one.event["type"]
        return await super().deliver(batch)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (TooFewOutcomes, "one_many_and_batch_max"),
        (EverythingIsWell, "a_refusal_is_not_a_delivery"),
        (RejectsWhatMayPass, "what_may_pass_is_tried_again"),
        (FollowsRedirects, "a_redirect_is_not_followed"),
        (SwallowsErrors, "a_connection_that_breaks"),
        (ChangesTheEvent, "one_many_and_batch_max"),
        (NeedsAscii, "text_that_is_not_ascii"),
        (NeedsAProfile, "an_event_of_nobody"),
        (LimitsItself, "one_many_and_batch_max"),
        (IgnoresCancellation, "cancellation_half_way"),
        (CannotStartTwice, "every_kind_that_it_receives"),
        (WantsMerges, "every_kind_that_it_receives"),
    ],
)
async def test_a_plugin_that_breaks_the_contract_fails_in_its_case(autojump_clock, broken, case):
    with pytest.raises(AssertionError, match=f"^{case}: "):
        await check_destination(broken, Address())


class Forgets(Good):
    """Erases by one request, and keeps the contract."""

    erases = True

    async def erase(self, erasure):
        answer = await self.http.delete(f"{self.settings.url}{erasure.erasure_id}")
        return self.meaning_of_erasure(answer)

    def meaning_of_erasure(self, answer):
        if answer.is_success:
            return Erased(f"answered {answer.status_code}")
        return ErasureRetry(f"answered {answer.status_code}")


class ForgetsLater(Forgets):
    """The service takes an erasure under an id."""

    def meaning_of_erasure(self, answer):
        return ErasureAccepted("7") if answer.is_success else ErasureRetry("later")

    async def erasure_status(self, remote_id):
        return Erased() if remote_id == "7" else ErasureRetry("unknown")


@pytest.mark.parametrize("type_", [Forgets, ForgetsLater])
async def test_a_plugin_that_erases_passes_every_case(autojump_clock, type_):
    assert len(await check_destination(type_, Address())) == 20


class SaysThatItForgets(Good):
    erases = True


class ForgetsInSecret(Forgets):
    erases = False


class SaysNothing(Forgets):
    async def erase(self, erasure):
        await super().erase(erasure)


class DoesNotSayHow(Good):
    async def erase(self, erasure):
        return ErasureUnsupported(" ")


class AcceptsWithoutAnId(ForgetsLater):
    def meaning_of_erasure(self, answer):
        return ErasureAccepted("")


class ForgetsOnce(Forgets):
    seen: ClassVar[set] = set()

    async def erase(self, erasure):
        if erasure.erasure_id in self.seen and erasure.profile_ids != ("f" * 32,):
            return ErasureRetry("done already")
        self.seen.add(erasure.erasure_id)
        return await super().erase(erasure)


class KnowsEverybody(Forgets):
    async def erase(self, erasure):
        if "nobody" in dict(erasure.identifiers).values():
            raise LookupError("no such person")
        return await super().erase(erasure)


class NeverTells(ForgetsLater):
    erasure_status = Destination.erasure_status


class KeepsIdsInMemory(ForgetsLater):
    accepted = False

    def meaning_of_erasure(self, answer):
        self.accepted = answer.is_success
        return super().meaning_of_erasure(answer)

    async def erasure_status(self, remote_id):
        return Erased() if self.accepted else ErasureRetry("unknown")


class BelievesARefusal(Forgets):
    def meaning_of_erasure(self, answer):
        return ErasureRetry("later") if answer.status_code >= 500 else Erased()


class GivesUp(Forgets):
    def meaning_of_erasure(self, answer):
        return Erased() if answer.is_success else ErasureUnsupported("ask the vendor")


class CallsBackTooSoon(Forgets):
    def meaning_of_erasure(self, answer):
        return Erased() if answer.is_success else ErasureRetry("later", after_s=1.0)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (SaysThatItForgets, "an_erasure"),
        (ForgetsInSecret, "an_erasure"),
        (SaysNothing, "an_erasure"),
        (DoesNotSayHow, "an_erasure"),
        (AcceptsWithoutAnId, "an_erasure"),
        (ForgetsOnce, "the_same_erasure_again"),
        (KnowsEverybody, "an_erasure_of_somebody_unknown"),
        (NeverTells, "how_far_an_erasure_is"),
        (KeepsIdsInMemory, "how_far_an_erasure_is"),
        (BelievesARefusal, "an_erasure_that_fails_is_not_done"),
        (GivesUp, "an_erasure_that_may_pass_is_asked_again"),
        (CallsBackTooSoon, "an_erasure_that_may_pass_is_asked_again"),
    ],
)
async def test_a_plugin_that_forgets_badly_fails_in_its_case(autojump_clock, broken, case):
    with pytest.raises(AssertionError, match=f"^{case}: "):
        await check_destination(broken, Address())


async def test_a_plugin_may_need_settings_to_erase_but_not_erase_in_secret(autojump_clock):
    class Sometimes(Good):
        erases = True

    assert len(await check_destination(Sometimes, Address(), erases=False)) == 20
    with pytest.raises(AssertionError, match="set `erases` to True"):
        await check_destination(Good, Address(), erases=True)


class ItemByItem(Good):
    async def deliver(self, batch):
        answer = await self.http.post(self.settings.url, json=[one.event for one in batch])
        if not answer.is_success:
            return [self.meaning(answer)] * len(batch)
        refused = json.loads(answer.content).get("refused", [])
        return [Rejected("no") if n in refused else Delivered() for n in range(len(batch))]


async def test_a_partial_failure_is_checked_where_the_service_answers_item_by_item(autojump_clock):
    partial = Service(handler=lambda request: httpx.Response(200, json={"refused": [1, 3]}))
    held = await check_destination(ItemByItem, Address(), partial=partial)
    assert held[-1] == "a_partial_failure"
    with pytest.raises(AssertionError, match="some of 5 were refused"):
        await check_destination(Good, Address(), partial=partial)


class NotADestination:
    pass


class Forgetful(Destination[Address]):
    settings_type = Address


class WithoutSettings(Good):
    settings_type = dict


class OfTheFuture(Good):
    api_version = 2


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (NotADestination, "not a subclass of cdp.delivery.Destination"),
        (Forgetful, "does not define `deliver`"),
        (WithoutSettings, "settings_type must be a subclass"),
        (OfTheFuture, "api_version must be 1"),
    ],
)
async def test_what_is_not_a_destination_type_is_refused(broken, text):
    with pytest.raises(PluginError, match=text):
        await check_destination(broken, Address())
