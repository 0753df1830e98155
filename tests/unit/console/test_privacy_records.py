import pytest

from cdp.config_consent import Consent, Purpose
from cdp.consent.ledger import ConsentLedger
from cdp.consent.rules import Rules
from cdp.console.holdings import StoredHoldings
from cdp.console.person_records import PersonRecords
from cdp.domain.consent import Proof, Statement
from tests.unit.consent.access_world import NOW_US, Subject
from tests.unit.identity.world import World, event


class OneKey:
    """Seals by turning bytes around; a subject whose key is gone opens to nothing."""

    def __init__(self):
        self.gone = set()

    def seal_row(self, batch, subject, record, context):
        return context + record[::-1]

    def open_row(self, sealed, context):
        assert sealed[:16] == context
        return b"" if context in self.gone else sealed[16:][::-1]


class Everybody:
    ready = True

    def __init__(self, world):
        self.resolver = world.resolver

    def members(self, profile_id):
        return self.resolver.members(profile_id)

    def profile_of(self, node):
        return self.resolver.profile_of(node)


class Scene:
    def __init__(self):
        self.world = World().feed([event(0, "identify", user_id="ada", anonymous_id="b1")])
        self.vault = OneKey()
        rules = Rules(Consent(purposes={"ads": Purpose(), "mail": Purpose()}))
        self.ledger = ConsentLedger(self.world.store, self.vault, rules, Everybody(self.world))
        self.records = PersonRecords(
            self.ledger,
            self.world.profiles,
            recipients=lambda profile_id: [{"destination": "crm"}],
            requests=lambda nodes: [{"id": "r", "nodes": len(nodes)}],
        )

    def node(self, namespace, value):
        return self.world.profiles.node(namespace, value)

    def say(self, who, at_us=NOW_US, **more):
        batch = self.world.store.batch()
        fields = {"kind": "event", "authority": "server", "source": "web"} | more
        statement = Statement(at_us=at_us, received_at_us=at_us, **fields)
        self.ledger.note(batch, [self.node(*who)], statement)
        self.world.store.write(batch)


@pytest.fixture
def scene():
    return Scene()


def test_records_are_told_oldest_first_with_whom_they_are_about_and_what_shows_it(scene):
    proof = Proof(policy="privacy", policy_version="3", text_sha256="ab", signal="a TC string")
    scene.say(("anonymous_id", "b1"), purposes={"ads": False, "mail": True}, regime="gdpr@1")
    scene.say(("user_id", "ada"), NOW_US + 1, purposes={"ads": True}, proof=proof)
    nodes = [scene.node("user_id", "ada"), scene.node("anonymous_id", "b1")]
    first, second = scene.records.consent(nodes)
    assert (first["about"], first["granted"], first["denied"]) == (
        "anonymous_id:b1",
        ["mail"],
        ["ads"],
    )
    assert (first["regime"], first["record"]) == ("gdpr@1", 1)
    assert (second["about"], second["policy"], second["text_sha256"]) == (
        "user_id:ada",
        "privacy@3",
        "ab",
    )
    assert second["proof"]["signal"] == "a TC string"
    assert len(second["hash"]) == 64


def test_a_record_whose_key_is_destroyed_has_no_proof(scene):
    scene.say(("user_id", "ada"), purposes={"ads": True}, proof=Proof(signal="secret"))
    scene.vault.gone.add(scene.node("user_id", "ada"))
    (record,) = scene.records.consent([scene.node("user_id", "ada")])
    assert record["proof"] is None
    assert "secret" not in str(record)


def test_the_standing_is_the_ledgers(scene):
    scene.say(("user_id", "ada"), purposes={"ads": False})
    profile_id = scene.world.profiles.find("user_id", "ada").profile_id
    told = scene.records.standing(profile_id)
    assert told["purposes"]["ads"]["state"] == "denied"
    assert told["suppressed"] is False


async def test_the_document_of_a_person_holds_the_records_of_every_identifier(scene, tmp_path):
    scene.say(("anonymous_id", "b1"), purposes={"ads": False})
    scene.say(("user_id", "ada"), NOW_US + 1, purposes={"mail": True})
    subject = Subject(tmp_path, [], scene.world)
    holdings = StoredHoldings(
        scene.world.store, scene.world.profiles, scene.world.history, scene.records
    )
    subject.access._holdings = holdings
    document, page, _ = await subject.export()
    assert len(document["consent"]["records"]) == 2
    assert document["consent"]["now"]["purposes"]["ads"]["state"] == "denied"
    assert document["recipients"] == [{"destination": "crm"}]
    assert document["requests"][0]["id"] == "r"
    assert "anonymous_id:b1" in page
