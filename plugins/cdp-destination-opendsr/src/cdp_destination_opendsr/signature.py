"""Whether an answer is the processor's: its domain, and the signature over the bytes of its body.

The operator gives the processor's certificate, so whom to trust is settled and nothing is fetched.
The certificate must be for the domain that signs, and must be valid at the time of the answer.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from cdp.clock import from_datetime

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DOMAIN_HEADER: Final = "x-opendsr-processor-domain"
SIGNATURE_HEADER: Final = "x-opendsr-signature"
RSA_BITS_MIN: Final = 2_048


class Untrusted(ValueError):
    """An answer, or a certificate, that nothing may be concluded from. The text says why."""


class Verifier:
    """Judges answers. Without a certificate only the domain is looked at, where there is one."""

    def __init__(self, domains: Collection[str], certificate: bytes | None) -> None:
        """Raises Untrusted where the certificate cannot be used at all."""
        self._domains = frozenset(domains)
        self._certificate = None if certificate is None else _read(certificate)

    @property
    def required(self) -> bool:
        """Whether every answer must be signed."""
        return self._certificate is not None

    def check(self, now_us: int) -> None:
        """Raises Untrusted where the certificate is for nobody we listen to, or is not valid."""
        if self._certificate is not None:
            if not self._domains & _domains_of(self._certificate):
                raise Untrusted("the certificate is for none of `domains`")
            self._check_time(self._certificate, now_us)

    def verify(self, headers: Mapping[str, str], body: bytes, now_us: int) -> None:
        """Raises Untrusted, unless the answer is the processor's as far as we can tell."""
        domain = headers.get(DOMAIN_HEADER, "").lower()
        if self._certificate is None:
            if domain and domain not in self._domains:
                raise Untrusted("the answer is of a domain that is not in `domains`")
            return
        if domain not in self._domains:
            raise Untrusted("the answer is of no domain in `domains`")
        if domain not in _domains_of(self._certificate):
            raise Untrusted("the certificate is not for the domain of the answer")
        self._check_time(self._certificate, now_us)
        _verify(self._certificate, headers.get(SIGNATURE_HEADER, ""), body)

    @staticmethod
    def _check_time(certificate: x509.Certificate, now_us: int) -> None:
        starts_us = from_datetime(certificate.not_valid_before_utc)
        if not starts_us <= now_us <= from_datetime(certificate.not_valid_after_utc):
            raise Untrusted("the certificate is not valid at this time")


def _read(certificate: bytes) -> x509.Certificate:
    try:
        read = x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise Untrusted("the certificate cannot be read; give it as PEM") from error
    key = read.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        return read
    if isinstance(key, ec.EllipticCurvePublicKey):
        return read
    raise Untrusted(f"the certificate's key must be ECDSA, or RSA of at least {RSA_BITS_MIN} bits")


def _domains_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.value.get_values_for_type(x509.DNSName))


def _verify(certificate: x509.Certificate, signature: str, body: bytes) -> None:
    key = certificate.public_key()
    try:
        given = base64.b64decode("".join(signature.split()), validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(given, body, padding.PKCS1v15(), SHA256())
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey), "checked when it was read"
            key.verify(given, body, ec.ECDSA(SHA256()))
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise Untrusted("the signature is not the certificate's over this answer") from error
