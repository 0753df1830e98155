"""`cdp tracking-plan check` and `infer`."""

from __future__ import annotations

from terminal import CONFIG, Daemon, cdp

from cdp.domain.tracking_plan import UNDECIDED

PLAN = """
version: 1
events:
  Bought:
    fields: {properties.total: {type: number, purpose: orders}}
"""
FULL = """
[identity]
key = "env:TOKEN"
[consent.defaults]
orders = "granted"
[tracking_plan]
file = "plan.yaml"
"""
TRAFFIC = {
    "events": 2,
    "uncounted": 0,
    "kinds": [
        {
            "type": "track",
            "event": "Bought",
            "count": 2,
            "fields": [{"path": "properties.total", "count": 2, "types": {"number": 2}}],
        }
    ],
    "dropped": {},
}


def test_a_right_plan_is_said_to_be_right(tmp_path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    ran = cdp(tmp_path, "tracking-plan", "check", config=FULL)
    assert ran.code == 0, ran.err
    assert "is right: 1 kinds of events, 1 fields" in ran.out


def test_each_problem_is_a_line_and_the_exit_code_says_so(tmp_path) -> None:
    plan = tmp_path / "other.yaml"
    plan.write_text(PLAN.replace("number", "numbr").replace("orders", UNDECIDED))
    ran = cdp(tmp_path, "tracking-plan", "check", str(plan), config=None)
    assert ran.code == 2
    assert ran.err.count("other.yaml: events.Bought.fields.properties.total.") == 2
    assert f"is still {UNDECIDED}" in ran.err


def test_a_purpose_that_nobody_described_is_refused(tmp_path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("orders", "spying"))
    ran = cdp(tmp_path, "tracking-plan", "check", config=FULL)
    assert ran.code == 2
    assert "the purpose spying is not in [consent]; known are orders" in ran.err


def test_a_plan_must_be_named_somewhere_and_be_there(tmp_path) -> None:
    ran = cdp(tmp_path, "tracking-plan", "check", config=FULL.partition("[tracking_plan]")[0])
    assert ran.code == 2
    assert "tracking_plan.file is not set" in ran.err
    gone = cdp(tmp_path, "tracking-plan", "check", config=FULL)
    assert gone.code == 2
    assert "plan.yaml: cannot be read" in gone.err


def test_a_draft_comes_from_the_daemon_and_check_refuses_it_until_it_is_finished(tmp_path) -> None:
    daemon = Daemon({("GET", "/v1/tracking-plan/sample"): TRAFFIC})
    ran = cdp(tmp_path, "tracking-plan", "infer", "--events", "50", daemon=daemon, config=CONFIG)
    assert ran.code == 0, ran.err
    assert daemon.requests[0].url.params["events"] == "50"
    plan = tmp_path / "draft.yaml"
    plan.write_text(ran.out)
    assert cdp(tmp_path, "tracking-plan", "check", str(plan), config=FULL).code == 2
    plan.write_text(ran.out.replace(UNDECIDED, "orders"))
    assert cdp(tmp_path, "tracking-plan", "check", str(plan), config=FULL).code == 0


def test_without_traffic_there_is_nothing_to_draft(tmp_path) -> None:
    daemon = Daemon({("GET", "/v1/tracking-plan/sample"): {**TRAFFIC, "events": 0}})
    ran = cdp(tmp_path, "tracking-plan", "infer", daemon=daemon)
    assert ran.code == 1
    assert "nothing to draft from" in ran.err


def test_what_is_kept_without_need_is_told_and_is_not_a_success(tmp_path) -> None:
    finding = {"kind": "unused", "where": "Bought: properties.face", "text": "t", "count": 0}
    daemon = Daemon({("GET", "/v1/privacy/audit"): {"findings": [finding]}})
    ran = cdp(tmp_path, "privacy", "audit", daemon=daemon)
    assert ran.code == 1
    assert "Bought: properties.face" in ran.out
    daemon = Daemon({("GET", "/v1/privacy/audit"): {"findings": []}})
    assert cdp(tmp_path, "privacy", "audit", daemon=daemon).code == 0


def test_check_reads_the_plan_and_says_where_a_witness_is_missing_or_misplaced(tmp_path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("number", "numbr"))
    refused = cdp(tmp_path, "check", config=FULL)
    assert refused.code == 2
    assert "properties.total.type: must be one of" in refused.err
    (tmp_path / "plan.yaml").write_text(PLAN)
    assert "audit_witness is not set" in cdp(tmp_path, "check", config=FULL).out
    inside = FULL + '[privacy]\naudit_witness = "data/witness"\n'
    config = 'data_dir = "data"\n' + inside
    assert "audit_witness lies in data_dir" in cdp(tmp_path, "check", config=config).out
    short = FULL + '[privacy]\naudit_key = "env:BACKEND_KEY"\n'
    ran = cdp(tmp_path, "check", config=short)
    assert ran.code == 2
    assert "audit_key" in ran.err
