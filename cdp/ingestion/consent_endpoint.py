"""A statement about purposes without an event: the body of `POST /v1/consent`.

It says who, what, and what shows it. Whose word it is, and whether its grants count, is decided by
the write key as for events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from cdp.domain.event import EVENT_SCHEMA, Event
from cdp.domain.identifier import NAMESPACE_CODE
from cdp.domain.naming import ANONYMOUS_ID, USER_ID, VALUE_CHARS_MAX
from cdp.ingestion.decoding import JSON_ERRORS, decode_json, repair
from cdp.ingestion.hearing import statements_in
from cdp.ingestion.normalisation import read_id
from cdp.ingestion.refusal import Refusal
from cdp.ingestion.responses import json_answer
from cdp.ingestion.timestamps import event_time_us, parse_time

if TYPE_CHECKING:
    from cdp.domain.consent import Proof, Statement
    from cdp.domain.naming import Named
    from cdp.ingestion.stamp import Sender
    from cdp.ingestion.submission import Spoken

IDENTIFIERS_MAX: Final = 20
PURPOSES_MAX: Final = 1_000
_TEXT_CHARS_MAX: Final = 200

GPC_ANSWER: Final = json_answer(
    {"gpc": True, "lastUpdate": "2026-11-22"}, headers=b"Cache-Control: max-age=86400\r\n"
)
NOTED: Final = json_answer({"success": True})

# Proof in the words of the wire; the other fields of a proof are ours to say.
_PROOF: Final = (
    ("policy", "policy"),
    ("policyVersion", "policy_version"),
    ("textSha256", "text_sha256"),
    ("language", "language"),
    ("method", "method"),
    ("notice", "notice"),
    ("actor", "actor"),
)


def read_statement(body: bytes, sender: Sender, received_at_us: int) -> list[Spoken]:
    """What the body of a request states, as the ledger takes it.

    Raises:
        Refusal: 400, the body is not an object, names nobody, or says nothing that can be read.
    """
    wire = _object(body)
    named = _named(wire)
    if not named:
        text = "give userId, anonymousId or identifiers"
        raise Refusal(400, "no_identifier", text)
    consent: dict[str, Any] = {
        key: wire[key] for key in ("tcf", "gpp", "gpc", "policy") if key in wire
    }
    if "purposes" in wire:
        consent["categoryPreferences"] = wire["purposes"]
    said = _said(consent, wire, sender, received_at_us)
    for spoken in said:
        spoken.statement = _completed(spoken.statement, wire)
        spoken.named = named
    return said


def _object(body: bytes) -> dict[str, Any]:
    try:
        wire = decode_json(repair(body))
    except JSON_ERRORS as error:
        raise Refusal(400, "invalid_json", "body is not json") from error
    if type(wire) is not dict:
        raise Refusal(400, "invalid_json", "body must be a json object")
    return wire


def _named(wire: dict[str, Any]) -> list[Named]:
    """`userId`, `anonymousId`, and `identifiers`: {"email": "..."}, by our namespaces."""
    found = [
        (USER_ID, read_id(wire.get("userId"))),
        (ANONYMOUS_ID, read_id(wire.get("anonymousId"))),
    ]
    given = wire.get("identifiers") or {}
    if type(given) is not dict or len(given) > IDENTIFIERS_MAX:
        text = f"identifiers must be an object of at most {IDENTIFIERS_MAX} fields"
        raise Refusal(400, "invalid_request", text)
    for name, value in given.items():
        if name not in NAMESPACE_CODE:
            text = "identifiers has a field that is no namespace; write email, phone, user_id ..."
            raise Refusal(400, "invalid_request", text)
        found.append((NAMESPACE_CODE[name], read_id(value)))
    return [(code, value) for code, value in found if value and len(value) <= VALUE_CHARS_MAX]


def _said(
    consent: dict[str, Any], wire: dict[str, Any], sender: Sender, received_at_us: int
) -> list[Spoken]:
    """Read as the consent object of an event is, so that both are understood alike."""
    context: dict[str, Any] = {"consent": consent}
    context |= {key: wire[key] for key in ("jurisdiction", "location") if key in wire}
    stamp = sender.stamp_of(context)
    if not stamp.readable or (not stamp.present and not stamp.gpc):
        text = "purposes must be an object of true and false, tcf and gpp consent strings"
        raise Refusal(400, "invalid_consent", text)
    if len(stamp.purposes) > PURPOSES_MAX:
        raise Refusal(400, "invalid_consent", f"more than {PURPOSES_MAX} purposes")
    at_us = event_time_us(
        parse_time(wire.get("timestamp")), parse_time(wire.get("sentAt")), received_at_us
    )
    event = Event(EVENT_SCHEMA, "identify", "", sender.source, at_us, received_at_us)
    return statements_in(replace(event, context=context, stamp=stamp), sender)


def _completed(statement: Statement, wire: dict[str, Any]) -> Statement:
    """With what only this route can say: proof, objection, and when it ends."""
    if statement.kind == "gpc":
        return statement
    expires_at_us = parse_time(wire.get("expiresAt"))
    if expires_at_us is None and wire.get("expiresAt") is not None:
        raise Refusal(
            400, "invalid_request", "expiresAt must be a time such as 2027-01-31T00:00:00Z"
        )
    return replace(
        statement,
        kind="api" if statement.kind == "event" else statement.kind,
        objection=wire.get("objection") is True,
        expires_at_us=expires_at_us,
        proof=_with_proof(statement.proof, wire.get("proof")),
    )


def _with_proof(proof: Proof, given: Any) -> Proof:
    if given is None:
        return proof
    if type(given) is not dict:
        raise Refusal(400, "invalid_request", "proof must be an object")
    texts = {
        ours: value[:_TEXT_CHARS_MAX]
        for name, ours in _PROOF
        if type(value := given.get(name)) is str
    }
    return replace(proof, **texts)
