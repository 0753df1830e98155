"""Delivery: one actor per destination, each with its own cursor. What plugin authors import.

The names below are the contract between a destination plugin and its host; everything else in
this package is the host's own.
"""

from cdp.delivery.destination import (
    Delivered,
    Delivery,
    Destination,
    Erased,
    Erasure,
    ErasureAccepted,
    ErasureOutcome,
    ErasureRetry,
    ErasureUnsupported,
    Host,
    Outcome,
    Rejected,
    Retry,
    Secret,
    Settings,
)
from cdp.delivery.endpoint import Denied, Endpoint, is_segment
from cdp.delivery.schedule import retry_after_s

__all__ = [
    "Delivered",
    "Delivery",
    "Denied",
    "Destination",
    "Endpoint",
    "Erased",
    "Erasure",
    "ErasureAccepted",
    "ErasureOutcome",
    "ErasureRetry",
    "ErasureUnsupported",
    "Host",
    "Outcome",
    "Rejected",
    "Retry",
    "Secret",
    "Settings",
    "is_segment",
    "retry_after_s",
]
