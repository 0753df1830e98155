"""What is held of somebody and on what ground; and whether something may go somewhere, and why.

Answers come from the same places as the gate's: the stamp in the event log, the ledger's standing,
the destination's purposes. Values of identifiers are not in them; `cdp profile` shows those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cdp.clock import isoformat
from cdp.consent.grounds import ground, standing_form
from cdp.console.surface import NotFound
from cdp.domain.change import RESOLVED
from cdp.domain.consent import NOBODY, Standing
from cdp.domain.event import ConsentStamp, Event, decode_event
from cdp.domain.identifier import format_profile_id
from cdp.identity.why import caused_by

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from cdp.clock import Clock
    from cdp.consent.grounds import PolicyText
    from cdp.consent.rules import Use
    from cdp.identity.profiles import Profile, Profiles
    from cdp.storage.log import Log

Json = dict[str, Any]
Concerned: TypeAlias = "tuple[Profile | None, Standing]"

# An event that comes now and says nothing about consent itself: all that was recorded came before.
SILENT_NOW: Final = ConsentStamp(head=2**63 - 1)


class Sources(NamedTuple):
    """Where the answers come from."""

    profiles: Profiles
    events: Log
    changes: Log
    offset_of: Callable[[str], int | None]  # the place of an event, by its messageId
    standing: Callable[[bytes], Standing]  # of a profile
    standing_of_device: Callable[[Event], Standing]  # of an event that is nobody's
    suppressed: Callable[[bytes], bool]  # a node
    recipients: Callable[[bytes], list[Json]]  # of a profile: who ever got something
    uses: Mapping[str, Use]  # by destination
    policies: Collection[PolicyText]
    clock: Clock


class PrivacyWhy:
    """Answers why."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources

    def person(self, namespace: str, value: str) -> Json:
        """What is held of whoever has this identifier. An unknown one may yet be suppressed."""
        profiles = self._from.profiles
        node = profiles.node(namespace, value)
        if node is None:
            raise NotFound(f"this cannot be a {namespace} of anybody")
        profile = profiles.of_node(node)
        told: Json = {
            "namespace": namespace,
            "known": profile is not None,
            "suppressed": self._from.suppressed(node),
        }
        return told if profile is None else told | self._held(profile)

    def _held(self, profile: Profile) -> Json:
        standing = self._standing(profile)
        view = profile.view
        return {
            "profile_id": format_profile_id(profile.profile_id),
            "state": profile.state,
            "shared_by_several": profile.shared,
            "first_seen": isoformat(view.first_seen_us) if view.first_message else None,
            "last_seen": isoformat(view.last_seen_us) if view.last_message else None,
            "events": sum(view.event_counts.values()),
            "traits": sorted(
                name for name, trait in view.traits.items() if trait.value is not None
            ),
            "identifiers": [
                {
                    "namespace": known.identifier.namespace,
                    "since": None if known.first_us is None else isoformat(known.first_us),
                    "shared": known.shared,
                }
                for known in self._from.profiles.identifiers(profile)
            ],
            "standing": standing_form(standing),
            "recipients": self._from.recipients(profile.profile_id),
            "destinations": [
                self._brief(name, use, standing) for name, use in sorted(self._from.uses.items())
            ],
        }

    def _brief(self, name: str, use: Use, standing: Standing) -> Json:
        told = ground(use, SILENT_NOW, standing, self._from.clock.now_us())
        return {
            "destination": name,
            "purposes": list(use.purposes),
            "allowed": told["allowed"],
            "reason": told["reason"],
        }

    def delivery(
        self, destination: str, *, message_id: str | None, person: tuple[str, str] | None
    ) -> Json:
        """Whether an event, or a silent event of a person that comes now, may go there."""
        use = self._from.uses.get(destination)
        if use is None:
            raise NotFound(f"no destination is called {destination!r}")
        if message_id is not None:
            stamp, concerned, told = self._event(message_id)
        else:
            assert person is not None, "asked about an event or about a person"
            stamp, profile = SILENT_NOW, self._from.profiles.find(*person)
            concerned = [] if profile is None else [(profile, self._standing(profile))]
            told = {"about": "an event that comes now and says nothing about consent itself"}
        if stamp is None:
            return {"destination": destination, **told}
        return {"destination": destination, **told, **self._ground(use, stamp, concerned)}

    def _ground(self, use: Use, stamp: ConsentStamp, concerned: Sequence[Concerned]) -> Json:
        """Of whoever it concerns and who forbids it; of the first where nobody does."""
        now_us, policies = self._from.clock.now_us(), self._from.policies
        grounds: list[Json] = [
            {
                "profile_id": None if profile is None else format_profile_id(profile.profile_id),
                **ground(use, stamp, standing, now_us, policies),
            }
            for profile, standing in concerned or [(None, NOBODY)]
        ]
        return next((one for one in grounds if not one["allowed"]), grounds[0])

    def _event(self, message_id: str) -> tuple[ConsentStamp | None, list[Concerned], Json]:
        offset = self._from.offset_of(message_id)
        if offset is None:
            raise NotFound("no event with this messageId was accepted")
        told: Json = {"message_id": message_id, "offset": offset}
        record = self._from.events.get(offset)
        if not record:
            reason = "expired" if record is None else "erased"
            return None, [], told | {"allowed": False, "reason": reason, "because": _GONE[reason]}
        event = decode_event(record)
        told |= {"type": event.type, "received_at": isoformat(event.received_at_us)}
        concerned: list[Concerned] = [*self._people_of(offset)]
        if not concerned:  # nobody is known to have been there: what the device says holds
            concerned = [(None, self._from.standing_of_device(event))]
        return event.stamp, concerned, told

    def _people_of(self, offset: int) -> Iterator[tuple[Profile, Standing]]:
        """Whom an event was resolved to, and whose its identifier is today, if a split came."""
        seen: set[bytes] = set()
        for change in caused_by(self._from.changes, offset):
            if change.kind != RESOLVED or not change.profile_id:
                continue
            for node in (change.profile_id, change.leaf):
                profile = self._from.profiles.of_node(node)
                if profile is None or profile.profile_id in seen:
                    continue
                if node == change.leaf and profile.shared:
                    continue  # somebody else's device: who was there is asked
                seen.add(profile.profile_id)
                yield profile, self._standing(profile)

    def _standing(self, profile: Profile) -> Standing:
        return NOBODY if profile.shared else self._from.standing(profile.profile_id)


_GONE: Final = {
    "expired": "the event is past its retention",
    "erased": "the person was erased, and the event with them",
}
