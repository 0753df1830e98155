"""`cdp keys`: the key file, and passing from one master key to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, CommandFailed, Shell
from cdp.config import Config, load

if TYPE_CHECKING:
    import argparse

NAME: Final = "keys"
SUMMARY: Final = "the keys that people's data is sealed with: look, or change the master key"
EXAMPLES: Final = """\
examples:
  cdp keys status           how many keys there are, and whether the master key fits
  cdp keys rotate           wraps them under [keys] master, from one of [keys] previous

`rotate` wants the daemon stopped; the daemon does the same by itself at its next start. Keep copies
of keys/slots apart from backups of the store, and none for longer than 30 days: whoever was erased
since is not erased in them. The exit code of `status` is 1 where the master key does not fit.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("what", choices=("status", "rotate"), help="what to do")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Shows the key file, or wraps its keys anew."""
    config = load(shell.config_path, shell.environ)
    if arguments.what == "rotate":
        return _rotate(config, shell)
    return _status(config, shell, as_json=arguments.json)


def _status(config: Config, shell: Shell, *, as_json: bool) -> int:
    from cdp.storage.keyfile import look_at_keys
    from cdp.storage.master import master_key
    from cdp.storage.rotation import master_id

    state = look_at_keys(config.data_dir)
    if state is None:
        raise CommandFailed(f"{config.data_dir}: has no key file yet; `cdp run` makes one")
    current, previous = master_key(config)
    fits = "configured"
    if state.master_id != master_id(current):
        is_previous = state.master_id in map(master_id, previous)
        fits = "previous, the next start wraps everything anew" if is_previous else "unknown"
    facts = {
        "master_key": fits,
        "master_keys_so_far": state.epoch,
        "slots": state.slots,
        "destroyed": state.destroyed,
    }
    if as_json:
        shell.json(facts)
    else:
        for name, value in facts.items():
            shell.line(f"{name.replace('_', ' '):<20}{value}")
    return EXIT_FAILED if fits == "unknown" else EXIT_OK


def _rotate(config: Config, shell: Shell) -> int:
    from cdp.storage.master import master_key
    from cdp.storage.vault import Vault
    from cdp.system import real_environment

    current, previous = master_key(config)
    environment = real_environment(config)
    store = environment.open_store(config.data_dir)
    try:
        keys = environment.open_keys(config.data_dir)
        try:
            vault = Vault(
                keys, store, master=current, previous=previous, seed=environment.new_seed()
            )
            live, destroyed = vault.survey()
        finally:
            keys.close()
    finally:
        store.close()
    done = "wrapped anew" if vault.was_rotated else "already wrapped under this master key"
    shell.line(f"{live:,} keys {done}, {destroyed:,} destroyed ones stay so")
    if vault.was_rotated:
        shell.hint("destroy the copies of the old key file, then take the old key from [keys]")
    return EXIT_OK
