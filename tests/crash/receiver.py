"""A webhook receiver in a process of its own, which remembers what came, in order.

Every accepted request is one record in a file: the moment (CLOCK_MONOTONIC, so other processes of
the machine may compare), the length, and the body, or with `--keep` only what a pattern matched
in it, so that recording costs little at full load. A record is written before its answer.

`POST /_answer/503` makes it answer 503 from then on, and record nothing, until `/_answer/200`.
"""

from __future__ import annotations

import argparse
import re
import selectors
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORD = struct.Struct(">QI")
_READ_BYTES = 1 << 20


class Received(NamedTuple):
    """One recorded request."""

    moment_ns: int
    body: bytes


class Receiver:
    """Starts the process, says where it listens, reads what it recorded, ends it."""

    def __init__(self, record: Path, keep: bytes | None = None) -> None:
        self.record = record
        command = [sys.executable, __file__, "--record", str(record)]
        command += ["--keep", keep.decode()] if keep else []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/events"

    @property
    def pid(self) -> int:
        return self._process.pid

    def answer(self, status: int) -> None:
        """Sets the status of every answer from now on."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/_answer/{status}", method="POST", data=b""
        )
        urllib.request.urlopen(request, timeout=10).close()

    def received(self, skip_bytes: int = 0) -> Iterator[Received]:
        """What was recorded so far, in order; from a place that the file's size once was."""
        with self.record.open("rb") as file:
            file.seek(skip_bytes)
            while len(head := file.read(_RECORD.size)) == _RECORD.size:
                moment_ns, length = _RECORD.unpack(head)
                body = file.read(length)
                if len(body) < length:
                    return
                yield Received(moment_ns, body)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server:
    def __init__(self, file: IO[bytes], keep: re.Pattern[bytes] | None) -> None:
        self.file = file
        self.keep = keep
        self.status = 200
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.selector.register(self.listener, selectors.EVENT_READ, None)

    def run(self) -> None:
        print(self.listener.getsockname()[1], flush=True)
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    peer, _ = self.listener.accept()
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.selector.register(peer, selectors.EVENT_READ, bytearray())
                elif isinstance(key.fileobj, socket.socket):
                    self.read(key.fileobj, key.data)

    def read(self, peer: socket.socket, data: bytearray) -> None:
        try:
            part = peer.recv(_READ_BYTES)
        except ConnectionError:
            part = b""
        if not part:
            self.selector.unregister(peer)
            peer.close()
            return
        data += part
        while (request := _whole_request(data)) is not None:
            target, body = request
            status = self.answer_for(target, body)
            peer.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)

    def answer_for(self, target: bytes, body: bytes) -> int:
        if target.startswith(b"/_answer/"):
            self.status = int(target[9:])
            return 200
        if self.status == 200:
            kept = body if self.keep is None else b"".join(self.keep.findall(body))
            self.file.write(_RECORD.pack(time.monotonic_ns(), len(kept)) + kept)
            self.file.flush()
        return self.status


def _whole_request(data: bytearray) -> tuple[bytes, bytes] | None:
    """Takes one whole request with a Content-Length off the front: its target and its body."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = bytes(data[:head_end])
    found = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
    end = head_end + 4 + (int(found[1]) if found else 0)
    if len(data) < end:
        return None
    body = bytes(data[head_end + 4 : end])
    del data[:end]
    return head.split(b" ", 2)[1], body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    keep = re.compile(arguments.keep.encode()) if arguments.keep else None
    with arguments.record.open("ab") as file:
        _Server(file, keep).run()


if __name__ == "__main__":
    main()
