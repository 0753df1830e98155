import pytest

from cdp.config_consent import Consent, Purpose
from cdp.consent.rules import Rules
from cdp.console.privacy_why import PrivacyWhy, Sources
from cdp.console.surface import NotFound
from cdp.domain.change import RESOLVED, Change
from cdp.domain.consent import Latest, Standing
from cdp.domain.event import ConsentStamp
from tests.unit.identity.world import World, event

NOW_US = 1_795_000_000_000_000
RULES = Rules(Consent(purposes={"ads": Purpose(sale_or_share=True), "mail": Purpose()}))
GDPR = RULES.regimes["gdpr"].label
GRANTED = Latest("granted", 1, NOW_US - 1)


def stamp(**purposes):
    return ConsentStamp(present=True, purposes=purposes, regime=GDPR)


class Scene:
    def __init__(self):
        self.world = World().feed(
            [
                event(0, "identify", user_id="ada", anonymous_id="b1", stamp=stamp(ads=True)),
                event(1, user_id="ada", stamp=stamp(ads=False)),
                event(2, user_id="ada"),
                event(3),
            ]
        )
        self.standings = {}
        self.device = Standing()
        self.suppressed = set()
        self.now_us = lambda: NOW_US
        self.why = PrivacyWhy(
            Sources(
                profiles=self.world.profiles,
                events=self.world.events,
                changes=self.world.changes,
                offset_of=lambda text: int(text[1:]) if text[1:].isdigit() else None,
                standing=lambda profile_id: self.standings.get(profile_id, Standing()),
                standing_of_device=lambda event: self.device,
                suppressed=lambda node: node in self.suppressed,
                recipients=lambda profile_id: [{"destination": "crm", "since": "then"}],
                uses={"crm": RULES.use(("mail",)), "partner": RULES.use(("ads",))},
                policies=(),
                clock=self,
            )
        )

    @property
    def ada(self):
        return self.world.profiles.find("user_id", "ada").profile_id

    def event(self, message_id, destination="partner"):
        return self.why.delivery(destination, message_id=message_id, person=None)


@pytest.fixture
def scene():
    return Scene()


def test_what_is_held_of_somebody_is_told_without_values(scene):
    scene.standings[scene.ada] = Standing({"ads": GRANTED}, restricted=True)
    told = scene.why.person("user_id", "ada")
    assert (told["known"], told["suppressed"], told["events"]) == (True, False, 3)
    assert told["profile_id"] == scene.ada.hex()
    kinds = [one["namespace"] for one in told["identifiers"]]
    assert sorted(kinds) == ["anonymous_id", "user_id"]
    assert told["standing"]["restricted"] is True
    assert told["recipients"] == [{"destination": "crm", "since": "then"}]
    assert [(one["destination"], one["reason"]) for one in told["destinations"]] == [
        ("crm", "restricted"),
        ("partner", "restricted"),
    ]
    assert "b1" not in str(told)


def test_somebody_unknown_can_still_be_suppressed(scene):
    scene.suppressed.add(scene.world.profiles.node("email", "eve@b.test"))
    assert scene.why.person("email", "eve@b.test") == {
        "namespace": "email",
        "known": False,
        "suppressed": True,
    }
    assert scene.why.person("email", "bob@b.test")["suppressed"] is False


def test_a_value_that_names_nobody_is_not_found(scene):
    with pytest.raises(NotFound, match="cannot be a email"):
        scene.why.person("email", "not an address")


def test_an_event_is_judged_by_its_stamp_and_by_where_the_person_stands(scene):
    scene.standings[scene.ada] = Standing({"ads": GRANTED})
    told = scene.event("m0")
    assert (told["allowed"], told["reason"], told["regime"]) == (True, "granted", GDPR)
    assert told["purposes"][0]["basis"] == "opt_in"
    assert told["purposes"][0]["person_now"]["record"] == 1
    assert scene.event("m1")["reason"] == "denied"
    scene.standings[scene.ada] = Standing({"ads": Latest("denied", 2, NOW_US)})
    assert scene.event("m0")["reason"] == "withdrawn"
    assert scene.event("m0")["profile_id"] == scene.ada.hex()


def test_an_event_that_is_about_nobody_has_no_profile(scene):
    told = scene.event("m3")
    assert (told["profile_id"], told["allowed"]) == (None, False)


def test_an_event_that_is_about_nobody_is_judged_by_its_device(scene):
    scene.device = Standing({"ads": Latest("denied", 4, NOW_US)}, suppressed=True)
    assert scene.event("m3")["reason"] == "suppressed"


def test_who_became_somebody_else_by_a_split_is_asked_about_the_event_too(scene, monkeypatch):
    scene.world.feed([event(4, user_id="bob")])
    bob = scene.world.profiles.find("user_id", "bob")
    scene.standings[scene.ada] = Standing({"ads": GRANTED})
    scene.standings[bob.profile_id] = Standing({"ads": Latest("denied", 9, NOW_US)})
    then = Change(RESOLVED, 0, scene.ada, scene.world.profiles.node("user_id", "bob"))
    monkeypatch.setattr("cdp.console.privacy_why.caused_by", lambda changes, offset: [then])
    told = scene.event("m0")
    assert (told["profile_id"], told["reason"]) == (bob.profile_id.hex(), "withdrawn")


@pytest.mark.parametrize(("record", "reason"), [(None, "expired"), (b"", "erased")])
def test_an_event_that_is_gone_goes_nowhere(scene, record, reason):
    scene.world.events.get = lambda offset: record
    told = scene.event("m0")
    assert (told["allowed"], told["reason"]) == (False, reason)


def test_a_person_is_judged_as_for_an_event_that_comes_now_and_says_nothing(scene):
    def told():
        return scene.why.delivery("partner", message_id=None, person=("user_id", "ada"))

    assert (told()["allowed"], told()["reason"]) == (False, "no_grant")
    scene.standings[scene.ada] = Standing({"ads": GRANTED})
    assert told()["allowed"] is True
    scene.standings[scene.ada] = Standing({"ads": GRANTED}, suppressed=True)
    assert told()["reason"] == "suppressed"


@pytest.mark.parametrize(("destination", "event"), [("gone", "m0"), ("crm", "unknown")])
def test_what_does_not_exist_is_not_found(scene, destination, event):
    with pytest.raises(NotFound):
        scene.event(event, destination)
