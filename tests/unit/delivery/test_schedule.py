"""Back-off, Retry-After, rate and circuit: bounds and exact times."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.delivery.schedule import Circuit, TokenBucket, backoff_s, retry_after_s, wait_s

NOON_US = 1_445_412_480_000_000  # Wed, 21 Oct 2015 07:28:00 GMT


@given(st.integers(1, 10_000), st.integers())
def test_back_off_lies_between_zero_and_a_ceiling_that_doubles(attempts, seed):
    wait = backoff_s(attempts, s_min=1.0, s_max=3600.0, rng=Random(seed))
    assert 0.0 <= wait <= min(3600.0, 2.0 ** min(attempts - 1, 12))


def test_full_jitter_uses_the_whole_range():
    rng = Random(1)
    waits = sorted(backoff_s(11, s_min=1.0, s_max=1000.0, rng=rng) for _ in range(1000))
    assert waits[0] < 10
    assert waits[-1] > 990
    assert 450 < waits[500] < 550


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2015 07:29:30 GMT", 90.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1e9", None),
        ("٣", None),
        (None, None),
        ("9" * 400, 999_999_999_999.0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_nothing_else(value, seconds):
    assert retry_after_s(value, NOON_US) == seconds


@pytest.mark.parametrize(
    ("backoff", "after_s", "left_s", "wait"),
    [
        (5.0, None, 100.0, 5.0),
        (5.0, 50.0, 100.0, 50.0),
        (5.0, 1.0, 100.0, 5.0),
        (5.0, 1e12, 100.0, 100.0),
        (5.0, float("nan"), 100.0, 5.0),
        (5.0, float("inf"), 100.0, 100.0),
        (5.0, -3.0, 100.0, 5.0),
        (50.0, None, 10.0, 10.0),
    ],
)
def test_a_wait_is_the_longer_of_both_but_stays_in_the_window(backoff, after_s, left_s, wait):
    assert wait_s(backoff, after_s, left_s) == wait


def test_a_circuit_opens_after_failures_in_a_row_only():
    circuit, rng = Circuit(failures_max=3), Random(0)
    for _ in range(5):
        circuit.fail(0.0, rng)
        circuit.fail(0.0, rng)
        circuit.succeed()
    assert circuit.state(0.0) == "closed"
    for _ in range(3):
        circuit.fail(0.0, rng)
    assert circuit.state(0.0) == "open"
    assert not circuit.allows(0.0)


def test_a_half_open_circuit_lets_one_probe_through_and_its_success_closes_it():
    circuit, rng = Circuit(failures_max=1), Random(0)
    circuit.fail(0.0, rng)
    at = circuit.open_until_s
    assert 0.5 <= at <= 1.0
    assert circuit.state(at) == "half_open"
    assert circuit.allows(at)
    circuit.start(at)
    assert not circuit.allows(at)
    circuit.succeed()
    assert circuit.allows(at)
    assert circuit.state(at) == "closed"


def test_a_failed_probe_opens_the_circuit_for_twice_as_long_up_to_the_longest():
    circuit, rng, now = Circuit(failures_max=1), Random(0), 0.0
    circuit.fail(now, rng)
    for opened in range(1, 12):
        longest = min(60.0, 2.0 ** (opened - 1))
        assert longest / 2 <= circuit.open_until_s - now <= longest
        now = circuit.open_until_s
        circuit.start(now)
        circuit.fail(now, rng)


def test_failures_that_were_in_flight_when_it_opened_do_not_open_it_longer():
    circuit, rng = Circuit(failures_max=1), Random(0)
    circuit.fail(0.0, rng)
    until = circuit.open_until_s
    circuit.fail(0.1, rng)
    assert circuit.open_until_s == until


@given(st.lists(st.floats(0, 2), max_size=100), st.floats(0.1, 50))
def test_a_bucket_never_gives_more_than_its_rate_and_burst(pauses, per_s):
    bucket, now, taken = TokenBucket(per_s, burst=3.0, now_s=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        while bucket.take(now):
            taken += 1
    assert taken <= 3 + per_s * now + 1e-3


def test_ready_at_is_when_a_take_succeeds():
    bucket = TokenBucket(4.0, burst=1.0, now_s=10.0)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)
    assert bucket.ready_at(10.0) == 10.25
    assert bucket.take(10.25)
