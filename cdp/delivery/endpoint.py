"""One configured URL, and requests that can go nowhere else: for destinations that speak HTTP.

The URL is judged once. Its name is looked up anew for each request, every address that it has is
judged, and the connection goes to one that was, while `Host` and TLS keep the name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httpx

from cdp.outgoing import Denied, check_url, denial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["Denied", "Endpoint", "is_segment"]

PORTS: Final = (443, 8443, 80, 8080)
_SEGMENT: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]{1,200}", re.ASCII)


class Endpoint:
    """A URL that may be called, and below it one more path segment."""

    def __init__(
        self,
        url: str,
        *,
        allow_http: bool = False,
        allow_private: bool = False,
        ports: tuple[int, ...] = PORTS,
    ) -> None:
        """Raises Denied."""
        self.host, self._port = check_url(
            url, allow_http=allow_http, allow_private=allow_private, ports=ports
        )
        self._url = httpx.URL(url)
        self._allow_private = allow_private
        if self._url.raw_host.decode().strip("[]") != self.host:
            raise Denied("two readers of the url find two hosts in it")

    async def address(self, resolve: Callable[[str, int], Awaitable[Sequence[str]]]) -> str:
        """The address to connect to: of those that the name has, all of which must be allowed.

        Raises:
            Denied: one of them is not.
            OSError: the name has none.
        """
        addresses = await resolve(self.host, self._port)
        if not addresses:
            raise OSError(f"{self.host} has no address")
        for address in addresses:
            reason = denial(address, allow_private=self._allow_private)
            if reason is not None:
                raise Denied(f"{self.host}: {reason}")
        return addresses[0]

    async def request(
        self,
        http: httpx.AsyncClient,
        address: str,
        method: str,
        *,
        segment: str = "",
        content: bytes = b"",
        headers: Mapping[str, str],
    ) -> httpx.Response:
        """Sends a request to an address that `address` gave. Raises httpx.HTTPError."""
        target = self._url.copy_with(host=address)
        if segment:
            assert is_segment(segment), "ask `is_segment` first: it would change the path"
            target = target.copy_with(path=f"{target.path.rstrip('/')}/{segment}")
        return await http.request(
            method,
            target,
            content=content,
            headers={**headers, "host": self._url.netloc.decode()},
            extensions={"sni_hostname": self.host},
        )


def is_segment(text: str) -> bool:
    """Whether a service's id can stand in a path as it is, and leads nowhere else."""
    return _SEGMENT.fullmatch(text) is not None
