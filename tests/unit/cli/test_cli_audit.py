"""`cdp audit` over a real store, while a daemon has it open and when none has."""

from __future__ import annotations

import json
import shutil

import pytest
import trio
from terminal import cdp

from cdp.config import load
from cdp.consent.audit import AuditLog
from cdp.consent.checkpoints import Checkpoints, is_signed_by, open_signer, parse_line
from cdp.consent.merkle import leaf_hash, verify_consistency, verify_inclusion
from cdp.storage.opening import open_store
from cdp.system import SystemClock, Threads
from cdp.telemetry import Journal, Metrics

CONFIG = """
[identity]
key = "env:TOKEN"
[privacy]
audit_witness = "witness"
"""
KEY = b"t" * 32


class Log:
    """A store that is open, as a daemon has it."""

    def __init__(self, tmp_path) -> None:
        self.path = tmp_path / "data"
        (tmp_path / "cdp.toml").write_text(CONFIG)
        config = load(tmp_path / "cdp.toml", {"TOKEN": KEY.decode()}.get)
        self.path = config.data_dir
        self.store = open_store(self.path, Threads())
        self.audit = AuditLog(self.store, SystemClock())
        self.signer = open_signer(config.privacy, KEY)
        self.checkpoints = Checkpoints(
            store=self.store,
            audit=self.audit,
            signer=self.signer,
            clock=SystemClock(),
            run_in_thread=Threads(),
            metrics=Metrics(),
            journal=Journal(SystemClock()),
            witness=config.privacy.audit_witness,
        )

    def record(self, count: int, action: str = "suppressed") -> None:
        batch = self.store.batch()
        for place in range(count):
            self.audit.add(
                batch, actor="api", action=action, object=f"n{place}", details={"n": place}
            )
        self.store.write(batch)

    def sign(self) -> None:
        async def once() -> None:
            stopping = trio.Event()
            stopping.set()
            await self.checkpoints.run(stopping)

        trio.run(once)


@pytest.fixture
def log(tmp_path):
    """Seven records of which five are signed and witnessed: 0 to 4, then the checkpoint's own."""
    log = Log(tmp_path)
    log.record(5)
    log.sign()
    log.record(1, "key_destroyed")
    yield log
    log.store.abandon()


def run(tmp_path, *argv: str):
    return cdp(tmp_path, "audit", *argv, config=CONFIG)


def test_a_log_is_verified_while_the_daemon_has_it_open(tmp_path, log) -> None:
    ran = run(tmp_path, "verify")
    assert ran.code == 0, ran.err
    assert "7 records" in ran.out
    assert "the audit log is what was written" in ran.out
    assert "1 records came after the last checkpoint" in ran.err
    assert "no witness" not in ran.err
    found = run(tmp_path, "verify", "--json").json
    assert found["ok"]
    assert found["checkpoint"]["size"] == found["witnessed"]["size"] == 5


def test_a_copy_is_verified_with_the_public_key_alone(tmp_path, log) -> None:
    key = run(tmp_path, "key").out.strip()
    trio.run(log.store.checkpoint, tmp_path / "copy")
    (tmp_path / "cdp.toml").unlink()
    flags = ("--data-dir", str(tmp_path / "copy"), "--key", key)
    ran = cdp(tmp_path, "audit", "verify", *flags, config=None)
    assert ran.code == 0, ran.err
    assert "no witness" in ran.err
    witness = tmp_path / "witness"
    assert (
        cdp(tmp_path, "audit", "verify", *flags, "--witness", str(witness), config=None).code == 0
    )
    other = ("--data-dir", str(tmp_path / "copy"), "--key", "00" * 32)
    assert cdp(tmp_path, "audit", "verify", *other, config=None).code == 3
    short = ("--data-dir", str(tmp_path / "copy"), "--key", "00")
    assert "64 hexadecimal digits" in cdp(tmp_path, "audit", "verify", *short, config=None).err


def test_a_log_that_was_cut_is_found_by_its_witness(tmp_path, log) -> None:
    batch = log.store.batch()
    batch.delete_range("audit", (2).to_bytes(8, "big"), b"\xff" * 10)
    batch.delete("meta", b"audit:edge")
    log.store.write(batch)
    ran = run(tmp_path, "verify")
    assert ran.code == 3
    assert "line 1 of the witness saw 5 records, there are 2" in ran.out
    assert "is not what was written" in ran.out


def test_a_witness_that_is_not_there_is_said_so(tmp_path, log) -> None:
    (tmp_path / "witness").unlink()
    ran = run(tmp_path, "verify")
    assert ran.code == 1
    assert "witness: the witness cannot be read" in ran.err


def test_a_proof_convinces_somebody_who_has_only_the_key_and_the_witness(tmp_path, log) -> None:
    proof = run(tmp_path, "prove", "3").json
    checkpoint = parse_line((tmp_path / "witness").read_bytes().strip())
    assert is_signed_by(checkpoint, log.signer.public_key)
    leaf = leaf_hash(bytes.fromhex(proof["record_bytes"]))
    path = [bytes.fromhex(one) for one in proof["proof"]]
    assert verify_inclusion(leaf, 3, proof["tree_size"], path, checkpoint.root)
    assert proof["record"]["details"] == {"n": 3}
    refused = run(tmp_path, "prove", "6")
    assert refused.code == 1
    assert "covers records 0 to 4, not 6" in refused.err


def test_a_longer_log_is_shown_to_begin_with_the_shorter(tmp_path, log) -> None:
    found = run(tmp_path, "consistency", "5", "7").json
    roots = (bytes.fromhex(found["old_root"]), bytes.fromhex(found["root"]))
    path = [bytes.fromhex(one) for one in found["proof"]]
    assert verify_consistency(5, 7, *roots, path)
    assert run(tmp_path, "consistency", "7", "5").code == 2
    assert "the log has 7 records" in run(tmp_path, "consistency", "1", "8").err


def test_the_log_is_listed_by_action_object_and_number(tmp_path, log) -> None:
    assert [one["seq"] for one in run(tmp_path, "log", "--json").json] == list(range(7))
    only = run(tmp_path, "log", "--json", "--action", "key_destroyed").json
    assert [one["seq"] for one in only] == [6]
    about = run(tmp_path, "log", "--json", "--object", "n4").json
    assert [one["seq"] for one in about] == [4]
    assert [one["seq"] for one in run(tmp_path, "log", "--json", "--limit", "2").json] == [5, 6]
    first = run(tmp_path, "log", "--json", "--from", "1", "--limit", "2").json
    assert [one["seq"] for one in first] == [1, 2]
    assert "suppressed" in run(tmp_path, "log").out
    assert run(tmp_path, "log", "--action", "hidden").code == 2


def test_a_directory_without_a_store_is_refused(tmp_path, log) -> None:
    ran = run(tmp_path, "log", "--data-dir", str(tmp_path))
    assert ran.code == 1
    assert "there is no store here" in ran.err


def test_reading_changes_nothing_in_a_copy_that_cannot_be_written(tmp_path, log) -> None:
    trio.run(log.store.checkpoint, tmp_path / "copy")
    database = tmp_path / "copy" / "db"
    before = {file.name for file in database.iterdir() if not file.name.startswith("LOG")}
    shutil.copytree(tmp_path / "copy", tmp_path / "again")
    for _ in range(2):
        ran = run(tmp_path, "log", "--json", "--data-dir", str(tmp_path / "copy"))
        assert len(json.loads(ran.out)) == 7
    after = {file.name for file in database.iterdir() if not file.name.startswith("LOG")}
    assert before == after
