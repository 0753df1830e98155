"""A delivery's id says the same thing for ever; these values may never change."""

from __future__ import annotations

from cdp.delivery.owed import DeliveryIds
from cdp.domain.change import MERGED, SPLIT
from cdp.testing import make_event


def test_ids_of_events_are_stable_over_releases():
    assert DeliveryIds("out").of_event(make_event(1)) == "89b66adc2e18c1fb896b2c55b6d6f271"


def test_ids_of_other_activations_are_stable_over_releases():
    assert DeliveryIds("out").of_place(MERGED, 7) == "67be6268cf0aacf9a0012dfc75036241"


def test_destination_source_and_message_each_make_another_id():
    out = DeliveryIds("out")
    ids = {
        out.of_event(make_event(1)),
        out.of_event(make_event(2)),
        out.of_event(make_event(1, source="app")),
        out.of_event(make_event(1, source="shop\x00message", message_id="1")),
        DeliveryIds("in").of_event(make_event(1)),
        out.of_place(MERGED, 1),
        out.of_place(SPLIT, 1),
        out.of_place(MERGED, 2),
    }
    assert len(ids) == 8


def test_only_what_names_the_event_is_in_its_id():
    out = DeliveryIds("out")
    changed = make_event(1, user_id="other", properties={}, received_at_us=5)
    assert out.of_event(changed) == out.of_event(make_event(1))
