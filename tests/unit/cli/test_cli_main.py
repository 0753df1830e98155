"""A newcomer finds a way in; whoever errs is told in one sentence what to do."""

import pytest
from terminal import Daemon, cdp

from cdp.cli.main import build_parser, exit_code
from cdp.cli.shell import CommandFailed
from cdp.errors import ConfigError, PluginError, StorageError, StoreDamaged, StoreInUse

VERBS = [
    "init",
    "run",
    "check",
    "send",
    "profile",
    "events",
    "dead-letters",
    "redrive",
    "replay",
    "why",
    "status",
    "destinations",
]


def test_help_lists_every_verb_and_where_to_start(tmp_path, capsys):
    assert cdp(tmp_path, "--help").code == 0
    text = capsys.readouterr().out
    assert "Start here" in text
    assert all(f"  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(tmp_path, capsys, verb):
    assert cdp(tmp_path, verb, "--help").code == 0
    assert f"cdp {verb}" in capsys.readouterr().out.partition("examples:")[2] or verb == "run"


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["profile"], ["events", "rejected", "nonsense"]]
)
def test_wrong_arguments_are_exit_code_2(tmp_path, capsys, argv):
    assert cdp(tmp_path, *argv).code == 2
    assert "cdp" in capsys.readouterr().err


def test_the_configuration_may_be_named_before_or_after_the_verb():
    before = build_parser().parse_args(["--config", "a.toml", "status"])
    after = build_parser().parse_args(["status", "--config", "a.toml"])
    assert before.config == after.config == "a.toml"


def test_a_daemon_that_does_not_run_is_said_with_how_to_start_it(tmp_path):
    ran = cdp(tmp_path, "status")
    assert ran.code == 1
    assert ran.err == (
        "cdp: the daemon does not answer at http://127.0.0.1:8081; "
        f"start it with: cdp --config {tmp_path / 'cdp.toml'} run\n"
    )


def test_asking_needs_none_of_the_daemons_other_secrets(tmp_path):
    daemon = Daemon({("GET", "/v1/status"): {"sources": {}, "destinations": {}}})
    assert cdp(tmp_path, "status", daemon=daemon).code == 0
    (request,) = daemon.requests
    assert request.headers["Authorization"] == "Bearer " + "t" * 32


def test_a_missing_configuration_says_what_writes_one(tmp_path):
    ran = cdp(tmp_path, "status", config=None)
    assert ran.code == 2
    assert ran.err.endswith("cdp.toml: no such file; `cdp init` writes one\n")


def test_a_refused_token_is_said_without_showing_it(tmp_path):
    import httpx

    daemon = Daemon({("GET", "/v1/status"): lambda _: httpx.Response(401)})
    ran = cdp(tmp_path, "status", daemon=daemon)
    assert ran.code == 1
    assert "use the cdp.toml that the daemon runs with" in ran.err
    assert "t" * 32 not in ran.err


def test_the_daemons_own_reason_is_passed_on(tmp_path):
    ran = cdp(tmp_path, "profile", "user_id:nobody", daemon=Daemon())
    assert ran.code == 1
    assert ran.err == "cdp: no GET /v1/profiles/user_id:nobody here\n"


def test_another_address_can_be_given(tmp_path):
    daemon = Daemon({("GET", "/v1/status"): {}})
    ran = cdp(tmp_path, "--control-url", "http://10.0.0.7:9000", "status", daemon=daemon)
    assert ran.code == 0
    assert str(daemon.requests[0].url) == "http://10.0.0.7:9000/v1/status"


def test_a_port_that_only_the_daemon_knows_is_asked_for(tmp_path):
    ran = cdp(tmp_path, "status", config="[control]\nport = 0")
    assert ran.code == 1
    assert "control.port is 0" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed("x"), 1),
        (CommandFailed("x", 2), 2),
        (ConfigError("x"), 2),
        (PluginError("x"), 2),
        (StoreDamaged("x"), 3),
        (StoreInUse("x"), 4),
        (StorageError("x"), 1),
        (OSError("x"), 1),
    ],
)
def test_the_exit_code_says_who_must_act(error, code):
    assert exit_code(error) == code


def test_an_operators_error_inside_groups_is_found():
    from cdp.cli.main import _first

    damaged = StoreDamaged("x")
    group = ExceptionGroup("a", [ValueError("b"), ExceptionGroup("c", [damaged])])
    assert _first(group) is damaged


def test_markup_in_an_error_is_shown_as_it_is(tmp_path):
    ran = cdp(tmp_path, "status", config='[control]\nhost = "[red]"')
    assert '"[red]"' in ran.err
