"""Why identifiers are one person: the resolver's evidence, with the identifiers behind its nodes.

The resolver speaks of nodes only, in hexadecimal. Here each gets its identifier beside it and each
piece of evidence a sentence. Nothing is decided again.

An alias call does not say of which namespace the previous id is, so the resolver keeps a guess
for each. A guess that nobody was ever seen with is hidden: it is left out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.clock import isoformat
from cdp.domain.identifier import format_profile_id, parse_profile_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.identity.profiles import Profile, Profiles

Json = dict[str, Any]

# What each kind of statement says about two identifiers.
KINDS: Final = {
    "co_occur": "named by one event",
    "identify": "named together by an identify call",
    "alias": "declared to be one person by an alias call",
    "login": "named by a sign-in",
    "crm_row": "in one row of the company's register",
    "manual_link": "joined by an operator",
    "manual_unlink": "parted by an operator",
    "retract": "once doubted by an operator",
}

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def evidence(profiles: Profiles, profile: Profile) -> Json:
    """What was believed to make this profile, in the order it was, and what was not believed."""
    found = _decode(profiles.resolver.explain(profile.profile_id))
    hidden = {member["node"] for member in found["members"] if member["hidden"]}
    accepted = [edge for edge in found["accepted"] if not hidden & {edge["a"], edge["b"]}]
    suppressed = [edge for edge in found["suppressed"] if not hidden & {edge["a"], edge["b"]}]
    names = Names(profiles, [*_ends([*accepted, *suppressed]), *found["shared_neighbours"]])
    return {
        "shared": found["shared"],
        "crowded": found["crowded"],
        "accepted": [_edge(edge, names) for edge in accepted],
        "suppressed": [_edge(edge, names, "reason") for edge in suppressed],
        "shared_neighbours": [names.identifier(node) for node in found["shared_neighbours"]],
    }


def why_one(profiles: Profiles, profile: Profile) -> Json:
    """The identifiers of a profile and the evidence between them, each with a sentence."""
    return {
        "profile_id": format_profile_id(profile.profile_id),
        "state": profile.state,
        "shared": profile.shared,
        "identifiers": [
            {"namespace": known.identifier.namespace, "value": known.identifier.value}
            for known in profiles.identifiers(profile)
            if not known.shared
        ],
        "evidence": evidence(profiles, profile),
    }


def why_not(profiles: Profiles, a: bytes, b: bytes) -> Json:
    """Why two nodes are not one profile, along the shortest way of evidence between them."""
    found = _decode(profiles.resolver.why_not(a, b))
    shared = found.get("shared", [])
    names = Names(profiles, [*_ends(found["path"]), *shared])
    return {
        "one_profile": found["one_profile"],
        "reason": found["reason"],
        "shared": [names.identifier(node) for node in shared],
        "path": [_edge(step, names, "outcome") for step in found["path"]],
    }


def first_seen(profiles: Profiles, profile: Profile) -> dict[bytes, int]:
    """When each member was first named, by the evidence."""
    found = _decode(profiles.resolver.explain(profile.profile_id))
    return {bytes.fromhex(member["node"]): member["first_us"] for member in found["members"]}


class Names:
    """The identifiers behind nodes that are written in hexadecimal."""

    def __init__(self, profiles: Profiles, nodes: Iterable[str]) -> None:
        known = {node: parse_profile_id(node) for node in nodes}
        values = profiles.values([node for node in known.values() if node is not None])
        self._identifiers = {text: values.get(node or b"") for text, node in known.items()}

    def identifier(self, node: str) -> Json:
        """A node with its identifier, where that is still stored."""
        found = self._identifiers.get(node)
        if found is None:
            return {"node": node}
        return {"node": node, "namespace": found.namespace, "value": found.value}

    def text(self, node: str) -> str:
        """An identifier as a person reads it."""
        found = self._identifiers.get(node)
        return f"identifier {node[:8]}…" if found is None else f"{found.namespace} {found.value}"


def _ends(edges: list[Json]) -> list[str]:
    """Every node that edges and the reasons beside them name."""
    nodes = [edge[end] for edge in edges for end in ("a", "b")]
    for edge in edges:
        reason = edge.get("reason") or edge.get("outcome") or {}
        nodes += reason.get("witness", [])
    return nodes


def _edge(edge: Json, names: Names, told: str | None = None) -> Json:
    """One piece of evidence. `told` is the key of what became of it, where that is part of it."""
    found = {name: value for name, value in edge.items() if name != "sources"}
    outcome: Json = (edge[told] if told else None) or {}
    found |= {
        "sentence": _sentence(edge, names, outcome),
        "a": names.identifier(edge["a"]),
        "b": names.identifier(edge["b"]),
        "first_seen_at": _time(edge["first_us"]),
    }
    if told and outcome:
        witness = [names.identifier(node) for node in outcome.get("witness", [])]
        found[told] = outcome | {"witness": witness}
    return found


def _sentence(edge: Json, names: Names, outcome: Json) -> str:
    said = ", ".join(KINDS.get(kind, kind) for kind in edge["kinds"]) or "said to be one"
    text = f"{names.text(edge['a'])} and {names.text(edge['b'])}: {said}"
    if first := _time(edge["first_us"]):
        text += f", first {first}"
    if not edge.get("joined", True):
        text += "; only confirms what other evidence joined"
    return text + _because(names, outcome)


def _because(names: Names, outcome: Json) -> str:
    """Why a piece of evidence joined nobody; empty where it did."""
    rule = outcome.get("rule")
    witness = " and ".join(names.text(node) for node in outcome.get("witness", []))
    if rule == "limit":
        limit, namespace = outcome["limit"], outcome["namespace"]
        return f"; not believed: a profile has at most {limit} {namespace}, and {witness} are two"
    if rule == "cannot_link":
        return f"; not believed: an operator parted {witness}"
    if rule == "hull_nodes_max":
        return f"; not believed: a person has at most {outcome['limit']} identifiers"
    if rule == "shared":
        return "; joins nobody: one of them is shared by several people"
    return ""


def _time(time_us: int | None) -> str | None:
    return None if time_us is None else isoformat(time_us)
