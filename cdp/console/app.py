"""The control plane as one ASGI application, and its server.

Starlette routes; Hypercorn's Trio worker serves. Neither is on the hot path: SDKs talk to the
data plane. Endpoints read the store on the event loop, so each one's work is bounded by a limit
on what it reads, and long folds give other tasks their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import hypercorn.config
import hypercorn.trio
import trio
from starlette.applications import Starlette

from cdp.console.admin_routes import AdminRoutes
from cdp.console.answers import no_route, refused, wrong_method
from cdp.console.guard import Guard
from cdp.console.profile_routes import ProfileRoutes
from cdp.errors import CdpError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.routing import Route
    from starlette.types import ASGIApp

    from cdp.config import Secret
    from cdp.console.surface import ControlSurface

KEEP_ALIVE_S: Final = 30
READ_TIMEOUT_S: Final = 30
GRACE_S: Final = 3
HEADER_BYTES_MAX: Final = 64 * 2**10


def routes(surface: ControlSurface) -> list[Route]:
    """Every route of the control plane."""
    return [*AdminRoutes(surface).routes(), *ProfileRoutes(surface).routes()]


def control_app(
    surface: ControlSurface,
    *,
    token: Secret | None,
    new_id: Callable[[], str],
    more: Sequence[Route] = (),
) -> ASGIApp:
    """The control plane behind its guard. `new_id` names requests (`Environment.new_id`).

    `more` are the routes of people's rights, which need stores of their own.
    """
    app = Starlette(
        routes=[*routes(surface), *more],
        exception_handlers={CdpError: refused, 404: no_route, 405: wrong_method},
    )
    app.router.redirect_slashes = False
    return Guard(app, token=token, new_id=new_id)


async def serve_control(
    app: ASGIApp,
    host: str,
    port: int,
    shutdown: trio.Event,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until `shutdown` is set, then lets requests in hand finish for a moment.

    Port 0 picks a free port. The port is reported once it takes connections:
    `port = await nursery.start(serve_control, app, host, port, shutdown)`.
    """
    config = hypercorn.config.Config()
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.read_timeout = READ_TIMEOUT_S
    config.graceful_timeout = GRACE_S
    config.h11_max_incomplete_size = HEADER_BYTES_MAX

    async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn.trio.serve(
            cast("Any", app),
            config,
            shutdown_trigger=shutdown.wait,
            mode="asgi",
            task_status=task_status,
        )

    async with trio.open_nursery() as nursery:
        binds = await nursery.start(serve)
        taken = urlsplit(binds[0]).port
        assert taken is not None, "the server tells which port it took"
        task_status.started(taken)
