"""Tells controllers when one of their requests changes where it stands: at least once, signed.

What a URL was last told is written down after it has taken it, so a crash may tell it twice and
never leaves it out. A URL that does not answer is tried again, ever less often, for thirty days.
Callbacks go over https to domains that the operator listed, to addresses that were judged, and
follow no redirects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import msgspec
import trio

from cdp.clock import DAY_US, SECOND_US
from cdp.console.opendsr import denied_callback, host_of, status_of
from cdp.console.opendsr_routes import status_form
from cdp.console.surface import NotFound
from cdp.delivery.http import open_client
from cdp.outgoing import denial

if TYPE_CHECKING:
    from collections.abc import Collection

    from cdp.console.opendsr import Signer
    from cdp.console.opendsr_book import Book, Entry, Owed
    from cdp.console.privacy_surface import Json, PrivacySurface
    from cdp.environment import Environment
    from cdp.telemetry import Journal

LOOK_EVERY_S: Final = 10.0
ENTRIES_READ: Final = 64
TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 64 * 2**10
BACKOFF_US: Final = 30 * SECOND_US
BACKOFF_US_MAX: Final = 6 * 3_600 * SECOND_US
TRIED_US_MAX: Final = 30 * DAY_US
FINAL: Final = frozenset({"completed", "cancelled"})

_encode = msgspec.json.Encoder().encode


class OpendsrCallbacks:
    """The actor that calls back."""

    def __init__(
        self,
        surface: PrivacySurface,
        book: Book,
        signer: Signer,
        environment: Environment,
        journal: Journal,
        callback_domains: Collection[str],
    ) -> None:
        self._surface = surface
        self._book = book
        self._signer = signer
        self._environment = environment
        self._journal = journal
        self._callback_domains = frozenset(callback_domains)

    async def run(self, stopping: trio.Event) -> None:
        """Looks every ten seconds, until `stopping`."""
        while not stopping.is_set():
            await self.tell_all()
            with trio.move_on_after(LOOK_EVERY_S):
                await stopping.wait()

    async def tell_all(self) -> None:
        """Tells every controller what it does not know yet, as far as it is due."""
        after = ""
        while entries := self._book.owed(after, ENTRIES_READ):
            for entry, owed in entries:
                await self._tell(entry, owed)
            after = entries[-1][0].subject_request_id

    async def _tell(self, entry: Entry, owed: Owed) -> None:
        try:
            told = self._surface.request(entry.request_id)
        except NotFound:  # its record is past its retention
            await self._book.note(entry, None)
            return
        status, now_us = status_of(told), self._environment.clock.now_us()
        before = msgspec.to_builtins(owed)
        for url in entry.callbacks:
            if owed.told.get(url) != status and owed.due_us.get(url, 0) <= now_us:
                form = status_form(entry, told, self._signer.domain)
                taken = await self._post(url, form | {"status_callback_url": url})
                _note(owed, url, status if taken else None, now_us)
        if status in FINAL and all(_settled(owed, url, status) for url in entry.callbacks):
            self._note_unreached(entry, owed, status)
            await self._book.note(entry, None)
        elif msgspec.to_builtins(owed) != before:
            await self._book.note(entry, owed)

    def _note_unreached(self, entry: Entry, owed: Owed, status: str) -> None:
        unreached = sum(owed.told.get(url) != status for url in entry.callbacks)
        if unreached:
            self._journal.error("opendsr_callbacks_unreached", count=unreached)

    async def _post(self, url: str, form: Json) -> bool:
        """Whether the controller took it."""
        if denied_callback(url, self._callback_domains) is not None:
            return False
        body = _encode(form)
        headers = {"content-type": "application/json", **self._signer.headers(body)}
        try:
            address = await self._address(url)
            async with open_client(
                self._environment.network.transport(),
                timeout_s=TIMEOUT_S,
                response_bytes_max=ANSWER_BYTES_MAX,
            ) as http:
                target = httpx.URL(url)
                with trio.fail_after(TIMEOUT_S):
                    answer = await http.post(
                        target.copy_with(host=address),
                        content=body,
                        headers={**headers, "host": target.netloc.decode()},
                        extensions={"sni_hostname": host_of(url)},
                    )
        except (httpx.HTTPError, OSError, trio.TooSlowError):
            return False
        return answer.is_success

    async def _address(self, url: str) -> str:
        """The address to connect to; raises OSError where any that the name has is not public."""
        addresses = await self._environment.network.resolve(host_of(url), 443)
        if not addresses or any(denial(address) is not None for address in addresses):
            raise OSError("the name has no address that may be called")
        return addresses[0]


def _note(owed: Owed, url: str, status: str | None, now_us: int) -> None:
    """Writes one try down."""
    if status is not None:
        owed.told[url] = status
        for tries in (owed.failures, owed.due_us, owed.first_failure_us):
            tries.pop(url, None)
        return
    failures = owed.failures.get(url, 0)
    owed.failures[url] = failures + 1
    owed.first_failure_us.setdefault(url, now_us)
    owed.due_us[url] = now_us + min(BACKOFF_US_MAX, BACKOFF_US << min(failures, 20))


def _settled(owed: Owed, url: str, status: str) -> bool:
    """Whether a URL knows, or has not answered for so long that it is given up."""
    if owed.told.get(url) == status:
        return True
    due_us = owed.due_us.get(url, 0)
    return due_us - owed.first_failure_us.get(url, due_us) > TRIED_US_MAX
