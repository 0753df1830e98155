"""People's rights as the control plane asks for them (`cdp.console.privacy_surface`).

Joins the engine of erasures with the exports, the answers to why, and the audit of privacy. It
decides nothing and holds no state.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cdp.clock import isoformat
from cdp.consent.grounds import read_policies
from cdp.consent.requests import RequestRefused, RequestUnknown
from cdp.console.holdings import StoredHoldings
from cdp.console.person_exports import PersonExports
from cdp.console.person_records import PersonRecords
from cdp.console.privacy_why import PrivacyWhy, Sources
from cdp.console.surface import Listing, NotFound, Refused
from cdp.delivery.recipients import recipients_of
from cdp.privacy_audit import privacy_audit
from cdp.storage.exports import ExportFiles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from cdp.config import Config
    from cdp.console.privacy_surface import Asked, Identifiers
    from cdp.environment import Environment
    from cdp.governance import Governance
    from cdp.identity.history import History
    from cdp.identity.profiles import Profiles
    from cdp.rights import Rights
    from cdp.storage.log import Log
    from cdp.storage.store import Store

Json = dict[str, Any]


class People:
    """What is known of people, as documents and answers need it."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        store: Store,
        profiles: Profiles,
        history: History,
        governance: Governance,
        requests: Callable[[Sequence[bytes]], list[Json]],
    ) -> None:
        self._store = store
        self._profiles = profiles
        self.records = PersonRecords(
            governance.ledger, profiles, recipients=self.recipients, requests=requests
        )
        directory = config.privacy.export_dir or config.data_dir / "exports"
        self.files = ExportFiles(directory, environment.run_in_thread)
        holdings = StoredHoldings(store, profiles, history, self.records)
        self.exports = PersonExports(holdings, self.files, environment.clock, environment.new_id)

    def recipients(self, profile_id: bytes) -> list[Json]:
        """The destinations that ever got something of a profile, and since when."""
        found = self._profiles.of_node(profile_id)
        nodes = (profile_id,) if found is None else found.members
        return [
            {"destination": name, "since": isoformat(since_us)}
            for name, since_us in sorted(recipients_of(self._store, nodes).items())
        ]


class PrivacyDesk:
    """Satisfies `cdp.console.privacy_surface.PrivacySurface`."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        store: Store,
        logs: Mapping[str, Log],
        people: People,
        profiles: Profiles,
        governance: Governance,
        rights: Rights,
        uses: Mapping[str, frozenset[str]],
        offset_of: Callable[[str], int | None],
    ) -> None:
        self._config = config
        self._clock = environment.clock
        self._store = store
        self._events = logs["events"]
        self._people = people
        self._governance = governance
        self._rights = rights
        self._erasures = rights.erasures
        self._uses = uses
        self._why = PrivacyWhy(
            Sources(
                profiles=profiles,
                events=logs["events"],
                changes=logs["changes"],
                offset_of=offset_of,
                standing=governance.ledger.standing,
                standing_of_device=governance.standings.standing_of_device,
                suppressed=governance.suppression.nodes.__contains__,
                recipients=people.recipients,
                uses={name: governance.rules.use(purposes) for name, purposes in uses.items()},
                policies=read_policies(config.consent.policies),
                clock=environment.clock,
            )
        )

    # -- requests -------------------------------------------------------------------------------

    async def submit_request(self, asked: Asked) -> Json:
        """Records a request."""
        return await _refusing(self._erasures.submit(asked))

    def list_requests(
        self, after: str | None, limit: int, *, kind: str | None, state: str | None
    ) -> Listing:
        """Requests, newest first."""
        with _refusals():
            return Listing(*self._erasures.listing(after, limit, kind=kind, state=state))

    def request(self, request_id: str) -> Json:
        """One request."""
        with _refusals():
            return self._erasures.get(request_id)

    async def cancel_request(self, request_id: str, *, by: str) -> Json:
        """Takes it back."""
        return await _refusing(self._erasures.cancel(request_id, by=by))

    async def verify_request(self, request_id: str, *, by: str, method: str) -> Json:
        """The person is who they say."""
        return await _refusing(self._erasures.verify(request_id, by=by, method=method))

    async def approve_request(self, request_id: str, *, by: str) -> Json:
        """It may run."""
        return await _refusing(self._erasures.approve(request_id, by=by))

    async def deny_request(self, request_id: str, *, by: str, reason: str) -> Json:
        """It will not run."""
        return await _refusing(self._erasures.deny(request_id, by=by, reason=reason))

    async def hold_request(self, request_id: str, *, by: str, reason: str) -> Json:
        """It has to wait."""
        return await _refusing(self._erasures.hold(request_id, by=by, reason=reason))

    async def release_request(self, request_id: str, *, by: str) -> Json:
        """It need not wait any more."""
        return await _refusing(self._erasures.release(request_id, by=by))

    async def attest_erasure(
        self, request_id: str, destination: str, *, by: str, file_sha256: str
    ) -> Json:
        """A person did it by hand at a destination."""
        attested = self._erasures.attest(
            request_id, destination, by=by, evidence_sha256=file_sha256
        )
        return await _refusing(attested)

    def receipt(self, request_id: str) -> Json:
        """What was done."""
        with _refusals():
            return self._erasures.receipt(request_id)

    async def read_export(
        self, request_id: str, form: str, offset: int, length: int
    ) -> bytes | None:
        """A part of a document; that somebody fetched it is written down first."""
        if offset == 0 and form in self._people.exports.forms_of(request_id):
            await self._audit("export_fetched", bytes.fromhex(request_id), "operator", form=form)
        return await self._people.exports.read(request_id, form, offset, length)

    # -- questions ------------------------------------------------------------------------------

    def why_person(self, namespace: str, value: str) -> Json:
        """What is held, and on what ground."""
        return self._why.person(namespace, value)

    def why_delivery(
        self, destination: str, *, message_id: str | None, person: tuple[str, str] | None
    ) -> Json:
        """Whether it may go there now, and why."""
        return self._why.delivery(destination, message_id=message_id, person=person)

    def suppressions(self, after: str | None, limit: int) -> Listing:
        """What is suppressed, as keyed hashes."""
        return Listing(*self._governance.suppression.listing(after, limit))

    async def privacy_audit(self) -> Json:
        """What is kept without need."""
        plan = self._governance.plan
        found = await privacy_audit(
            plan=None if plan is None else plan.plan,
            uses=self._uses,
            destinations=self._config.destinations,
            retention=self._config.retention,
            store=self._store,
            events=self._events,
            now_us=self._clock.now_us(),
        )
        return {"findings": [one.as_json() for one in found]}

    # -- orders ---------------------------------------------------------------------------------

    async def unsuppress(self, identifiers: Identifiers, *, by: str, reason: str) -> Json:
        """Lets identifiers be heard of again."""
        nodes = [self._rights.held.node(*identifier) for identifier in identifiers]
        known = [node for node in nodes if node is not None]
        governance = self._governance
        with self._rights.book.change() as batch:
            lifted = governance.suppression.lift(batch, known)
            for node in known:
                governance.audit.add(
                    batch, actor=by, action="unsuppressed", object=node, details={"reason": reason}
                )
        governance.ledger.suppressed(known)
        await self._store.sync()
        return {"unsuppressed": lifted}

    async def _audit(self, action: str, about: bytes, actor: str, **details: Any) -> None:
        batch = self._store.batch()
        self._governance.audit.add(batch, actor=actor, action=action, object=about, details=details)
        self._store.write(batch)
        await self._store.sync()


@contextmanager
def _refusals() -> Iterator[None]:
    """What the engine refuses, in the words of the control plane."""
    try:
        yield
    except RequestUnknown as error:
        raise NotFound(str(error)) from error
    except RequestRefused as error:
        raise Refused(str(error)) from error


async def _refusing(order: Awaitable[Json]) -> Json:
    with _refusals():
        return await order
