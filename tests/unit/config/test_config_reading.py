"""Settings of destination types are read by the same reader, with the same errors."""

from pathlib import Path

import msgspec
import pytest

from cdp.config_reading import Secret, allowed, read_table, shown, unknown
from cdp.errors import ConfigError

FILE = Path("cdp.toml")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    secret: Secret | None = None
    secrets: tuple[Secret, ...] = ()
    tokens: dict[str, Secret] = {}
    headers: dict[str, str] = {}
    timeout_s: float = 5.0

    def __post_init__(self):
        if self.timeout_s > 10:
            raise ValueError("timeout_s must be 10 at most")


def read(raw, **environ):
    return read_table(Settings, raw, file=FILE, environ=environ.get, at="destinations.x.settings")


def test_settings_of_a_plugin_are_read_with_their_secrets():
    assert read({"url": "u", "secret": "env:S", "timeout_s": 2}, S="v") == Settings(
        url="u", secret=Secret("v"), timeout_s=2.0
    )


def test_secrets_in_lists_and_tables_are_resolved_each():
    settings = read(
        {"url": "u", "secrets": ["env:A", "env:B"], "tokens": {"x": "env:A"}}, A="1", B="2"
    )
    assert [one.reveal() for one in settings.secrets] == ["1", "2"]
    assert settings.tokens == {"x": Secret("1")}
    with pytest.raises(ConfigError, match=r"settings.secrets\[1\]: found a literal value"):
        read({"url": "u", "secrets": ["env:A", "open"]}, A="1")


def test_an_error_names_the_place_in_the_file():
    with pytest.raises(ConfigError) as caught:
        read({"urll": "u", "headers": {"a": 1}})
    assert sorted(str(caught.value).splitlines()) == [
        "cdp.toml: destinations.x.settings.headers.a: found 1; expected a text in quotes",
        "cdp.toml: destinations.x.settings.url: missing; expected a text in quotes",
        "cdp.toml: destinations.x.settings.urll: unknown key; did you mean url? "
        "(known: headers, secret, secrets, timeout_s, tokens, url)",
    ]


def test_what_a_struct_refuses_itself_is_reported_too():
    with pytest.raises(ConfigError, match=r"x\.settings: timeout_s must be 10 at most"):
        read({"url": "u", "timeout_s": 11})


def test_long_values_are_cut_in_errors():
    assert shown("x" * 100) == '"' + "x" * 60 + '…"'
    assert shown({"a": "secret"}) == "a table"
    assert shown([1, 2]) == "a list of 2"


def test_types_are_named_in_words():
    assert allowed(int | None) == "a whole number"
    assert allowed(dict[str, int]) == "a table, each value a whole number"
    assert allowed(Secret | None) == '"env:NAME" or "file:PATH"'
    assert allowed(Settings) == "a table"


def test_nothing_is_suggested_where_nothing_is_near():
    assert unknown("key", "zzz", ["alpha"]) == "unknown key (known: alpha)"


def test_a_secret_shows_itself_only_on_request():
    secret = Secret("hush")
    assert "hush" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "hush"
