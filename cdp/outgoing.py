"""Keeps requests from going where an operator's configuration could be abused to send them.

The rule is a list of what is denied by address, not by name: a name is resolved once, every
address that it has is judged, and the connection goes to one that was judged. IPv4 addresses that
are hidden in IPv6 ones (mapped, 6to4, NAT64, Teredo, ISATAP) are taken out and judged too.
`ipaddress.is_global` is not enough for this: it calls NAT64, 6to4 and multicast addresses global.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final
from urllib.parse import urlsplit

_DENIED_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; cloud metadata of one vendor
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "168.63.129.16/32",  # a cloud's platform service, on a public address
    )
)
_ALLOWED_6: Final = IPv6Network("2000::/3")  # the one block that is handed out for global use
_DENIED_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: judged by what is in it as well, and denied in any case
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMERIC: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.ASCII)
_LOCAL_NAMES: Final = ("localhost", "local", "internal", "localdomain", "lan", "home", "intranet")


class Denied(ValueError):
    """A URL or an address that requests must not go to. The text says why."""


def check_url(
    url: str, *, allow_http: bool, allow_private: bool, ports: tuple[int, ...]
) -> tuple[str, int]:
    """The host and the port of a URL that may be called. Raises Denied."""
    if any(ord(letter) <= 32 or letter == "\\" or ord(letter) == 127 for letter in url):
        raise Denied("the url holds a space, a control character or a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Denied(f"the url cannot be read: {error}") from error
    schemes = ("https", "http") if allow_http else ("https",)
    if parts.scheme not in schemes:
        raise Denied(f"the url begins with {parts.scheme!r}; allowed: {', '.join(schemes)}")
    if parts.username is not None or parts.password is not None:
        raise Denied("the url holds a user name; put credentials into `headers`")
    host = parts.hostname or ""
    check_host(host, bracketed="[" in parts.netloc, allow_private=allow_private)
    port = port or (443 if parts.scheme == "https" else 80)
    if not allow_private and port not in ports:
        raise Denied(f"port {port} is not in `ports`: {', '.join(map(str, ports))}")
    return host, port


def check_host(host: str, *, bracketed: bool, allow_private: bool) -> None:
    """Refuses hosts that are not written in the one canonical way, and local names."""
    if bracketed:
        if "%" in host:
            raise Denied("an address with a zone belongs to this machine's own links")
        try:
            IPv6Address(host)
        except ValueError as error:
            raise Denied(f"{host!r} is not an IPv6 address") from error
        return
    if not host or len(host) > 253 or not host.isascii():
        raise Denied(f"{host!r} is not a host name in ASCII; write it in its xn-- form")
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Denied(f"{host!r} is not a host name")
    if _NUMERIC.fullmatch(labels[-1]):
        # Resolvers read 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 as addresses; we do not.
        try:
            IPv4Address(host)
        except ValueError as error:
            raise Denied(f"{host!r} is an address that is not in dotted-decimal form") from error
    elif not allow_private and (len(labels) == 1 or labels[-1] in _LOCAL_NAMES):
        raise Denied(f"{host!r} is a local name; set allow_private for an intranet")


def denial(address: str, *, allow_private: bool = False) -> str | None:
    """Why a connection to this address is not allowed; None where it is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return f"{address!r} is not an address"
    if allow_private:
        never = parsed.is_multicast or parsed.is_unspecified or parsed == _BROADCAST
        return f"{address} is not one machine's address" if never else None
    if isinstance(parsed, IPv4Address):
        return _denial_4(parsed)
    return _denial_6(parsed)


_BROADCAST: Final = IPv4Address("255.255.255.255")


def _denial_4(address: IPv4Address) -> str | None:
    for network in _DENIED_4:
        if address in network:
            return f"{address} is in {network}, which is not public"
    return None


def _denial_6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return f"{address} has a zone"
    for inner in _inner_4(address):
        reason = _denial_4(inner)
        if reason is not None:
            return f"{address} leads to {reason}"
    if address not in _ALLOWED_6:
        return f"{address} is not in {_ALLOWED_6}, the public addresses"
    for network in _DENIED_6:
        if address in network:
            return f"{address} is in {network}, which is not public"
    return None


def _inner_4(address: IPv6Address) -> list[IPv4Address]:
    """Every IPv4 address that a gateway on the way could take out of an IPv6 one."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    if any(address in network for network in _NAT64):
        found.append(low)
    if (int(address) >> 32) & 0xFFFF_FFFF in (0x0000_5EFE, 0x0200_5EFE):  # ISATAP
        found.append(low)
    return [inner for inner in found if inner is not None]
