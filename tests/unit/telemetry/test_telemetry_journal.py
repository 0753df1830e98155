"""The journal writes listed fields only, so that no personal data reaches a log by mistake."""

import json

from cdp.errors import ConfigError
from cdp.telemetry import Journal


class FixedClock:
    def now_us(self):
        return 1_700_000_000_123_456


def journal(**options):
    lines = []
    return Journal(FixedClock(), lines.append, **options), lines


def test_a_record_is_one_line_with_time_level_and_event_first():
    log, lines = journal()
    log.info("gateway.listening", host="127.0.0.1", port=8080)
    assert lines == [
        '{"time":"2023-11-14T22:13:20.123Z","level":"info","event":"gateway.listening",'
        '"host":"127.0.0.1","port":8080}\n'
    ]


def test_a_line_break_in_a_value_does_not_break_the_line():
    log, lines = journal()
    log.warn("x", reason="a\nb")
    assert lines[0].count("\n") == 1
    assert json.loads(lines[0])["reason"] == "a\nb"


def test_a_field_that_is_not_listed_is_named_and_withheld():
    log, lines = journal()
    log.error("x", email="ada@example.com", count=2)
    assert "ada" not in lines[0]
    record = json.loads(lines[0])
    assert record["withheld"] == ["email"]
    assert record["count"] == 2


def test_a_structure_is_withheld_even_in_a_listed_field():
    log, lines = journal()
    log.info("x", detail={"traits": {"name": "Ada"}}, events=[{"userId": "u"}])
    assert "Ada" not in lines[0]
    assert json.loads(lines[0])["withheld"] == ["detail", "events"]


def test_what_looks_like_an_email_address_is_masked():
    log, lines = journal()
    log.info("x", reason="service refused to=ada.l@example.com, code 7")
    assert json.loads(lines[0])["reason"] == "service refused to=(masked), code 7"


def test_long_texts_are_cut():
    log, lines = journal()
    log.info("x", reason="r" * 10_000)
    assert len(json.loads(lines[0])["reason"]) == 500


def test_an_exception_shows_its_type_and_place_and_not_its_text():
    log, lines = journal()
    try:
        raise KeyError("ada@example.com")
    except KeyError as error:
        log.error("actor.crashed", error=error)
    shown = json.loads(lines[0])["error"]
    assert shown["type"] == "builtins.KeyError"
    assert shown["at"][0].startswith("unit/telemetry/test_telemetry_journal.py:")
    assert "text" not in shown
    assert "ada" not in lines[0]


def test_our_own_errors_show_their_text_and_the_cause_its_type():
    log, lines = journal()
    try:
        try:
            int("secret value")
        except ValueError as cause:
            raise ConfigError("cdp.toml: gateway.port: is wrong") from cause
    except ConfigError as error:
        log.error("config.refused", error=error)
    shown = json.loads(lines[0])["error"]
    assert shown["text"] == "cdp.toml: gateway.port: is wrong"
    assert shown["cause"]["type"] == "builtins.ValueError"
    assert "secret value" not in lines[0]


def test_a_group_shows_each_of_its_errors():
    log, lines = journal()
    log.error("x", error=ExceptionGroup("g", [OSError("a"), ValueError("b")]))
    inner = json.loads(lines[0])["error"]["errors"]
    assert [error["type"] for error in inner] == ["builtins.OSError", "builtins.ValueError"]


def test_records_below_the_chosen_level_are_not_written():
    log, lines = journal(level_min="warn")
    log.info("a")
    log.warn("b")
    log.error("c")
    assert [json.loads(line)["event"] for line in lines] == ["b", "c"]
