"""Only configured types are imported, and a broken plugin says which package and why."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from cdp.delivery import registry
from cdp.errors import ConfigError


class Package:
    """What an entry point knows of its distribution."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version


def point(name: str, value: str, package: str = "cdp-destination-x") -> EntryPoint:
    made = EntryPoint(name, value, registry.GROUP)
    vars(made)["dist"] = Package(package, "1.2.3")
    return made


def install(monkeypatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "_points", lambda: points)


def test_the_two_plugins_of_the_project_are_found_without_being_imported():
    types = {one.name: one for one in registry.installed()}
    assert types["webhook"].distribution == "cdp-destination-webhook"
    assert types["file"].target == "cdp_destination_file:File"


def test_a_type_is_loaded_by_the_name_of_its_entry_point():
    assert registry.load_type("webhook").__name__ == "Webhook"


def test_only_the_type_that_is_asked_for_is_imported(monkeypatch, tmp_path):
    (tmp_path / "exploding_plugin.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    install(
        monkeypatch,
        point("bad", "exploding_plugin:Bad"),
        point("webhook", "cdp_destination_webhook:Webhook"),
    )
    registry.load_type("webhook")
    assert "exploding_plugin" not in sys.modules


def test_a_plugin_that_cannot_be_imported_is_named_with_version_and_cause(monkeypatch, tmp_path):
    (tmp_path / "exploding_plugin2.py").write_text("raise RuntimeError('no such library')")
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, point("bad", "exploding_plugin2:Bad", "cdp-destination-bad"))
    text = "'bad' from cdp-destination-bad 1.2.3 .* RuntimeError: no such library"
    with pytest.raises(ConfigError, match=text):
        registry.load_type("bad")


def test_a_plugin_without_the_class_that_it_announces_is_named(monkeypatch):
    install(monkeypatch, point("bad", "cdp_destination_webhook:Missing"))
    with pytest.raises(ConfigError, match=r"cdp-destination-x 1\.2\.3 .* AttributeError"):
        registry.load_type("bad")


def test_a_class_that_is_no_destination_is_refused(monkeypatch):
    install(monkeypatch, point("bad", "pathlib:Path"))
    with pytest.raises(ConfigError, match=r"not a subclass of cdp\.delivery\.Destination"):
        registry.load_type("bad")


def test_a_type_that_is_not_installed_says_what_is_near(monkeypatch):
    with pytest.raises(ConfigError, match="did you mean 'webhook'"):
        registry.load_type("webhok")


def test_a_type_that_two_packages_bring_is_refused(monkeypatch):
    target = "cdp_destination_webhook:Webhook"
    install(monkeypatch, point("w", target, "one"), point("w", target, "two"))
    with pytest.raises(ConfigError, match=r"comes from one 1\.2\.3, two 1\.2\.3: uninstall"):
        registry.load_type("w")
