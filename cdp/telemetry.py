"""What the daemon tells its operator: metrics (Prometheus text) and a journal (JSON lines).

Names follow `cdp_<subsystem>_<noun>_<unit>[_total]`. Label values come from the configuration or
from a short list in the code, never from an event; as a second line of defence a metric takes at
most `SERIES_MAX` label sets, and what comes after them is counted together as `other`.

The journal writes fields, not sentences. It writes only fields of `FIELDS`, and masks what looks
like an e-mail address in them, so that no personal data can reach the log by mistake. Info says
that something an operator did worked, warn that the daemon recovered without loss, error that
someone must act.

Counters live in the process: they start from zero with it. The exact, durable counts of the
conservation law are in the store.
"""

from __future__ import annotations

import re
import sys
import traceback
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from cdp.clock import Clock, isoformat
from cdp.errors import ConfigError, PluginError, StorageError

SERIES_MAX: Final = 200  # label sets of one metric

BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

Labels = tuple[tuple[str, str], ...]

_METRIC_NAME = re.compile(r"cdp_[a-z0-9_]*[a-z0-9]")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Counter:
    """A number that only rises. `value` is for reading."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, n: int = 1) -> None:
        """Counts `n` more."""
        self.value += n


class Histogram:
    """How long things took, by bucket."""

    __slots__ = ("buckets", "count", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.count = 0
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.count += 1
        self.sum_s += seconds

    def quantile(self, q: float) -> float:
        """The upper bound of the bucket of the quantile; 0 where nothing was observed."""
        rank, seen = q * self.count, 0
        for bound, count in zip(BUCKETS_S, self.buckets, strict=False):
            seen += count
            if seen >= rank:
                return bound if self.count else 0.0
        return float("inf")


Kind = Literal["counter", "gauge", "histogram"]
Series = Counter | Histogram | Callable[[], float]


class _Family:
    """One metric: its kind and its series by labels."""

    __slots__ = ("kind", "series")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.series: dict[Labels, Series] = {}


class Metrics:
    """Every metric of the process. Asking twice for the same series gives the same object."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._helps: dict[str, str] = {}

    def counter(self, name: str, /, **labels: str) -> Counter:
        """The counter of this name and these labels. The name ends in `_total`."""
        assert name.endswith("_total"), f"{name}: the name of a counter ends in _total"
        family, key = self._place(name, "counter", labels)
        series = family.series.setdefault(key, Counter())
        assert isinstance(series, Counter)
        return series

    def histogram(self, name: str, /, **labels: str) -> Histogram:
        """The histogram of this name and these labels. The name ends in `_seconds`."""
        assert name.endswith("_seconds"), f"{name}: the name of a histogram ends in _seconds"
        family, key = self._place(name, "histogram", labels)
        series = family.series.setdefault(key, Histogram())
        assert isinstance(series, Histogram)
        return series

    def gauge(self, name: str, read: Callable[[], float], /, **labels: str) -> None:
        """A number that is read when it is asked for. The same name and labels replace `read`."""
        family, key = self._place(name, "gauge", labels)
        family.series[key] = read

    def describe(self, name: str, text: str) -> None:
        """The help line of a metric. Without one, its name is spelled out."""
        self._helps[name] = text

    def exposition(self) -> str:
        """Everything in the text format of Prometheus, version 0.0.4."""
        lines: list[str] = []
        for name, family in sorted(self._families.items()):
            help_text = self._helps.get(name) or name.removeprefix("cdp_").replace("_", " ")
            lines.append(f"# HELP {name} {_escape_help(help_text)}")
            lines.append(f"# TYPE {name} {family.kind}")
            for labels, series in sorted(family.series.items(), key=lambda item: item[0]):
                lines.extend(_samples(name, labels, series))
        return "\n".join(lines) + "\n" if lines else ""

    def _place(self, name: str, kind: Kind, labels: dict[str, str]) -> tuple[_Family, Labels]:
        family = self._families.get(name)
        if family is None:
            assert _METRIC_NAME.fullmatch(name), f"{name}: not a metric name of ours"
            family = self._families[name] = _Family(kind)
        assert family.kind == kind, f"{name} is a {family.kind}, not a {kind}"
        key = tuple(sorted((label, str(value)) for label, value in labels.items()))
        if key not in family.series:
            assert all(_LABEL_NAME.fullmatch(label) for label in labels), f"{name}: bad label name"
            if len(family.series) >= SERIES_MAX:
                key = tuple((label, "other") for label, _ in key)
        return family, key


def _samples(name: str, labels: Labels, series: Series) -> Iterator[str]:
    if isinstance(series, Counter):
        yield f"{name}{_label_text(labels)} {series.value}"
    elif isinstance(series, Histogram):
        yield from _histogram_samples(name, labels, series)
    else:
        yield f"{name}{_label_text(labels)} {_number(_read(series))}"


def _histogram_samples(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*BUCKETS_S, float("inf")), histogram.buckets, strict=True):
        total += count
        yield f"{name}_bucket{_label_text((*labels, ('le', _number(bound))))} {total}"
    yield f"{name}_sum{_label_text(labels)} {_number(histogram.sum_s)}"
    yield f"{name}_count{_label_text(labels)} {histogram.count}"


def _read(gauge: Callable[[], float]) -> float:
    try:
        return float(gauge())
    except Exception:
        # What a gauge reads may be closing. "Not a number" says unknown, and the page still works.
        return float("nan")


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape_label(value)}"' for name, value in labels) + "}"


def _escape_label(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


# ---------------------------------------------------------------- journal

# Every field that may be logged. None of them holds what a sender sent: names of configured
# things, counts, sizes, places and times only. A field that is missing here is written as withheld.
FIELDS: Final = frozenset(
    (
        *("actor", "addresses", "attempt", "attempts", "bytes", "code", "config"),
        *("control_port", "count"),
        *("crashes", "cursor", "data_dir", "dead", "delivered", "destination", "detail"),
        *("dropped", "duplicate", "duration_s", "error", "events", "expected", "family"),
        *("filtered", "found", "free_bytes", "head", "host", "kind", "lag", "limit", "log"),
        *("message", "mode", "offset", "offset_end", "offset_start", "pending", "phase", "pid"),
        *("plugin", "port", "profiles", "purpose", "reader", "reason", "records", "rejected"),
        *("due_s", "request"),
        *("retry_after_s", "schema", "signal", "size_bytes", "source", "sources", "state"),
        *("status", "timeout_s", "type", "until", "url", "version", "window_s"),
    )
)

Level = Literal["info", "warn", "error"]

_LEVELS: Final[dict[str, int]] = {"info": 0, "warn": 1, "error": 2}
_TEXT_CHARS_MAX: Final = 500
_FRAMES_MAX: Final = 12
_EMAIL = re.compile(r"[^\s@<>\"'=:,;()]{1,64}@[^\s@<>\"',;()]{1,255}")
_OURS = (ConfigError, PluginError, StorageError)  # their texts are ours, and name no person


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()


class Journal:
    """Structured logs: one JSON object a line, `time`, `level` and `event` first.

    An exception may be given as a field: its type and its place in the code are written, and its
    text only where the text is ours, because a foreign text may quote the data that broke it.
    """

    def __init__(
        self, clock: Clock, write: Callable[[str], object] = _to_stderr, level_min: Level = "info"
    ) -> None:
        self._clock = clock
        self._write = write
        self._level_min = _LEVELS[level_min]

    def info(self, event: str, **fields: Any) -> None:
        """Something that an operator did worked."""
        self._record("info", event, fields)

    def warn(self, event: str, **fields: Any) -> None:
        """The daemon recovered, without loss."""
        self._record("warn", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Someone must act."""
        self._record("error", event, fields)

    def _record(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < self._level_min:
            return
        record: dict[str, Any] = {
            "time": isoformat(self._clock.now_us()),
            "level": level,
            "event": event,
        }
        withheld: list[str] = []
        for name, value in fields.items():
            shown = _shown(value) if name in FIELDS else _WITHHELD
            if shown is _WITHHELD:
                withheld.append(name)
            else:
                record[name] = shown
        if withheld:
            record["withheld"] = withheld
        self._write(msgspec.json.encode(record).decode() + "\n")


_WITHHELD: Final = object()


def _shown(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _EMAIL.sub("(masked)", value[:_TEXT_CHARS_MAX])
    if isinstance(value, BaseException):
        return _exception(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        return [_shown(item) for item in value[:_FRAMES_MAX]]
    return _WITHHELD


def _exception(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
    shown: dict[str, Any] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "at": [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, _OURS):
        shown["text"] = _shown(str(error))
    if error.__cause__ is not None:
        shown["cause"] = _exception(error.__cause__)
    if isinstance(error, BaseExceptionGroup):
        shown["errors"] = [_exception(inner) for inner in error.exceptions[:_FRAMES_MAX]]
    return shown


def _short(filename: str) -> str:
    return "/".join(filename.replace("\\", "/").split("/")[-3:])
