"""What an operator asks (status, rejected events, dead letters, why) and orders (send again)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cdp.console import query
from cdp.console.answers import answer, body_of
from cdp.console.shapes import cursor
from cdp.console.surface import NotFound, Refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from cdp.console.surface import ControlSurface, Listing

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LISTED_DEFAULT = 50


class AdminRoutes:
    """The endpoints of operators and of machines that watch."""

    def __init__(self, surface: ControlSurface) -> None:
        self._surface = surface

    def routes(self) -> list[Route]:
        """Every route of the admin API."""
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/v1/events/rejected", self.rejected_events, methods=["GET"]),
            Route("/v1/events/rejected/{id}/resubmit", self.resubmit, methods=["POST"]),
            Route("/v1/dead-letters", self.dead_letters, methods=["GET"]),
            Route("/v1/redrive", self.redrive, methods=["POST"]),
            Route("/v1/replay", self.replay, methods=["POST"]),
            Route("/v1/backup", self.backup, methods=["POST"]),
            Route("/v1/why/event/{message_id}", self.why_event, methods=["GET"]),
            Route("/v1/why/profile/{key}", self.why_profile, methods=["GET"]),
            Route("/v1/why/profile/{key}/not/{other}", self.why_not, methods=["GET"]),
        ]

    async def healthz(self, _: Request) -> Response:
        """The process runs and its loop turns."""
        return answer({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Events are taken and resolved; otherwise 503 and what is waited for."""
        waits_for = list(self._surface.waits_for())
        body = {"status": "waiting" if waits_for else "ready", "waits_for": waits_for}
        return answer(body, 503 if waits_for else 200)

    async def metrics(self, _: Request) -> Response:
        """For Prometheus."""
        return PlainTextResponse(self._surface.metrics(), media_type=METRICS_TYPE)

    async def status(self, _: Request) -> Response:
        """Rates, lags, and the conservation law."""
        return answer(self._surface.status())

    async def rejected_events(self, request: Request) -> Response:
        """What was refused, and why."""
        limit = query.limit_of(request.query_params, LISTED_DEFAULT)
        listing = self._surface.rejected_events(query.after_of(request.query_params), limit)
        return answer(_listed(request, listing, limit))

    async def resubmit(self, request: Request) -> Response:
        """Sends a rejected event again; a body with `event` replaces it by the corrected one."""
        body = await body_of(request)
        event = body.get("event")
        if body.keys() - {"event"} or not (event is None or isinstance(event, dict)):
            raise Refused('the body may be empty or {"event": {...}} with the corrected event')
        rejected_id = unquote(request.path_params["id"])
        return answer(await self._surface.resubmit(rejected_id, event))

    async def dead_letters(self, request: Request) -> Response:
        """What was given up, and why. `destination` narrows it."""
        asked = request.query_params
        limit = query.limit_of(asked, LISTED_DEFAULT)
        destination = asked.get("destination") or None
        listing = self._surface.dead_letters(destination, query.after_of(asked), limit)
        return answer(_listed(request, listing, limit))

    async def redrive(self, request: Request) -> Response:
        """`{"destination": name}` sends all again; `ids` or a part of the `reason` narrow it."""
        body = await body_of(request)
        ids, reason = body.get("ids"), body.get("reason")
        typed = (ids is None or _are_texts(ids)) and (reason is None or isinstance(reason, str))
        if body.keys() - {"destination", "ids", "reason"} or not typed:
            raise Refused(
                'the body must be {"destination": name, "ids": [id, ...], "reason": text}; '
                "ids and reason are optional"
            )
        return answer(await self._surface.redrive(_destination(body), ids, reason))

    async def replay(self, request: Request) -> Response:
        """`{"destination": name, "from_offset": n}` or `"from_time": time`."""
        body = await body_of(request)
        offset, time = body.get("from_offset"), body.get("from_time")
        known = {"destination", "from_offset", "from_time"}
        if body.keys() - known or (offset is None) == (time is None):
            raise Refused("give a destination and either from_offset or from_time")
        if offset is not None and (type(offset) is not int or offset < 0):
            raise Refused("from_offset must be a whole number, 0 or more")
        if time is not None and not isinstance(time, str):
            raise Refused("from_time must be a time such as 2026-03-01T12:00:00Z")
        time_us = None if time is None else query.time_of({"from_time": time}, "from_time")
        name = _destination(body)
        done = await self._surface.replay(name, from_offset=offset, from_time_us=time_us)
        return answer(done)

    async def backup(self, request: Request) -> Response:
        """`{"directory": path}`: a copy of the store without the keys, on the daemon's machine."""
        body = await body_of(request)
        given = body.get("directory")
        if body.keys() - {"directory"} or not isinstance(given, str) or "\0" in given:
            raise Refused("name the directory to make")
        directory = Path(given)
        if not directory.is_absolute():
            raise Refused("directory must be an absolute path")
        return answer(await self._surface.backup(directory), 201)

    async def why_event(self, request: Request) -> Response:
        """The causal chain of one event, by its messageId."""
        offset = self._surface.offset_of(unquote(request.path_params["message_id"]))
        if offset is None:
            raise NotFound("no event with this messageId was accepted")
        return answer(self._surface.why.event(offset))

    async def why_profile(self, request: Request) -> Response:
        """Why these identifiers are one person."""
        profile = self._profile(request, "key")
        return answer(self._surface.why.profile(profile))

    async def why_not(self, request: Request) -> Response:
        """Why two identifiers are not one person."""
        profiles = self._surface.profiles
        nodes = [
            profiles.node(*query.profile_key(request.path_params[name]))
            for name in ("key", "other")
        ]
        self._profile(request, "key")
        self._profile(request, "other")
        return answer(self._surface.why.two(nodes[0] or b"", nodes[1] or b""))

    def _profile(self, request: Request, name: str) -> Any:
        key = query.profile_key(request.path_params[name])
        profile = self._surface.profiles.find(*key)
        if profile is None:
            raise NotFound(f"nobody is known by this {key[0]}")
        return profile


def _listed(request: Request, listing: Listing, limit: int) -> dict[str, Any]:
    return {"data": listing.items, "cursor": cursor(request.url.path, limit, listing.next)}


def _destination(body: dict[str, Any]) -> str:
    name = body.get("destination")
    if not isinstance(name, str) or not name:
        raise Refused("name the destination")
    return name


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
