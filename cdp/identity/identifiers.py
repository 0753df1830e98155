"""The evidence in an event: whom it names, and how strongly that links them. Pure.

Whom an event names is decided in `cdp.domain.naming`, for ingestion and identity alike. Here is
only what the resolver needs besides: when, of what kind, from which source.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from cdp.domain.naming import Named, named_in

if TYPE_CHECKING:
    from cdp.identity.facts import EventFacts

Observed = tuple[int, int, int, list[Named]]  # what the resolver takes

# The resolver's codes of evidence, in the order of `cdp/_matcher.pyi`; a test compares them.
CO_OCCUR: Final = 0
IDENTIFY: Final = 1
ALIAS: Final = 2


def observation(event: EventFacts) -> Observed:
    """The evidence in an event: when, of what kind, from which source, and whom it names."""
    context = event.context
    named = named_in(event, context.traits, context.device, context.external_ids)
    kind = CO_OCCUR
    if event.type == "identify":
        kind = IDENTIFY
    elif event.type == "alias" and len(named) > 1:
        kind = ALIAS
    return (max(0, event.event_time_us), kind, source_ordinal(event.source), named)


@lru_cache(maxsize=1_024)
def source_ordinal(name: str) -> int:
    """The bit of a source in evidence, 0 to 31: a function of its name, not of arrival order.

    Two sources may share a bit; the set then shows one of them, and resolution does not change.
    """
    return blake2b(name.encode(), digest_size=1).digest()[0] & 31
