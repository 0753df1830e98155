"""A small shop's CRM: takes webhooks, and writes what it takes to a file.

python demo/receiver.py PORT FILE
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Crm(BaseHTTPRequestHandler):
    """Answers 200 to every POST, and appends its body as one line."""

    protocol_version = "HTTP/1.1"
    target: Path

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with self.target.open("ab") as file:
            file.write(json.dumps(json.loads(body or b"null")).encode() + b"\n")
        self._answer(200)

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: the demo's terminal belongs to the story."""


def main() -> None:
    """Serves until it is ended."""
    Crm.target = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Crm).serve_forever()


if __name__ == "__main__":
    main()
