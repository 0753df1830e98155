"""`cdp keys` and `cdp backup` over a real data directory."""

from __future__ import annotations

import shutil

import pytest
from terminal import cdp

from cdp.config import load
from cdp.storage.keyfile import open_keys
from cdp.storage.master import master_key
from cdp.storage.opening import open_store
from cdp.storage.vault import Vault
from cdp.system import Threads

MASTER = 'master = "file:first"'
LATER = 'master = "file:second"\nprevious = ["file:first"]'
UNKNOWN = 'master = "file:second"'
ADA = b"a" * 16
HERE = b"here"


class Installation:
    """A configuration and a data directory with one person's record in it."""

    def __init__(self, tmp_path):
        self.path = tmp_path
        for name in ("identity", "first", "second"):
            (tmp_path / name).write_text(name * 8)
            (tmp_path / name).chmod(0o600)
        self.configure(MASTER)
        store, vault = self.open()
        batch = store.batch()
        self.sealed = vault.seal_row(batch, ADA, b"ada", HERE)
        store.write(batch)
        self.close(store, vault)

    def configure(self, keys):
        text = f'data_dir = "data"\n[identity]\nkey = "file:identity"\n[keys]\n{keys}\n'
        (self.path / "cdp.toml").write_text(text)
        self.config = load(self.path / "cdp.toml", {}.get)

    def open(self):
        store = open_store(self.config.data_dir, Threads())
        current, previous = master_key(self.config)
        keys = open_keys(self.config.data_dir)
        return store, Vault(keys, store, master=current, previous=previous, seed=bytes(32))

    def close(self, store, vault):
        vault.close()
        store.close()

    def read(self):
        store, vault = self.open()
        try:
            return vault.open_row(self.sealed, HERE)
        finally:
            self.close(store, vault)

    def run(self, *argv):
        return cdp(self.path, *argv, config=None)


@pytest.fixture
def installed(tmp_path):
    return Installation(tmp_path)


def test_status_says_how_many_keys_there_are_and_that_the_master_key_fits(installed):
    ran = installed.run("keys", "status", "--json")
    assert (ran.code, ran.json) == (
        0,
        {"master_key": "configured", "master_keys_so_far": 1, "slots": 1024, "destroyed": 0},
    )
    assert "1024" in installed.run("keys", "status").out


def test_status_can_be_asked_while_the_daemon_runs_and_rotate_cannot(installed):
    store, vault = installed.open()
    assert installed.run("keys", "status").code == 0
    refused = installed.run("keys", "rotate")
    assert refused.code == 4
    assert "stop it first" in refused.err
    installed.close(store, vault)


def test_rotate_wraps_the_keys_under_the_new_master_key(installed):
    installed.configure(LATER)
    before = installed.run("keys", "status", "--json")
    assert "previous" in before.json["master_key"]
    ran = installed.run("keys", "rotate")
    assert ran.code == 0
    assert "1,024 keys wrapped anew" in ran.out
    assert "already wrapped" in installed.run("keys", "rotate").out
    after = installed.run("keys", "status", "--json").json
    assert (after["master_key"], after["master_keys_so_far"]) == ("configured", 2)
    assert installed.read() == b"ada"


def test_a_master_key_that_does_not_fit_is_told(installed):
    installed.configure(UNKNOWN)
    ran = installed.run("keys", "status", "--json")
    assert (ran.code, ran.json["master_key"]) == (1, "unknown")
    refused = installed.run("keys", "rotate")
    assert refused.code == 2
    assert "[keys] previous" in refused.err


def test_no_key_file_yet_is_said(installed):
    shutil.rmtree(installed.config.data_dir / "keys")
    ran = installed.run("keys", "status")
    assert (ran.code, "no key file yet" in ran.err) == (1, True)


def test_a_backup_has_no_keys_and_is_of_use_with_them_only(installed):
    copy = installed.path / "copy"
    ran = installed.run("backup", str(copy))
    assert ran.code == 0
    assert "the keys are not in it" in ran.out
    assert not (copy / "keys").exists()

    data_dir = installed.config.data_dir
    keys = (data_dir / "keys" / "slots").read_bytes()
    shutil.rmtree(data_dir)
    shutil.copytree(copy, data_dir)
    refused = installed.run("keys", "rotate")
    assert refused.code == 3
    assert "restore its last copy to keys/slots" in refused.err
    (data_dir / "keys" / "slots").write_bytes(keys)
    assert installed.read() == b"ada"


def test_a_backup_overwrites_nothing(installed):
    (installed.path / "copy").mkdir()
    ran = installed.run("backup", str(installed.path / "copy"))
    assert (ran.code, "exists already" in ran.err) == (1, True)
