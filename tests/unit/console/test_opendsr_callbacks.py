import json
import random
from itertools import pairwise

import httpx
import pytest
import trio

from cdp.clock import DAY_US
from cdp.console.opendsr import Signer
from cdp.console.opendsr_book import Book, Entry
from cdp.console.opendsr_callbacks import BACKOFF_US, BACKOFF_US_MAX, OpendsrCallbacks
from cdp.console.privacy_surface import Asked
from cdp.environment import Environment
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal
from tests.unit.console import privacy
from tests.unit.console.certificates import DOMAIN, certificate, pem
from tests.unit.console.test_opendsr_api import CALLBACK, CALLBACK_DOMAINS, ID, verify


class Controller:
    """The other side, its network and the clock."""

    def __init__(self):
        self.time_us = 1_772_366_400_000_000
        self.addresses = ["93.184.216.34"]
        self.status = 200
        self.raises = None
        self.posts = []

    def now_us(self):
        return self.time_us

    async def resolve(self, host, port):
        self.resolved = host
        return self.addresses

    def transport(self):
        return httpx.MockTransport(self._answer)

    async def _answer(self, request):
        self.posts.append(request)
        if self.raises is not None:
            raise self.raises
        return httpx.Response(self.status, headers={"location": "https://169.254.169.254/"})

    @property
    def told(self):
        return [json.loads(post.content)["request_status"] for post in self.posts]


class Scene:
    def __init__(self):
        self.controller = Controller()
        self.rights = privacy.Book()
        self.store = MemoryStore()
        self.lines = []
        self.callbacks = self.new()

    def new(self, domains=CALLBACK_DOMAINS):
        """As after a restart."""
        environment = Environment(
            clock=self.controller,
            rng=random.Random(1),
            network=self.controller,
            run_in_thread=None,
            open_store=None,
            environ=None,
        )
        return OpendsrCallbacks(
            self.rights,
            Book(self.store),
            Signer(DOMAIN, certificate(), pem()),
            environment,
            Journal(self.controller, self.lines.append),
            domains,
        )

    async def ask(self, subject_request_id=ID, callbacks=(CALLBACK,)):
        asked = Asked(kind="erasure", identifiers=(("email", "ada@b.example"),))
        told = await self.rights.submit_request(asked)
        entry = Entry(subject_request_id, told["id"], 0, privacy.DUE, callbacks)
        await Book(self.store).add(entry)
        return told["id"]

    def owed(self):
        return len(Book(self.store).owed("", 100))


@pytest.fixture
def scene():
    return Scene()


async def test_a_controller_is_told_each_change_once_and_signed(scene):
    request_id = await scene.ask()
    for state in ("received", "sealed", "purging", "complete", "complete"):
        scene.rights.move(request_id, state)
        await scene.callbacks.tell_all()
        await scene.callbacks.tell_all()
    assert scene.controller.told == ["in_progress", "completed"]
    post = scene.controller.posts[0]
    verify(post)
    body = json.loads(post.content)
    assert body["status_callback_url"] == CALLBACK
    assert body["subject_request_id"] == ID
    assert scene.owed() == 0


async def test_a_callback_goes_to_the_judged_address_under_its_own_name(scene):
    request_id = await scene.ask()
    scene.rights.move(request_id, "sealed")
    await scene.callbacks.tell_all()
    post = scene.controller.posts[0]
    assert (post.method, post.url.host, post.url.scheme) == ("POST", "93.184.216.34", "https")
    assert post.headers["host"] == "controller.example"
    assert post.extensions["sni_hostname"] == "controller.example"


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        [],
    ],
)
async def test_a_name_that_leads_inside_is_never_called(scene, addresses):
    request_id = await scene.ask()
    scene.rights.move(request_id, "sealed")
    scene.controller.addresses = addresses
    await scene.callbacks.tell_all()
    assert scene.controller.posts == []
    assert scene.owed() == 1


async def test_a_domain_that_is_no_longer_listed_is_never_called(scene):
    request_id = await scene.ask()
    scene.rights.move(request_id, "sealed")
    await scene.new(domains=[]).tell_all()
    assert scene.controller.posts == []


@pytest.mark.parametrize("status", [302, 403, 429, 500])
async def test_what_is_not_taken_is_told_again_later_and_redirects_are_not_followed(scene, status):
    request_id = await scene.ask()
    scene.rights.move(request_id, "complete")
    scene.controller.status = status
    await scene.callbacks.tell_all()
    await scene.callbacks.tell_all()
    assert len(scene.controller.posts) == 1
    scene.controller.time_us += BACKOFF_US
    scene.controller.status = 204
    await scene.new().tell_all()
    assert scene.controller.told == ["completed", "completed"]
    assert {post.url.host for post in scene.controller.posts} == {"93.184.216.34"}
    assert scene.owed() == 0


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("no"), httpx.ReadTimeout("slow"), OSError("gone")]
)
async def test_an_error_on_the_way_is_a_try_that_failed(scene, error):
    request_id = await scene.ask()
    scene.rights.move(request_id, "complete")
    scene.controller.raises = error
    await scene.callbacks.tell_all()
    assert scene.owed() == 1


async def test_tries_become_rarer_and_end_after_thirty_days_with_an_entry_in_the_journal(scene):
    request_id = await scene.ask()
    scene.rights.move(request_id, "complete")
    scene.controller.status = 500
    began_us, times = scene.controller.time_us, []
    while scene.owed():
        before = len(scene.controller.posts)
        await scene.callbacks.tell_all()
        if len(scene.controller.posts) > before:
            times.append(scene.controller.time_us)
        scene.controller.time_us += BACKOFF_US
        assert scene.controller.time_us - began_us < 40 * DAY_US
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[:4] == [BACKOFF_US, 2 * BACKOFF_US, 4 * BACKOFF_US, 8 * BACKOFF_US]
    assert max(gaps) == BACKOFF_US_MAX
    assert times[-1] - began_us > 29 * DAY_US
    assert "opendsr_callbacks_unreached" in "".join(scene.lines)


async def test_one_url_that_fails_does_not_repeat_what_the_other_has_taken(scene):
    other = "https://controller.example/other"
    request_id = await scene.ask(callbacks=(CALLBACK, other))
    scene.rights.move(request_id, "complete")
    answer = scene.controller._answer

    async def half(request):
        scene.controller.status = 500 if request.url.path == "/other" else 200
        return await answer(request)

    scene.controller._answer = half
    await scene.callbacks.tell_all()
    scene.controller.time_us += BACKOFF_US
    await scene.callbacks.tell_all()
    paths = [post.url.path for post in scene.controller.posts]
    assert paths == ["/callbacks", "/other", "/other"]


async def test_a_crash_after_the_call_tells_twice_and_never_too_little(scene):
    request_id = await scene.ask()
    scene.rights.move(request_id, "complete")

    async def crash(entry, owed):
        raise RuntimeError("power cut")

    scene.callbacks._book.note = crash
    with pytest.raises(RuntimeError):
        await scene.callbacks.tell_all()
    await scene.new().tell_all()
    assert scene.controller.told == ["completed", "completed"]
    assert scene.owed() == 0


async def test_the_actor_looks_every_ten_seconds_and_stops_at_once(scene, autojump_clock):
    request_id = await scene.ask()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.callbacks.run, stopping)
        await trio.sleep(1)
        scene.rights.move(request_id, "complete")
        await trio.sleep(8.5)
        assert scene.controller.told == []
        await trio.sleep(1)
        assert scene.controller.told == ["completed"]
        stopping.set()
    assert trio.current_time() == pytest.approx(10.5)
