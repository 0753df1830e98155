"""`cdp init`: writes a configuration that runs as it is, and the two secrets that it refers to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cdp.cli.shell import EXIT_OK, EXIT_USAGE, Arguments, CommandFailed, Shell
from cdp.system import new_secret

if TYPE_CHECKING:
    import argparse

NAME: Final = "init"
SUMMARY: Final = "write a cdp.toml with comments, and its secrets"
EXAMPLES: Final = """\
examples:
  cdp init                 in this directory
  cdp init /etc/cdp        in another one, which is made if it is missing

It never overwrites anything.
"""

_TEMPLATE: Final = """\
# The configuration of cdp. Everything that is left out has a default; `cdp check` tells whether
# this file is right. Relative paths are relative to this file.
#
# Secrets never stand here: write "env:NAME" or "file:PATH" (the file must be chmod 600).

data_dir = "data"                # everything that the daemon keeps; only one daemon at a time

[gateway]                        # the data plane: where SDKs send events
host = "127.0.0.1"
port = 8080
# public_url = "https://events.example.com"    # what browsers reach it by
# trusted_proxies = ["10.0.0.0/8"]             # whose X-Forwarded-For is believed

[control]                        # the control plane: profiles, status, repair; keep it private
host = "127.0.0.1"
port = 8081
token = "file:secrets/control.token"

[sources.website]                # one table a source; the name is yours
kind = "browser"                 # its write key is public
write_key = "{browser_key}"
# allowed_origins = ["https://shop.example.com"]

[sources.backend]
kind = "server"                  # trusted further: keep its write key to yourself
write_key = "{server_key}"

# Purposes. An event goes to a destination only if every purpose of the destination is granted:
# by the event's own consent (context.consent.categoryPreferences), or, where the event says
# nothing about the purpose, by this table. What stands nowhere is denied.
[consent.defaults]
# analytics = "granted"

[destinations.archive]           # JSON lines in files, one directory a destination
type = "file"
purposes = ["analytics"]
settings = {{ directory = "archive" }}

# [destinations.crm]
# type = "webhook"
# purposes = ["marketing"]
# events = ["identify", "track"]               # empty or absent: all types
# settings = {{ url = "https://crm.example.com/events", secrets = ["env:CRM_SECRET"] }}

[identity]
key = "file:secrets/identity.key"  # keys the hashes of identifiers: back it up, never change it
default_region = "US"            # how phone numbers without a country code are read
# blocked_values = ["test@example.com"]        # values that identify nobody

# [identity.rules.email]         # limits of a profile, by namespace; the defaults suit most
# limit = 5

# [retention]
# age_days_max = 90

# [limits]                       # every limit, with its unit; docs and `cdp check` list them
# deduplication_window_s = 604800
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("directory", nargs="?", default=".", help="where to (default: here)")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Writes the files, or none of them."""
    directory = Path(arguments.directory)
    contents = {
        directory / "cdp.toml": _TEMPLATE.format(
            browser_key=f"wk_{new_secret()[:24]}", server_key=f"wk_{new_secret()[:24]}"
        ),
        directory / "secrets" / "identity.key": new_secret() + "\n",
        directory / "secrets" / "control.token": new_secret() + "\n",
        directory / "secrets" / ".gitignore": "# secrets are never committed\n*\n",
    }
    present = [str(path) for path in contents if path.exists()]
    if present:
        raise CommandFailed(
            f"{', '.join(present)} is there already, and init never overwrites; "
            "choose another directory, or move it away",
            EXIT_USAGE,
        )
    (directory / "secrets").mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, content in contents.items():
        _write_private(path, content)
        shell.line(f"wrote {path}")
    option = "" if directory == Path() else f" --config {directory / 'cdp.toml'}"
    shell.hint(f"next: cdp{option} check, then cdp{option} run")
    return EXIT_OK


def _write_private(path: Path, content: str) -> None:
    """Only the owner may read it: not for a moment is it open to others, nor overwritten."""
    mode = 0o644 if path.name in ("cdp.toml", ".gitignore") else 0o600
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
