"""`cdp privacy register`: what is processed for which purpose, where, and on what ground.

Made from the configuration and the plugins, as `cdp check` reads them; nothing runs for it. It is
the part of a record of processing activities (GDPR article 30) that the platform can know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cdp.cli.shell import plain_table
from cdp.config import load
from cdp.consent.rules import Rules
from cdp.delivery.registry import load_type

if TYPE_CHECKING:
    from rich.table import Table

    from cdp.cli.shell import Shell
    from cdp.config import Config, DestinationConfig

Json = dict[str, Any]

SHOWN: Final = ("gdpr", "ccpa")  # regimes in the table; JSON has all of them


def register(config: Config) -> list[Json]:
    """One row a purpose and destination, and one for each destination without a purpose.

    Raises ConfigError: the tables or a plugin cannot be used.
    """
    rules = Rules.from_config(config)
    rows: list[Json] = []
    for name, destination in config.destinations.items():
        type_ = load_type(destination.type)
        purposes = sorted(type_.purposes | frozenset(destination.purposes))
        about = _about(name, destination, erases=type_.erases)
        if not purposes:
            rows.append({"purpose": None, **about, "bases": {}})
        rows += [
            {
                "purpose": purpose,
                **_purpose(config, purpose),
                **about,
                "bases": {regime: rules.basis(regime, purpose) for regime in sorted(rules.regimes)},
            }
            for purpose in purposes
        ]
    return sorted(rows, key=lambda row: (row["purpose"] or "", row["destination"]))


def _about(name: str, destination: DestinationConfig, *, erases: bool) -> Json:
    return {
        "destination": name,
        "type": destination.type,
        "enabled": destination.enabled,
        "events": list(destination.events) or "all",
        "erases": erases,
    }


def _purpose(config: Config, purpose: str) -> Json:
    known = config.consent.purposes.get(purpose)
    return {
        "title": known.title if known is not None else "",
        "sale_or_share": known is not None and known.sale_or_share,
        "sensitive": known is not None and known.sensitive,
    }


def register_table(rows: list[Json]) -> Table:
    """The register for a terminal."""
    table = plain_table("purpose", "destination", "type", *SHOWN, "sold or shared", "erases")
    for row in rows:
        purpose = row["purpose"]
        table.add_row(
            Text(row.get("title") or purpose or "none: nothing is delivered"),
            Text(row["destination"]),
            row["type"],
            *(row["bases"].get(regime, "") for regime in SHOWN),
            "yes" if row.get("sale_or_share") else "no",
            "yes" if row["erases"] else "by hand",
        )
    return table


def show_register(shell: Shell, *, as_json: bool) -> None:
    """Prints the register of the configuration."""
    rows = register(load(shell.config_path, shell.environ))
    if as_json:
        shell.json(rows)
    else:
        shell.out.print(register_table(rows))
