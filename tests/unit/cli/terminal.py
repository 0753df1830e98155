"""A command line with a fake terminal and a fake daemon behind it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

import httpx
from rich.console import Console

from cdp.cli.main import main
from cdp.cli.shell import Shell

CONFIG = """
[gateway]
port = 8080
[control]
port = 8081
token = "env:TOKEN"
[sources.website]
write_key = "wk_web"
[sources.backend]
write_key = "env:BACKEND_KEY"
kind = "server"
[identity]
key = "env:KEY_THAT_ONLY_THE_DAEMON_HAS"
"""
ENVIRON = {"TOKEN": "t" * 32, "BACKEND_KEY": "wk_back"}


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class Daemon:
    """Answers by (method, path), and remembers what it was asked."""

    answers: dict = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.raw_path.decode().partition("?")[0]
        answer = self.answers.get((request.method, path))
        if answer is None:
            error = {"error": {"code": "not_found", "message": f"no {request.method} {path} here"}}
            return httpx.Response(404, json=error)
        if callable(answer):
            answer = answer(request)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def bodies(self, path: str) -> list:
        return [json.loads(one.content) for one in self.requests if one.url.path == path]


def cdp(tmp_path, *argv: str, daemon=None, stdin: bytes = b"", config: str | None = CONFIG) -> Ran:
    """Runs one command in a directory that has a configuration."""
    file = tmp_path / "cdp.toml"
    if config is not None:
        file.write_text(config)
    out, err = io.StringIO(), io.StringIO()
    shell = Shell(
        out=Console(file=out, width=160, highlight=False),
        err=Console(file=err, width=160, highlight=False),
        stdin=io.BytesIO(stdin),
        environ=ENVIRON.get,
        transport=lambda: httpx.MockTransport(daemon or _nobody),
    )
    code = main(["--config", str(file), *argv], shell)
    return Ran(code, out.getvalue(), err.getvalue())


def _nobody(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def listing(items: list, after: str = "") -> dict:
    """A page of a listing, as the control plane writes it."""
    return {
        "data": items,
        "cursor": {"url": "/", "has_more": bool(after), "next": after, "limit": len(items)},
    }
