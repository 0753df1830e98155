"""What a start of the daemon leaves in the audit log."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cdp.consent.audit import AuditLog, decode_record, stored_records
from cdp.consent.start_record import record_start
from cdp.storage.memory import MemoryStore


class Clock:
    def now_us(self) -> int:
        return 1


def started(store: MemoryStore, uses: dict[str, Any], text: bytes = b"a = 1") -> list[Any]:
    """What one more start recorded: the action and the details of each record."""
    audit = AuditLog(store, Clock())
    first = audit.settle().size
    record_start(store, audit, configuration=text, uses=uses, plan_sha256="p", version="1")
    records = [decode_record(value) for _, value in stored_records(store, first)]
    return [(one.action, one.details) for one in records]


def test_each_start_records_the_hash_of_its_configuration() -> None:
    store = MemoryStore()
    [(action, details)] = started(store, {})
    digest = sha256(b"a = 1").hexdigest()
    assert action == "configuration_loaded"
    assert details == {"sha256": digest, "plan_sha256": "p", "version": "1"}
    assert started(store, {}, b"a = 2")[0][1]["sha256"] != digest


def test_a_destination_that_is_used_for_something_else_is_recorded_once() -> None:
    store = MemoryStore()
    uses = {"crm": frozenset({"support", "ads"}), "mail": frozenset({"email"})}
    assert [action for action, _ in started(store, uses)] == [
        "mapping_changed",
        "mapping_changed",
        "configuration_loaded",
    ]
    assert len(started(store, uses)) == 1
    changed = started(store, {"crm": {"support"}})
    assert [details for action, details in changed if action == "mapping_changed"] == [
        {"destination": "crm", "before": ["ads", "support"], "purposes": ["support"]},
        {"destination": "mail", "before": ["email"], "purposes": None},
    ]
