"""The table of section 8: formats, skew, and the bounds of an event's time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.clock import DAY_US, SECOND_US, from_datetime
from cdp.ingestion.timestamps import DEAD_BAND_US, event_time_us, parse_time

RECEIVED = from_datetime(datetime(2026, 11, 23, 12, tzinfo=UTC))


def at(*args: int) -> int:
    return from_datetime(datetime(*args, tzinfo=UTC))  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T01:45:57.827+00:00", at(2026, 11, 23, 1, 45, 57, 827_000)),
        ("2026-11-23T01:45:59.736827+00:00", at(2026, 11, 23, 1, 45, 59, 736_827)),
        ("2024-01-01T12:00:00Z", at(2024, 1, 1, 12)),
        ("2024-01-01t12:00:00z", at(2024, 1, 1, 12)),
        ("2024-01-01T12:00:00.123Z", at(2024, 1, 1, 12, 0, 0, 123_000)),
        ("2024-01-01T12:00:00.123456789Z", at(2024, 1, 1, 12, 0, 0, 123_456)),
        ("2024-01-01T12:00:00+05:30", at(2024, 1, 1, 6, 30)),
        ("2024-01-01T12:00:00", at(2024, 1, 1, 12)),
        ("2024-01-01 12:00:00", at(2024, 1, 1, 12)),
        (" 2024-01-01T12:00:00Z ", at(2024, 1, 1, 12)),
        ("2016-12-31T23:59:60Z", at(2016, 12, 31, 23, 59, 59)),
        (1_704_110_400, at(2024, 1, 1, 12)),
        (1_704_110_400.5, at(2024, 1, 1, 12, 0, 0, 500_000)),
        (1_704_110_400_000, at(2024, 1, 1, 12)),
        (1_704_110_400_000_000, at(2024, 1, 1, 12)),
        (1_704_110_400_000_000_000, at(2024, 1, 1, 12)),
        ("1704110400", at(2024, 1, 1, 12)),
        ("1704110400000", at(2024, 1, 1, 12)),
    ],
)
def test_every_format_that_sdks_send_is_read(text: object, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2024-13-01T00:00:00Z",
        "20240101",
        "1969-12-31T23:59:59Z",
        -1,
        True,
        None,
        float("nan"),
        float("inf"),
        10**30,
        [],
        {},
        "9" * 400,
        "0001-01-01T00:00:00+14:00",
        "١٢٣",
    ],
)
def test_what_is_no_time_from_1970_on_is_absent(value: object) -> None:
    assert parse_time(value) is None


def test_without_a_client_time_the_event_happened_when_it_was_received() -> None:
    assert event_time_us(None, RECEIVED - 9 * DAY_US, RECEIVED) == RECEIVED


def test_without_sent_at_the_client_time_is_taken_as_it_is() -> None:
    assert event_time_us(RECEIVED - DAY_US, None, RECEIVED) == RECEIVED - DAY_US


def test_a_skew_within_the_dead_band_is_left_alone() -> None:
    client = RECEIVED - DAY_US
    assert event_time_us(client, RECEIVED - DEAD_BAND_US, RECEIVED) == client


def test_a_clock_that_is_wrong_by_more_is_corrected() -> None:
    sent = RECEIVED - DEAD_BAND_US - 1
    assert event_time_us(sent - SECOND_US, sent, RECEIVED) == RECEIVED - SECOND_US


def test_a_clock_that_runs_ahead_is_corrected() -> None:
    sent = RECEIVED + 3_600 * SECOND_US
    assert event_time_us(sent - 60 * SECOND_US, sent, RECEIVED) == RECEIVED - 60 * SECOND_US


def test_a_historic_import_keeps_its_times_exactly() -> None:
    client = at(2019, 5, 1)
    assert event_time_us(client, RECEIVED - SECOND_US, RECEIVED) == client


def test_a_time_more_than_a_day_ahead_becomes_the_time_of_receipt() -> None:
    assert event_time_us(RECEIVED + DAY_US, None, RECEIVED) == RECEIVED + DAY_US
    assert event_time_us(RECEIVED + DAY_US + 1, None, RECEIVED) == RECEIVED


@given(st.none() | st.integers(0, 2**60), st.none() | st.integers(0, 2**60), st.integers(0, 2**52))
def test_an_event_time_is_between_1970_and_a_day_from_now(
    client: int | None, sent: int | None, received: int
) -> None:
    assert 0 <= event_time_us(client, sent, received) <= received + DAY_US


@given(st.text() | st.floats() | st.integers() | st.datetimes().map(datetime.isoformat))
def test_reading_a_time_never_fails(value: object) -> None:
    time_us = parse_time(value)
    assert time_us is None or 0 <= time_us < 2**63
