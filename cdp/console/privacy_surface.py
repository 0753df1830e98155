"""What the control plane can ask and order about people's rights. `cdp.app` provides it.

As in `cdp.console.surface`: the routes turn HTTP into these calls and decide nothing, answers are
plain JSON values. A request is told as

    {"id": 32 hexadecimal digits, "kind": ..., "state": ..., "external_id": ..., "received_at": ...,
     "regulation": ..., "due_at": ..., "stages": {stage: time}, "exports": ["json", "html"],
     "stores": [{"store", "state", ...}], "destinations": [{"destination", "state", ...}], ...}

with the states of `STATES`, and never with the identifiers that it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from cdp.console.surface import Listing

Json = dict[str, Any]
Identifiers = tuple[tuple[str, str], ...]

Kind = Literal["erasure", "access", "portability", "restriction", "suppression"]
KINDS: Final = ("erasure", "access", "portability", "restriction", "suppression")

# Where a request can stand, in the order of its life. The first four can still be cancelled.
STATES: Final = (
    "received",
    "on_hold",
    "verified",
    "approved",
    "sealed",
    "shredding",
    "purging",
    "verifying",
    "downstream",
    "complete",
    "partially_complete",
    "denied",
    "cancelled",
)
CANCELLABLE: Final = frozenset({"received", "on_hold", "verified", "approved"})
ENDED: Final = frozenset({"complete", "partially_complete", "denied", "cancelled"})


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it was made. `identifiers`: (namespace, value), one or more of one person.

    `suppress` and `downstream` are about erasure only: whether the person is kept from coming back,
    and whether destinations are told. `lift` is about restriction: it ends one. `hold` is a reason
    to wait, such as a legal claim. `channel`: api, opendsr or regulation. Where `verified_by` is
    given, whoever asks has seen to it that the person is who they say, and answers for it.
    """

    kind: Kind
    identifiers: Identifiers
    external_id: str = ""
    regulation: str = ""
    hold: str = ""
    channel: str = "api"
    verified_by: str = ""
    suppress: bool = True
    downstream: bool = True
    lift: bool = False


class PrivacySurface(Protocol):
    """People's rights, as the control plane sees them."""

    async def submit_request(self, asked: Asked) -> Json:
        """Records a request, durably, and returns it. The same `external_id` again: the same one.

        Raises Refused: no identifier is usable, or the kind makes no sense for them.
        """
        ...

    def list_requests(
        self, after: str | None, limit: int, *, kind: str | None, state: str | None
    ) -> Listing:
        """Requests, newest first."""
        ...

    def request(self, request_id: str) -> Json:
        """One request with the matrix of its stores and destinations. Raises NotFound."""
        ...

    async def cancel_request(self, request_id: str, *, by: str) -> Json:
        """Only before it was sealed. Raises NotFound, Refused."""
        ...

    async def verify_request(self, request_id: str, *, by: str, method: str) -> Json:
        """The person is who they say. Raises NotFound, Refused."""
        ...

    async def approve_request(self, request_id: str, *, by: str) -> Json:
        """It may run, once it is verified and not on hold. Raises NotFound, Refused."""
        ...

    async def deny_request(self, request_id: str, *, by: str, reason: str) -> Json:
        """It will not run. Raises NotFound, Refused."""
        ...

    async def hold_request(self, request_id: str, *, by: str, reason: str) -> Json:
        """It waits for something, such as a legal claim. Raises NotFound, Refused."""
        ...

    async def release_request(self, request_id: str, *, by: str) -> Json:
        """It need not wait any more; it has to be approved anew. Raises NotFound, Refused."""
        ...

    async def attest_erasure(
        self, request_id: str, destination: str, *, by: str, file_sha256: str
    ) -> Json:
        """A person did by hand what a destination has no call for. Raises NotFound, Refused."""
        ...

    def receipt(self, request_id: str) -> Json:
        """What was done, where and when, as proof. Raises NotFound, Refused where it runs yet."""
        ...

    async def read_export(
        self, request_id: str, form: str, offset: int, length: int
    ) -> bytes | None:
        """A part of the document that was made; empty at its end, None where there is none."""
        ...

    def why_person(self, namespace: str, value: str) -> Json:
        """What is held, on what ground, suppressed or not, and who ever got it."""
        ...

    def why_delivery(
        self, destination: str, *, message_id: str | None, person: tuple[str, str] | None
    ) -> Json:
        """Whether an event, or anything of a person, may go there now, and why. Raises NotFound."""
        ...

    async def unsuppress(self, identifiers: Identifiers, *, by: str, reason: str) -> Json:
        """Lets an identifier be heard of again. What was erased stays erased."""
        ...

    def suppressions(self, after: str | None, limit: int) -> Listing:
        """What is suppressed: keyed hashes, since when and why. Nobody can be read from it."""
        ...

    async def privacy_audit(self) -> Json:
        """Fields without a purpose, fields that nobody uses, data past its retention.

        {"findings": [{"kind", "where", "text", "count"}, ...]}
        """
        ...
