"""The endpoints of consent: `/v1/consent`, its history, and restriction of processing.

What is recorded here has the authority of a server: it can grant what a person denied to a public
key, and its denials hold against every public key. Whoever has the token of the control plane can
do that; `by` says who it was and goes into the record and the audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.routing import Route

from cdp.consent.desk import ConsentOrder
from cdp.console import query
from cdp.console.answers import answer, body_of
from cdp.console.privacy_routes import read_identifiers
from cdp.console.surface import Refused
from cdp.domain.consent import Proof

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.responses import Response

    from cdp.console.privacy_surface import Identifiers

Json = dict[str, Any]

KINDS: Final = ("api", "console", "request")  # how it came to whoever records it
PURPOSES_MAX: Final = 1_000
WORDS_CHARS_MAX: Final = 500
SIGNAL_CHARS_MAX: Final = 4 * 2**10

_ORDER: Final = frozenset(
    {
        *("identifiers", "purposes", "consent_state", "kind", "by", "at", "expires_at"),
        *("jurisdiction", "objection", "proof"),
    }
)
_PROOF: Final = frozenset(
    {
        *("policy", "policy_version", "text_sha256", "language", "method", "notice", "signal"),
        *("signal_sha256", "origin", "request_id"),
    }
)


class ConsentSurface(Protocol):
    """What the control plane asks of consent. `cdp.consent.desk.ConsentDesk` is one."""

    def consent_of(self, namespace: str, value: str) -> Json: ...

    def consent_history(self, namespace: str, value: str) -> list[Json]: ...

    async def record_consent(self, order: ConsentOrder) -> Json: ...

    async def restrict_processing(
        self, identifiers: Identifiers, *, on: bool, by: str, reason: str
    ) -> Json: ...


class ConsentRoutes:
    """The endpoints."""

    def __init__(self, surface: ConsentSurface) -> None:
        self._surface = surface

    def routes(self) -> list[Route]:
        """Every route of consent."""
        return [
            Route("/v1/consent", self.show, methods=["GET"]),
            Route("/v1/consent", self.record, methods=["POST"]),
            Route("/v1/consent/history", self.history, methods=["GET"]),
            Route("/v1/consent/restriction", self.restrict, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """`identifier=namespace:value`: where the person stands now."""
        return answer(self._surface.consent_of(*_person(request)))

    async def history(self, request: Request) -> Response:
        """`identifier=namespace:value`: everything that was said, oldest first, with proof."""
        return answer({"data": self._surface.consent_history(*_person(request))})

    async def record(self, request: Request) -> Response:
        """Records a statement; see `ConsentOrder` for the members of the body."""
        order = read_order(await body_of(request))
        return answer(await self._surface.record_consent(order), 201)

    async def restrict(self, request: Request) -> Response:
        """`{"identifiers", "on", "by", "reason"}`: processing is restricted, or no longer."""
        body = await body_of(request)
        _only(body, {"identifiers", "on", "by", "reason"}, "a restriction")
        if not isinstance(on := body.get("on"), bool):
            raise Refused("on must be true or false")
        if (reason := _text(body, "reason")) is None:
            raise Refused("say why: reason")
        done = await self._surface.restrict_processing(
            read_identifiers(body.get("identifiers")),
            on=on,
            by=_text(body, "by") or "operator",
            reason=reason,
        )
        return answer(done)


def read_order(body: Json) -> ConsentOrder:
    """A statement from the body of an order. Raises Refused."""
    _only(body, _ORDER, "a statement")
    if ("purposes" in body) == ("consent_state" in body):
        raise Refused("give either purposes or consent_state")
    kind = body.get("kind", "api")
    if kind not in KINDS:
        raise Refused(f"kind must be one of {', '.join(KINDS)}")
    if not isinstance(objection := body.get("objection", False), bool):
        raise Refused("objection must be true or false")
    times = {name: _text(body, name) or "" for name in ("at", "expires_at")}
    return ConsentOrder(
        identifiers=read_identifiers(body.get("identifiers")),
        purposes=_purposes(body.get("purposes", {})),
        consent_state=body.get("consent_state"),
        kind=kind,
        by=_text(body, "by") or "operator",
        at_us=query.time_of(times, "at"),
        jurisdiction=(_text(body, "jurisdiction") or "").upper(),
        objection=objection,
        expires_at_us=query.time_of(times, "expires_at"),
        proof=_proof(body.get("proof", {})),
    )


def _purposes(value: Any) -> dict[str, bool]:
    if (
        not isinstance(value, dict)
        or len(value) > PURPOSES_MAX
        or not all(isinstance(granted, bool) for granted in value.values())
    ):
        raise Refused('purposes must be an object of true and false, such as {"ads": false}')
    return value


def _proof(value: Any) -> Proof:
    if not isinstance(value, dict):
        raise Refused("proof must be an object")
    _only(value, _PROOF, "a proof")
    chars_max = {"signal": SIGNAL_CHARS_MAX}
    return Proof(**{name: _text(value, name, chars_max.get(name)) for name in value})


def _person(request: Request) -> tuple[str, str]:
    # A parameter is decoded already; a percent sign in it is the identifier's own.
    key = request.query_params.get("identifier", "")
    namespace, colon, value = key.partition(":")
    if not colon or not namespace or not value or len(key) > query.KEY_CHARS_MAX:
        raise Refused("name a person as identifier=namespace:value, such as user_id:42")
    return namespace.lower(), value


def _only(body: Json, known: Collection[str], what: str) -> None:
    if unknown := sorted(body.keys() - set(known)):
        raise Refused(
            f"{unknown[0]!r} is no member of {what}, which has {', '.join(sorted(known))}"
        )


def _text(body: Json, name: str, chars_max: int | None = None) -> str | None:
    value = body.get(name)
    most = chars_max or WORDS_CHARS_MAX
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        raise Refused(f"{name} must be a text of 1 to {most} chars")
    return value
