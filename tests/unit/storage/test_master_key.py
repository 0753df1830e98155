"""Where the master key comes from, and what is refused."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdp.config import load
from cdp.errors import ConfigError
from cdp.storage import master
from cdp.storage.master import master_key, run_command

LONG = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def config_with(tmp_path, keys="", identity='key = "env:IDENTITY"', **secrets):
    file = tmp_path / "cdp.toml"
    file.write_text(f"[identity]\n{identity}\n[keys]\n{keys}\n")
    return load(file, {"IDENTITY": LONG, **secrets}.get)


def hkdf(material, info):
    return HKDF(SHA256(), 32, salt=None, info=info).derive(material.encode())


def no_command(command):
    raise AssertionError("no command is configured")


def test_without_one_it_is_derived_from_the_identity_key(tmp_path):
    current, previous = master_key(config_with(tmp_path), no_command)
    assert (current, previous) == (hkdf(LONG, b"cdp master key"), [])


def test_the_configured_one_is_used_and_the_derived_one_counts_as_previous(tmp_path):
    config = config_with(tmp_path, 'master = "env:MASTER"', MASTER=f"{OTHER}\n")
    current, previous = master_key(config, no_command)
    assert current == hkdf(OTHER, b"cdp configured master key")
    assert previous == [hkdf(LONG, b"cdp master key")]


def test_previous_ones_are_given_in_order(tmp_path):
    keys = 'master = "env:A"\nprevious = ["env:B", "env:C"]'
    secrets = {name: name * 40 for name in "ABC"}
    _, previous = master_key(config_with(tmp_path, keys, **secrets), no_command)
    expected = [hkdf(name * 40, b"cdp configured master key") for name in "BC"]
    assert previous[:2] == expected


def test_the_command_is_run_once_and_its_output_is_the_key(tmp_path):
    calls = []

    def run(command):
        calls.append(command)
        return OTHER.encode() + b"\n"

    config = config_with(tmp_path, 'master_command = ["vault", "read", "cdp"]')
    current, _ = master_key(config, run)
    assert current == hkdf(OTHER, b"cdp configured master key")
    assert calls == [("vault", "read", "cdp")]


def test_the_same_secret_gives_another_key_as_master_than_as_identity_key(tmp_path):
    current, previous = master_key(config_with(tmp_path, 'master = "env:IDENTITY"'), no_command)
    assert current not in previous


@pytest.mark.parametrize("printed", [b"", b"short\n", b"x" * 5_000])
def test_a_command_that_prints_no_key_is_refused_without_showing_what_it_printed(tmp_path, printed):
    config = config_with(tmp_path, 'master_command = ["read-key"]')
    with pytest.raises(ConfigError, match="master_command") as caught:
        master_key(config, lambda command: printed)
    assert "short" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_nothing_to_derive_from_is_refused_and_says_what_to_set(tmp_path):
    with pytest.raises(ConfigError, match=r"keys.master = .file:PATH"):
        master_key(config_with(tmp_path, identity=""), no_command)


def python(code):
    return [sys.executable, "-c", code]


def test_a_command_gives_what_it_prints():
    assert run_command(python("print('secret' * 6)")) == b"secret" * 6 + b"\n"


def test_a_command_that_fails_is_named_and_its_output_is_not_shown():
    code = "import sys; print('tell-tale'); print('tell-tale', file=sys.stderr); sys.exit(7)"
    with pytest.raises(ConfigError, match="exit code 7") as caught:
        run_command(python(code))
    assert "tell-tale" not in repr(caught.value)


def test_a_command_that_hangs_is_ended_and_its_output_is_not_kept(monkeypatch):
    monkeypatch.setattr(master, "COMMAND_TIMEOUT_S", 0.5)
    code = "import time; print('tell-tale', flush=True); time.sleep(60)"
    with pytest.raises(ConfigError, match="took more than") as caught:
        run_command(python(code))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="no/such/command cannot be run: No such file"):
        run_command(["no/such/command"])
