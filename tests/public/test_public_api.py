"""What others build on is there, says what it is, and stays."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from source_tree import ROOT, files, shown, text, tree

# What a plugin's author imports. A name may be added; taking one away is a breaking release.
PLUGIN_API = {
    "Delivered",
    "Delivery",
    "Destination",
    "Host",
    "Outcome",
    "Rejected",
    "Retry",
    "Secret",
    "Settings",
}


def test_the_names_that_plugins_import_are_there():
    delivery = importlib.import_module("cdp.delivery")
    assert set(delivery.__all__) >= PLUGIN_API
    assert all(hasattr(delivery, name) for name in delivery.__all__)


def test_every_exported_name_exists():
    missing = []
    for path in files(".py", "cdp"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if "__all__" in text(path):
            loaded = importlib.import_module(module)
            missing += [f"{module}.{n}" for n in loaded.__all__ if not hasattr(loaded, n)]
    assert missing == []


def public_definitions(body, prefix=""):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and not prefix:
                yield from public_definitions(node.body, f"{node.name}.")


@cache
def declared_methods():
    """Methods that are documented somewhere: what implements them need not say it again."""
    return {
        name.partition(".")[2]
        for path in files(".py", "cdp")
        for name, node in public_definitions(tree(path).body)
        if "." in name and ast.get_docstring(node)
    }


def is_obvious(name, node):
    """A short member of a documented class, a documented protocol's method, a parser's callback."""
    owner, _, method = name.rpartition(".")
    if not owner:
        return False
    short = (node.end_lineno or 0) - node.lineno <= 4
    return short or method in declared_methods() or method.startswith("on_")


@pytest.mark.parametrize("path", files(".py", "cdp"), ids=shown)
def test_every_public_name_is_documented(path):
    silent = [
        name
        for name, node in public_definitions(tree(path).body)
        if ast.get_docstring(node) is None
        and not is_obvious(name, node)
        and not name.endswith(".contradictions")
    ]
    assert silent == []


def test_imports_point_down():
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3_000:]


def test_every_module_has_its_layer():
    contracts = tomllib.loads(text(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    named = {name.strip() for layer in contracts[0]["layers"] for name in re.split("[|:]", layer)}
    modules = {
        f"cdp.{path.stem}"
        for path in (ROOT / "cdp").iterdir()
        if (path.suffix == ".py" and not path.stem.startswith("__"))
        or (path / "__init__.py").exists()
    }
    assert modules - named == set()


def test_the_journal_is_only_given_fields_that_it_writes():
    from cdp.telemetry import FIELDS

    withheld = []
    for path in files(".py", "cdp"):
        for node in ast.walk(tree(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr in ("info", "warn", "error") and owner.endswith("journal"):
                withheld += [
                    f"{shown(path)}:{node.lineno} {keyword.arg}"
                    for keyword in node.keywords
                    if keyword.arg and keyword.arg not in FIELDS
                ]
    assert withheld == []


def test_every_error_is_documented_in_the_tree_of_errors():
    errors = importlib.import_module("cdp.errors")
    names = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert [name for name in names if name not in (errors.__doc__ or "")] == []
