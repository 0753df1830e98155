"""What a start of the daemon leaves in the audit log: the configuration, and changed purposes.

What a destination is used for is set in files, so nobody is there to record a change when it is
made. It is found at the next start, by comparison with the start before.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cdp.consent.audit import AuditLog
    from cdp.storage.store import Store

_USES_KEY: Final = b"audit:uses"

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(dict[str, list[str]]).decode


def record_start(
    store: Store,
    audit: AuditLog,
    *,
    configuration: bytes,
    uses: Mapping[str, Collection[str]],
    plan_sha256: str = "",
    version: str = "",
) -> int:
    """Records the start; returns how many destinations are used otherwise than at the last one.

    `configuration` is the text of the file, of which the hash is kept; `uses` the purposes of each
    destination that is switched on.
    """
    batch = store.batch()
    stored = store.get("meta", _USES_KEY)
    before = _decode(stored) if stored else {}
    now = {name: sorted(purposes) for name, purposes in uses.items()}
    changed = sorted(
        name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
    )
    for name in changed:
        audit.add(
            batch,
            actor="cdp",
            action="mapping_changed",
            object=name,
            details={
                "destination": name,
                "before": before.get(name),  # None: it was not there, or not switched on
                "purposes": now.get(name),
            },
        )
    digest = sha256(configuration).hexdigest()
    audit.add(
        batch,
        actor="cdp",
        action="configuration_loaded",
        object=digest,
        details={"sha256": digest, "plan_sha256": plan_sha256, "version": version},
    )
    batch.put("meta", _USES_KEY, _encode(now))
    store.write(batch)
    return len(changed)
