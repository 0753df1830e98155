"""A small HTTP/1.1 server that plays a `Service` over real connections, faults included."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import h11
import httpx
import trio

from cdp.testing.faults import Drop, Refuse, Service

if TYPE_CHECKING:
    from cdp.environment import Network

_READ_BYTES: Final = 64 * 2**10


async def serve(
    service: Service,
    network: Network,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves on a free loopback port until cancelled; started with its URL.

    `url = await nursery.start(serve, service, network)`
    """
    listeners = await network.listen("127.0.0.1", 0)
    first: Any = listeners[0]
    port = first.socket.getsockname()[1]
    task_status.started(f"http://127.0.0.1:{port}")
    await trio.serve_listeners(partial(_connection, service), list(listeners))


async def _connection(service: Service, stream: trio.abc.Stream) -> None:
    connection = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while await _one_request(service, connection, stream):
                connection.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError, httpx.RemoteProtocolError):
            return  # the client went away, or was meant to see a broken connection


async def _one_request(service: Service, connection: h11.Connection, stream: Any) -> bool:
    request = await _read(connection, stream)
    if request is None:
        return False
    if service.faults and isinstance(service.faults[0], Refuse):
        service.faults[0] = Drop()  # over a socket that is open already, the nearest to a refusal
    response = await service.answer(request)
    body = await response.aread()
    headers = [("content-length", str(len(body)))]
    headers += [
        (name, value) for name, value in response.headers.items() if name != "content-length"
    ]
    head = h11.Response(status_code=response.status_code, headers=headers)
    for event in (head, h11.Data(data=body), h11.EndOfMessage()):
        await stream.send_all(connection.send(event) or b"")
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _read(connection: h11.Connection, stream: Any) -> httpx.Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(_READ_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None, "a body follows a head"
            host = dict(head.headers)[b"host"].decode()
            url = f"http://{host}{head.target.decode()}"
            return httpx.Request(
                head.method.decode(), url, headers=list(head.headers), content=bytes(body)
            )
        else:
            return None
