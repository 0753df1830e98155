"""What lies sealed on a world's disk, as its checkers read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.config import Config
from cdp.storage.codec import SealedCodec
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.log import Log
from cdp.storage.master import master_key
from cdp.storage.vault import Vault
from tests.simulation.daemon import IDENTITY

if TYPE_CHECKING:
    from tests.simulation.world import World

MASTER: Final = master_key(Config(identity=IDENTITY))[0]


def vault_of(world: World) -> Vault:
    """The keys as they are on the disk now. It reads beside the daemon, and never assigns."""
    held, looking = world.disk.keys, MemoryKeys()
    looking._content, looking._header = dict(held._content), held._header
    looking._count = held._count
    return Vault(looking, world.store, master=MASTER, seed=bytes(32))


def log_of(world: World, family: str) -> Log:
    """A log of the world; its events can be read, but for those of erased people."""
    codec = SealedCodec(vault_of(world), family) if family == "events" else None
    return Log(world.store, family, codec)
