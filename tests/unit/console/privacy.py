"""People's rights as the control plane sees them, for tests: a book of requests in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdp.console.privacy_surface import CANCELLABLE, ENDED
from cdp.console.surface import Listing, NotFound, Refused

RECEIVED = "2026-03-01T12:00:00.000Z"
DUE = "2026-03-31T12:00:00.000Z"


@dataclass
class Book:
    """Keeps requests, and goes exactly as far as it is told to."""

    rows: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    orders: list = field(default_factory=list)
    documents: dict = field(default_factory=dict)
    hashes: list = field(default_factory=list)
    findings: list = field(default_factory=list)
    fails_after: int | None = None

    async def submit_request(self, asked):
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise Refused("no identifier is usable")
        if asked.external_id:
            for row in self.rows.values():
                if row["external_id"] == asked.external_id:
                    return row
        self.asked.append(asked)
        request_id = f"{len(self.rows) + 1:032x}"
        self.rows[request_id] = {
            "id": request_id,
            "kind": asked.kind,
            "state": "verified" if asked.verified_by else "received",
            "external_id": asked.external_id,
            "regulation": asked.regulation,
            "received_at": RECEIVED,
            "due_at": DUE,
            "stages": {},
            "stores": [],
            "destinations": [],
            "exports": [],
        }
        return self.rows[request_id]

    def list_requests(self, after, limit, *, kind, state):
        rows = [
            row
            for row in reversed(self.rows.values())
            if kind in (None, row["kind"]) and state in (None, row["state"])
        ]
        start = 0 if after is None else [row["id"] for row in rows].index(after) + 1
        page = rows[start : start + limit]
        return Listing(page, page[-1]["id"] if start + limit < len(rows) else None)

    def request(self, request_id):
        if request_id not in self.rows:
            raise NotFound("there is no such request")
        return self.rows[request_id]

    def move(self, request_id, state, **more):
        """What the machinery would do."""
        self.request(request_id).update(state=state, **more)

    async def cancel_request(self, request_id, *, by):
        row = self.request(request_id)
        if row["state"] not in CANCELLABLE:
            raise Refused(f"the request is {row['state']}: nothing that was done can be taken back")
        self.orders.append(("cancel", request_id, by))
        row["state"] = "cancelled"
        return row

    async def verify_request(self, request_id, *, by, method):
        self.orders.append(("verify", request_id, by, method))
        self.move(request_id, "verified")
        return self.rows[request_id]

    async def approve_request(self, request_id, *, by):
        if self.request(request_id)["state"] != "verified":
            raise Refused("the request must be verified first")
        self.orders.append(("approve", request_id, by))
        self.move(request_id, "approved")
        return self.rows[request_id]

    async def deny_request(self, request_id, *, by, reason):
        self.orders.append(("deny", request_id, by, reason))
        self.move(request_id, "denied")
        return self.rows[request_id]

    async def hold_request(self, request_id, *, by, reason):
        self.orders.append(("hold", request_id, by, reason))
        self.move(request_id, "on_hold", hold=reason)
        return self.rows[request_id]

    async def release_request(self, request_id, *, by):
        self.orders.append(("release", request_id, by))
        self.move(request_id, "received", hold="")
        return self.rows[request_id]

    async def attest_erasure(self, request_id, destination, *, by, file_sha256):
        self.orders.append(("attest", request_id, destination, by, file_sha256))
        return self.request(request_id)

    def receipt(self, request_id):
        row = self.request(request_id)
        if row["state"] not in ENDED:
            raise Refused("the request runs yet")
        return {"request": row, "signature": "s"}

    async def read_export(self, request_id, form, offset, length):
        document = self.documents.get((request_id, form))
        return None if document is None else document[offset : offset + length]

    def why_person(self, namespace, value):
        return {"identifier": [namespace, value], "suppressed": False}

    def why_delivery(self, destination, *, message_id, person):
        if destination == "gone":
            raise NotFound("no destination is called gone")
        return {"destination": destination, "message_id": message_id, "person": person}

    async def unsuppress(self, identifiers, *, by, reason):
        self.orders.append(("unsuppress", identifiers, by, reason))
        return {"unsuppressed": len(identifiers)}

    def suppressions(self, after, limit):
        start = 0 if after is None else self.hashes.index(after) + 1
        page = self.hashes[start : start + limit]
        items = [{"node": one, "since": RECEIVED, "reason": "erasure"} for one in page]
        return Listing(items, page[-1] if start + limit < len(self.hashes) else None)

    async def privacy_audit(self):
        return {"findings": self.findings}
