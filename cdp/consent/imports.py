"""Consent states of other platforms, as statements of ours. Pure.

mParticle keeps, for each purpose, whether somebody consented and when, the document that was shown
and where; and for California whether they opted out of sale. Each entry becomes a statement with
its own time; the entry itself is kept as the proof's raw signal. That somebody has not opted out
is no grant, so nothing follows from it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.domain.consent import Proof, Statement
from cdp.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Collection

PURPOSES_MAX: Final = 1_000
_MILLISECOND_US: Final = 1_000


def read_consent_state(
    state: Any,
    *,
    sale_or_share: Collection[str],
    source: str,
    received_at_us: int,
    regime: str,
    jurisdiction: str,
) -> list[Statement]:
    """The statements in a `consent_state` of mParticle. Raises InvalidEvent."""
    if type(state) is not dict or state.keys() - {"gdpr", "ccpa"}:
        raise _bad("consent_state", "an object with gdpr, ccpa or both")
    found = []
    for name, entry in _entries(state, "gdpr").items():
        at = f"consent_state.gdpr.{name}"
        found.append(({name: _consented(entry, at)}, entry, at))
    for name, entry in _entries(state, "ccpa").items():
        at = f"consent_state.ccpa.{name}"
        if name != "data_sale_opt_out":
            raise _bad(at, "data_sale_opt_out; the law knows no other")
        if _consented(entry, at):
            found.append((dict.fromkeys(sorted(sale_or_share), False), entry, at))
    return [
        Statement(
            purposes=purposes,
            kind="import",
            authority="server",
            source=source,
            at_us=_time_us(entry, received_at_us, at),
            received_at_us=received_at_us,
            regime=regime,
            jurisdiction=jurisdiction,
            proof=_proof(entry),
        )
        for purposes, entry, at in found
    ]


def _entries(state: dict[str, Any], law: str) -> dict[str, Any]:
    entries = state.get(law, {})
    if type(entries) is not dict or len(entries) > PURPOSES_MAX:
        raise _bad(f"consent_state.{law}", f"an object of at most {PURPOSES_MAX} purposes")
    return entries


def _consented(entry: Any, at: str) -> bool:
    if type(entry) is not dict or type(consented := entry.get("consented")) is not bool:
        raise _bad(f"{at}.consented", "true or false")
    return consented


def _time_us(entry: dict[str, Any], received_at_us: int, at: str) -> int:
    time_ms = entry.get("timestamp_unixtime_ms")
    if time_ms is None:
        return received_at_us
    if type(time_ms) is not int or not 0 < time_ms < 1 << 43:
        raise _bad(f"{at}.timestamp_unixtime_ms", "whole milliseconds since 1970")
    return time_ms * _MILLISECOND_US


def _proof(entry: dict[str, Any]) -> Proof:
    raw = msgspec.json.encode(entry)
    document = entry.get("document")
    return Proof(
        method="import",
        notice=document if type(document) is str else None,
        signal=raw.decode(),
        signal_sha256=sha256(raw).hexdigest(),
    )


def _bad(at: str, expected: str) -> InvalidEvent:
    return InvalidEvent("invalid_consent", f"{at}: expected {expected}")
