import random

import pytest

from cdp.config import Config, Privacy, Secret, Source
from cdp.console.rights import make_rights
from cdp.environment import Environment
from cdp.errors import ConfigError
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal
from tests.unit.console.certificates import DOMAIN, certificate, pem
from tests.unit.console.privacy import Book
from tests.unit.console.surface import Surface, client


class HandClock:
    def now_us(self):
        return 1_772_366_400_000_000


def rights(**privacy):
    environment = Environment(
        clock=HandClock(),
        rng=random.Random(1),
        network=None,
        run_in_thread=None,
        open_store=None,
        environ=None,
    )
    return make_rights(
        Book(),
        config=Config(sources={"web": Source(write_key="wk")}, privacy=Privacy(**privacy)),
        environment=environment,
        store=MemoryStore(),
        journal=Journal(HandClock(), lambda line: None),
    )


@pytest.fixture
def whole(tmp_path):
    file = tmp_path / "certificate.pem"
    file.write_bytes(certificate())
    return {
        "opendsr_domain": DOMAIN,
        "opendsr_certificate": file,
        "opendsr_key": Secret(pem().decode()),
        "opendsr_callback_domains": ("controller.example",),
    }


async def test_without_a_certificate_there_is_no_opendsr(whole):
    made = rights()
    assert made.callbacks is None
    async with client(Surface(), more=made.routes) as http:
        assert (await http.get("/discovery")).status_code == 404
        assert (await http.get("/v1/privacy/requests")).status_code == 200
        assert (await http.get("/regulations")).status_code == 200


async def test_with_a_certificate_there_is_and_somebody_calls_back(whole):
    made = rights(**whole)
    assert made.callbacks is not None
    async with client(Surface(), more=made.routes) as http:
        assert (await http.get("/discovery")).headers["x-opendsr-processor-domain"] == DOMAIN


def test_no_two_routes_take_the_same_path_and_method(whole):
    taken = [
        (method, route.path)
        for route in rights(**whole).routes
        for method in route.methods - {"HEAD"}
    ]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize("missing", ["opendsr_domain", "opendsr_certificate", "opendsr_key"])
def test_opendsr_in_part_is_refused(whole, missing):
    del whole[missing]
    with pytest.raises(ConfigError, match="belong together"):
        rights(**whole)


def test_a_certificate_that_is_not_there_is_refused(whole, tmp_path):
    whole["opendsr_certificate"] = tmp_path / "none.pem"
    with pytest.raises(ConfigError, match="cannot be read"):
        rights(**whole)
