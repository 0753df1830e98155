"""What the control plane tells of live traffic for a tracking plan."""

from __future__ import annotations

import httpx

from cdp.console.app import control_app
from cdp.console.plan_routes import EVENTS_MAX, PlanRoutes
from cdp.domain.event import EVENT_SCHEMA, Event, encode_event
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from tests.unit.console.surface import Surface


def _log(count: int) -> Log:
    store = MemoryStore()
    log = Log(store, "events")
    for start in range(0, count, 100):
        batch = store.batch()
        log.append(
            batch,
            [
                encode_event(
                    Event(
                        EVENT_SCHEMA, "track", "m", "web", 1, 1,
                        event="New" if place >= count - 10 else "Old",
                        properties={"secret": "secret value"},
                    )
                )
                for place in range(start, min(count, start + 100))
            ],
        )  # fmt: skip
        store.write(batch)
        log.publish()
    return log


async def ask(log: Log, query: str = "", **dropped: int) -> httpx.Response:
    routes = PlanRoutes(log, lambda: dropped).routes()
    app = control_app(Surface(), token=None, new_id=lambda: "id", more=routes)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.get(f"/v1/tracking-plan/sample{query}")


async def test_the_latest_events_are_counted_without_values() -> None:
    reply = await ask(_log(730), "?events=700", **{"properties.x": 3})
    told = reply.json()
    assert [(one["event"], one["count"]) for one in told["kinds"]] == [("Old", 690), ("New", 10)]
    assert told["dropped"] == {"properties.x": 3}
    assert "secret value" not in reply.text


async def test_all_events_are_counted_where_there_are_fewer() -> None:
    assert (await ask(_log(30))).json()["events"] == 30
    assert (await ask(_log(0))).json()["kinds"] == []


async def test_how_many_events_is_bounded() -> None:
    for text in ("0", "-1", "x", str(EVENTS_MAX + 1)):
        assert (await ask(_log(1), f"?events={text}")).status_code == 400
