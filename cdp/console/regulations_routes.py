"""Segment's verbs of deletion and suppression, so that what calls Segment today can call this.

    POST, GET    /regulations                  GET, DELETE  /regulations/{id}
    POST, GET    /regulations/sources/{source}  the same: people are people in every source
    GET          /suppressions                  keyed hashes, from which nobody can be read
    and under /v1beta/workspaces/{workspace}/regulations in the older form

Whoever may call this answers for having checked who asked, as with Segment: the requests begin as
verified and approved. A regulation keeps which requests it became, never the ids it named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from starlette.routing import Route

from cdp.clock import isoformat
from cdp.console import query
from cdp.console.answers import answer, body_of
from cdp.console.regulations import (
    STATUSES,
    TYPES,
    UNSUPPRESS,
    Ordered,
    destination_statuses,
    overall,
    read_config,
    read_public,
    status_of,
)
from cdp.console.surface import NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from cdp.clock import Clock
    from cdp.console.privacy_surface import PrivacySurface
    from cdp.storage.store import Store

Json = dict[str, Any]

AT_ONCE_MAX: Final = 64  # requests that wait for the disk together
LISTED_DEFAULT: Final = 10
LISTED_MAX: Final = 200
ROWS_READ: Final = 100
EXAMINED_MAX: Final = 2_000  # regulations looked at for one page
REQUESTS_A_TURN: Final = 64
VERIFIED_BY: Final = "regulations api"
UNSUPPRESS_REASON: Final = "regulation UNSUPPRESS"
_KEY: Final = b"regulation:"


class Regulation(msgspec.Struct, frozen=True, array_like=True):
    """A regulation as stored: what it became. Its subjects are not in it."""

    id: str
    type: str
    created_us: int
    requests: list[str]
    source: str = ""
    workspace: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Regulation).decode


class RegulationRoutes:
    """The endpoints. `meta` keeps which requests a regulation became."""

    def __init__(
        self,
        surface: PrivacySurface,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        sources: Sequence[str],
    ) -> None:
        self._surface = surface
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._sources = frozenset(sources)

    def routes(self) -> list[Route]:
        """Every route of regulations, the more particular paths first."""
        old = "/v1beta/workspaces/{workspace}/regulations"
        return [
            Route("/regulations", self.create, methods=["POST"]),
            Route("/regulations", self.list, methods=["GET"]),
            Route("/regulations/sources/{source}", self.create, methods=["POST"]),
            Route("/regulations/sources/{source}", self.list, methods=["GET"]),
            Route("/regulations/{id}", self.show, methods=["GET"]),
            Route("/regulations/{id}", self.delete, methods=["DELETE"]),
            Route("/suppressions", self.suppressions, methods=["GET"]),
            Route(old, self.create_old, methods=["POST"]),
            Route(old, self.list, methods=["GET"]),
            Route(old + "/{id}", self.show, methods=["GET"]),
            Route(old + "/{id}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Takes a regulation; every subject's request is on disk before the answer."""
        ordered = read_public(await body_of(request))
        source = request.path_params.get("source", "")
        if source and source not in self._sources:
            raise NotFound("no source has this name")
        made = await self._make(ordered, source=source)
        return answer({"data": {"regulateId": made.id}})

    async def create_old(self, request: Request) -> Response:
        """The same in the older form."""
        ordered = read_config(await body_of(request))
        made = await self._make(ordered, workspace=request.path_params["workspace"])
        return answer({"regulate_id": made.id})

    async def _make(self, ordered: Ordered, *, source: str = "", workspace: str = "") -> Regulation:
        if ordered.type == UNSUPPRESS:
            await self._for_each(ordered, self._unsuppress)
            requests: list[str] = []
        else:
            requests = await self._for_each(ordered, self._submit)
        now_us = self._clock.now_us()
        regulation_id = f"{now_us:016x}{self._new_id()[:16]}"
        made = Regulation(regulation_id, ordered.type, now_us, requests, source, workspace)
        batch = self._store.batch()
        batch.put("meta", _KEY + made.id.encode(), _encode(made))
        self._store.write(batch)
        await self._store.sync()
        return made

    async def _for_each(self, ordered: Ordered, order: Callable[..., Any]) -> list[str]:
        """Orders the same about every subject, some at once, and gives what came of it in order."""
        done: dict[str, str] = {}
        problems: list[Refused] = []

        async def one(subject: str) -> None:
            try:
                done[subject] = await order(ordered, subject)
            except Refused as problem:  # the others of its turn are finished all the same
                problems.append(problem)

        for start in range(0, len(ordered.subjects), AT_ONCE_MAX):
            async with trio.open_nursery() as nursery:
                for subject in ordered.subjects[start : start + AT_ONCE_MAX]:
                    nursery.start_soon(one, subject)
            if problems:
                raise Refused(f"{len(done)} subjects were taken, and then: {problems[0]}")
        return [done[subject] for subject in ordered.subjects]

    async def _submit(self, ordered: Ordered, subject: str) -> str:
        told = await self._surface.submit_request(ordered.asked(subject, VERIFIED_BY))
        request_id: str = told["id"]
        if told["state"] == "verified":
            await self._surface.approve_request(request_id, by=VERIFIED_BY)
        return request_id

    async def _unsuppress(self, ordered: Ordered, subject: str) -> str:
        await self._surface.unsuppress(
            ordered.identifiers(subject), by=VERIFIED_BY, reason=UNSUPPRESS_REASON
        )
        return ""

    async def list(self, request: Request) -> Response:
        """`status`, `regulationTypes`, `pagination[count]`, `pagination[cursor]`. Newest first."""
        given = request.query_params
        status, types = given.get("status"), _types(given)
        if status is not None and status not in STATUSES:
            raise Refused(f"status must be one of {', '.join(STATUSES)}")
        source, count = request.path_params.get("source", ""), _count(given)
        cursor = given.get("pagination[cursor]", "")
        page: list[Json] = []
        last = ""
        for found in self._before(cursor):
            if len(page) == count:
                last = page[-1]["id"]
                break
            if found.source == source and (not types or found.type in types):
                told = await self._told(found)
                if status in (None, told["overallStatus"]):
                    page.append(told)
        pagination = {"current": cursor} | ({"next": last} if last else {})
        return answer({"data": {"regulations": page, "pagination": pagination}})

    async def show(self, request: Request) -> Response:
        """How far a regulation is, at every destination."""
        found = await self._told(self._find(request))
        if "workspace" in request.path_params:
            return answer(_told_old(found))
        return answer({"data": {"regulation": found}})

    async def delete(self, request: Request) -> Response:
        """Takes a regulation back, as long as none of its requests has begun."""
        found = self._find(request)
        requests = [self._surface.request(one) for one in found.requests]
        if not requests or any(status_of(one) != "INITIALIZED" for one in requests):
            raise Refused("the regulation has begun: only one that is INITIALIZED can be deleted")
        for one in found.requests:
            await self._surface.cancel_request(one, by=VERIFIED_BY)
        return answer({"data": {"status": "SUCCESS"}})

    async def suppressions(self, request: Request) -> Response:
        """What is suppressed. The ids that were suppressed are kept nowhere, only their hashes."""
        given = request.query_params
        listing = self._surface.suppressions(given.get("pagination[cursor]"), _count(given))
        suppressed = [
            {"subjectType": "IDENTIFIER_HASH", "subjectIds": [item["node"]]}
            for item in listing.items
        ]
        pagination = {"current": given.get("pagination[cursor]", ""), "next": listing.next}
        return answer({"data": {"suppressed": suppressed, "pagination": pagination}})

    def _find(self, request: Request) -> Regulation:
        row = self._store.get("meta", _KEY + request.path_params["id"].encode())
        if row is None:
            raise NotFound("there is no such regulation")
        return _decode(row)

    def _before(self, cursor: str) -> Iterator[Regulation]:
        """Regulations, newest first: their ids begin with when they were made."""
        end = _KEY + (cursor.encode() if cursor else b"g")
        for _ in range(EXAMINED_MAX // ROWS_READ):
            rows = self._store.scan("meta", _KEY, end, limit=ROWS_READ, reverse=True)
            yield from (_decode(value) for _, value in rows)
            if len(rows) < ROWS_READ:
                return
            end = rows[-1][0]

    async def _told(self, regulation: Regulation) -> Json:
        requests = []
        for place, one in enumerate(regulation.requests):
            requests.append(self._surface.request(one))
            if place % REQUESTS_A_TURN == 0:
                await trio.lowlevel.checkpoint()
        status = overall(status_of(one) for one in requests)
        told: Json = {
            "id": regulation.id,
            "workspaceId": regulation.workspace or "cdp",
            "overallStatus": status,
            "createdAt": isoformat(regulation.created_us),
            "streamStatus": [
                {
                    "id": regulation.source or "all",
                    "destinationStatus": destination_statuses(requests),
                }
            ],
        }
        ends = [one["completed_at"] for one in requests if one.get("completed_at")]
        if status not in ("INITIALIZED", "RUNNING"):
            told["finishedAt"] = max(ends, default=isoformat(regulation.created_us))
        return told


def _told_old(told: Json) -> Json:
    """A regulation in the names of the Config API."""
    old: Json = {
        "id": told["id"],
        "workspace_id": told["workspaceId"],
        "overall_status": told["overallStatus"],
        "created_at": told["createdAt"],
        "stream_status": [
            {"id": stream["id"], "destination_status": stream["destinationStatus"]}
            for stream in told["streamStatus"]
        ],
    }
    if "finishedAt" in told:
        old["finished_at"] = told["finishedAt"]
    return old


def _types(given: Mapping[str, str]) -> list[str]:
    types = sorted(query.names_of(given, "regulationTypes"))
    if unknown := [one for one in types if one not in TYPES]:
        raise Refused(f"{unknown[0]!r} is no type of a regulation; there are {', '.join(TYPES)}")
    return types


def _count(given: Mapping[str, str]) -> int:
    text = given.get("pagination[count]", str(LISTED_DEFAULT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LISTED_MAX):
        raise Refused(f"pagination[count] must be a whole number from 1 to {LISTED_MAX}")
    return int(text)
