"""The documents of people: made for a request, handed out, and gone when their time or an erasure
comes. Joins `cdp.consent.access`, its two forms and the files; whoever runs requests asks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.consent.access import AccessExport, JsonForm
from cdp.console.access_page import PageForm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cdp.clock import Clock
    from cdp.consent.access import Holdings
    from cdp.storage.exports import ExportFiles

FORMS: Final = ("json", "html")


class PersonExports:
    """Makes, finds and removes documents. `new_id` is `Environment.new_id`."""

    def __init__(
        self, holdings: Holdings, files: ExportFiles, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._access = AccessExport(holdings, files, clock)
        self._files = files
        self._clock = clock
        self._new_id = new_id

    async def make(self, profile_id: bytes, request_id: str) -> int | None:
        """Writes both forms; returns how many events are in them, None where nothing is held.

        Safe to repeat after a crash: an earlier document of the same request stays until it
        expires, and the newest is handed out.

        Raises:
            OSError: the directory cannot be written.
        """
        forms = (JsonForm(), PageForm())
        return await self._access.make(profile_id, request_id, forms, chance=self._new_id())

    def forms_of(self, request_id: str) -> list[str]:
        """In which forms the document of a request is there."""
        return [form for form in FORMS if self._files.of_request(request_id, form) is not None]

    async def read(self, request_id: str, form: str, offset: int, length: int) -> bytes | None:
        """A part of a document; empty at its end, None where there is none."""
        file = self._files.of_request(request_id, form)
        return None if file is None else await self._files.read(file, offset, length)

    async def erase(self, nodes: Collection[bytes]) -> int:
        """Overwrites and removes every document that is, or ever was, about these nodes."""
        return await self._files.delete_of_people(nodes)

    async def expire(self) -> int:
        """Removes documents that are too old, and how many those were."""
        return await self._files.expire(self._clock.now_us())
