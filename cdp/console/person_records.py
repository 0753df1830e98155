"""What is kept about a person's rights, as JSON values (`cdp.console.holdings.Records`).

Reads the ledger; who received something and what was asked come from those who keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cdp.clock import isoformat
from cdp.consent.grounds import standing_form
from cdp.consent.records import link_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cdp.consent.ledger import ConsentLedger, Said
    from cdp.domain.identifier import Identifier
    from cdp.identity.profiles import Profiles

Json = dict[str, Any]


class PersonRecords:
    """Records of the ledger, with the identifiers behind their nodes."""

    def __init__(
        self,
        ledger: ConsentLedger,
        profiles: Profiles,
        *,
        recipients: Callable[[bytes], list[Json]],
        requests: Callable[[Sequence[bytes]], list[Json]],
    ) -> None:
        """`recipients` of a profile, `requests` about any of these nodes."""
        self._ledger = ledger
        self._profiles = profiles
        self._recipients = recipients
        self._requests = requests

    def standing(self, profile_id: bytes) -> Json:
        """Where the person stands now. Raises NotReady while nobody knows who is who."""
        return standing_form(self._ledger.standing(profile_id))

    def consent(self, nodes: Sequence[bytes]) -> list[Json]:
        """The consent records of these identifiers, oldest first, with opened proofs."""
        values = self._profiles.values(nodes)
        return [record_form(said, values) for said in self._ledger.history(nodes)]

    def recipients(self, profile_id: bytes) -> list[Json]:
        """The destinations that ever got something of the profile."""
        return self._recipients(profile_id)

    def requests(self, nodes: Sequence[bytes]) -> list[Json]:
        """The requests that were made about these identifiers."""
        return self._requests(nodes)


def record_form(said: Said, values: Mapping[bytes, Identifier]) -> Json:
    """One record: what was said about which identifier, when, how, and what shows it."""
    record, about = said.record, values.get(said.record.node)
    return {
        "record": record.seq,
        "about": None if about is None else f"{about.namespace}:{about.value}",
        "action": record.action,
        "granted": sorted(name for name, granted in record.said.items() if granted),
        "denied": sorted(name for name, granted in record.said.items() if not granted),
        "objection": record.objection,
        "how": record.kind,
        "said_by": record.authority,
        "source": record.source,
        "at": isoformat(record.at_us),
        "received_at": isoformat(record.received_at_us),
        "expires_at": isoformat(record.expires_at_us) if record.expires_at_us else None,
        "jurisdiction": record.jurisdiction or None,
        "regime": record.regime or None,
        "policy": record.policy or None,
        "text_sha256": record.text_sha256 or None,
        "language": record.language or None,
        "method": record.method or None,
        "proof": None if said.proof is None else msgspec.to_builtins(said.proof),
        "hash": link_of(record).hex(),
    }
