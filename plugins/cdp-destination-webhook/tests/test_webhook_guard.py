"""No form of a private address, however it is written or resolved, gets a connection."""

from __future__ import annotations

import pytest
from cdp_destination_webhook import Webhook, WebhookSettings
from cdp_destination_webhook.guard import Denied, check_url, denial

from cdp.delivery import Delivered, Retry
from cdp.testing import FakeNetwork, Service, make_delivery, open_destination

PORTS = (443, 8443, 80, 8080)

DENIED_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "64:ff9b::808:808",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:10.0.0.1",
    "4000::1",
]

DENIED_URLS = [
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "//hooks.example.com/",
    "hooks.example.com",
    "https:///",
    "https://user@hooks.example.com/",
    "https://good.example.com:pw@127.0.0.1/",
    "https://good.example.com\\@127.0.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://017700000001/",
    "https://0/",
    "https://0x0/",
    "https://127.0.0.1./",
    "https://127.0.0.01/",
    "https://1.2.3/",
    "https://1.2.3.4.5/",
    "https://256.1.1.1/",
    "https://10.0.0.0x1/",
    "https://localhost/",
    "https://localhost./",
    "https://LOCALHOST/",
    "https://a.localhost/",
    "https://db/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://router.lan/",
    "https://nas.home/",
    "https://①②⑦.0.0.1/",
    "https://127。0。0。1/",
    "https://ｌocalhost/",
    "https://exämple.com/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0.1%00.example.com/",
    "https://[fe80::1%25eth0]/",
    "https://[::1/",
    "https://[::g]/",
    "https://[127.0.0.1]/",
    "https://-a.example.com/",
    "https://a..b.com/",
    "https://hooks.example.com:22/",
    "https://hooks.example.com:6379/",
    "https://hooks.example.com:99999/",
    "https://hooks.example.com:x/",
    "https://hooks.example.com:0x1bb/",
]


@pytest.mark.parametrize("address", DENIED_ADDRESSES)
def test_an_address_that_is_not_public_is_denied(address):
    assert denial(address) is not None


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_a_public_address_is_allowed(address):
    assert denial(address) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "93.184.215.14"])
def test_allow_private_opens_loopback_and_private_addresses(address):
    assert denial(address, allow_private=True) is None


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"])
def test_what_is_not_one_machine_stays_denied(address):
    assert denial(address, allow_private=True) is not None


@pytest.mark.parametrize("url", [*DENIED_URLS, "https://a b.com/", "https://a\nb.com/", ""])
def test_a_url_that_is_not_plainly_public_is_denied(url):
    with pytest.raises(Denied):
        check_url(url, allow_http=False, allow_private=False, ports=PORTS)


def test_a_plain_url_is_allowed():
    url = "https://Hooks.Example.com:8443/in?x=1"
    given = check_url(url, allow_http=False, allow_private=False, ports=PORTS)
    assert given == ("hooks.example.com", 8443)


def test_an_intranet_needs_both_switches():
    given = check_url("http://db:9000/", allow_http=True, allow_private=True, ports=PORTS)
    assert given == ("db", 9000)


async def sent_to(*answers, url="https://hooks.example.com/in", **settings):
    """What came of a delivery where the name has these addresses, and where it went."""
    service = Service()
    network = FakeNetwork(service.transport, {"*": answers})
    chosen = WebhookSettings(url=url, **settings)
    async with open_destination(Webhook, chosen, service, network=network) as webhook:
        outcomes = [(await webhook.deliver([make_delivery(n)]))[0] for n in range(2)]
    return outcomes, [request.url.host for request in service.requests]


@pytest.mark.parametrize("address", DENIED_ADDRESSES)
async def test_a_name_with_such_an_address_gets_no_connection(autojump_clock, address):
    outcomes, hosts = await sent_to([address])
    assert hosts == []
    assert outcomes == [Retry("address_denied")] * 2


async def test_one_bad_address_among_good_ones_denies_the_name(autojump_clock):
    _, hosts = await sent_to(["93.184.215.14", "127.0.0.1"])
    assert hosts == []


async def test_the_connection_goes_to_the_address_that_was_checked(autojump_clock):
    service = Service()
    network = FakeNetwork(service.transport, {"hooks.example.com": [["93.184.215.14"]]})
    settings = WebhookSettings(url="https://hooks.example.com:8443/in?a=b")
    async with open_destination(Webhook, settings, service, network=network) as webhook:
        assert await webhook.deliver([make_delivery(1)]) == [Delivered()]
    (request,) = service.requests
    assert str(request.url) == "https://93.184.215.14:8443/in?a=b"
    assert request.headers["host"] == "hooks.example.com:8443"
    assert request.extensions["sni_hostname"] == "hooks.example.com"
    assert network.resolved == ["hooks.example.com"]


async def test_a_name_that_is_rebound_between_requests_is_caught_at_the_next(autojump_clock):
    outcomes, hosts = await sent_to(["93.184.215.14"], ["169.254.169.254"])
    assert hosts == ["93.184.215.14"]
    assert outcomes == [Delivered(), Retry("address_denied")]


async def test_an_unknown_name_is_tried_again(autojump_clock):
    service = Service()
    network = FakeNetwork(service.transport, {})
    settings = WebhookSettings(url="https://hooks.example.com/")
    async with open_destination(Webhook, settings, service, network=network) as webhook:
        assert await webhook.deliver([make_delivery(1)]) == [Retry("name_unknown")]


async def test_a_settings_url_that_is_denied_fails_at_the_start(autojump_clock):
    with pytest.raises(Denied, match="local name"):
        await sent_to(["93.184.215.14"], url="https://localhost/")
