"""The HTTP client that destinations get: bounded in time and bytes, and blind to its surroundings.

No redirects, no proxies or credentials from the environment, no cookies, no compressed answers
(a small body could unfold into any size), and at most `response_bytes_max` of each answer is read.
"""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class _Bounded(httpx.AsyncByteStream):
    """An answer's body that ends in an error where it is longer than allowed."""

    def __init__(self, body: httpx.AsyncByteStream, bytes_max: int) -> None:
        self._body = body
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._bytes_max
        async for chunk in self._body:
            left -= len(chunk)
            if left < 0:
                raise httpx.ReadError(f"the answer is longer than {self._bytes_max} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


class _BoundedTransport(httpx.AsyncBaseTransport):
    """A transport whose answers are bounded and plain."""

    def __init__(self, inner: httpx.AsyncBaseTransport, bytes_max: int) -> None:
        self._inner = inner
        self._bytes_max = bytes_max

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx.DecodingError("the answer is compressed though that was not offered")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._bytes_max)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def open_client(
    transport: httpx.AsyncBaseTransport, *, timeout_s: float, response_bytes_max: int
) -> httpx.AsyncClient:
    """A client for one destination over this transport, which it closes with itself."""
    return httpx.AsyncClient(
        transport=_BoundedTransport(transport, response_bytes_max),
        timeout=httpx.Timeout(timeout_s),
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": "cdp"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )
