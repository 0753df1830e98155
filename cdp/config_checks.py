"""What configured values must be: each check returns its complaints as `key: found; what to write`.

An empty list means that all is well. The structs of `cdp.config` call these.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cdp.config_reading import Secret, Table

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_WRITE_KEY: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_ORIGIN: Final = re.compile(r"https?://[^/\s?#]+")
_REGION_CODES: Final = (
    "AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR "
    "BS BT BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC "
    "EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GT GU GW GY HK "
    "HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB "
    "LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY "
    "MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PR PS PT PW PY QA RE RO RS "
    "RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TG TH TJ TK TL "
    "TM TN TO TR TT TV TW TZ UA UG US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
_REGIONS: Final = frozenset(_REGION_CODES.split())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host by that name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bad_port(port: int) -> list[str]:
    """A TCP port, or 0."""
    if 0 <= port <= 65_535:
        return []
    return [f"port: found {port}; expected 1 to 65535, or 0 for any free one"]


def bad_public_url(url: str | None) -> list[str]:
    """What browsers reach the gateway by."""
    parts = urlsplit(url) if url is not None else None
    if parts is None or (parts.scheme in ("http", "https") and parts.netloc and not parts.query):
        return []
    return [f'public_url: found "{url}"; expected a URL such as "https://events.example.com"']


def bad_proxies(proxies: Iterable[str]) -> list[str]:
    """A trusted proxy is an address or a network."""
    found = []
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            found.append(
                f'trusted_proxies: found "{proxy}"; expected an IP address or network: {error}'
            )
    return found


def bad_write_key(write_key: str) -> list[str]:
    """A write key goes into URLs and Basic credentials as it is."""
    if _WRITE_KEY.fullmatch(write_key):
        return []
    return ["write_key: expected 1 to 128 of A-Z a-z 0-9 . _ ~ -"]


def bad_origins(origins: Iterable[str]) -> list[str]:
    """An origin as browsers send it: scheme, host and port, nothing after them."""
    return [
        f'allowed_origins: found "{origin}"; expected an origin such as "https://example.com"'
        for origin in origins
        if not _ORIGIN.fullmatch(origin)
    ]


def bad_region(region: str) -> list[str]:
    """A country that has a telephone numbering plan."""
    if region in _REGIONS:
        return []
    return [
        f'default_region: found "{region}"; '
        'expected an ISO 3166 country code such as "US" or "DE", in capitals'
    ]


def too_short(key: str, secret: Secret | None, *, chars_min: int) -> list[str]:
    """A secret that can be guessed is none."""
    if secret is None or len(secret.reveal()) >= chars_min:
        return []
    return [f"{key}: too short; expected at least {chars_min} characters"]


def bad_tls(certificate: Path | None, key: Path | None) -> list[str]:
    """TLS needs a certificate and its key."""
    if (certificate is None) != (key is None):
        missing, other = ("tls_key", "tls_certificate")[:: 1 if key is None else -1]
        return [f"{missing}: missing; {other} is set, and TLS needs both or neither"]
    files = {"tls_certificate": certificate, "tls_key": key}
    return [
        f"{name}: {file} is not a file"
        for name, file in files.items()
        if file is not None and not file.is_file()
    ]


def same_priority(priorities: Mapping[str, int]) -> list[str]:
    """Priorities are a total order, or it would be chance which identifier yields."""
    owners: dict[int, str] = {}
    found = []
    for name, priority in priorities.items():
        owner = owners.setdefault(priority, name)
        if owner != name:
            found.append(
                f"rules.{name}.priority: {priority} is also that of {owner}; "
                "priorities decide who yields, so each namespace needs its own"
            )
    return found


def not_positive(table: Table) -> list[str]:
    """For tables that hold nothing but limits."""
    numbers = {key: getattr(table, key) for key in table.__struct_fields__}
    return [
        f"{key}: found {value}; expected more than 0"
        for key, value in numbers.items()
        if value <= 0
    ]


def bad_names(at: str, names: Iterable[str]) -> list[str]:
    """Names of sources and destinations stand in keys, labels and addresses."""
    return [
        f"{at}.{name}: a name is 1 to 64 of a-z 0-9 _ -"
        for name in names
        if not _NAME.fullmatch(name)
    ]
