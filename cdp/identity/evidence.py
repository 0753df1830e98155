"""Why identifiers are one person: the resolver's evidence, with the identifiers behind its nodes.

The resolver speaks of nodes only, and writes them as 32 hexadecimal digits wherever they stand in
its answers. Here each of them gets its identifier beside it, and each piece of evidence a
sentence. Nothing is decided again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.domain.identifier import NODE_BYTES, format_profile_id, parse_profile_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp.domain.identifier import Identifier
    from cdp.identity.profiles import Profile, Profiles

Json = dict[str, Any]

HEX_DIGITS: Final = 2 * NODE_BYTES

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def evidence(profiles: Profiles, profile: Profile) -> Json:
    """What the resolver knows about a profile, readable."""
    return _readable(profiles, _decode(profiles.resolver.explain(profile.profile_id)))


def why_not(profiles: Profiles, a: bytes, b: bytes) -> Json:
    """Why two nodes are not one profile; says so where they are."""
    if profiles.resolver.profile_of(a) == profiles.resolver.profile_of(b):
        return {"one_profile": True, "sentences": ["they are one profile"]}
    found = _readable(profiles, _decode(profiles.resolver.why_not(a, b)))
    return {"one_profile": False, **found}


def why_one(profiles: Profiles, profile: Profile) -> Json:
    """The identifiers of a profile and the evidence between them, each with a sentence."""
    found = evidence(profiles, profile)
    return {
        "profile_id": format_profile_id(profile.profile_id),
        "state": profile.state,
        "identifiers": [
            {"namespace": known.identifier.namespace, "value": known.identifier.value}
            for known in profiles.identifiers(profile)
            if not known.shared
        ],
        "evidence": found,
    }


def _readable(profiles: Profiles, found: Json) -> Json:
    nodes = list(dict.fromkeys(_nodes(found)))
    values = profiles.values(nodes)
    return {name: _named(value, values) for name, value in found.items()}


def _nodes(value: Any) -> Iterator[bytes]:
    if isinstance(value, str):
        if len(value) == HEX_DIGITS and (node := parse_profile_id(value)):
            yield node
    elif isinstance(value, dict):
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _named(value: Any, values: dict[bytes, Identifier]) -> Any:
    """The same value with each known node as `{node, namespace, value}`."""
    if isinstance(value, str) and len(value) == HEX_DIGITS:
        identifier = values.get(parse_profile_id(value) or b"")
        if identifier is not None:
            return {"node": value, "namespace": identifier.namespace, "value": identifier.value}
    if isinstance(value, dict):
        return {name: _named(part, values) for name, part in value.items()}
    if isinstance(value, list):
        return [_named(part, values) for part in value]
    return value
