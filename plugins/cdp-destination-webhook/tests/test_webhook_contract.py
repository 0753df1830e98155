"""The webhook keeps the contract of destinations, with and without a URL for erasures."""

import httpx
from cdp_destination_webhook import Webhook, WebhookSettings

from cdp.testing import Service, check_destination

URL = "https://hooks.example.com/in"
ERASE_URL = "https://hooks.example.com/erasures"


def slow_receiver(request):
    """Takes an erasure under an id, and has done it when asked."""
    if request.url.path == "/erasures":
        return httpx.Response(202, json={"id": "job-7"})
    if request.url.path == "/erasures/job-7":
        return httpx.Response(200, json={"status": "completed"})
    return httpx.Response(200, json={})


async def test_the_contract_holds(autojump_clock):
    held = await check_destination(Webhook, WebhookSettings(url=URL, erase_url=ERASE_URL))
    assert len(held) == 20


async def test_the_contract_holds_where_the_receiver_takes_its_time(autojump_clock):
    settings = WebhookSettings(url=URL, erase_url=ERASE_URL)
    server = Service(handler=slow_receiver)
    assert len(await check_destination(Webhook, settings, server=server)) == 20


async def test_the_contract_holds_where_nobody_takes_erasures(autojump_clock):
    held = await check_destination(Webhook, WebhookSettings(url=URL), erases=False)
    assert len(held) == 20
