"""The project's own source files, as the tests of style and documentation read them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("cdp", "plugins", "bench", "demo", "tests", "matcher_rs")
_SKIPPED = {"node_modules", "target", "__pycache__", ".venv", "data", "build"}


@cache
def files(suffix: str, *roots: str) -> tuple[Path, ...]:
    """Files with this suffix under these top-level directories, or all of ours."""
    found = []
    for root in roots or SOURCES:
        for path in sorted((ROOT / root).rglob(f"*{suffix}")):
            parts = path.relative_to(ROOT).parts
            if not _SKIPPED & set(parts) and not any(part.endswith(".egg-info") for part in parts):
                found.append(path)
    return tuple(found)


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))
