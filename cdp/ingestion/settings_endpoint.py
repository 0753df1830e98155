"""What SDKs fetch before they send anything: without it some of them lose all that they hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cdp.ingestion.responses import Answer, json_answer

if TYPE_CHECKING:
    from cdp.ingestion.authentication import KnownSource

_HOST: Final = re.compile(
    r"[A-Za-z0-9.\-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?"
)
_NO_STORE: Final = b"Cache-Control: no-store\r\n"


def segment_settings(source: KnownSource, place: tuple[str, str]) -> Answer:
    """The project settings of analytics.js and the mobile SDKs: send everything here.

    `place` is (scheme, host), of which `apiHost` wants the host with its path and no scheme.
    """
    scheme, host = place
    allowed = {"enabled": True, "integrations": {}}
    settings: dict[str, Any] = {
        "integrations": {
            "Segment.io": {
                "apiKey": source.config.write_key,
                "apiHost": f"{host}/v1",
                "protocol": scheme,
            }
        },
        "plan": {
            "track": {"__default": allowed},
            "identify": {"__default": {"enabled": True}},
            "group": {"__default": {"enabled": True}},
        },
        "metrics": {"sampleRate": 0},
        "edgeFunction": {},
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "remotePlugins": [],
        "legacyVideoPluginsEnabled": False,
    }
    return json_answer(settings, headers=_NO_STORE)


def rudder_source_config(source: KnownSource) -> Answer:
    """The source configuration of Rudder's SDKs: no destinations on the device, no statistics."""
    quiet = {"enabled": False}
    config = {
        "source": {
            "id": source.name,
            "name": source.name,
            "writeKey": source.config.write_key,
            "workspaceId": "cdp",
            "enabled": True,
            "config": {"statsCollection": {"errors": quiet, "metrics": quiet}},
            "connections": [],
            "destinations": [],
        },
        "updatedAt": "1970-01-01T00:00:00.000Z",
    }
    return json_answer(config, headers=_NO_STORE)


def public_place(public_url: str | None, host: bytes | None, scheme: str) -> tuple[str, str]:
    """(scheme, host) that browsers reach us by: as configured, else as this request came."""
    if public_url:
        parts = urlsplit(public_url)
        return parts.scheme, parts.netloc + parts.path.rstrip("/")
    text = (host or b"").decode("latin-1")
    return scheme, text if _HOST.fullmatch(text) else "localhost"
