"""The master key: where it comes from, and how it becomes 32 bytes.

From `[keys] master` or from what `[keys] master_command` prints, else derived from `identity.key`.
It wraps the data keys of the key file and nothing else; who has the key file without it has noise.
Keep it on another medium than the data directory. One that is derived from `identity.key` protects
against a lost disk only if that secret lies elsewhere.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from cdp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cdp.config import Config

MASTER_BYTES: Final = 32
COMMAND_TIMEOUT_S: Final = 30.0
_SECRET_BYTES_MIN: Final = 16
_OUTPUT_BYTES_MAX: Final = 4_096
_CONFIGURED: Final = b"cdp configured master key"
_DERIVED: Final = b"cdp master key"


def run_command(command: Sequence[str]) -> bytes:
    """What a command prints. Its output, errors included, is shown to nobody.

    Raises:
        ConfigError: it cannot be run, fails, or takes too long.
    """
    name = command[0]
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        # Without the cause: it holds what the command has printed so far.
        raise ConfigError(
            f"[keys] master_command: {name} took more than {COMMAND_TIMEOUT_S:.0f} s; "
            "it must print the master key and end"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"[keys] master_command: {name} cannot be run: {error.strerror}; give the whole path"
        ) from error
    if done.returncode != 0:
        raise ConfigError(
            f"[keys] master_command: {name} ended with exit code {done.returncode}; "
            "run it by hand to see why"
        )
    return done.stdout


def master_key(
    config: Config, run: Callable[[Sequence[str]], bytes] = run_command
) -> tuple[bytes, list[bytes]]:
    """The master key, and those before it under which the key file may still be wrapped.

    The key that is derived from `identity.key` counts as a previous one: who configures a master
    key for the first time need not know that there was one before.

    Raises:
        ConfigError: there is none, or the command does not give one.
    """
    derived = _derived(config)
    previous = [_stretched(secret.reveal(), "previous") for secret in config.keys.previous]
    if config.keys.master is not None:
        current = _stretched(config.keys.master.reveal(), "master")
    elif config.keys.master_command:
        current = _stretched(_printed(config, run), "master_command")
    elif derived is not None:
        return derived, previous
    else:
        raise ConfigError(
            f"{config.path}: keys.master: missing, and there is no identity.key to derive it from; "
            'set keys.master = "file:PATH" or "env:NAME"'
        )
    return current, [*previous, derived] if derived is not None else previous


def _printed(config: Config, run: Callable[[Sequence[str]], bytes]) -> str:
    printed = run(config.keys.master_command)
    if len(printed) > _OUTPUT_BYTES_MAX:
        raise ConfigError(
            f"[keys] master_command: printed {len(printed)} bytes; it must print the master key "
            "and nothing else"
        )
    return printed.decode("utf-8", "surrogateescape")


def _derived(config: Config) -> bytes | None:
    secret = config.identity.key
    if secret is None or not secret.reveal().strip():
        return None
    return _hkdf(secret.reveal().strip().encode(), _DERIVED)


def _stretched(secret: str, key: str) -> bytes:
    material = secret.strip().encode("utf-8", "surrogateescape")
    if len(material) < _SECRET_BYTES_MIN:
        raise ConfigError(
            f"[keys] {key}: has {len(material)} bytes; give at least {_SECRET_BYTES_MIN}, "
            "better 64 random hexadecimal digits (openssl rand -hex 32)"
        )
    return _hkdf(material, _CONFIGURED)


def _hkdf(material: bytes, info: bytes) -> bytes:
    # Imported here: it takes 20 ms, and what only looks needs no key.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), MASTER_BYTES, salt=None, info=info).derive(material)
