"""Finds destination types: entry points of installed distributions, group `cdp.destinations`.

The name of the entry point is the type that the configuration writes. Only types that are asked
for are imported, so a plugin that is installed and not used costs nothing and breaks nothing.
A plugin that cannot be used stops the daemon at its start, with package, version and cause.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.delivery.destination import Destination, Settings
from cdp.delivery.owed import KINDS
from cdp.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUP: Final = "cdp.destinations"
API_VERSIONS: Final = frozenset({1})


class InstalledType(msgspec.Struct, frozen=True):
    """A destination type that could be configured, as its distribution announces it."""

    name: str
    distribution: str
    version: str
    target: str


def installed() -> list[InstalledType]:
    """Every destination type that is installed, by name. Imports none of them."""
    found = [_described(point) for point in _points()]
    return sorted(found, key=lambda one: (one.name, one.distribution))


def load_type(name: str) -> type[Destination[Any]]:
    """The destination type of this name.

    Raises:
        ConfigError: it is not installed, installed twice, or its plugin is broken.
    """
    points = [point for point in _points() if point.name == name]
    if not points:
        raise ConfigError(_not_installed(name))
    if len(points) > 1:
        packages = ", ".join(_package(point) for point in points)
        raise ConfigError(f"destination type {name!r} comes from {packages}: uninstall all but one")
    point = points[0]
    try:
        loaded = point.load()
        check_type(loaded)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"destination type {name!r} from {_package(point)} cannot be loaded: {cause}"
        ) from error
    assert isinstance(loaded, type), "checked above"
    return loaded


def check_type(loaded: object) -> None:
    """Raises PluginError where something is not a destination type that this host can run."""
    if not (isinstance(loaded, type) and issubclass(loaded, Destination)):
        raise PluginError(f"{loaded!r} is not a subclass of cdp.delivery.Destination")
    settings = getattr(loaded, "settings_type", None)
    problems = [
        text
        for broken, text in (
            (loaded.api_version not in API_VERSIONS, "api_version must be 1"),
            (
                not (isinstance(settings, type) and issubclass(settings, Settings)),
                "settings_type must be a subclass of cdp.delivery.Settings",
            ),
            (loaded.deliver is Destination.deliver, "it does not define `deliver`"),
            (loaded.batch_max < 1, "batch_max must be at least 1"),
            (loaded.batch_bytes_max < 1, "batch_bytes_max must be at least 1"),
            (loaded.concurrency_max < 1, "concurrency_max must be at least 1"),
            (not loaded.rate_per_s_max > 0, "rate_per_s_max must be positive"),
            (not loaded.tick_s > 0, "tick_s must be positive"),
            (
                not set(loaded.receives) <= set(KINDS.values()),
                f"receives may name only {', '.join(KINDS.values())}",
            ),
        )
        if broken
    ]
    if problems:
        raise PluginError(f"{loaded.__module__}.{loaded.__qualname__}: {'; '.join(problems)}")


def _points() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def _described(point: EntryPoint) -> InstalledType:
    package = point.dist
    name = package.name if package else "unknown"
    return InstalledType(point.name, name, package.version if package else "unknown", point.value)


def _package(point: EntryPoint) -> str:
    one = _described(point)
    return f"{one.distribution} {one.version}"


def _not_installed(name: str) -> str:
    known = sorted({one.name for one in installed()})
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"pip install cdp-destination-{name}"
    return f"destination type {name!r} is not installed: {hint} (installed: {', '.join(known)})"
