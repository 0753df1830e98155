"""The command line: one file a verb, all of them thin.

Verbs that ask or change something talk to the running daemon over its control plane; only `run`
opens the data directory.
"""

from __future__ import annotations

from cdp.cli.main import main

__all__ = ["main"]
