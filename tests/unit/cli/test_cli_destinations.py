"""A new plugin is complete, and green before its first change."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from terminal import cdp

from cdp.cli.scaffold import files_of


def new(tmp_path, name):
    return cdp(tmp_path, "destinations", "new", name, "--into", str(tmp_path))


def test_a_scaffold_is_a_distribution_with_its_entry_point(tmp_path):
    assert new(tmp_path, "example_crm").code == 0
    directory = tmp_path / "cdp-destination-example_crm"
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
    assert project["name"] == "cdp-destination-example_crm"
    assert project["entry-points"]["cdp.destinations"] == {
        "example_crm": "cdp_destination_example_crm:ExampleCrm"
    }
    module = directory / "src" / "cdp_destination_example_crm" / "__init__.py"
    classes = [n.name for n in ast.parse(module.read_text()).body if isinstance(n, ast.ClassDef)]
    assert classes == ["ExampleCrmSettings", "ExampleCrm"]


def test_no_placeholder_is_left():
    assert not [
        path for path, text in files_of("crm").items() if "@name@" in text or "@class@" in text
    ]


def test_a_scaffold_loads_as_a_destination_type(tmp_path, monkeypatch):
    from cdp.delivery.registry import check_type

    new(tmp_path, "fresh_crm")
    monkeypatch.syspath_prepend(tmp_path / "cdp-destination-fresh_crm" / "src")
    import cdp_destination_fresh_crm

    check_type(cdp_destination_fresh_crm.FreshCrm)


def test_nothing_is_written_over(tmp_path):
    assert new(tmp_path, "crm").code == 0
    ran = new(tmp_path, "crm")
    assert ran.code == 2
    assert "is there already" in ran.err


@pytest.mark.parametrize("name", ["Crm", "a-b", "1crm", "", "x" * 41, "../up"])
def test_a_name_that_cannot_be_a_module_is_refused(tmp_path, name):
    ran = new(tmp_path, name)
    assert ran.code == 2
    assert "cannot be a type's name" in ran.err
    assert not list(tmp_path.glob("cdp-destination-*"))


def test_installed_types_are_listed_without_importing_them(tmp_path):
    ran = cdp(tmp_path, "destinations", "list", "--json")
    assert ran.code == 0
    assert all(set(one) == {"name", "distribution", "version", "target"} for one in ran.json)


def test_a_scaffold_passes_its_own_tests(tmp_path):
    new(tmp_path, "sample_crm")
    directory = tmp_path / "cdp-destination-sample_crm"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{directory / 'src'}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:]
    assert "4 passed" in done.stdout
