"""Answers of the profile API as JSON values, in the shapes of Segment's where it has one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdp.clock import isoformat
from cdp.console.query import count_of, decode_cursor, encode_cursor, encode_place
from cdp.domain.identifier import format_profile_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cdp.domain.identifier import Identifier
    from cdp.domain.profile import ProfileView, TraitValue
    from cdp.identity.history import Page, Past
    from cdp.identity.profiles import Known, Profile

Json = dict[str, Any]


def error(code: str, message: str) -> Json:
    """What every refusal looks like."""
    return {"error": {"code": code, "message": message}}


def cursor(path: str, limit: int, after: str | None) -> Json:
    """Where the next page is."""
    following = "" if after is None else after
    return {"url": path, "has_more": after is not None, "next": following, "limit": limit}


def summary(profile: Profile, view: ProfileView) -> Json:
    """A profile on one page."""
    return {
        "profile_id": format_profile_id(profile.profile_id),
        "state": profile.state,
        "shared": profile.shared,
        "traits": {name: trait.value for name, trait in _set_traits(view.traits)},
        "metadata": metadata(view),
        "event_counts": dict(sorted(view.event_counts.items())),
        "sources": dict(sorted(view.sources.items())),
        "groups": [
            {"group_id": group, "last_seen_at": isoformat(seen_us)}
            for group, seen_us in sorted(view.groups.items())
        ],
    }


def metadata(view: ProfileView) -> Json:
    """First and last. `expires_at` is always null: profiles do not expire."""
    first, last = view.first_message, view.last_message
    return {
        "created_at": isoformat(first[0]) if first else None,
        "updated_at": isoformat(last[0]) if last else None,
        "expires_at": None,
        "first_message_id": first[1] if first else None,
        "first_source_id": first[2] if first else None,
        "last_message_id": last[1] if last else None,
        "last_source_id": last[2] if last else None,
    }


def traits(
    view: ProfileView,
    *,
    path: str,
    limit: int,
    after: str | None,
    include: Collection[str],
    verbose: bool,
) -> Json:
    """Traits by name, a page at a time. A cursor is the last name of the page before."""
    last = "" if after is None else decode_cursor(after)
    wanted = [
        (name, trait)
        for name, trait in _set_traits(view.traits)
        if (not include or name in include) and (after is None or name > last)
    ]
    page = wanted[:limit]
    following = encode_cursor(page[-1][0]) if len(wanted) > limit else None
    return {
        "traits": {name: verbose_trait(trait) if verbose else trait.value for name, trait in page},
        "cursor": cursor(path, limit, following),
    }


def verbose_trait(trait: TraitValue) -> Json:
    """A trait with where it came from."""
    return {
        "value": trait.value,
        "source_id": trait.source,
        "updated_at": isoformat(trait.event_time_us),
        "message_id": trait.message_id,
    }


def identifiers(known: Sequence[Known], *, path: str, limit: int, after: str | None) -> Json:
    """Identifiers as external ids, a page at a time. A cursor is how many came before."""
    start = count_of(after)
    page = known[start : start + limit]
    following = encode_cursor(str(start + limit)) if len(known) > start + limit else None
    return {
        "data": [external_id(one) for one in page],
        "cursor": cursor(path, limit, following),
    }


def external_id(known: Known) -> Json:
    """One identifier. Source and message are null for one that no event was stored under."""
    first = known.first_message
    return {
        "source_id": first[2] if first else None,
        "collection": "users",
        "id": known.identifier.value,
        "type": known.identifier.namespace,
        "created_at": None if known.first_us is None else isoformat(known.first_us),
        "encoding": "none",
        "first_message_id": first[1] if first else None,
        "shared": known.shared,
    }


def events(page: Page, values: Mapping[bytes, Identifier], *, path: str, limit: int) -> Json:
    """A page of a history."""
    following = encode_place(page.next) if page.next is not None else None
    return {
        "data": [past_event(past, values) for past in page.events],
        "cursor": cursor(path, limit, following),
    }


def past_event(past: Past, values: Mapping[bytes, Identifier]) -> Json:
    """One event of a history. `expired`: its body is past its retention."""
    identifier = values.get(past.moment.leaf)
    body: Json = {
        "type": past.moment.type,
        "timestamp": isoformat(past.moment.time_us),
        "external_ids": [plain_id(identifier)] if identifier else [],
        "expired": past.event is None,
    }
    if past.rule:
        body["shared_device"] = {"attributed_by": past.rule}
    if past.event is not None:
        event = past.event
        body |= {
            "message_id": event.message_id,
            "source_id": event.source,
            "received_at": isoformat(event.received_at_us),
            "event": event.event or event.name,
            "properties": event.properties,
            "traits": event.traits,
            "context": event.context,
            "related": {"users": []},
        }
    return body


def plain_id(identifier: Identifier) -> Json:
    """An identifier inside another answer."""
    return {
        "collection": "users",
        "type": identifier.namespace,
        "id": identifier.value,
        "encoding": "none",
    }


def links(view: ProfileView, *, path: str, limit: int, after: str | None) -> Json:
    """The groups of a profile, as Segment's links."""
    start = count_of(after)
    groups = sorted(view.groups.items(), key=lambda item: (-item[1], item[0]))
    page = groups[start : start + limit]
    following = encode_cursor(str(start + limit)) if len(groups) > start + limit else None
    return {
        "data": [
            {
                "to_collection": "accounts",
                "external_ids": [
                    {"collection": "accounts", "type": "group_id", "id": group, "encoding": "none"}
                ],
                "last_seen_at": isoformat(seen_us),
            }
            for group, seen_us in page
        ],
        "cursor": cursor(path, limit, following),
    }


def _set_traits(traits: Mapping[str, TraitValue]) -> list[tuple[str, TraitValue]]:
    """Traits by name, without those that were removed."""
    return sorted((name, trait) for name, trait in traits.items() if trait.value is not None)
