"""The webhook keeps the contract of destinations."""

from cdp_destination_webhook import Webhook, WebhookSettings

from cdp.testing import check_destination


async def test_the_contract_holds():
    held = await check_destination(Webhook, WebhookSettings(url="https://hooks.example.com/in"))
    assert len(held) == 14
