"""Delivery: one actor per destination, each with its own cursor. What plugin authors import.

The names below are the contract between a destination plugin and its host; everything else in
this package is the host's own.
"""

from cdp.delivery.destination import (
    Delivered,
    Delivery,
    Destination,
    Host,
    Outcome,
    Rejected,
    Retry,
    Secret,
    Settings,
)
from cdp.delivery.schedule import retry_after_s

__all__ = [
    "Delivered",
    "Delivery",
    "Destination",
    "Host",
    "Outcome",
    "Rejected",
    "Retry",
    "Secret",
    "Settings",
    "retry_after_s",
]
