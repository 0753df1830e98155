"""Whose address a request comes from, as far as it may be believed and kept."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

_HOPS_MAX: Final = 32


class TrustedProxies:
    """Peers whose `X-Forwarded-For` is believed: addresses or networks."""

    def __init__(self, configured: tuple[str, ...]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(text, strict=False) for text in configured
        ]

    def trusts(self, address: str) -> bool:
        """Whether a peer is one of them."""
        if not self._networks:
            return False
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client_address(self, peer: str, forwarded: bytes | None) -> str | None:
        """The nearest address that is not a proxy of ours; None where it cannot be known."""
        if forwarded and self.trusts(peer):
            for hop in reversed(forwarded.decode("latin-1").split(",")[-_HOPS_MAX:]):
                peer = hop.strip().strip("[]")
                if not self.trusts(peer):
                    break
        return canonical(peer)


@lru_cache(maxsize=4_096)
def canonical(address: str) -> str | None:
    """The address in its usual form; None where it is not one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def apply_policy(address: str | None, policy: bytes | None) -> str | None:
    """The address as the sender allows it to be kept: whole, without its last part, or not."""
    if not address or not policy:
        return address
    wish = policy.strip().lower()
    if wish == b"remove":
        return None
    if wish == b"striplastoctet":
        prefix = 24 if "." in address else 48
        return str(ip_network(f"{address}/{prefix}", strict=False).network_address)
    return address
