"""Every route of people's rights, and who calls controllers back, made from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cdp.console.opendsr import Signer
from cdp.console.opendsr_book import Book
from cdp.console.opendsr_callbacks import OpendsrCallbacks
from cdp.console.opendsr_routes import OpendsrRoutes
from cdp.console.privacy_routes import PrivacyRoutes
from cdp.console.regulations_routes import RegulationRoutes
from cdp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.routing import Route

    from cdp.config import Config
    from cdp.config_consent import Privacy
    from cdp.console.privacy_surface import PrivacySurface
    from cdp.environment import Environment
    from cdp.storage.store import Store
    from cdp.telemetry import Journal


class Rights(NamedTuple):
    """What `control_app` takes as `more`, and an actor to run where OpenDSR is configured."""

    routes: list[Route]
    callbacks: OpendsrCallbacks | None


def make_rights(
    surface: PrivacySurface,
    *,
    config: Config,
    environment: Environment,
    store: Store,
    journal: Journal,
) -> Rights:
    """The routes. Raises ConfigError where OpenDSR is configured in part, or cannot sign."""
    regulations = RegulationRoutes(
        surface, store, environment.clock, environment.new_id, tuple(config.sources)
    )
    routes = [*PrivacyRoutes(surface).routes(), *regulations.routes()]
    signer = read_signer(config.privacy)
    if signer is None:
        return Rights(routes, None)
    book, domains = Book(store), config.privacy.opendsr_callback_domains
    opendsr = OpendsrRoutes(surface, book, signer, environment.clock, domains)
    callbacks = OpendsrCallbacks(surface, book, signer, environment, journal, domains)
    return Rights([*routes, *opendsr.routes()], callbacks)


def read_signer(privacy: Privacy) -> Signer | None:
    """Who signs OpenDSR's answers; None where it is not configured. Raises ConfigError."""
    given = (privacy.opendsr_domain, privacy.opendsr_certificate, privacy.opendsr_key)
    if all(one is None for one in given):
        return None
    domain, certificate, key = given
    if domain is None or certificate is None or key is None:
        raise ConfigError(
            "privacy.opendsr_domain, opendsr_certificate and opendsr_key belong together; "
            "give all three, or none"
        )
    return Signer(domain.lower(), _read(certificate), key.reveal().encode())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        text = f"privacy.opendsr_certificate: {path} cannot be read: {error.strerror or error}"
        raise ConfigError(text) from error
