"""`cdp audit`: whether the record of what was done to people's rights is the one that was written.

Reads the store directly, also while the daemon runs, and never writes to it. With `--data-dir` and
`--key` no configuration is needed, so that somebody else can check a copy.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cdp.cli.shell import EXIT_DAMAGED, EXIT_OK, EXIT_USAGE, CommandFailed, plain_table
from cdp.clock import isoformat
from cdp.config import load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cdp.cli.shell import Arguments, Shell
    from cdp.consent.audit import AuditRecord
    from cdp.consent.checkpoints import Checkpoint
    from cdp.storage.store import Store

NAME: Final = "audit"
SUMMARY: Final = "verify and read the record of consent, erasures and orders"
EXAMPLES: Final = """\
examples:
  cdp audit verify                        recomputes all of it; exit code 3 if it was changed
  cdp audit verify --witness /mnt/other/cdp-audit
  cdp audit log --action key_destroyed    what was done, when and by whom
  cdp audit prove 4711                    that a record is in the log, for others to check
  cdp audit consistency 1000 2000         that the longer log only added to the shorter
  cdp audit key                           the public key: give it to whoever checks the log
  cdp audit verify --data-dir COPY --key HEX --witness FILE     without a configuration

Whoever has the store and the keys could write another history. Only a witness can tell: set
privacy.audit_witness to a file on another disk or machine.
"""

_DETAIL_CHARS_MAX: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="recompute the chain, the tree, every signature")
    verify.add_argument("--witness", metavar="FILE", type=Path, help="what was sent outside")
    prove = actions.add_parser("prove", help="that a record is in the log, as JSON")
    prove.add_argument("seq", type=int, help="the number of the record")
    consistency = actions.add_parser("consistency", help="that the log only grew, as JSON")
    consistency.add_argument("old_size", type=int, metavar="A", help="records then")
    consistency.add_argument("size", type=int, metavar="B", help="records later")
    log = actions.add_parser("log", help="the records")
    log.add_argument("--action", help="only these")
    log.add_argument("--object", help="only about this, such as a request's id")
    log.add_argument("--from", dest="first", type=int, metavar="SEQ", help="from this number on")
    log.add_argument("--limit", type=int, default=50, metavar="N", help="at most (default: 50)")
    log.add_argument("--json", action="store_true", help="as JSON")
    key = actions.add_parser("key", help="the public key that checkpoints are signed with")
    for action, verb in (
        *((verify, run_verify), (prove, run_prove), (consistency, run_consistency)),
        *((log, run_log), (key, run_key)),
    ):
        action.set_defaults(verb=verb)
        if action is not key:
            action.add_argument(
                "--data-dir", metavar="PATH", type=Path, help="the data directory, or a copy of it"
            )
    verify.add_argument(
        "--key", metavar="HEX", action="append", help="a public key to trust; may be repeated"
    )
    verify.add_argument("--json", action="store_true", help="as JSON")


async def run_verify(arguments: Arguments, shell: Shell) -> int:
    """Checks everything, and says what is wrong. The witness is read before the store is."""
    from cdp.consent.verification import verify

    keys = _keys(arguments, shell)
    witness_path = arguments.witness or _configured_witness(arguments, shell)
    witness = None if witness_path is None else _read(witness_path)
    with _open(arguments, shell) as store:
        report = verify(store, keys, witness)
    if arguments.json:
        shell.json(
            {
                "ok": report.ok,
                "records": report.records,
                "root": report.root.hex(),
                "unsigned_records": report.unsigned,
                "checkpoint": _shown(report.last),
                "witnessed": _shown(report.witnessed),
                "findings": report.findings,
            }
        )
        return EXIT_OK if report.ok else EXIT_DAMAGED
    shell.line(f"{report.records:,} records, root {report.root.hex()}")
    shell.line(f"last checkpoint  {_said(report.last)}")
    shell.line(f"witnessed        {_said(report.witnessed)}")
    for finding in report.findings:
        shell.out.print(Text(finding, "red"), soft_wrap=True)
    if witness is None:
        shell.hint("no witness: a history that was rewritten as a whole cannot be told")
    if not report.ok:
        shell.line("[bold red]the audit log is not what was written[/]")
        return EXIT_DAMAGED
    if report.unsigned:
        shell.hint(f"{report.unsigned} records came after the last checkpoint: not signed yet")
    shell.line("[green]the audit log is what was written[/]")
    return EXIT_OK


async def run_prove(arguments: Arguments, shell: Shell) -> int:
    """Prints a record with its path to the root of the newest checkpoint that covers it."""
    from cdp.consent.audit import decode_record
    from cdp.consent.checkpoints import last_checkpoint
    from cdp.consent.merkle import inclusion_proof, verify_inclusion

    with _open(arguments, shell) as store:
        checkpoint = last_checkpoint(store)
        leaves, values = _leaves(store, keep=arguments.seq)
    if checkpoint is None or not 0 <= arguments.seq < checkpoint.size <= len(leaves):
        covered = checkpoint.size if checkpoint else 0
        raise CommandFailed(
            f"the last checkpoint covers records 0 to {covered - 1}, not {arguments.seq}; "
            "wait a minute for the next one"
            if covered
            else "nothing was signed yet; wait a minute for the first checkpoint"
        )
    proof = inclusion_proof(leaves[: checkpoint.size], arguments.seq)
    leaf = leaves[arguments.seq]
    if not verify_inclusion(leaf, arguments.seq, checkpoint.size, proof, checkpoint.root):
        raise CommandFailed("the log is not the one that was signed; run `cdp audit verify`")
    shell.json(
        {
            "record": _as_json(decode_record(values[arguments.seq])),
            "record_bytes": values[arguments.seq].hex(),
            "leaf_hash": leaf.hex(),
            "leaf_index": arguments.seq,
            "tree_size": checkpoint.size,
            "proof": [one.hex() for one in proof],
            "checkpoint": _shown(checkpoint),
        }
    )
    return EXIT_OK


async def run_consistency(arguments: Arguments, shell: Shell) -> int:
    """Prints the proof that the log of B records begins with the log of A records."""
    from cdp.consent.merkle import consistency_proof, root_of

    with _open(arguments, shell) as store:
        leaves, _ = _leaves(store)
    old, size = arguments.old_size, arguments.size
    if not 0 < old <= size <= len(leaves):
        raise CommandFailed(
            f"the log has {len(leaves)} records; give two sizes from 1 to that, in this order",
            EXIT_USAGE,
        )
    shell.json(
        {
            "old_size": old,
            "size": size,
            "old_root": root_of(leaves[:old]).hex(),
            "root": root_of(leaves[:size]).hex(),
            "proof": [one.hex() for one in consistency_proof(leaves[:size], old)],
        }
    )
    return EXIT_OK


async def run_log(arguments: Arguments, shell: Shell) -> int:
    """Lists records: the newest ones, or those from a number on."""
    from cdp.consent.audit import ACTIONS

    if arguments.action is not None and arguments.action not in ACTIONS:
        known = ", ".join(ACTIONS)
        raise CommandFailed(f"--action {arguments.action}: not one of {known}", EXIT_USAGE)
    with _open(arguments, shell) as store:
        found = _found(store, arguments)
    if arguments.json:
        shell.json([_as_json(record) for record in found])
        return EXIT_OK
    table = plain_table("seq", "time", "actor", "action", "details", right=("seq",))
    for record in found:
        details = ", ".join(f"{name} {_plain(one)}" for name, one in record.details.items())
        table.add_row(
            str(record.seq),
            isoformat(record.at_us),
            Text(record.actor),
            Text(record.action),
            Text(details[:_DETAIL_CHARS_MAX]),
        )
    shell.out.print(table)
    return EXIT_OK


async def run_key(_: Arguments, shell: Shell) -> int:
    """Prints the public key in hexadecimal."""
    shell.line(_configured_key(shell).hex())
    return EXIT_OK


def _found(store: Store, arguments: Arguments) -> list[AuditRecord]:
    from collections import deque

    from cdp.consent.audit import decode_record, object_hash, stored_records

    about = None if arguments.object is None else object_hash(arguments.object)
    newest = arguments.first is None
    found: deque[AuditRecord] = deque(maxlen=max(1, arguments.limit) if newest else None)
    for _, value in stored_records(store, arguments.first or 0):
        record = decode_record(value)
        if arguments.action in (None, record.action) and about in (None, record.object):
            found.append(record)
            if not newest and len(found) >= arguments.limit:
                break
    return list(found)


def _leaves(store: Store, keep: int = -1) -> tuple[list[bytes], dict[int, bytes]]:
    """Every leaf hash; and the bytes of one record."""
    from cdp.consent.audit import stored_records
    from cdp.consent.merkle import leaf_hash

    leaves, kept = [], {}
    for place, (_, value) in enumerate(stored_records(store)):
        leaves.append(leaf_hash(value))
        if place == keep:
            kept[place] = value
    return leaves, kept


@contextmanager
def _open(arguments: Arguments, shell: Shell) -> Iterator[Store]:
    from cdp.storage.reading import open_to_read
    from cdp.system import Threads

    path = arguments.data_dir or load(shell.config_path, shell.environ).data_dir
    with open_to_read(path, Threads()) as store:
        yield store


def _keys(arguments: Arguments, shell: Shell) -> list[bytes]:
    if not arguments.key:
        return [_configured_key(shell)]
    try:
        keys = [bytes.fromhex(text) for text in arguments.key]
    except ValueError:
        keys = [b""]
    if any(len(key) != 32 for key in keys):
        raise CommandFailed("--key: must be 64 hexadecimal digits, as `cdp audit key` prints them")
    return keys


def _configured_key(shell: Shell) -> bytes:
    from cdp.app import identity_key
    from cdp.consent.checkpoints import open_signer

    config = load(shell.config_path, shell.environ)
    return open_signer(config.privacy, identity_key(config)).public_key


def _configured_witness(arguments: Arguments, shell: Shell) -> Path | None:
    if arguments.data_dir and arguments.key:
        return None  # somebody else's check, who has no configuration
    return load(shell.config_path, shell.environ).privacy.audit_witness


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path}: the witness cannot be read: {error.strerror}") from error


def _said(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return "none"
    return f"{checkpoint.size:,} records at {isoformat(checkpoint.time_us)}"


def _shown(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    return {
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "time": isoformat(checkpoint.time_us),
        "statement": checkpoint.statement().decode(),
        "key_id": checkpoint.key_id,
        "signature": checkpoint.signature.hex(),
    }


def _as_json(record: AuditRecord) -> dict[str, Any]:
    return {
        "seq": record.seq,
        "time": isoformat(record.at_us),
        "actor": record.actor,
        "action": record.action,
        "object": record.object.hex(),
        "details": {name: _plain(value) for name, value in record.details.items()},
        "previous": record.previous.hex(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(one) for one in value] if isinstance(value, list) else value
