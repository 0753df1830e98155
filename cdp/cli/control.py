"""The running daemon, as the command line sees it: its control plane over HTTP.

Only the tables that say where the daemon is are read from the configuration, so that asking for
its status needs none of the daemon's other secrets.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import httpx
import msgspec

from cdp.cli.shell import CommandFailed, Shell
from cdp.config import Control, Gateway, read_toml
from cdp.config_reading import read_table
from cdp.domain.identifier import NAMESPACES, parse_profile_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

PAGE_ITEMS_MAX: Final = 500

_NAMESPACE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_ANY_HOST: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class OrderRefused(CommandFailed):
    """The daemon understood the order and will not do it; its own reason is the text."""


class ControlPlane:
    """Asks the daemon, and turns whatever goes wrong into one sentence that says what to do."""

    def __init__(self, http: httpx.AsyncClient, shell: Shell) -> None:
        self._http = http
        self._shell = shell

    async def get(self, path: str, **query: object) -> Any:
        """The JSON answer to a GET. Parameters that are None are left out."""
        params = {key: str(value) for key, value in query.items() if value is not None}
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: object) -> Any:
        """The JSON answer to a POST."""
        content = msgspec.json.encode(body)
        return await self._ask(
            "POST", path, content=content, headers={"Content-Type": "application/json"}
        )

    async def delete(self, path: str, **query: object) -> Any:
        """The JSON answer to a DELETE."""
        params = {key: str(value) for key, value in query.items() if value is not None}
        return await self._ask("DELETE", path, params=params)

    async def download(self, path: str, write: Callable[[bytes], object]) -> None:
        """Hands the body of a GET on as it comes, however large it is."""
        with self._explained():
            async with self._http.stream("GET", path) as response:
                if not response.is_success:
                    await response.aread()
                    _answer(response)
                async for part in response.aiter_bytes():
                    write(part)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        with self._explained():
            response = await self._http.request(method, path, **options)
        return _answer(response)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise CommandFailed(
                f"the daemon does not answer at {self._http.base_url}; start it with: "
                f"cdp --config {self._shell.config_path} run"
            ) from error
        except httpx.HTTPError as error:
            raise CommandFailed(
                f"asking the daemon at {self._http.base_url} failed ({type(error).__name__}); "
                "try again, and look at the daemon's log if it fails again"
            ) from error


def _answer(response: httpx.Response) -> Any:
    body = _json(response)
    if response.is_success:
        return body
    if response.status_code in (401, 403):
        raise CommandFailed(
            "the daemon refused the token; use the cdp.toml that the daemon runs with"
        )
    text = _refusal(body) or f"the daemon answered {response.status_code}"
    if response.status_code < 500:
        raise OrderRefused(text)
    raise CommandFailed(text)


def _json(response: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return response.text


def _refusal(body: Any) -> str | None:
    """The sentence in an error answer, whichever of the two shapes it has."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body)
    return str(error.get("message")) if isinstance(error, dict) and "message" in error else None


@asynccontextmanager
async def open_control(
    shell: Shell, *, timeout_s: float | None = None
) -> AsyncIterator[ControlPlane]:
    """The control plane of the daemon that the configuration describes."""
    control = _control(shell)
    headers = {}
    if control.token is not None:
        headers["Authorization"] = f"Bearer {control.token.reveal()}"
    async with httpx.AsyncClient(
        transport=shell.transport(),
        base_url=shell.control_url or _url(control.host, control.port, "control"),
        headers=headers,
        timeout=timeout_s or shell.timeout_s,
    ) as http:
        yield ControlPlane(http, shell)


def _control(shell: Shell) -> Control:
    raw = read_toml(shell.config_path)
    return read_table(
        Control,
        raw.get("control", {}),
        file=shell.config_path,
        environ=shell.environ,
        at="control",
    )


def gateway_url(shell: Shell) -> str:
    """Where the data plane of the configuration listens."""
    raw = read_toml(shell.config_path)
    gateway = read_table(
        Gateway,
        raw.get("gateway", {}),
        file=shell.config_path,
        environ=shell.environ,
        at="gateway",
    )
    secure = gateway.tls_certificate is not None
    return _url(gateway.host, gateway.port, "gateway", secure=secure)


def _url(host: str, port: int, table: str, *, secure: bool = False) -> str:
    if port == 0:
        raise CommandFailed(
            f"{table}.port is 0, so the address is only known to the daemon; "
            "say it with --control-url or --url, as `cdp run` printed it"
        )
    return address(_ANY_HOST.get(host, host), port, secure=secure)


def address(host: str, port: int, *, secure: bool = False) -> str:
    """A URL of this machine's, as people copy it."""
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def pages(
    control: ControlPlane, path: str, *, limit: int, **query: object
) -> AsyncIterator[dict[str, Any]]:
    """The items of a listing, page after page, `limit` at most in all."""
    after: str | None = None
    while limit > 0:
        answer = await control.get(path, limit=min(limit, PAGE_ITEMS_MAX), next=after, **query)
        for item in answer["data"]:
            yield item
        limit -= len(answer["data"])
        if not answer["cursor"]["has_more"]:
            return
        after = answer["cursor"]["next"]


def profile_address(text: str) -> str:
    """The `namespace:value` that a person typed, ready for a path.

    A profile id may stand alone; a bare value is read as an e-mail address, a phone number or a
    user id, by its look.
    """
    namespace, colon, value = text.partition(":")
    if colon and namespace in ("id", "profile_id"):
        return f"profile_id:{quote(value, safe='')}"
    if colon and _NAMESPACE.fullmatch(namespace):
        return f"{namespace}:{quote(value, safe='')}"
    return f"{_namespace_of(text)}:{quote(text, safe='')}"


def person_named(text: str) -> tuple[str, str]:
    """The same as `(namespace, value)`, for a body or a parameter."""
    namespace, _, value = profile_address(text).partition(":")
    return namespace, unquote(value)


def names_a_profile(text: str) -> bool:
    """Whether a text can only be meant as a profile, and not as an event's messageId."""
    namespace, colon, _ = text.partition(":")
    return bool(colon) and namespace in (*NAMESPACES, "id", "profile_id")


def _namespace_of(value: str) -> str:
    if parse_profile_id(value) is not None:
        return "profile_id"
    if "@" in value:
        return "email"
    return "phone" if value.startswith("+") else "user_id"
