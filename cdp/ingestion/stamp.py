"""What was known about consent when an event came in: its stamp, and what its sender says by it.

A `Stamper` knows the tables; a `Sender` is one request of one source. The stamp of an event without
a consent object is made once a request, as it tells only where and when: jurisdiction, regime, head
of the ledger, and Global Privacy Control.

A public key is anybody's word. What it denies always counts; what it grants is recorded only where
its source says so and the request comes from a page that may ask.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from cdp.config_consent import Consent
from cdp.consent.countries import load_countries
from cdp.consent.signals import SignalReader
from cdp.domain.consent import Proof, Statement
from cdp.domain.event import ConsentStamp
from cdp.ingestion.addresses import apply_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp.config import Config
    from cdp.consent.countries import CountryTable
    from cdp.domain.consent import Authority
    from cdp.domain.event import Event
    from cdp.ingestion.authentication import KnownSource
    from cdp.ingestion.collaborators import RegimeLike
    from cdp.ingestion.submission import RejectedEvent

GPC_HEADER: Final = b"sec-gpc"

_STAMPS_MAX: Final = 1_024
_SENDERS_MAX: Final = 4_096
_STATEMENTS_MAX: Final = 256  # of one sender
_STRING_BYTES_MAX: Final = 4_096
_JURISDICTION: Final = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")
_CUT_ADDRESS: Final = b"striplastoctet"


class Stamper:
    """Makes stamps by the configuration, the regimes and the state of the ledger."""

    def __init__(
        self,
        consent: Consent,
        *,
        string_bytes_max: int = _STRING_BYTES_MAX,
        regime_for: Callable[[str], RegimeLike] | None = None,
        countries: CountryTable | None = None,
        head: Callable[[], int] = int,
    ) -> None:
        self.reader = SignalReader(consent, string_bytes_max=string_bytes_max)
        self.gpc_purposes = dict.fromkeys(sorted(self.reader.sale_or_share), False)
        self._default = consent.jurisdiction
        self._regime_for = regime_for
        self._countries = countries
        self._head = head
        self._stamps: dict[tuple[str, bool, int], ConsentStamp] = {}
        self._senders: dict[tuple[object, ...], Sender] = {}

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        regime_for: Callable[[str], RegimeLike] | None = None,
        head: Callable[[], int] = int,
    ) -> Stamper:
        """By the tables of a configuration.

        Raises:
            ConfigError: the table of countries cannot be read; names the file and the line.
        """
        table = config.consent.signals.country_table
        return cls(
            config.consent,
            string_bytes_max=config.limits.consent_string_bytes_max,
            regime_for=regime_for,
            countries=load_countries(table) if table is not None else None,
            head=head,
        )

    def stamp(self, jurisdiction: str, *, gpc: bool) -> ConsentStamp:
        """The stamp of an event that says nothing itself."""
        key = (jurisdiction, gpc, self._head())
        stamp = self._stamps.get(key)
        if stamp is None:
            if len(self._stamps) >= _STAMPS_MAX:
                self._stamps.clear()
            regime = self._regime_for(jurisdiction) if self._regime_for else None
            stamp = self._stamps[key] = ConsentStamp(
                head=key[2],
                jurisdiction=jurisdiction,
                regime=f"{regime.name}@{regime.version}" if regime else "",
                gpc=gpc,
            )
        return stamp

    def sender(
        self,
        known: KnownSource,
        *,
        gpc: bool,
        origin: str | None,
        address: str | None,
        kept_address: str | None,
        agent: bytes | None,
    ) -> Sender:
        """Who sent a request; the same one for requests that do not differ in any of this."""
        key = (known, gpc, origin, address, kept_address, agent)
        sender = self._senders.get(key)
        if sender is None:
            if len(self._senders) >= _SENDERS_MAX:
                self._senders.clear()
            sender = self._senders[key] = Sender(
                self,
                known,
                gpc=gpc,
                origin=origin,
                address=address,
                kept_address=kept_address,
                agent=agent,
            )
        return sender

    def place_of(self, address: str | None) -> str:
        """The jurisdiction of an address; the default where nobody knows."""
        if self._countries is not None and address:
            return self._countries.code_of(address) or self._default
        return self._default


class Sender:
    """Who sends, and what the headers of the requests say for all events in them.

    Statements that it makes may be shared by many events: when each was said is the event's.
    """

    __slots__ = (
        "_address",
        "_agent",
        "_asks_place",
        "_fixed",
        "_gpc",
        "_gpc_statement",
        "_origin",
        "_place",
        "_proof",
        "_stamper",
        "_statements",
        "_trusted",
        "authority",
        "grants_count",
        "source",
    )

    def __init__(
        self,
        stamper: Stamper,
        known: KnownSource | None,
        *,
        gpc: bool = False,
        origin: str | None = None,
        address: str | None = None,
        kept_address: str | None = None,
        agent: bytes | None = None,
    ) -> None:
        """`address` tells the country and is not kept; `kept_address` is what may be."""
        config = known.config if known is not None else None
        server = config is not None and config.kind == "server"
        self.source = known.name if known is not None else ""
        self.authority: Authority = "server" if server else "public"
        self.grants_count = (
            config is not None
            and config.grants_count
            and (server or origin in config.allowed_origins)
        )
        self._stamper = stamper
        self._origin, self._address, self._agent = origin, kept_address, agent
        self._proof: Proof | None = None
        self._gpc_statement: Statement | None = None
        self._statements: dict[int, Statement] = {}
        place = config.jurisdiction if config is not None else ""
        self._trusted = server
        self._asks_place = server and not place
        # A server speaks for people elsewhere: its own address says nothing about theirs.
        self._place = place or stamper.place_of(None if server else address)
        self._gpc = gpc
        self._fixed: ConsentStamp | None = None

    @classmethod
    def again(cls, stamper: Stamper | None, row: RejectedEvent) -> Sender:
        """The sender of an event that was rejected, as it was when the event came in."""
        sender = cls(stamper or NO_STAMPER, None)
        sender.source = row.source
        sender.authority = "server" if row.authority == "server" else "public"
        sender.grants_count = row.grants_count
        sender._trusted = row.authority == "server"
        sender._fixed = row.stamp
        return sender

    @property
    def stamp(self) -> ConsentStamp:
        """The stamp, now, of an event that says nothing itself."""
        return self._fixed or self._stamper.stamp(self._place, gpc=self._gpc)

    def stamp_of(self, context: dict[str, Any]) -> ConsentStamp:
        """The stamp of an event with this context."""
        consent, management = context.get("consent"), context.get("consentManagement")
        stamp = self._by_body(context, consent) if self._trusted else self.stamp
        if consent is None and management is None:
            return stamp
        said = self._stamper.reader.read(consent, management)
        if said is None:
            return stamp
        purposes = {**said.purposes, **self._stamper.gpc_purposes} if stamp.gpc else said.purposes
        return ConsentStamp(
            True,
            purposes,
            said.readable,
            stamp.head,
            stamp.jurisdiction,
            stamp.regime,
            stamp.gpc,
            said.signals,
            said.policy,
        )

    def statements_of(self, event: Event) -> list[Statement]:
        """What an event of this request states about purposes, for the ledger.

        Events that say the same share a statement; when it was said is each event's own.
        """
        stamp = event.stamp
        purposes = stamp.purposes
        if stamp.gpc:  # its own statement speaks of these
            gpc_purposes = self._stamper.gpc_purposes
            purposes = {name: said for name, said in purposes.items() if name not in gpc_purposes}
        said = [self._shared_statement(event, purposes)] if stamp.present and purposes else []
        if stamp.gpc:
            said.append(self._by_gpc(event))
        return said

    def _shared_statement(self, event: Event, purposes: dict[str, bool]) -> Statement:
        stamp = event.stamp
        if stamp.signals:
            return self._statement(event, purposes)  # with a string that is this event's alone
        made = self._statements.get(id(purposes))
        if (
            made is None
            or made.purposes is not purposes
            or made.jurisdiction != stamp.jurisdiction
            or made.regime != stamp.regime
        ):
            if len(self._statements) >= _STATEMENTS_MAX:
                self._statements.clear()
            made = self._statements[id(purposes)] = self._statement(event, purposes)
        return made

    def _statement(self, event: Event, purposes: dict[str, bool]) -> Statement:
        consent = event.context.get("consent")
        kind, signal = _kind_of(consent if type(consent) is dict else {}, event)
        proof = self._request_proof()
        if signal is not None or event.stamp.policy:
            name, _, version = event.stamp.policy.partition("@")
            proof = replace(
                proof,
                policy=name or None,
                policy_version=version or None,
                signal=signal,
                signal_sha256=sha256(signal.encode()).hexdigest() if signal else None,
            )
        return Statement(
            purposes=purposes,
            kind=kind,
            authority=self.authority,
            source=self.source,
            at_us=event.event_time_us,
            received_at_us=event.received_at_us,
            grants_count=self.grants_count,
            jurisdiction=event.stamp.jurisdiction,
            regime=event.stamp.regime,
            proof=proof,
        )

    def _by_gpc(self, event: Event) -> Statement:
        """One for all events: the header is about the browser, not about an event."""
        made, stamp = self._gpc_statement, event.stamp
        if made is None or (made.jurisdiction, made.regime) != (stamp.jurisdiction, stamp.regime):
            made = self._gpc_statement = Statement(
                purposes=self._stamper.gpc_purposes,
                kind="gpc",
                authority=self.authority,
                source=self.source,
                at_us=event.received_at_us,
                received_at_us=event.received_at_us,
                grants_count=False,
                jurisdiction=stamp.jurisdiction,
                regime=stamp.regime,
                proof=replace(self._request_proof(), method="gpc", signal="1"),
            )
        return made

    def _request_proof(self) -> Proof:
        if self._proof is None:
            agent = self._agent
            self._proof = Proof(
                origin=self._origin,
                address=apply_policy(self._address, _CUT_ADDRESS),
                user_agent_sha256=sha256(agent).hexdigest() if agent else None,
            )
        return self._proof

    def _by_body(self, context: dict[str, Any], consent: Any) -> ConsentStamp:
        """What a server says for people: where they are, and their browsers' Sec-GPC."""
        stamp = self.stamp
        gpc = stamp.gpc or (type(consent) is dict and consent.get("gpc") is True)
        place = self._place_in(context) if self._asks_place else stamp.jurisdiction
        if gpc is stamp.gpc and place == stamp.jurisdiction:
            return stamp
        return self._stamper.stamp(place, gpc=gpc)

    def _place_in(self, context: dict[str, Any]) -> str:
        """A jurisdiction that is none of ours is the strictest; a location may be just a name."""
        if (given := context.get("jurisdiction")) is not None:
            return given if type(given) is str and _JURISDICTION.fullmatch(given) else ""
        location = context.get("location")
        if type(location) is dict and (place := _place_of(location)):
            return place
        address = context.get("ip")
        return self._stamper.place_of(address if type(address) is str else None)


def _place_of(location: dict[str, Any]) -> str:
    """`{"country": "US", "region": "CA"}` as US-CA; empty where the country is not a code."""
    country, region = location.get("country"), location.get("region")
    if type(country) is not str or not _JURISDICTION.fullmatch(country):
        return ""
    if type(region) is str:
        whole = region if region.startswith(f"{country}-") else f"{country}-{region}"
        if _JURISDICTION.fullmatch(whole):
            return whole
    return country


def _kind_of(consent: dict[str, Any], event: Event) -> tuple[str, str | None]:
    """How it came, and the string that said it, if one did."""
    signals = event.stamp.signals
    if not signals or "categoryPreferences" in consent or "consentManagement" in event.context:
        kind = "event"
    else:
        kind = "tcf" if "tcf" in signals else "gpp"
    for name in signals:
        if type(text := consent.get(name)) is str:
            return kind, text
    return kind, None


NO_STAMPER: Final = Stamper(Consent())
NO_SENDER: Final = Sender(NO_STAMPER, None)  # of whom nothing is known
