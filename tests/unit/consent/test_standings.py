"""Where people stand, as delivery asks: the person of an event, and whose it became by a split."""

from __future__ import annotations

import pytest

from cdp.domain.consent import Latest, Standing
from cdp.governance import Standings

ANN, BOB, DEVICE, NEW = (bytes([n]) * 16 for n in (1, 2, 3, 4))
WITHDRAWN = Standing({"ads": Latest("denied", 1)})


class People:
    """Ann has the id of a profile that was merged into hers; a device is several people's."""

    ready = True

    def profile_of(self, node: bytes) -> bytes | None:
        return {ANN: NEW, NEW: NEW, BOB: BOB, DEVICE: DEVICE}.get(node)

    def is_shared(self, node: bytes) -> bool:
        return node == DEVICE


class Ledger:
    def standing(self, profile_id: bytes) -> Standing:
        assert profile_id == BOB
        return WITHDRAWN


@pytest.mark.parametrize(
    ("leaf", "profile_id", "found"),
    [
        (BOB, ANN, WITHDRAWN),  # a split made him a person of his own
        (ANN, ANN, None),  # a merge since then: still one person
        (NEW, ANN, None),
        (DEVICE, ANN, None),  # she was signed in there; the device is nobody's word
        (bytes(16), ANN, None),  # erased
    ],
)
def test_who_is_asked_beside_the_person_of_the_event(leaf, profile_id, found):
    standings = Standings(Ledger(), People(), None)  # type: ignore[arg-type]
    assert standings.standing_apart(leaf, profile_id) is found
