"""`cdp check --connect` asks a destination that was not started, and says what it answered."""

import httpx
import pytest
import trio

from cdp.cli.check import _ask, _Loaded
from cdp.config import Config
from cdp.delivery import Destination, Settings
from cdp.testing import FakeNetwork, Service, make_environment


class Empty(Settings):
    """No settings."""


class Works(Destination[Empty]):
    settings_type = Empty

    async def start(self):
        raise AssertionError("a check leaves nothing open, so it starts nothing")

    async def check(self):
        assert isinstance(self.http, httpx.AsyncClient)


class Unreachable(Works):
    async def check(self):
        raise OSError("no route to host")


class Broken(Works):
    async def check(self):
        raise ValueError("settings say nothing")


class Hangs(Works):
    async def check(self):
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("type_", "answer"),
    [
        (Works, None),
        (Unreachable, "OSError: no route to host"),
        (Broken, "ValueError: settings say nothing"),
        (Hangs, "no answer within 30 s"),
    ],
)
async def test_a_destination_says_whether_it_could_work_now(autojump_clock, type_, answer):
    environment = make_environment(FakeNetwork(Service().transport))
    found = await _ask(_Loaded("crm", type_, Empty()), Config(), environment)
    assert found == answer
