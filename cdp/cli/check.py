"""`cdp check`: loads everything that `cdp run` would, plugins included, and sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio
from rich.text import Text

from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, Shell, plain_table
from cdp.config import Config, load
from cdp.errors import CdpError, ConfigError
from cdp.system import real_environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    from cdp.delivery.destination import Destination, Settings
    from cdp.environment import Environment

NAME: Final = "check"
SUMMARY: Final = "is the configuration right? sends nothing"
EXAMPLES: Final = """\
examples:
  cdp check              the configuration, the secrets, the plugins and their settings
  cdp check --connect    and whether each destination could be reached now
  cdp check --limits     and every limit with its value
"""


@dataclass(frozen=True)
class _Loaded:
    """A destination whose plugin and settings are right."""

    name: str
    type: type[Destination[Any]]
    settings: Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument(
        "--connect", action="store_true", help="ask each destination whether it could work now"
    )
    parser.add_argument("--limits", action="store_true", help="show every limit")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Checks everything, and says what would run."""
    config = load(shell.config_path, shell.environ)
    environment = real_environment(config)
    loaded = _load_destinations(config, environment)
    _read_plan(config)
    _show_sources(config, shell)
    _show_destinations(config, loaded, shell)
    if arguments.limits:
        _show_limits(config, shell)
    for warning in _warnings(config, loaded):
        shell.line(f"[yellow]note:[/] {warning}")
    if arguments.connect and not await _connect(config, loaded, environment, shell):
        return EXIT_FAILED
    shell.line(f"[green]{config.path} is right[/]")
    return EXIT_OK


def _load_destinations(config: Config, environment: Environment) -> list[_Loaded]:
    """Every destination's plugin and settings. Raises ConfigError that names all problems."""
    from cdp.delivery.registry import load_type
    from cdp.delivery.setup import read_settings

    loaded, problems = [], []
    for name, destination in config.destinations.items():
        try:
            type_ = load_type(destination.type)
            settings = read_settings(name, type_, config, environment)
        except ConfigError as error:
            text = str(error)
            at = (
                "" if text.startswith(str(config.path)) else f"{config.path}: destinations.{name}: "
            )
            problems.append(f"{at}{text}")
        else:
            loaded.append(_Loaded(name, type_, settings))
    if problems:
        raise ConfigError("\n".join(problems))
    return loaded


def _read_plan(config: Config) -> None:
    """The tracking plan, where there is one. Raises ConfigError, with every problem of it."""
    from cdp.ingestion.plan import read_plan

    read_plan(config.tracking_plan)


def _show_sources(config: Config, shell: Shell) -> None:
    table = plain_table("source", "kind", "state")
    for name, source in config.sources.items():
        table.add_row(name, source.kind, "on" if source.enabled else "off")
    shell.out.print(table)


def _show_destinations(config: Config, loaded: list[_Loaded], shell: Shell) -> None:
    if not loaded:
        return
    table = plain_table("destination", "type", "state", "purposes", "events", "erases")
    for one in loaded:
        configured = config.destinations[one.name]
        purposes = one.type.purposes | frozenset(configured.purposes)
        table.add_row(
            one.name,
            configured.type,
            "on" if configured.enabled else "off",
            ", ".join(sorted(purposes)) or "none",
            ", ".join(configured.events) or "all",
            "yes" if one.type.erases else "no",
        )
    shell.out.print(table)


def _show_limits(config: Config, shell: Shell) -> None:
    table = plain_table("limit", "value", right=("value",))
    for name in config.limits.__struct_fields__:
        table.add_row(name, f"{getattr(config.limits, name):,}")
    shell.out.print(table)


def _warnings(config: Config, loaded: list[_Loaded]) -> list[str]:
    """What is allowed, and probably not meant."""
    warnings = []
    if not config.sources:
        warnings.append("there is no source, so nobody can send: add a table [sources.NAME]")
    if config.identity.key is None:
        warnings.append("identity.key is not set; `cdp init` shows how, and makes one")
    witness = config.privacy.audit_witness
    if witness is None:
        warnings.append(
            "privacy.audit_witness is not set, so a rewritten audit log could not be told"
        )
    elif witness.resolve().is_relative_to(config.data_dir.resolve()):
        warnings.append("privacy.audit_witness lies in data_dir: put it on another disk")
    for one in loaded:
        configured = config.destinations[one.name]
        purposes = one.type.purposes | frozenset(configured.purposes)
        if not purposes:
            warnings.append(f"destination {one.name} has no purpose, so nothing is delivered to it")
        asked = _asked_for(config, purposes)
        if asked:
            warnings.append(
                f"destination {one.name} gets nothing about people who have not granted "
                f"{', '.join(asked)}"
            )
    return warnings


def _asked_for(config: Config, purposes: Collection[str]) -> list[str]:
    """The purposes that need consent where nothing is said about the place."""
    from cdp.consent.rules import Rules

    terms = Rules.from_config(config).use(purposes).terms("") or ()
    return [term.purpose for term in terms if term.basis == "opt_in"]


async def _connect(
    config: Config, loaded: list[_Loaded], environment: Environment, shell: Shell
) -> bool:
    table = plain_table("destination", "answer")
    reached = True
    for one in loaded:
        problem = await _ask(one, config, environment)
        reached = reached and problem is None
        answer = Text("works", "green") if problem is None else Text(problem, "red")
        table.add_row(one.name, answer)
    shell.out.print(table)
    return reached


async def _ask(one: _Loaded, config: Config, environment: Environment) -> str | None:
    """None where the destination could work now, else why not."""
    from cdp.delivery.http import open_client
    from cdp.delivery.setup import build

    destination = build(one.type, one.settings, one.name, environment)
    limits = config.limits
    async with open_client(
        environment.network.transport(),
        timeout_s=limits.deliver_timeout_s,
        response_bytes_max=limits.response_bytes_max,
    ) as http:
        destination.http = http
        try:
            with trio.fail_after(limits.deliver_timeout_s):
                await destination.check()
        except trio.TooSlowError:
            return f"no answer within {limits.deliver_timeout_s:g} s"
        except CdpError as error:
            return str(error)
        except Exception as error:  # a plugin may raise anything; its type says most
            return f"{type(error).__name__}: {error}"
    return None
