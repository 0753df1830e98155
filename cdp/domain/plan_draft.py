"""A first tracking plan from what events look like (`cdp.domain.traffic`), for a person to finish.

Every purpose in it is `UNDECIDED`, which no plan may keep: only people know what a field is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from cdp.domain.event import EVENT_TYPES
from cdp.domain.tracking_plan import PLAN_VERSION, UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED_EVENTS_MIN: Final = 20  # fewer events do not show that a field is always there

_HEAD: Final = """\
# Drafted from {events:,} events. Say of each field what it is for (purpose), or `none`; take out
# what you do not need: what is not in the plan can be dropped before it is stored.
"""


def draft(traffic: Mapping[str, Any]) -> str:
    """The plan as YAML. `traffic` is what `Traffic.as_json` gives."""
    events: dict[str, Any] = {}
    plan: dict[str, Any] = {"version": PLAN_VERSION, "events": events}
    for kind in traffic["kinds"]:
        fields = {
            field["path"]: _field(field, kind["count"])
            for field in kind["fields"]
            if "." in field["path"] and not field["path"].startswith("context.")
        }
        if kind["type"] == "identify":
            plan["identify"] = _identify(fields)
        else:
            events[_key(kind)] = {"fields": fields} if fields else {}
    return _HEAD.format(events=traffic["events"]) + yaml.safe_dump(
        plan, sort_keys=False, allow_unicode=True, width=100
    )


def _key(kind: Mapping[str, Any]) -> str:
    if kind["type"] != "track":
        return str(kind["type"])
    name = kind["event"] or ""
    return f"track/{name}" if name in EVENT_TYPES or name.startswith("track/") else name


def _identify(fields: dict[str, Any]) -> dict[str, Any]:
    traits = {
        path.removeprefix("traits."): field
        for path, field in fields.items()
        if path.startswith("traits.")
    }
    rest = {path: field for path, field in fields.items() if not path.startswith("traits.")}
    return {"traits": traits} | ({"fields": rest} if rest else {})


def _field(field: Mapping[str, Any], events: int) -> dict[str, Any]:
    types: dict[str, int] = {name: n for name, n in field["types"].items() if name != "null"}
    in_list = "[]" in field["path"]
    always = field["count"] == events and "null" not in field["types"]
    open_ = field["path"].endswith("[]") and "null" in field["types"]
    drafted: dict[str, Any] = {"type": "any" if open_ else _type(types)}
    if always and events >= REQUIRED_EVENTS_MIN and not in_list:
        drafted["required"] = True
    drafted["purpose"] = UNDECIDED
    if not in_list:
        drafted["description"] = f"in {100 * field['count'] / events:.0f} % of {events:,} events"
    return drafted


def _type(types: Mapping[str, int]) -> str:
    if types.keys() == {"string", "time"}:
        return "string"
    return next(iter(types)) if len(types) == 1 else "any"
