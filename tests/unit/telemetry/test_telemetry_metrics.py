"""The exposition is what Prometheus reads; its label sets are bounded."""

import pytest

from cdp.telemetry import SERIES_MAX, Metrics


def test_an_exposition_without_metrics_is_empty():
    assert Metrics().exposition() == ""


def test_a_counter_shows_help_type_and_value():
    metrics = Metrics()
    metrics.counter("cdp_gateway_requests_total", code="200").add()
    metrics.counter("cdp_gateway_requests_total", code="200").add(4)
    metrics.counter("cdp_gateway_requests_total", code="400")
    assert metrics.exposition() == (
        "# HELP cdp_gateway_requests_total gateway requests total\n"
        "# TYPE cdp_gateway_requests_total counter\n"
        'cdp_gateway_requests_total{code="200"} 5\n'
        'cdp_gateway_requests_total{code="400"} 0\n'
    )


def test_a_described_metric_shows_its_escaped_description():
    metrics = Metrics()
    metrics.describe("cdp_log_bytes", "size\non \\ disk")
    metrics.gauge("cdp_log_bytes", lambda: 12.5)
    assert metrics.exposition().splitlines() == [
        r"# HELP cdp_log_bytes size\non \\ disk",
        "# TYPE cdp_log_bytes gauge",
        "cdp_log_bytes 12.5",
    ]


def test_label_values_are_escaped():
    metrics = Metrics()
    metrics.counter("cdp_x_total", source='a"b\\c\nd').add()
    assert r'cdp_x_total{source="a\"b\\c\nd"} 1' in metrics.exposition()


def test_labels_are_the_same_series_in_any_order():
    metrics = Metrics()
    assert metrics.counter("cdp_x_total", a="1", b="2") is metrics.counter(
        "cdp_x_total", b="2", a="1"
    )


def test_histogram_buckets_are_cumulative_and_end_at_infinity():
    metrics = Metrics()
    histogram = metrics.histogram("cdp_log_sync_seconds")
    for seconds in (0.0005, 0.002, 0.002, 99):
        histogram.observe(seconds)
    text = metrics.exposition()
    assert 'cdp_log_sync_seconds_bucket{le="0.0005"} 1\n' in text
    assert 'cdp_log_sync_seconds_bucket{le="0.0025"} 3\n' in text
    assert 'cdp_log_sync_seconds_bucket{le="30"} 3\n' in text
    assert 'cdp_log_sync_seconds_bucket{le="+Inf"} 4\n' in text
    assert "cdp_log_sync_seconds_sum 99.0045\n" in text
    assert "cdp_log_sync_seconds_count 4\n" in text


def test_a_quantile_is_the_bound_of_its_bucket():
    histogram = Metrics().histogram("cdp_x_seconds")
    assert histogram.quantile(0.99) == 0.0
    for _ in range(99):
        histogram.observe(0.003)
    histogram.observe(0.7)
    assert histogram.quantile(0.99) == 0.005
    assert histogram.quantile(1.0) == 1.0
    histogram.observe(1_000)
    assert histogram.quantile(1.0) == float("inf")


def test_a_gauge_is_read_when_asked_and_can_be_replaced():
    metrics = Metrics()
    values = [1.0, 2.0]
    metrics.gauge("cdp_x_events", lambda: values.pop(0))
    assert "cdp_x_events 1\n" in metrics.exposition()
    assert "cdp_x_events 2\n" in metrics.exposition()
    metrics.gauge("cdp_x_events", lambda: 7)
    assert "cdp_x_events 7\n" in metrics.exposition()


def test_a_gauge_that_cannot_be_read_is_unknown_and_hides_no_other():
    metrics = Metrics()
    metrics.gauge("cdp_a_events", lambda: 1 / 0)
    metrics.counter("cdp_b_total").add()
    assert "cdp_a_events NaN\n" in metrics.exposition()
    assert "cdp_b_total 1\n" in metrics.exposition()


def test_label_sets_are_bounded_and_the_rest_is_counted_together():
    metrics = Metrics()
    for number in range(SERIES_MAX + 50):
        metrics.counter("cdp_x_total", source=f"s{number}").add()
    lines = [line for line in metrics.exposition().splitlines() if not line.startswith("#")]
    assert len(lines) == SERIES_MAX + 1
    assert 'cdp_x_total{source="other"} 50' in lines
    metrics.counter("cdp_x_total", source="s0").add()
    assert 'cdp_x_total{source="s0"} 2' in metrics.exposition()


@pytest.mark.parametrize("name", ["requests_total", "cdp_Requests_total", "cdp_a-b_total"])
def test_a_name_outside_the_convention_is_a_bug(name):
    with pytest.raises(AssertionError):
        Metrics().counter(name)


def test_one_name_is_one_kind():
    metrics = Metrics()
    metrics.gauge("cdp_x_total", lambda: 0)
    with pytest.raises(AssertionError, match="is a gauge, not a counter"):
        metrics.counter("cdp_x_total")
