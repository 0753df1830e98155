"""OpenDSR 2.0 as a processor: what requests say, what answers say, and how they are signed. Pure.

A controller sends us erasure, access and portability requests; every answer and every callback
carries the domain and a signature over the bytes of its body, made with the key of a certificate
for that domain, so that the controller can prove what we said.

Identities must come as they are (`raw`). We hold identifiers as keyed hashes only, and a plain
hash of a value can be compared to none of them: such an identity is refused, and not ignored,
because a request that reaches only half of a person would look as if it had reached all.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cdp.clock import from_datetime
from cdp.console.query import time_of
from cdp.console.surface import Refused
from cdp.errors import ConfigError
from cdp.outgoing import Denied, check_url

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cdp.console.privacy_surface import Identifiers, Kind

Json = dict[str, Any]

API_VERSION: Final = "2.0"
DOMAIN_HEADER: Final = "x-opendsr-processor-domain"
SIGNATURE_HEADER: Final = "x-opendsr-signature"

CALLBACKS_MAX: Final = 5
URL_CHARS_MAX: Final = 2_048
IDENTITIES_MAX: Final = 20
VALUE_CHARS_MAX: Final = 512
HTTPS_PORTS: Final = (443, 8443)
RSA_BITS_MIN: Final = 2_048

# The identity types of the specification -> the kind of identifier that it is here.
IDENTITY_TYPES: Final = {
    "controller_customer_id": "user_id",
    "android_advertising_id": "ad_id",
    "android_id": "device_id",
    "email": "email",
    "fire_advertising_id": "ad_id",
    "ios_advertising_id": "ad_id",
    "ios_vendor_id": "device_id",
    "microsoft_advertising_id": "ad_id",
    "microsoft_publisher_id": "microsoft_publisher_id",
    "roku_publisher_id": "roku_publisher_id",
    "roku_advertising_id": "ad_id",
}
IDENTITY_FORMATS: Final = ("raw", "sha1", "md5", "sha256")
EXTENSION_IDENTIFIERS: Final = ("user_id", "anonymous_id", "phone")
REQUEST_TYPES: Final[tuple[Kind, ...]] = ("erasure", "access", "portability")
REGULATIONS: Final = ("gdpr", "ccpa")

_UUID4: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

# Where our requests stand -> the word of the specification. It has none for one that was denied
# or that was only partly done: the first will not be worked on, the second is not completed.
_STATUS: Final = {
    "received": "pending",
    "on_hold": "pending",
    "verified": "pending",
    "approved": "pending",
    "complete": "completed",
    "denied": "cancelled",
    "cancelled": "cancelled",
}


class SubjectRequest(msgspec.Struct, frozen=True):
    """A request of a controller, as far as it means something here."""

    id: str
    kind: Kind
    regulation: str
    submitted_us: int
    identifiers: Identifiers
    callbacks: tuple[str, ...]


def status_of(request: Mapping[str, Any]) -> str:
    """Where a request of ours stands, in the word of the specification."""
    return _STATUS.get(request["state"], "in_progress")


def read_id(value: Any) -> str:
    """A `subject_request_id`. Raises Refused."""
    if not isinstance(value, str) or not _UUID4.fullmatch(value):
        raise Refused("subject_request_id must be a version 4 UUID in small letters")
    return value


def read_request(
    body: Mapping[str, Any], *, domain: str, callback_domains: Collection[str]
) -> SubjectRequest:
    """The request in a body. Raises Refused, with a text that never says an identity."""
    request_id = read_id(body.get("subject_request_id"))
    kind = _word(body, "subject_request_type", REQUEST_TYPES)
    version = body.get("api_version", API_VERSION)
    if not isinstance(version, str) or version.partition(".")[0] != "2":
        raise Refused(f"api_version must be {API_VERSION}")
    identifiers = [
        *_identities(body.get("subject_identities")),
        *_extension(body.get("extensions"), domain),
    ]
    if not 1 <= len(identifiers) <= IDENTITIES_MAX:
        raise Refused(f"subject_identities must name 1 to {IDENTITIES_MAX} identities")
    return SubjectRequest(
        request_id,
        kind,  # type: ignore[arg-type]  # it is one of REQUEST_TYPES
        _word(body, "regulation", REGULATIONS),
        _time(body, "submitted_time"),
        tuple(dict.fromkeys(identifiers)),
        _callbacks(body.get("status_callback_urls"), callback_domains),
    )


def _word(body: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise Refused(f"{name} must be one of {', '.join(allowed)}")
    return value


def _time(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if isinstance(value, str) and (time_us := time_of({name: value}, name)) is not None:
        return time_us
    raise Refused(f"{name} must be a time such as 2026-03-01T12:00:00Z")


def _identities(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("subject_identities must be a list of identities")
    return [_identity(one, place) for place, one in enumerate(value)]


def _identity(value: Any, place: int) -> tuple[str, str]:
    at = f"subject_identities[{place}]"
    if not isinstance(value, dict):
        raise Refused(f"{at} must be an object")
    kind, form = value.get("identity_type"), value.get("identity_format")
    if not isinstance(kind, str) or kind not in IDENTITY_TYPES:
        raise Refused(f"{at}.identity_type must be one of {', '.join(IDENTITY_TYPES)}")
    if form in IDENTITY_FORMATS[1:]:
        raise Refused(
            f"{at}.identity_format is {form}, and a plain hash can be compared to nothing that is "
            "held here, which are keyed hashes: send the identity in format raw"
        )
    if form != "raw":
        raise Refused(f"{at}.identity_format must be one of {', '.join(IDENTITY_FORMATS)}")
    return IDENTITY_TYPES[kind], _value(value.get("identity_value"), f"{at}.identity_value")


def _extension(value: Any, domain: str) -> list[tuple[str, str]]:
    """What the specification has no type for, under our domain; other processors' are theirs."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise Refused("extensions must be an object by processor domain")
    ours = value.get(domain, {})
    if not isinstance(ours, dict) or ours.keys() - set(EXTENSION_IDENTIFIERS):
        raise Refused(f"extensions.{domain} may hold {', '.join(EXTENSION_IDENTIFIERS)}")
    return [(name, _value(one, f"extensions.{domain}.{name}")) for name, one in ours.items()]


def _value(value: Any, at: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= VALUE_CHARS_MAX:
        raise Refused(f"{at} must be a text of 1 to {VALUE_CHARS_MAX} chars")
    return value


def _callbacks(value: Any, domains: Collection[str]) -> tuple[str, ...]:
    urls = [] if value is None else value
    if not isinstance(urls, list) or len(urls) > CALLBACKS_MAX:
        raise Refused(f"status_callback_urls must be a list of at most {CALLBACKS_MAX} urls")
    for place, url in enumerate(urls):
        if not isinstance(url, str) or len(url) > URL_CHARS_MAX:
            raise Refused(f"status_callback_urls[{place}] must be a url")
        if problem := denied_callback(url, domains):
            raise Refused(f"status_callback_urls[{place}]: {problem}")
    return tuple(dict.fromkeys(urls))


def denied_callback(url: str, domains: Collection[str]) -> str | None:
    """Why a callback must not go to this URL; None where it may."""
    try:
        host, _ = check_url(url, allow_http=False, allow_private=False, ports=HTTPS_PORTS)
    except Denied as problem:
        return str(problem)
    if host not in domains:
        return "callbacks to this domain are not allowed: the operator lists those that are"
    return None


class Signer:
    """Signs for one domain, with the key of a certificate for it."""

    def __init__(self, domain: str, certificate: bytes, key: bytes) -> None:
        """Raises ConfigError where the three do not belong together."""
        try:
            parsed = x509.load_pem_x509_certificate(certificate)
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(
                "privacy.opendsr_certificate, opendsr_key: cannot be read; give both as PEM, "
                "the key without a password"
            ) from error
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ConfigError("privacy.opendsr_key: must be an RSA or an ECDSA key (FIPS 186-4)")
        if isinstance(private, rsa.RSAPrivateKey) and private.key_size < RSA_BITS_MIN:
            raise ConfigError(f"privacy.opendsr_key: must have at least {RSA_BITS_MIN} bits")
        if parsed.public_key() != private.public_key():
            raise ConfigError("privacy.opendsr_key: is not the key of privacy.opendsr_certificate")
        if domain not in _domains_of(parsed):
            raise ConfigError(f"privacy.opendsr_certificate: is not for {domain}")
        self.domain = domain
        self.certificate = certificate
        self.expires_us = from_datetime(parsed.not_valid_after_utc)
        self._key = private

    def headers(self, body: bytes) -> dict[str, str]:
        """The headers that go with a body: whose it is, and the signature over its bytes."""
        return {DOMAIN_HEADER: self.domain, SIGNATURE_HEADER: self._signature(body)}

    def _signature(self, body: bytes) -> str:
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(body, padding.PKCS1v15(), SHA256())
        else:
            signature = self._key.sign(body, ec.ECDSA(SHA256()))
        return base64.b64encode(signature).decode()


def _domains_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.value.get_values_for_type(x509.DNSName)]


def discovery(domain: str) -> Json:
    """What we take. Hashed identities are not in it, because they cannot be honoured."""
    return {
        "api_version": API_VERSION,
        "supported_identities": [
            {"identity_type": kind, "identity_format": "raw"} for kind in IDENTITY_TYPES
        ],
        "supported_subject_request_types": list(REQUEST_TYPES),
        "processor_certificate": f"https://{domain}/opendsr/certificate.pem",
    }


def error(code: int, message: str) -> Json:
    """A refusal in the shape of the specification."""
    detail = {"domain": "Validation", "reason": "Refused", "message": message}
    return {"error": {"code": code, "message": message, "errors": [detail]}}


def host_of(url: str) -> str:
    """The host of a URL that was checked."""
    return urlsplit(url).hostname or ""
