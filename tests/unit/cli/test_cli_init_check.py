"""What init writes is right, private, and never written over anything."""

import stat

import pytest
from terminal import cdp

from cdp.config import load


def run_init(directory):
    return cdp(directory.parent, "init", str(directory), config=None)


def test_what_init_writes_is_accepted_as_it_is(tmp_path):
    ran = run_init(tmp_path / "shop")
    assert ran.code == 0
    config = load(tmp_path / "shop" / "cdp.toml", {}.get)
    assert set(config.sources) == {"website", "backend"}
    assert set(config.destinations) == {"archive"}
    assert config.identity.key is not None
    assert len(config.identity.key.reveal()) == 64
    assert config.control.token is not None


def test_secrets_are_readable_by_the_owner_alone(tmp_path):
    run_init(tmp_path)
    for name in ("identity.key", "control.token"):
        assert stat.S_IMODE((tmp_path / "secrets" / name).stat().st_mode) == 0o600


def test_two_inits_never_make_the_same_secret(tmp_path):
    run_init(tmp_path / "a")
    run_init(tmp_path / "b")
    keys = [(tmp_path / d / "secrets" / "identity.key").read_text() for d in "ab"]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("present", ["cdp.toml", "secrets/identity.key"])
def test_init_overwrites_nothing_and_writes_nothing_then(tmp_path, present):
    file = tmp_path / present
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    ran = run_init(tmp_path)
    assert ran.code == 2
    assert f"{file} is there already" in ran.err
    assert file.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [file]


def test_check_names_every_broken_destination(tmp_path):
    config = '[destinations.a]\ntype = "nowhere"\n[destinations.b]\ntype = "neither"'
    ran = cdp(tmp_path, "check", config=config)
    assert ran.code == 2
    lines = ran.err.splitlines()
    assert "destinations.a: destination type 'nowhere' is not installed" in lines[0]
    assert "destinations.b: destination type 'neither' is not installed" in lines[1]


def test_check_says_what_would_run_and_what_is_odd(tmp_path):
    ran = cdp(tmp_path, "check", "--limits", config='[sources.web]\nwrite_key = "k"')
    assert ran.code == 0
    assert "web" in ran.out
    assert "identity.key is not set" in ran.out
    assert "body_bytes_max" in ran.out
    assert "cdp.toml is right" in ran.out


def test_check_refuses_what_run_would_refuse(tmp_path):
    ran = cdp(tmp_path, "check", config="[gateway]\nprot = 1")
    assert ran.code == 2
    assert "gateway.prot: unknown key; did you mean port?" in ran.err
