"""The files of a new destination plugin: complete, and green before the first change."""

from __future__ import annotations

from typing import Final

_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "cdp-destination-@name@"
version = "0.1.0"
description = "A destination of cdp: @name@."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["cdp>=0.1,<0.2"]

[project.optional-dependencies]
dev = ["pytest>=8.4", "pytest-trio>=0.8"]

# The name is what cdp.toml writes as `type`.
[project.entry-points."cdp.destinations"]
@name@ = "cdp_destination_@name@:@class@"

[tool.hatch.build.targets.wheel]
packages = ["src/cdp_destination_@name@"]

[tool.pytest.ini_options]
trio_mode = true
testpaths = ["tests"]
"""

_README: Final = """\
# cdp-destination-@name@

Delivers events to @name@.

```toml
[destinations.my_@name@]
type = "@name@"
purposes = ["marketing"]
settings = { endpoint = "https://api.example.com/events", api_key = "env:@upper@_KEY" }
```

`pip install -e '.[dev]'` and `pytest`. The contract is described in the docstrings of
`cdp.delivery`; `tests/test_contract.py` holds the plugin to it.

## Erasure

@name@ is not asked to forget people yet: each erasure is a task for a person. Write `erase` and set
`erases`, or say here why the service cannot.
"""

_MODULE: Final = '''\
"""Delivers events to @name@: one POST a batch, a JSON array of events."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from cdp.delivery import (
    Delivered,
    Delivery,
    Destination,
    Erasure,
    ErasureOutcome,
    ErasureUnsupported,
    Outcome,
    Rejected,
    Retry,
    Secret,
    Settings,
    retry_after_s,
)


class @class@Settings(Settings, frozen=True):
    """What an operator writes under `settings`."""

    endpoint: str
    api_key: Secret | None = None  # "env:NAME" or "file:PATH"; its repr never shows it


class @class@(Destination[@class@Settings]):
    """Posts what it is given. Consent, retries, rate and order are the host's."""

    settings_type = @class@Settings
    purposes = frozenset({"marketing"})  # nothing is delivered without this consent
    batch_max = 100
    batch_atomic = True  # the service takes or refuses a request as a whole
    rate_per_s_max = 10.0
    erases = False  # True as soon as `erase` asks the service itself

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """One request for the batch, one outcome for each delivery."""
        items = [to_item(delivery) for delivery in batch]
        try:
            answer = await self.http.post(
                self.settings.endpoint, json=items, headers=self._headers()
            )
        except httpx.HTTPError as error:
            return [Retry(type(error).__name__)] * len(batch)
        return [outcome_of(answer, self.host.clock.now_us())] * len(batch)

    async def erase(self, erasure: Erasure) -> ErasureOutcome:
        """Has the service forget a person; where it has no call for that, a person is told how.

        Answer `Erased`, `ErasureAccepted` (then write `erasure_status` too) or `ErasureRetry`.
        """
        return ErasureUnsupported(
            "find the person in @name@ by the identifiers of this request, and delete them there"
        )

    async def check(self) -> None:
        """Whether the service could be reached now."""
        answer = await self.http.post(self.settings.endpoint, json=[], headers=self._headers())
        answer.raise_for_status()

    def _headers(self) -> dict[str, str]:
        if self.settings.api_key is None:
            return {}
        return {"authorization": f"Bearer {self.settings.api_key.reveal()}"}


def to_item(delivery: Delivery) -> dict[str, object]:
    """One delivery in the service's own form. Pure, so most tests need no server."""
    return {
        "id": delivery.delivery_id,  # the same over every attempt: the service can tell repeats
        "profile_id": delivery.profile_id,
        "event": delivery.event,
    }


def outcome_of(answer: httpx.Response, now_us: int) -> Outcome:
    """What the service's answer means."""
    if answer.is_success:
        return Delivered()
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        after_s = retry_after_s(answer.headers.get("retry-after"), now_us)
        return Retry(f"answered {answer.status_code}", after_s=after_s)
    return Rejected(f"answered {answer.status_code}")
'''

_TEST: Final = '''\
"""The plugin keeps the contract of destinations, and says what it means to say."""

import httpx

from cdp.delivery import Delivered, Delivery, ErasureUnsupported, Rejected, Retry
from cdp.testing import check_destination, make_erasure, open_destination
from cdp_destination_@name@ import @class@, @class@Settings, outcome_of, to_item

SETTINGS = @class@Settings(endpoint="https://service.test/events")


async def test_the_contract_holds():
    await check_destination(@class@, SETTINGS)


async def test_until_it_can_erase_it_says_how_to_do_it_by_hand():
    async with open_destination(@class@, SETTINGS) as destination:
        outcome = await destination.erase(make_erasure())
    assert isinstance(outcome, ErasureUnsupported)
    assert "@name@" in outcome.instructions


def test_an_item_carries_the_id_that_repeats_share():
    delivery = Delivery(delivery_id="d1", kind="event", profile_id="p", event={"type": "track"})
    assert to_item(delivery) == {"id": "d1", "profile_id": "p", "event": {"type": "track"}}


def test_not_now_is_tried_again_and_never_is_not():
    assert outcome_of(httpx.Response(200), 0) == Delivered()
    assert outcome_of(httpx.Response(503), 0) == Retry("answered 503")
    assert outcome_of(httpx.Response(400), 0) == Rejected("answered 400")
'''


def files_of(name: str) -> dict[str, str]:
    """The files of a plugin of this type name, by their place in its directory."""
    package = f"cdp_destination_{name}"
    templates = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"src/{package}/__init__.py": _MODULE,
        f"src/{package}/py.typed": "",
        "tests/test_contract.py": _TEST,
    }
    return {path: _filled(template, name) for path, template in templates.items()}


def _filled(template: str, name: str) -> str:
    class_name = "".join(part.capitalize() for part in name.split("_"))
    return (
        template.replace("@name@", name)
        .replace("@class@", class_name)
        .replace("@upper@", name.upper())
    )
