"""What a verb is given: where to print, what to read, how to reach the network, and how to fail.

A verb prints its answer to `out` and everything else (progress, hints, questions) to `err`, so that
`cdp … --json | jq` works. It fails by raising; `main` turns what it raised into one sentence and
an exit code.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from cdp.errors import CdpError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_DAMAGED: Final = 3
EXIT_IN_USE: Final = 4


class CommandFailed(CdpError):
    """A verb cannot do what it was asked. The text says why, and what to do."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _network() -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(retries=0, trust_env=False)


@dataclass
class Shell:
    """The terminal and the world around one command."""

    out: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    stdin: IO[bytes] = field(default_factory=lambda: sys.stdin.buffer)
    environ: Callable[[str], str | None] = os.environ.get
    transport: Callable[[], httpx.AsyncBaseTransport] = _network
    config_path: Path = Path("cdp.toml")
    control_url: str | None = None  # instead of what the configuration says
    timeout_s: float = 30.0

    def json(self, value: Any) -> None:
        """Prints a value as indented JSON and nothing else."""
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        self.out.print(text, markup=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Prints one line of the answer, which may carry rich markup."""
        self.out.print(text, soft_wrap=True)

    def hint(self, text: str) -> None:
        """Says something beside the answer."""
        self.err.print(text, style="dim", soft_wrap=True)

    def asks(self, question: str) -> bool:
        """Asks for a yes. Anything else, and the end of the input, is a no."""
        self.err.print(f"{question} \\[y/N] ", end="")
        return self.stdin.readline().strip().lower() in (b"y", b"yes")


class Arguments(Protocol):
    """The parsed arguments; each verb knows its own."""

    def __getattr__(self, name: str) -> Any: ...


def plain_table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """A table without vertical lines, which survives being pasted into a mail."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
