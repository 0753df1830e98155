"""Paths to what they mean. Tolerant of how clients join base paths, and never a redirect.

Every SDK tried turns a redirected POST into a GET and reports success, so a trailing slash, a
doubled slash and a missing or doubled `/v1` all lead to the same place.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

from cdp.domain.event import EVENT_TYPES

Kind = Literal[
    "event", "batch", "consent", "metrics", "pixel", "settings", "source_config", "health", "gpc"
]


class Route(NamedTuple):
    """What a path asks for. `type` is the event type that it names; `key` a write key in it."""

    kind: Kind
    type: str | None = None
    key: str | None = None
    browser: bool = False  # only browsers use it

    @property
    def takes_posts(self) -> bool:
        return self.kind in ("event", "batch", "consent", "metrics")


def find_route(path: bytes) -> Route | None:
    """The route of a path without its query; None where there is none."""
    return _ROUTES.get(path) or _find_odd(path)


def _find_odd(path: bytes) -> Route | None:
    plain = _SLASHES.sub(b"/", path)
    if len(plain) > 1:
        plain = plain.removesuffix(b"/")
    route = _ROUTES.get(plain)
    if route is None and (match := _SETTINGS.fullmatch(plain)):
        route = Route("settings", key=unquote(match[1].decode("latin-1"), errors="replace"))
    return route


_SLASHES: Final = re.compile(rb"//+")
_SETTINGS: Final = re.compile(rb"(?:/v1)?(?:/projects)?/projects/([^/]{1,256})/settings")

_BATCH: Final = Route("batch")


def _table() -> dict[bytes, Route]:
    routes = {
        "/v1/m": Route("metrics", browser=True),
        "/m": Route("metrics", browser=True),
        "/beacon/v1/batch": Route("batch", browser=True),
        "/sourceConfig": Route("source_config"),
        "/health": Route("health"),
        "/.well-known/gpc.json": Route("gpc"),
        "/v1/consent": Route("consent"),
        "/consent": Route("consent"),
    }
    for path in ("/batch", "/b", "/import"):
        routes[path] = routes["/v1" + path] = routes["/v1/batch" + path] = _BATCH
    for path in ("/v1/v1/batch", "/sdk/batch", "/api/s/batch", "/api/s/s2s/batch"):
        routes[path] = _BATCH
    for path in ("/merge", "/v1/merge", "/api/s/event", "/api/s/s2s/event"):
        routes[path] = Route("event")
    for kind in EVENT_TYPES:
        event, pixel = Route("event", kind), Route("pixel", kind, browser=True)
        for path in (kind, kind[0]):
            routes["/v1/" + path] = routes["/" + path] = event
        routes["/api/s/" + kind] = routes["/api/s/s2s/" + kind] = event
        for prefix in ("/v1/pixel/", "/pixel/v1/", "/api/px/"):
            routes[prefix + kind] = pixel
    routes["/api/px/event"] = Route("pixel", browser=True)
    return {path.encode(): route for path, route in routes.items()}


_ROUTES: Final = _table()
