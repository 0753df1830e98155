"""From a TOML table to a frozen struct, with errors that an operator can act on.

The tables are walked along the structs' own types, so that every problem is found in one pass and
named by file, key, value and what is allowed. Secrets are references: `env:NAME` or `file:PATH`,
relative to the file; a secret's own value never appears in an error.

The same reader serves `cdp.toml` and the `settings` of destination types.
"""

from __future__ import annotations

import math
import stat
import types
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from cdp.errors import ConfigError

SECRET_BYTES_MAX: Final = 64 * 2**10
_SHOWN_CHARS_MAX: Final = 60

Environ = Callable[[str], str | None]
S = TypeVar("S", bound=msgspec.Struct)


class Secret:
    """A credential. Its repr and str never show it; `reveal()` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('****')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file: immutable, and closed to keys that it does not name."""

    def contradictions(self) -> list[str]:
        """What these values cannot be together, each as `key: found what; what is allowed`."""
        return []


# A text that may also be given as a reference, because it can be a credential.
MaybeSecret = Annotated[str, msgspec.Meta(extra={"reference": True})]

_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    Path: "a path in quotes",
    Secret: '"env:NAME" or "file:PATH"',
}


def read_table(
    kind: type[S], raw: object, *, file: Path, environ: Environ, at: str = "", **given: object
) -> S:
    """The struct that a table makes. `given` are fields that are not keys of the file.

    Raises:
        ConfigError: names every problem, one a line.
    """
    reader = _Reader(file, environ)
    table = reader.table(kind, raw, at, given)
    if reader.problems or table is None:
        raise ConfigError("\n".join(reader.problems))
    return table


class _Reader:
    """One pass over one file. Collects problems; what it returns is good only if there are none."""

    def __init__(self, file: Path, environ: Environ) -> None:
        self.file = file
        self.environ = environ
        self.problems: list[str] = []

    def refuse(self, at: str, text: str) -> None:
        self.problems.append(f"{self.file}: {at}: {text}" if at else f"{self.file}: {text}")

    def table(self, kind: type[S], raw: object, at: str, given: dict[str, object]) -> S | None:
        if not isinstance(raw, dict):
            self.refuse(at, f"found {shown(raw)}; expected a table: [{at}]")
            return None
        problems_before = len(self.problems)
        fields = {
            field.encode_name: field
            for field in msgspec.structs.fields(kind)
            if field.name not in given
        }
        for key in raw.keys() - fields.keys():
            self.refuse(_join(at, key), unknown("key", key, fields))
        values = dict(given)
        for key, field in fields.items():
            if key in raw:
                values[field.name] = self.value(field.type, raw[key], _join(at, key))
            elif field.required:
                self.refuse(_join(at, key), f"missing; expected {allowed(field.type)}")
        if len(self.problems) > problems_before:
            return None
        return self._built(kind, values, at)

    def _built(self, kind: type[S], values: dict[str, object], at: str) -> S | None:
        try:
            table = kind(**values)
        except (ValueError, TypeError) as error:  # a plugin's own __post_init__
            self.refuse(at, str(error))
            return None
        if isinstance(table, Table):
            for text in table.contradictions():
                key, _, rest = text.partition(": ")
                self.refuse(_join(at, key), rest)
        return table

    def value(self, kind: Any, raw: object, at: str) -> Any:
        kind, reference = _plain(kind)
        if kind is Secret:
            text = self.secret(raw, at)
            return None if text is None else Secret(text)
        if reference and isinstance(raw, str) and raw.startswith(("env:", "file:")):
            return self.secret(raw, at)
        if kind is Path and isinstance(raw, str):
            return self.file.parent / raw
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.table(kind, raw, at, {})
        if get_origin(kind) is dict and isinstance(raw, dict):
            inner = get_args(kind)[1]
            return {key: self.value(inner, item, _join(at, key)) for key, item in raw.items()}
        if _is_sequence(kind) and isinstance(raw, list):
            items = [self.value(get_args(kind)[0], one, f"{at}[{n}]") for n, one in enumerate(raw)]
            return get_origin(kind)(items)
        return self._leaf(kind, raw, at)

    def _leaf(self, kind: Any, raw: object, at: str) -> Any:
        if isinstance(raw, float) and not math.isfinite(raw):
            self.refuse(at, f"found {raw}; expected a finite number")
            return None
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError:
            self.refuse(at, f"found {shown(raw)}; expected {allowed(kind)}")
            return None

    def secret(self, raw: object, at: str) -> str | None:
        if isinstance(raw, str) and raw.startswith("env:"):
            return self._from_environment(raw.removeprefix("env:"), at)
        if isinstance(raw, str) and raw.startswith("file:"):
            return self._from_file(self.file.parent / raw.removeprefix("file:"), at)
        self.refuse(
            at,
            "found a literal value (not shown); a secret stands in the environment or in a file: "
            'write "env:NAME" or "file:PATH"',
        )
        return None

    def _from_environment(self, name: str, at: str) -> str | None:
        value = self.environ(name) if name else None
        if not value:
            self.refuse(
                at,
                f"the environment variable {name or '(no name)'} is not set or empty; "
                "set it where the daemon is started",
            )
        return value or None

    def _from_file(self, path: Path, at: str) -> str | None:
        try:
            mode = path.stat().st_mode
            if stat.S_IMODE(mode) & 0o077:
                self.refuse(at, f"others may read {path}; run: chmod 600 {path}")
                return None
            with path.open("rb") as file:
                content = file.read(SECRET_BYTES_MAX + 1)
            text = content.decode().strip()
        except OSError as error:
            self.refuse(at, f"cannot read the secret in {path}: {error.strerror}")
            return None
        except UnicodeDecodeError:
            self.refuse(at, f"the secret in {path} is not UTF-8 text")
            return None
        if not text or len(content) > SECRET_BYTES_MAX:
            self.refuse(at, f"{path} must hold 1 to {SECRET_BYTES_MAX} bytes of secret")
            return None
        return text


def shown(value: object) -> str:
    """A value of the file as an error shows it, cut to a readable length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_CHARS_MAX else value[:_SHOWN_CHARS_MAX] + "…"
        return f'"{cut}"'
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return str(value)


def allowed(kind: Any) -> str:
    """What a type allows, in words."""
    kind, _ = _plain(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(shown(choice) for choice in arguments)
    if _is_sequence(kind):
        return f"a list, each {allowed(arguments[0])}"
    if origin is dict:
        return f"a table, each value {allowed(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "a table"
    return str(getattr(kind, "__name__", kind))


def unknown(what: str, name: str, known: Any) -> str:
    """Says that a name is not known, which one was probably meant, and which there are."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {what}{hint} (known: {', '.join(names) or 'none'})"


def _plain(kind: Any) -> tuple[Any, bool]:
    """The type without `| None` and annotations, and whether a reference may stand for it."""
    reference = False
    if get_origin(kind) is Annotated:
        kind, *annotations = get_args(kind)
        reference = any(
            isinstance(meta, msgspec.Meta) and bool((meta.extra or {}).get("reference"))
            for meta in annotations
        )
    if get_origin(kind) in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        if len(choices) == 1:
            return _plain(choices[0])
    return kind, reference


def _is_sequence(kind: Any) -> bool:
    """Whether it is a list of any length of one type. `tuple[int, str]` is not."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return len(arguments) == 2 and arguments[1] is Ellipsis
    return origin in (list, set, frozenset)


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key
