"""Puts something else in the place of an attribute, for a while."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def patched(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """The attribute is another one for the length of a `with`."""
    original = owner.__dict__[name]
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
