"""`cdp send`: events from a file or a pipe to the gateway, in batches, each event once.

An event without a `messageId` gets one that is made of its place and its text, so that sending the
same file again (after a failure, or by mistake) counts nothing twice. A batch that fails is
tried again as it is; what the gateway has already is counted as a duplicate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import httpx
import msgspec
import trio
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cdp.cli.control import gateway_url
from cdp.cli.shell import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Arguments, CommandFailed, Shell
from cdp.config import Source, read_toml
from cdp.config_reading import read_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

NAME: Final = "send"
SUMMARY: Final = "send events from a file or a pipe, one JSON object a line"
EXAMPLES: Final = """\
examples:
  cdp send events.ndjson                     with the first source of the configuration
  cdp send events.ndjson --source backend
  zcat old/*.gz | cdp send -                 from a pipe
  cdp send - <<< '{"type": "track", "userId": "u1", "event": "Order Completed"}'

Each line is an event as in the tracking spec: type, userId or anonymousId, and so on. Sending the
same file twice is safe: what the daemon has already is counted as a duplicate.
"""

BATCH_BYTES_MAX: Final = 450_000  # the SDKs' own limit is 500,000 with the envelope
ATTEMPTS_MAX: Final = 12
BACKOFF_S_MAX: Final = 20.0
PROBLEMS_SHOWN_MAX: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("file", help="a file of JSON lines, or - for standard input")
    parser.add_argument("--source", metavar="NAME", help="the source whose write key is used")
    parser.add_argument("--write-key", metavar="KEY", help="a write key, instead of --source")
    parser.add_argument("--url", help="the gateway, if not where the configuration says")
    parser.add_argument(
        "--batch", type=int, default=250, metavar="N", help="events in a request (default: 250)"
    )
    parser.add_argument(
        "--requests", type=int, default=4, metavar="N", help="requests at a time (default: 4)"
    )
    parser.add_argument("--json", action="store_true", help="the counts as JSON")
    parser.set_defaults(verb=main)


@dataclass
class Tally:
    """What became of the lines. Every line is counted once."""

    lines: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    invalid: int = 0
    retries: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_SHOWN_MAX:
            self.problems.append(problem)


@dataclass
class Chunk:
    """Some lines on their way: their numbers, their events as JSON, the bytes of the file read."""

    numbers: list[int] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    read_bytes: int = 0

    def body(self) -> bytes:
        return b'{"batch":[' + b",".join(self.events) + b"]}"


async def main(arguments: Arguments, shell: Shell) -> int:
    """Sends every line and says what became of them."""
    if arguments.batch < 1 or arguments.requests < 1:
        raise CommandFailed("--batch and --requests must be at least 1", EXIT_USAGE)
    url = (arguments.url or gateway_url(shell)).rstrip("/")
    write_key = arguments.write_key or _write_key(shell, arguments.source)
    tally = Tally()
    file, size_bytes = _open(arguments.file, shell)
    with file, _progress(shell) as progress:
        bar = progress.add_task("sending", total=size_bytes)
        async with httpx.AsyncClient(
            transport=shell.transport(), auth=(write_key, ""), timeout=shell.timeout_s
        ) as http:
            sender = Sender(http, f"{url}/v1/batch", tally)
            await _pump(
                sender, chunks(file, arguments.batch, tally), arguments.requests, progress, bar
            )
    _show(tally, shell, as_json=arguments.json)
    return EXIT_FAILED if tally.rejected or tally.invalid else EXIT_OK


async def _pump(
    sender: Sender, source: Iterator[Chunk], requests_max: int, progress: Progress, bar: Any
) -> None:
    """At most `requests_max` requests at a time; reading waits for a free one."""
    free = trio.Semaphore(requests_max)

    async def fly(chunk: Chunk) -> None:
        try:
            await sender.send(chunk)
        finally:
            free.release()
        progress.advance(bar, chunk.read_bytes)

    async with trio.open_nursery() as nursery:
        for chunk in source:
            await free.acquire()
            nursery.start_soon(fly, chunk)


class Sender:
    """Posts batches to a gateway until they are taken, or cannot be."""

    def __init__(self, http: httpx.AsyncClient, url: str, tally: Tally) -> None:
        self._http = http
        self._url = url
        self._tally = tally

    async def send(self, chunk: Chunk) -> None:
        """Returns when every event of the batch is accounted for. Raises CommandFailed."""
        if not chunk.events:
            return
        body = chunk.body()
        for attempt in range(1, ATTEMPTS_MAX + 1):
            wait_s, reason = await self._attempt(chunk, body, attempt)
            if wait_s is None:
                return
            self._tally.retries += 1
            await trio.sleep(wait_s)
        raise CommandFailed(
            f"gave up at line {chunk.numbers[0]} after {ATTEMPTS_MAX} attempts: {reason}; "
            "send the same file again later: nothing is counted twice"
        )

    async def _attempt(self, chunk: Chunk, body: bytes, attempt: int) -> tuple[float | None, str]:
        """None when the batch is settled, else how long to wait, and why."""
        backoff_s = min(BACKOFF_S_MAX, 0.25 * 2.0**attempt)
        try:
            response = await self._http.post(
                self._url, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as error:
            return backoff_s, f"no answer from {self._url} ({type(error).__name__})"
        if response.status_code == 200:
            self._settle(chunk, response)
            return None, ""
        reason = f"{self._url} answered {response.status_code}: {_message(response)}"
        if response.status_code == 429 or response.status_code >= 500:
            return max(backoff_s, _retry_after_s(response)), reason
        raise CommandFailed(reason)

    def _settle(self, chunk: Chunk, response: httpx.Response) -> None:
        answer = _object(response)
        if "accepted" not in answer:
            raise CommandFailed(f"{self._url} is not a gateway of cdp: it does not tell counts")
        rejected = answer["rejected"]
        self._tally.accepted += answer["accepted"]
        self._tally.duplicate += answer["duplicates"]
        self._tally.rejected += answer.get("rejectedTotal", len(rejected))
        for one in rejected:
            line = chunk.numbers[one["index"]]
            self._tally.note(f"line {line}: {one['code']}: {one['message']}")


def chunks(file: IO[bytes], events_max: int, tally: Tally) -> Iterator[Chunk]:
    """The file in batches, bounded in events and bytes. Lines that are no event are left out."""
    chunk, chunk_bytes = Chunk(), 0
    for number, line in enumerate(file, 1):
        text = line.strip()
        event = _event(number, text, tally) if text else None
        full = len(chunk.events) >= events_max or (
            event is not None and chunk_bytes + len(event) > BATCH_BYTES_MAX
        )
        if full and chunk.events:
            yield chunk
            chunk, chunk_bytes = Chunk(), 0
        chunk.read_bytes += len(line)
        if event is not None:
            chunk.numbers.append(number)
            chunk.events.append(event)
            chunk_bytes += len(event) + 1
    yield chunk


def _event(number: int, text: bytes, tally: Tally) -> bytes | None:
    tally.lines += 1
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        tally.invalid += 1
        tally.note(f"line {number}: not JSON: {error}")
        return None
    if not isinstance(value, dict):
        tally.invalid += 1
        tally.note(f"line {number}: not a JSON object")
        return None
    if value.get("messageId"):
        return text
    value["messageId"] = "line-" + sha256(b"%d\x00%b" % (number, text)).hexdigest()[:40]
    return msgspec.json.encode(value)


def _write_key(shell: Shell, name: str | None) -> str:
    sources = read_toml(shell.config_path).get("sources", {})
    if not sources:
        raise CommandFailed(f"{shell.config_path} has no source; add one, or say --write-key")
    name = name or next(iter(sources))
    if name not in sources:
        raise CommandFailed(
            f"{shell.config_path} has no source {name}; it has: {', '.join(sources)}", EXIT_USAGE
        )
    source = read_table(
        Source,
        sources[name],
        file=shell.config_path,
        environ=shell.environ,
        at=f"sources.{name}",
    )
    return source.write_key


def _open(name: str, shell: Shell) -> tuple[IO[bytes], int | None]:
    if name == "-":
        return shell.stdin, None
    try:
        return Path(name).open("rb"), Path(name).stat().st_size
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error.strerror}", EXIT_USAGE) from error


def _progress(shell: Shell) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=shell.err,
        transient=True,
        disable=not shell.err.is_terminal,
    )


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _message(response: httpx.Response) -> str:
    return str(_object(response).get("message", "no reason given"))


def _retry_after_s(response: httpx.Response) -> float:
    try:
        seconds = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0
    return min(BACKOFF_S_MAX, seconds) if math.isfinite(seconds) else 0.0


def _show(tally: Tally, shell: Shell, *, as_json: bool) -> None:
    counts = {
        "lines": tally.lines,
        "accepted": tally.accepted,
        "duplicate": tally.duplicate,
        "rejected": tally.rejected,
        "invalid": tally.invalid,
        "retries": tally.retries,
    }
    if as_json:
        shell.json({**counts, "problems": tally.problems})
        return
    shell.line(", ".join(f"{count} {name}" for name, count in counts.items()))
    for problem in tally.problems:
        shell.err.print(problem, markup=False, soft_wrap=True)
    if tally.rejected:
        shell.hint("rejected events are kept: cdp events rejected list")
