"""A configuration is right, or refused with file, key, value found and what is allowed."""

import pytest

from cdp.config import Config, Limits, NamespaceRule, Secret, load
from cdp.errors import ConfigError

KEY = "k" * 32
TOKEN = "t" * 16


def read(tmp_path, text, **environ):
    file = tmp_path / "cdp.toml"
    file.write_text(text)
    return load(file, environ.get)


def refusal(tmp_path, text, **environ):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **environ)
    prefix = f"{tmp_path / 'cdp.toml'}: "
    lines = str(caught.value).splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_an_empty_file_is_the_defaults_beside_the_file(tmp_path):
    config = read(tmp_path, "")
    assert config == Config(data_dir=tmp_path / "data", path=tmp_path / "cdp.toml")


def test_a_whole_file_becomes_structs(tmp_path):
    config = read(
        tmp_path,
        """
        data_dir = "/var/lib/cdp"
        [gateway]
        port = 9080
        trusted_proxies = ["10.0.0.0/8"]
        [sources.web]
        write_key = "wk_web"
        allowed_origins = ["https://shop.example"]
        [destinations.crm]
        type = "webhook"
        purposes = ["marketing"]
        events = ["track"]
        settings = { url = "https://crm.example", batch = 3 }
        [consent.defaults]
        analytics = "granted"
        [limits]
        retry_window_s = 60
        """,
    )
    assert str(config.data_dir) == "/var/lib/cdp"
    assert config.gateway.port == 9080
    assert config.sources["web"].allowed_origins == ("https://shop.example",)
    assert config.destinations["crm"].settings == {"url": "https://crm.example", "batch": 3}
    assert config.consent.defaults == {"analytics": "granted"}
    assert config.limits == Limits(retry_window_s=60.0)


def test_a_missing_file_says_what_writes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"cdp.toml: no such file; `cdp init` writes one"):
        load(tmp_path / "cdp.toml", {}.get)


def test_text_that_is_not_toml_is_refused_with_its_line(tmp_path):
    (line,) = refusal(tmp_path, "[gateway]\nport = \n")
    assert line.startswith("not valid TOML: ")
    assert "line 2" in line


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path):
    (line,) = refusal(tmp_path, "[gateway]\nprot = 1\n")
    assert line.startswith("gateway.prot: unknown key; did you mean port? (known: host, port, ")


def test_the_place_of_the_file_is_not_a_key_of_it(tmp_path):
    (line,) = refusal(tmp_path, 'path = "x"')
    assert line.startswith("path: unknown key")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[gateway]\nport = "80"', 'gateway.port: found "80"; expected a whole number'),
        ("[gateway]\nport = true", "gateway.port: found true; expected a whole number"),
        ("[gateway]\nport = 70000", "gateway.port: found 70000; expected 1 to 65535, or 0 for"),
        ("gateway = 4", "gateway: found 4; expected a table: [gateway]"),
        ("data_dir = 4", "data_dir: found 4; expected a path in quotes"),
        ("[sources]\nweb = 1", "sources.web: found 1; expected a table"),
        ("[sources.web]", "sources.web.write_key: missing; expected a text in quotes"),
        (
            '[sources.web]\nwrite_key = "a"\nkind = "app"',
            'sources.web.kind: found "app"; expected one of "browser", "server"',
        ),
        (
            '[sources.web]\nwrite_key = "a"\nallowed_origins = "x"',
            'sources.web.allowed_origins: found "x"; expected a list, each a text in quotes',
        ),
        ('[sources.web]\nwrite_key = "a b"', "sources.web.write_key: expected 1 to 128 of"),
        ('[sources."Web"]\nwrite_key = "a"', "sources.Web: a name is 1 to 64 of a-z 0-9 _ -"),
        ('[destinations."a b"]\ntype = "file"', "destinations.a b: a name is 1 to 64 of"),
        ("[limits]\ndrain_timeout_s = inf", "limits.drain_timeout_s: found inf; expected a finite"),
        ("[limits]\nattempts_max = 0", "limits.attempts_max: found 0; expected more than 0"),
        (
            "[limits]\nbody_bytes_max = 600000\ninflight_bytes_max = 599999",
            "limits.inflight_bytes_max: found 599999; expected at least 600000 (body_bytes_max)",
        ),
        ("[retention]\nage_days_max = 0", "retention.age_days_max: found 0.0; expected more"),
        ('[consent.defaults]\nads = "yes"', 'consent.defaults.ads: found "yes"; expected one of'),
        ('[identity]\ndefault_region = "UK"', 'identity.default_region: found "UK"; expected an'),
        (
            "[identity.rules.emial]\npriority = 99",
            "identity.rules.emial: unknown namespace; did you mean email?",
        ),
        ("[identity.rules.email]\nlimit = -1", "identity.rules.email.limit: found -1; expected 0"),
        (
            "[identity.rules.email]\npriority = 1",
            "identity.rules.email.priority: 1 is also that of user_id; ",
        ),
        (
            '[gateway]\npublic_url = "events.example"',
            'gateway.public_url: found "events.example"; expected a URL',
        ),
        (
            '[gateway]\ntrusted_proxies = ["proxy"]',
            'gateway.trusted_proxies: found "proxy"; expected an IP address or network',
        ),
        (
            '[gateway]\ntls_key = "key.pem"',
            "gateway.tls_certificate: missing; tls_key is set, and TLS needs both or neither",
        ),
        (
            "[gateway]\nport = 5\n[control]\nport = 5",
            "control.port: 5 is taken by the gateway; choose another",
        ),
        (
            '[destinations.crm]\ntype = "file"\nevents = ["trakc"]',
            'destinations.crm.events: "trakc" is an unknown event type; did you mean track?',
        ),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(tmp_path, text, line):
    (found,) = refusal(tmp_path, text)
    assert found.startswith(line)


def test_every_problem_is_reported_at_once(tmp_path):
    lines = refusal(tmp_path, '[gateway]\nport = "x"\nhots = "y"\n[control]\nport = -1\n')
    assert {line.split(":")[0] for line in lines} == {
        "gateway.port",
        "gateway.hots",
        "control.port",
    }


def test_two_sources_cannot_share_a_write_key(tmp_path):
    (line,) = refusal(tmp_path, '[sources.a]\nwrite_key = "k"\n[sources.b]\nwrite_key = "k"')
    assert line == ("sources.b.write_key: the same as that of sources.a; each source needs its own")


def test_a_rule_need_only_name_what_differs_from_the_default(tmp_path):
    config = read(tmp_path, "[identity.rules.email]\nlimit = 9\n")
    rules = config.identity.effective_rules()
    assert rules["email"] == NamespaceRule(priority=3, limit=9, persons_max=2)
    assert rules["phone"] == NamespaceRule(priority=4, limit=5, persons_max=5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "cdp.internal"])
def test_a_control_plane_that_others_can_reach_needs_a_token(tmp_path, host):
    (line,) = refusal(tmp_path, f'[control]\nhost = "{host}"')
    assert line.startswith(f'control.token: missing, and host "{host}" can be reached')
    config = read(tmp_path, f'[control]\nhost = "{host}"\ntoken = "env:TOKEN"', TOKEN=TOKEN)
    assert config.control.token == Secret(TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_control_plane_on_loopback_needs_none(tmp_path, host):
    assert read(tmp_path, f'[control]\nhost = "{host}"').control.token is None


def test_tls_files_must_exist(tmp_path):
    (tmp_path / "cert.pem").write_text("x")
    (line,) = refusal(tmp_path, '[gateway]\ntls_certificate = "cert.pem"\ntls_key = "no.pem"')
    assert line == f"gateway.tls_key: {tmp_path / 'no.pem'} is not a file"


# ---------------------------------------------------------------- secrets


def test_a_secret_comes_from_the_environment(tmp_path):
    config = read(tmp_path, '[identity]\nkey = "env:CDP_KEY"', CDP_KEY=KEY)
    assert config.identity.key is not None
    assert config.identity.key.reveal() == KEY
    assert KEY not in repr(config)


def test_an_unset_variable_is_refused_by_name(tmp_path):
    (line,) = refusal(tmp_path, '[identity]\nkey = "env:CDP_KEY"')
    assert line.startswith("identity.key: the environment variable CDP_KEY is not set or empty")


def test_a_secret_file_is_relative_to_the_configuration(tmp_path):
    secret = tmp_path / "secrets" / "identity.key"
    secret.parent.mkdir()
    secret.write_text(KEY + "\n")
    secret.chmod(0o600)
    config = read(tmp_path, '[identity]\nkey = "file:secrets/identity.key"')
    assert config.identity.key == Secret(KEY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_file_that_others_may_read_is_refused_with_the_remedy(tmp_path, mode):
    secret = tmp_path / "key"
    secret.write_text(KEY)
    secret.chmod(mode)
    (line,) = refusal(tmp_path, '[identity]\nkey = "file:key"')
    assert line == f"identity.key: others may read {secret}; run: chmod 600 {secret}"


def test_a_missing_or_empty_secret_file_is_refused(tmp_path):
    (line,) = refusal(tmp_path, '[identity]\nkey = "file:key"')
    assert line.startswith(f"identity.key: cannot read the secret in {tmp_path / 'key'}: No such")
    secret = tmp_path / "key"
    secret.write_text("\n")
    secret.chmod(0o600)
    (line,) = refusal(tmp_path, '[identity]\nkey = "file:key"')
    assert "must hold 1 to" in line


def test_a_literal_secret_is_refused_and_not_shown(tmp_path):
    (line,) = refusal(tmp_path, f'[identity]\nkey = "{KEY}"')
    assert 'write "env:NAME" or "file:PATH"' in line
    assert KEY not in line


def test_a_guessable_secret_is_refused(tmp_path):
    (line,) = refusal(tmp_path, '[identity]\nkey = "env:K"', K="short")
    assert line == "identity.key: too short; expected at least 32 characters"


def test_a_write_key_may_be_a_reference(tmp_path):
    config = read(tmp_path, '[sources.web]\nwrite_key = "env:WEB"', WEB="wk_1")
    assert config.sources["web"].write_key == "wk_1"
