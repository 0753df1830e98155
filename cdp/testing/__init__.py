"""What authors of destination plugins import for their tests."""

from cdp.testing.conformance import check_destination, open_destination
from cdp.testing.factories import make_change, make_delivery, make_erasure, make_event
from cdp.testing.faults import Answer, Drop, Fault, Hang, Refuse, Service
from cdp.testing.server import serve
from cdp.testing.world import FakeNetwork, TrioClock, make_environment

__all__ = [
    "Answer",
    "Drop",
    "FakeNetwork",
    "Fault",
    "Hang",
    "Refuse",
    "Service",
    "TrioClock",
    "check_destination",
    "make_change",
    "make_delivery",
    "make_environment",
    "make_erasure",
    "make_event",
    "open_destination",
    "serve",
]
