"""The books of each destination are shown, and checked again."""

import copy

import pytest
from terminal import Daemon, cdp

from cdp.cli.status import balanced, counts_of, page, rates, totals

NONE = {"offered": 0, "delivered": 0, "filtered": {}, "pending": 0, "dead": 0}
CRM = {
    "type": "webhook",
    "state": "circuit_open",
    "offered": 100,
    "delivered": 60,
    "filtered": {"denied": 20, "type": 10},
    "pending": 7,
    "dead": 3,
    "conserved": True,
    "lag": 12_345,
    "in_flight": 1,
    "last_error": "answered 503",
    "replay": {**NONE, "offered": 5, "delivered": 5},
}
STATUS = {
    "sources": {"website": {"accepted": 1_000, "duplicate": 3, "rejected": 2, "sent": 1_005}},
    "rejected_waiting": 2,
    "logs": {"events": {"start": 0, "head": 1_000, "bytes": 12_000}},
    "folds": {"identity": {"cursor": 990, "lag": 10}},
    "identity": None,
    "destinations": {"crm": CRM},
    "rates_per_s": {"accepted": 17.5},
}


def with_crm(**changes):
    status = copy.deepcopy(STATUS)
    status["destinations"]["crm"].update(changes)
    return status


def status_of(tmp_path, status, *argv):
    return cdp(tmp_path, "status", *argv, daemon=Daemon({("GET", "/v1/status"): status}))


def test_the_page_shows_sources_destinations_and_why_things_were_filtered(tmp_path):
    ran = status_of(tmp_path, STATUS)
    assert ran.code == 0
    for text in ("website", "1,000", "circuit open", "12,345", "balance", "17.5", "answered 503"):
        assert text in ran.out
    assert "crm filtered 20: denied, the event says that a purpose" in ran.out
    assert "crm filtered 10: type, the destination is not configured for" in ran.out


def test_replays_count_too():
    assert counts_of(CRM) == {
        "offered": 105,
        "delivered": 65,
        "filtered": 30,
        "pending": 7,
        "dead": 3,
    }
    assert balanced(CRM)


@pytest.mark.parametrize("change", [{"delivered": 61}, {"pending": 6}, {"offered": 99}])
def test_books_that_do_not_balance_are_shown_and_are_exit_code_1(tmp_path, change):
    ran = status_of(tmp_path, with_crm(**change))
    assert ran.code == 1
    assert "DO NOT BALANCE" in ran.out


def test_json_keeps_the_exit_code(tmp_path):
    assert status_of(tmp_path, STATUS, "--json").json == STATUS
    assert status_of(tmp_path, with_crm(dead=4), "--json").code == 1


def test_rates_are_changes_a_second():
    before, now = totals(STATUS), totals(with_crm(delivered=80))
    assert rates(before, now, 2.0) == {"source:website": 0.0, "destination:crm": 10.0}
    assert rates({}, now, 2.0) == {}
    assert rates(before, now, 0.0) == {}
    shown = page(STATUS, {"destination:crm": 10.0})
    assert shown is not None


async def test_watching_shows_rates_from_the_second_look_on(autojump_clock):
    import io

    import httpx
    import trio
    from rich.console import Console

    from cdp.cli.control import ControlPlane
    from cdp.cli.shell import Shell
    from cdp.cli.status import _watch

    looks = 0

    def answer(_request):
        nonlocal looks
        looks += 1
        return httpx.Response(200, json=with_crm(delivered=60 + looks * 30))

    out = io.StringIO()
    shell = Shell(out=Console(file=out, width=160, force_terminal=True))
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url="http://daemon"
    ) as http:
        with trio.move_on_after(2.5):
            await _watch(ControlPlane(http, shell), shell)
    assert looks == 3
    assert "30.0" in out.getvalue()
