"""What an event says about consent, in the words of each framework, in terms of our purposes.

Category preferences, Rudder's lists of ids, TC strings and GPP strings: the most restrictive wins
for each purpose, so a denial by any of them is a denial. Where one of them cannot be read, nothing
is granted by any; what was denied stays denied.

Strings are personal data. What they mean is remembered by their digest, never by themselves.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.consent.bits import Unreadable
from cdp.consent.gpp import GppString, read_gpp_string
from cdp.consent.tcf import TcString, read_tc_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cdp.config_consent import Consent

Verdict = dict[str, bool]  # purpose -> granted?

_REMEMBERED_MAX: Final = 4_096
_DIGEST_DIGITS: Final = 16
_POLICY_CHARS_MAX: Final = 100
_STRINGS: Final = frozenset(("tcf", "gpp"))
_SALE_FIELDS: Final = (
    "SaleOptOut",
    "SharingOptOut",
    "TargetedAdvertisingOptOut",
    "KnownChildSensitiveDataConsents",
)


class Said(msgspec.Struct, frozen=True):
    """What one event says. `signals` has the short digest of each string; `policy` is id@version.

    `purposes` holds no grant where `readable` is False.
    """

    purposes: Verdict
    readable: bool = True
    signals: dict[str, str] = {}
    policy: str = ""


class SignalReader:
    """Reads the consent objects of events by the tables of the configuration."""

    def __init__(self, consent: Consent, *, string_bytes_max: int) -> None:
        signals = consent.signals
        self.sale_or_share = frozenset(
            name for name, purpose in consent.purposes.items() if purpose.sale_or_share
        )
        self._sensitive = frozenset(
            name for name, purpose in consent.purposes.items() if purpose.sensitive
        )
        self._vendor = signals.tcf_vendor
        self._tcf_purposes = signals.tcf_purposes
        self._sections = signals.gpp_sections
        self._bytes_max = string_bytes_max
        self._remembered: dict[bytes, Verdict | None] = {}  # the oldest first
        self._said: dict[tuple[object, ...], Said] = {}

    def read(self, consent: Any, management: Any) -> Said | None:
        """What `context.consent` and `context.consentManagement` say; None where it is nothing."""
        if management is None and type(consent) is dict and _STRINGS.isdisjoint(consent):
            # What nearly all events with an object have, alone.
            return self._preferred(consent) if "categoryPreferences" in consent else None
        verdicts: list[Verdict | None] = []
        signals: dict[str, str] = {}
        policy = ""
        if type(consent) is dict:
            verdicts += _categories(consent)
            for name in ("tcf", "gpp"):  # in this order, so that stamps are equal byte for byte
                if (text := consent.get(name)) is not None:
                    verdicts.append(self._of_string(name, text, signals))
            policy = _policy(consent.get("policy"))
        elif consent is not None:
            verdicts.append(None)
        if management is not None:
            verdicts += _managed(management)
        if not verdicts:
            return None
        readable = None not in verdicts
        purposes = strictest(verdict for verdict in verdicts if verdict is not None)
        if not readable:
            purposes = {purpose: False for purpose, granted in purposes.items() if not granted}
        return Said(purposes, readable, signals, policy)

    def _preferred(self, consent: dict[str, Any]) -> Said:
        """One object for all who say the same: what is made of it need be made but once."""
        purposes = read_purposes(consent["categoryPreferences"])
        policy = _policy(consent["policy"]) if "policy" in consent else ""
        if purposes is None:
            return Said({}, False, {}, policy)
        key = (policy, *purposes.items())
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= _REMEMBERED_MAX:
                self._said.clear()
            said = self._said[key] = Said(purposes, True, {}, policy)
        return said

    def _of_string(self, name: str, text: Any, signals: dict[str, str]) -> Verdict | None:
        if type(text) is not str or len(text) > self._bytes_max:
            return None
        digest = sha256(text.encode("utf-8", "surrogatepass"))
        signals[name] = digest.hexdigest()[:_DIGEST_DIGITS]
        key = digest.digest()
        if key in self._remembered:
            return self._remembered[key]
        verdict = self._tcf(text) if name == "tcf" else self._gpp(text)
        if len(self._remembered) >= _REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = verdict
        return verdict

    def _tcf(self, text: str) -> Verdict | None:
        found = read_tc_string(text, bytes_max=self._bytes_max)
        return None if isinstance(found, Unreadable) else self._by_tcf(found)

    def _gpp(self, text: str) -> Verdict | None:
        found = read_gpp_string(text, bytes_max=self._bytes_max)
        if isinstance(found, Unreadable):
            return None
        european = self._by_tcf(found.tcf) if found.tcf is not None else {}
        return strictest((european, self._by_us_law(found)))

    def _by_tcf(self, found: TcString) -> Verdict:
        return {
            purpose: found.grants(needed, self._vendor)
            for purpose, needed in self._tcf_purposes.items()
        }

    def _by_us_law(self, found: GppString) -> Verdict:
        """Only refusals: not to have opted out is not consent."""
        denied: set[str] = set()
        for name in self._sections:
            section = found.sections.get(name)
            if section is None:
                continue
            if section.gpc or section.says_no(*_SALE_FIELDS):
                denied |= self.sale_or_share
            if section.says_no("SensitiveDataProcessing"):
                denied |= self._sensitive
        return dict.fromkeys(sorted(denied), False)


def strictest(verdicts: Iterable[Mapping[str, bool]]) -> Verdict:
    """All of them together: a denial by one is a denial."""
    together: Verdict = {}
    for verdict in verdicts:
        for purpose, granted in verdict.items():
            together[purpose] = granted and together.get(purpose, True)
    return together


def read_purposes(value: Any) -> Verdict | None:
    """`{"<id>": true}`; None where it is not an object. Only `true` or the text "true" grants."""
    if type(value) is not dict:
        return None
    return {purpose: granted is True or granted == "true" for purpose, granted in value.items()}


def _categories(consent: dict[str, Any]) -> list[Verdict | None]:
    if "categoryPreferences" not in consent:
        return []
    return [read_purposes(consent["categoryPreferences"])]


def _managed(management: Any) -> list[Verdict | None]:
    """`{"allowedConsentIds": [...], "deniedConsentIds": [...]}`. An id in both is denied.

    What is no id grants nothing; among the denied it is a denial that we cannot read.
    """
    if type(management) is not dict:
        return [None]
    verdicts: list[Verdict | None] = []
    for name, granted in (("allowedConsentIds", True), ("deniedConsentIds", False)):
        if (ids := management.get(name)) is None:
            continue
        known = [item for item in ids if type(item) is str] if type(ids) is list else []
        if type(ids) is not list or (not granted and len(known) < len(ids)):
            verdicts.append(None)
        verdicts.append(dict.fromkeys(known, granted))
    return verdicts


def _policy(value: Any) -> str:
    """`"privacy@3"` or `{"id": "privacy", "version": "3"}`, as text."""
    if type(value) is dict:
        name, version = value.get("id"), value.get("version")
        value = f"{name}@{version}" if type(name) is str and type(version) is str else None
    return value[:_POLICY_CHARS_MAX] if type(value) is str else ""
