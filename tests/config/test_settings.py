from __future__ import annotations

from pathlib import Path

import pytest

from config.problem import SettingsError
from config.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "voice.toml"


def problems(file: Path | None = None, **flags: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(file, **flags)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_every_setting_is_documented_and_has_a_default() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name
    assert Settings.load() == Settings()


def test_defaults_are_safe() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.loopback) == ("127.0.0.1", 8080, True)
    assert not settings.secret
    assert not settings.api_keys
    assert not settings.trust_proxy
    assert not settings.allow_any_origin
    assert settings.redis_url is None


def test_flags_beat_the_environment_beats_the_file_beats_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("port = 1\nudp_port = 1\nmax_calls = 1\n")
    monkeypatch.setenv("VOICE_PORT", "2")
    monkeypatch.setenv("VOICE_UDP_PORT", "2")
    settings = Settings.load(file, port=3, host=None)
    assert (settings.port, settings.udp_port, settings.max_calls, settings.token_ttl) == (3, 2, 1, 60)
    sources = {row.name: row.source for row in settings.describe()}
    assert sources["port"] == "flag"
    assert sources["udp_port"] == "environment"
    assert sources["max_calls"] == "file"
    assert sources["token_ttl"] == sources["host"] == "default"


def test_the_environment_may_name_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("port = 1\n")
    monkeypatch.setenv("VOICE_CONFIG", str(file))
    assert Settings.load().port == 1
    assert Settings.load(port=2).port == 2


def test_values_are_typed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        'udp_addresses = ["192.168.0.7", "fd00:0::1"]\napi_keys = ["org-1:secret-key"]\n'
        'data_dir = "~/voice"\npublic_url = "https://voice.example.org/"\n'
    )
    monkeypatch.setenv("VOICE_PUBLIC_IP", "203.0.113.5, 2001:db8::1,")
    monkeypatch.setenv("VOICE_TRUST_PROXY", "yes")
    monkeypatch.setenv("VOICE_DRAIN_SECONDS", "2.5")
    monkeypatch.setenv("VOICE_REDIS_URL", "")  # as an empty line of a compose file leaves it
    settings = Settings.load(file)
    assert settings.udp_addresses == ("192.168.0.7", "fd00::1")
    assert settings.public_ip == ("203.0.113.5", "2001:db8::1")
    assert settings.trust_proxy is True
    assert settings.drain_seconds == 2.5
    assert settings.redis_url is None
    assert settings.public_url == "https://voice.example.org"
    assert settings.data_dir == Path.home() / "voice"
    assert [key.get_secret_value() for key in settings.api_keys] == ["org-1:secret-key"]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PORT", "http", "VOICE_PORT = 'http': expected a valid integer"),
        ("PORT", "65536", "VOICE_PORT = '65536': expected less than or equal to 65535"),
        ("UDP_PORT", "-1", "VOICE_UDP_PORT = '-1': expected greater than or equal to 0"),
        ("UDP_ADDRESSES", "eth0", "expected IPv4 or IPv6 addresses"),
        ("UDP_ADDRESSES", "0.0.0.0", "not the wildcard"),
        ("UDP_ADDRESSES", "fe80::1", "link-local"),
        ("PUBLIC_IP", "224.0.0.1", "multicast"),
        ("HOST", "a..b", "expected an IP address or a host name"),
        ("HOST", "my host", "expected an IP address or a host name"),
        ("PUBLIC_IP", "voice.example.org", "expected IPv4 or IPv6 addresses"),
        ("PUBLIC_URL", "voice.example.org", "expected an address that begins with http:// or https://"),
        ("PUBLIC_URL", "wss://voice.example.org", "expected an address that begins with http:// or https://"),
        ("PUBLIC_URL", "https://voice.example.org:99999", "expected an address"),
        ("PUBLIC_URL", "https://[::1", "expected an address"),
        ("PUBLIC_URL", "https://user@voice.example.org", "without user"),
        ("TRUST_PROXY", "perhaps", "VOICE_TRUST_PROXY = 'perhaps': expected a valid boolean"),
        ("MAX_CALLS", "0", "greater than or equal to 1"),
        ("MINT_RATE", "-1", "VOICE_MINT_RATE = '-1': expected greater than or equal to 0"),
        ("TOKEN_TTL", "1", "greater than or equal to 5"),
        ("DRAIN_SECONDS", "nan", "expected"),
        ("LOG_LEVEL", "loud", "VOICE_LOG_LEVEL = 'loud': expected 'debug', 'info', 'warning' or 'error'"),
        ("TLS_CERT", "cert.pem", "tls_key = None: required by tls_cert"),
        ("TLS_KEY", "key.pem", "of no use without tls_cert"),
        ("TURN_URLS", "turn.example.org", "expected addresses such as turn:"),
        ("TURN_URLS", "turn:turn.example.org:3478", "turn_secret: required by a turn: address"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VOICE_{variable}", value)
    (problem,) = problems()
    assert expected in problem


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SECRET", "hunter2-hunter2", "VOICE_SECRET: expected at least 32 characters"),
        ("SECRET", f"{'hunter2' * 5},hunter2", "VOICE_SECRET: expected at least 32 characters"),
        ("PUBLISHABLE_KEYS", "hunter2-hunter2", "VOICE_PUBLISHABLE_KEYS: expected keys such as"),
        ("PUBLISHABLE_KEYS", "pk_publishable_hunter2", "VOICE_PUBLISHABLE_KEYS: expected keys such as"),
        ("PUBLISHABLE_KEYS", "My Org:pk_publishable_hunter2_", "VOICE_PUBLISHABLE_KEYS: expected keys such as"),
        ("API_KEYS", "hunter2", "VOICE_API_KEYS: expected keys of at least 8 characters"),
        ("API_KEYS", "hunter2 hunter2", "VOICE_API_KEYS: expected keys"),
        ("API_KEYS", "My Org:hunter2-hunter2", "VOICE_API_KEYS: expected keys"),
        ("API_KEYS", ":hunter2-hunter2", "VOICE_API_KEYS: expected keys"),
        ("API_KEYS", "pk_publishable_hunter2", "is no secret key"),
        ("REDIS_URL", "http://:hunter2@redis", "VOICE_REDIS_URL: expected an address that begins with redis://"),
    ],
)
def test_a_bad_secret_is_named_but_not_shown(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VOICE_{variable}", value)
    (problem,) = problems()
    assert expected in problem
    assert "hunter2" not in problem


def test_secrets_do_not_show_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_SECRET", f"{'hunter2' * 5}, {'hunter2' * 6}")
    monkeypatch.setenv("VOICE_PUBLISHABLE_KEYS", "acme:pk_publishable_hunter2-c")
    monkeypatch.setenv("VOICE_API_KEYS", "hunter2-a,acme:hunter2-b")
    monkeypatch.setenv("VOICE_REDIS_URL", "redis://:hunter2@localhost")
    monkeypatch.setenv("VOICE_TURN_SECRET", "hunter2")
    settings = Settings.load()
    assert "hunter2" not in f"{settings!r} {settings} {settings.describe()} {settings.model_dump_json()}"
    assert [secret.get_secret_value() for secret in settings.secret] == ["hunter2" * 5, "hunter2" * 6]


def test_unknown_names_are_told_with_the_nearest_known_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('prot = 1\n[redis]\nurl = "x"\n')
    monkeypatch.setenv("VOICE_UDPPORT", "1")
    monkeypatch.setenv("voice_hots", "1")
    monkeypatch.setenv("VOICE_AGENTS", "{}")
    found = problems(file, bogus=1)
    assert f"prot in {file}: unknown key; did you mean port?" in found
    assert any(line.startswith(f"redis in {file}: unknown key") for line in found)
    assert "VOICE_UDPPORT: unknown variable; did you mean VOICE_UDP_PORT?" in found
    assert any(line.startswith("voice_hots: unknown variable") for line in found)
    assert any(line.startswith("VOICE_AGENTS: unknown variable") for line in found)
    assert "--bogus: unknown key" in found


def test_all_problems_are_told_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('max_calls = "many"\n[agents.mara]\ncolour = "red"\n')
    monkeypatch.setenv("VOICE_PORT", "x")
    monkeypatch.setenv("VOICE_TYPO", "x")
    found = problems(file, token_ttl=0)
    assert len(found) == 5
    assert f"max_calls in {file} = 'many': expected a valid integer" in "\n".join(found)
    assert "--token-ttl = 0: expected greater than or equal to 5" in found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"port = ", "is no TOML file"),
        (b"\xff\xfe", "is no TOML file"),
        (b"port = " + b"9" * 5000, "is no TOML file"),
        (b"#" * (1 << 20) + b"#", "is larger than"),
        (b"a = " + b"[" * 100_000, "is no TOML file"),
    ],
)
def test_a_file_that_is_none_is_told(file: Path, content: bytes, expected: str) -> None:
    file.write_bytes(content)
    (problem,) = problems(file)
    assert problem.startswith(f"{file}: ")
    assert expected in problem


def test_a_file_that_is_not_there_is_told(file: Path, tmp_path: Path) -> None:
    assert problems(file) == (f"{file}: cannot be read: No such file or directory",)
    assert problems(tmp_path) == (f"{tmp_path}: cannot be read: Is a directory",)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("voice.example.org", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Settings(host=host).loopback is loopback


def test_the_constructor_reads_nothing_but_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_PORT", "1")
    assert Settings(max_calls=3).port == 8080
