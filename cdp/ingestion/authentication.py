"""Which source a request belongs to: where SDKs put their write key, and in which order we look.

`Authorization` (Basic, then Bearer), `X-Write-Key`, the query, the body, the first event. The
first key that is there decides, so a masked key in a body never overrules a header. Only a Bearer
token that is no write key is passed over: it may belong to an OAuth set-up whose key is in the
body.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from cdp.ingestion.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdp.config import Source


class KnownSource:
    """A source with its name."""

    __slots__ = ("config", "name")

    def __init__(self, name: str, config: Source) -> None:
        self.name = name
        self.config = config


class Authenticator:
    """The configured sources by write key."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._by_key = {
            source.write_key: KnownSource(name, source) for name, source in sources.items()
        }
        # What an SDK sends for each key, so that the common request costs one look-up.
        self._by_header = {
            b"Basic " + b64encode(key.encode() + b":"): source
            for key, source in self._by_key.items()
        }

    def by_headers(
        self, authorization: bytes | None, write_key: bytes | None, query_key: str | None
    ) -> KnownSource | None:
        """The source that headers or query name; None where they name none at all.

        Raises:
            Refusal: 401, they name one that does not exist or is disabled.
        """
        if authorization:
            source = self._by_header.get(authorization)
            if source is not None:
                return _enabled(source)
            scheme, _, credential = authorization.strip().partition(b" ")
            if scheme.lower() == b"basic":
                return self.by_key(_basic_key(credential))
            if scheme.lower() == b"bearer":
                source = self._find(credential.strip().decode("latin-1"))
                if source is not None:
                    return _enabled(source)
        if write_key:
            return self.by_key(write_key.strip().decode("latin-1"))
        return self.by_key(query_key) if query_key else None

    def by_key(self, key: object) -> KnownSource:
        """The source of a write key.

        Raises:
            Refusal: 401, there is no such source or it is disabled.
        """
        source = self._find(key) if isinstance(key, str) else None
        if source is None:
            raise Refusal(401, "invalid_write_key", "no source has this write key")
        return _enabled(source)

    def _find(self, key: str) -> KnownSource | None:
        # Some SDKs insist on `id:secret`; the part before the colon is the key.
        return self._by_key.get(key) or self._by_key.get(key.partition(":")[0])


def _basic_key(credential: bytes) -> str:
    try:
        decoded = b64decode(credential.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        text = "authorization is not base64 of write key and colon"
        raise Refusal(401, "invalid_write_key", text) from None
    return decoded.removesuffix(":")


def _enabled(source: KnownSource) -> KnownSource:
    if not source.config.enabled:
        raise Refusal(401, "source_disabled", "this source is disabled")
    return source


def check_origin(source: KnownSource, origin: bytes | None) -> None:
    """Holds a browser to the origins of its source. A request without an origin is no browser's.

    Raises:
        Refusal: 403, the origin is not on the list.
    """
    allowed = source.config.allowed_origins
    if allowed and origin and origin.decode("latin-1") not in allowed:
        raise Refusal(403, "origin_not_allowed", "this source does not take events from the origin")
