"""A proxy between an SDK and the daemon that fails on purpose, by a list of faults.

Faults are data: each request takes the next one, and when the list is empty requests pass.

    "pass"          the request goes through
    503, 429, 500   this answer, and the daemon never sees the request
    "reset"         the connection is closed, and the daemon never sees the request
    "lost answer"   the daemon takes the request, and the connection is closed before the answer
    "late answer"   the daemon takes the request, and the answer comes after `late_s`
"""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = int | str


class FlakyProxy:
    """Serves in a thread of its own while the block runs."""

    def __init__(self, port: int, faults: list[Fault], late_s: float = 3.0) -> None:
        self.faults = list(faults)
        self.seen: list[Fault] = []
        self.late_s = late_s
        self.daemon_port = port
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                """A test's output is for failures."""

        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        with self._lock:
            fault = self.faults.pop(0) if self.faults else "pass"
            self.seen.append(fault)
        if isinstance(fault, int):
            self._refuse(request, fault)
        elif fault == "reset":
            request.close_connection = True
        else:
            self._pass(request, body, fault)

    def _refuse(self, request: BaseHTTPRequestHandler, status: int) -> None:
        body = b'{"code":"unavailable","message":"try again later"}'
        request.send_response(status)
        request.send_header("Retry-After", "1")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _pass(self, request: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        try:
            status, answer = self._forward(request, body)
        except OSError:
            self.seen.append("down")
            request.close_connection = True
            return
        if fault == "lost answer":
            request.close_connection = True
            return
        if fault == "late answer":
            time.sleep(self.late_s)
        try:
            request.send_response(status)
            request.send_header("Content-Length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer)
        except ConnectionError:
            request.close_connection = True  # the client gave up waiting

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon_port, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        connection.request("POST", request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def __enter__(self) -> FlakyProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
