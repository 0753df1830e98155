"""The policy texts that people agree to, kept as they were, so that a grant can be shown with them.

A text is registered at the start under its id, version and language, with its SHA-256, and never
changes afterwards: another text needs another version. Texts that are no longer configured stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cdp.consent.grounds import PolicyText, read_policies
from cdp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cdp.config_consent import Policy
    from cdp.storage.store import Store

__all__ = ["PolicyTexts"]

_PREFIX: Final = b"policy:"
_PREFIX_END: Final = b"policy;"  # sorts after every key with the prefix


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A text as it is stored. A field is only ever added at the end."""

    schema: int
    id: str
    version: str
    language: str
    sha256: str
    since_us: int
    purposes: tuple[str, ...]
    text: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class PolicyTexts:
    """Every text that was ever configured, and which of them hold today."""

    def __init__(self, store: Store, policies: Mapping[str, Policy], *, now_us: int) -> None:
        """Reads the configured texts, and registers those that are new.

        Raises:
            ConfigError: a text cannot be read, or is not the one of its version any more.
        """
        self.current = read_policies(policies)
        self._known = {text.label + ":" + text.language: text for text in _stored(store)}
        batch = store.batch()
        for text in self.current:
            key = f"{text.label}:{text.language}"
            known = self._known.get(key)
            if known is None:
                batch.put("meta", _PREFIX + key.encode(), _encode(_row(text, now_us)))
                self._known[key] = text
            elif known.sha256 != text.sha256:
                raise ConfigError(_changed(text, known))
        if len(batch):
            store.write(batch)

    def __iter__(self) -> Iterator[PolicyText]:
        return iter(self._known.values())

    def labelled(self, label: str) -> tuple[PolicyText, ...]:
        """The texts of an id@version, one for each language."""
        return tuple(text for text in self._known.values() if text.label == label)

    def version_of(self, policy: str) -> str | None:
        """The version of a policy that holds today; None where there is no such policy."""
        return next((text.version for text in self.current if text.id == policy), None)


def _stored(store: Store) -> list[PolicyText]:
    rows = [_decode(row) for _, row in store.scan("meta", _PREFIX, _PREFIX_END)]
    return [
        PolicyText(row.id, row.version, row.language, row.purposes, row.sha256, row.text)
        for row in rows
    ]


def _row(text: PolicyText, now_us: int) -> _Row:
    return _Row(
        1, text.id, text.version, text.language, text.sha256, now_us, text.purposes, text.text
    )


def _changed(text: PolicyText, known: PolicyText) -> str:
    return (
        f"consent.policies.{text.id}.text: the text has changed since people agreed to version "
        f"{text.version} (sha256 {known.sha256[:12]}…, now {text.sha256[:12]}…); give it a new "
        "version, and name this one in material_versions if its grants no longer count; "
        "or bring the old text back"
    )
