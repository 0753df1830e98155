"""The week of a small tea shop: who did what, when, and what they allowed.

Each call is one call of the Segment SDK with its virtual time. What must become of it follows from
the call alone, so the demo can check the daemon's books against the story.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

BOTH = {"analytics": True, "marketing": True}
NO_MARKETING = {"analytics": True, "marketing": False}
NOTHING = {"analytics": False, "marketing": False}

# What holds for an event that says nothing about consent; the demo's cdp.toml says the same.
DEFAULTS = {"analytics": True, "marketing": False}

ADA = {"email": "ada@example.com", "name": "Ada Brewster", "phone": "+1 415 555 2671"}
BEN = {"email": "ben@example.com", "name": "Ben Oolong"}
CLEO = {"email": "cleo@example.com", "name": "Cleo Rooibos"}
DORA = {"email": "dora@example.com", "name": "Dora Chai", "address": {"city": "Köln"}}


@dataclass(frozen=True)
class Call:
    """One call of the SDK."""

    when: str  # "mon 09:12"
    method: str
    arguments: dict[str, Any]
    source: str = "website"
    consent: dict[str, bool] | None = None
    again: bool = False  # the same messageId as before: the network made the sender send it twice
    refused: bool = False  # cannot be accepted

    @property
    def day(self) -> str:
        return self.when.split()[0]

    @property
    def message_id(self) -> str:
        """Says when it happened, so that a person can find it again."""
        return "shop-" + self.when.replace(" ", "-").replace(":", "")

    def time(self, monday: datetime) -> datetime:
        """When it happened; Sunday is today, and what happens then happens now.

        A denial counts from when it was heard, so that nobody's clock can put a yes behind it.
        """
        day, clock = self.when.split()
        if day == DAYS[-1]:
            return datetime.now(UTC)
        hour, minute = clock.split(":")
        return monday + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))

    def allows(self, purpose: str) -> bool:
        """Whether a destination with this purpose may have it."""
        return (DEFAULTS if self.consent is None else self.consent).get(purpose, False)

    def sdk_arguments(self, monday: datetime) -> dict[str, Any]:
        """What the SDK's method is given."""
        context = dict(self.arguments.get("context", {}))
        if self.consent is not None:
            context["consent"] = {"categoryPreferences": self.consent}
        return {
            **self.arguments,
            "context": context,
            "timestamp": self.time(monday),
            "message_id": self.message_id,
        }


@dataclass(frozen=True)
class Expected:
    """What must become of the calls."""

    accepted: int
    duplicate: int
    rejected: int
    delivered: dict[str, int] = field(default_factory=dict)  # by purpose


def expected(calls: list[Call]) -> Expected:
    """The books that the story makes."""
    good = [call for call in calls if not call.refused]
    first = [call for call in good if not call.again]
    return Expected(
        accepted=len(first),
        duplicate=len(good) - len(first),
        rejected=len(calls) - len(good),
        delivered={purpose: sum(call.allows(purpose) for call in first) for purpose in DEFAULTS},
    )


def week() -> list[Call]:
    """Every call, in the order in which the senders made them."""
    calls = [*_ada(), *_tablet(), *_dora(), *_mishaps()]
    return sorted(calls, key=lambda call: (DAYS.index(call.day), call.when, call.again))


def _page(when: str, device: str, path: str, **more: Any) -> Call:
    properties = {"path": path, "url": f"https://tea.example{path}"}
    arguments = {"anonymous_id": device, "name": path, "properties": properties}
    return Call(when, "page", arguments, **more)


def _track(when: str, event: str, who: dict[str, str], properties: Any, **more: Any) -> Call:
    return Call(when, "track", {**who, "event": event, "properties": properties}, **more)


def _order(when: str, user: str, number: int, total: float, **more: Any) -> Call:
    order = {"order_id": f"T-{number}", "total": total, "currency": "EUR"}
    who = {"user_id": user}
    return _track(when, "Order Completed", who, order, source="backend", **more)


def _sign_in(when: str, user: str, device: str, traits: dict[str, Any], **more: Any) -> Call:
    arguments = {"user_id": user, "anonymous_id": device, "traits": traits}
    return Call(when, "identify", arguments, **more)


def _ada() -> Iterator[Call]:
    """Ada looks around on two devices before she says who she is: both become hers."""
    phone = {"anonymous_id": "ada-phone"}
    yield _page("mon 08:41", "ada-phone", "/")
    yield _page("mon 08:42", "ada-phone", "/oolong")
    yield _track("mon 08:44", "Product Viewed", phone, {"sku": "OOL-1", "price": 12.5})
    yield _page("tue 20:10", "ada-laptop", "/gift-sets")
    yield _track("tue 20:15", "Product Added", {"anonymous_id": "ada-laptop"}, {"sku": "SET-3"})
    yield _sign_in("wed 19:02", "cust-ada", "ada-laptop", {**ADA, "plan": "free"}, consent=BOTH)
    yield _order("wed 19:10", "cust-ada", 1001, 34.9, consent=BOTH)
    yield _sign_in("thu 12:30", "cust-ada", "ada-phone", {"plan": "club"}, consent=BOTH)
    yield _page("thu 12:31", "ada-phone", "/club", consent=BOTH)
    club = {"user_id": "cust-ada", "group_id": "tea-club", "traits": {"name": "The Tea Club"}}
    yield Call("fri 09:00", "group", club, consent=BOTH)
    yield _order("sat 10:20", "cust-ada", 1007, 58.0, consent=BOTH)


def _tablet() -> Iterator[Call]:
    """The shop's own tablet: two customers use it, and stay two people."""
    tablet = {"anonymous_id": "counter-tablet"}
    yield _page("tue 09:55", "counter-tablet", "/")
    yield _sign_in("tue 10:00", "cust-ben", "counter-tablet", BEN, consent=BOTH)
    yield _track("tue 10:04", "Product Viewed", tablet, {"sku": "ROO-2"}, consent=BOTH)
    yield _order("tue 10:12", "cust-ben", 1002, 12.5, consent=BOTH)
    yield _sign_in("tue 14:00", "cust-cleo", "counter-tablet", CLEO, consent=NO_MARKETING)
    yield _track("tue 14:03", "Product Viewed", tablet, {"sku": "MAT-9"}, consent=NO_MARKETING)
    yield _order("tue 14:20", "cust-cleo", 1003, 27.0, consent=NO_MARKETING)
    yield _sign_in("fri 17:00", "cust-ben", "counter-tablet", {}, consent=BOTH)
    yield _track("fri 17:05", "Product Viewed", tablet, {"sku": "ROO-2"}, consent=BOTH)
    yield _order("fri 17:15", "cust-ben", 1006, 12.5, consent=BOTH)


def _dora() -> Iterator[Call]:
    """Dora allows marketing, withdraws it, withdraws everything, and comes back."""
    yield _sign_in("mon 18:00", "cust-dora", "dora-browser", DORA, consent=BOTH)
    yield _order("mon 18:09", "cust-dora", 1000, 19.0, consent=BOTH)
    yield _sign_in("wed 11:00", "cust-dora", "dora-browser", {}, consent=NO_MARKETING)
    yield _order("thu 16:45", "cust-dora", 1004, 44.0, consent=NO_MARKETING)
    yield _page("fri 08:00", "dora-browser", "/privacy", consent=NOTHING)
    yield _sign_in("sun 11:30", "cust-dora", "dora-browser", {"newsletter": True}, consent=BOTH)
    yield _order("sun 11:40", "cust-dora", 1008, 21.0, consent=BOTH)


def _mishaps() -> Iterator[Call]:
    """A sender that repeats itself, and one that forgets what an event is called."""
    yield _order("wed 19:10", "cust-ada", 1001, 34.9, consent=BOTH, again=True)
    yield _order("tue 10:12", "cust-ben", 1002, 12.5, consent=BOTH, again=True)
    yield _order("sun 11:40", "cust-dora", 1008, 21.0, consent=BOTH, again=True)
    nameless = {"user_id": "cust-ada", "event": "", "properties": {"order_id": "T-1005"}}
    yield Call("fri 13:13", "track", nameless, source="backend", consent=BOTH, refused=True)
