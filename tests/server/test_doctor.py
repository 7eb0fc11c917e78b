"""What the doctor finds, check by check; the command as a whole is tested with the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis

from config.agent import AgentConfig
from config.settings import Settings
from pipeline.engine import Engines
from server import doctor
from tests import certificates
from tests.redis_server import RedisServer


def settings(**options: Any) -> Settings:
    return Settings(**options)


@pytest.mark.parametrize(
    ("options", "ok", "text"),
    [
        ({"udp_addresses": ("127.0.0.1",)}, True, "media is announced on 127.0.0.1"),
        ({"udp_addresses": ("127.0.0.1",), "host": "0.0.0.0"}, False, "which only this machine reaches"),
        (
            {"udp_addresses": ("127.0.0.1",), "host": "0.0.0.0", "public_ip": ("127.0.0.1",)},
            False,
            "on 127.0.0.1, which",
        ),
        ({"udp_addresses": ("192.168.0.7",), "host": "0.0.0.0"}, True, "192.168.0.7; callers from elsewhere"),
        ({"udp_addresses": ("10.0.0.7",), "host": "::", "public_ip": ("8.8.8.8",)}, True, "on 8.8.8.8, 10.0.0.7"),
    ],
)
def test_announced_addresses(options: dict[str, Any], ok: bool, text: str) -> None:
    found = doctor._addresses(settings(**options))
    assert found.ok is ok
    assert text in found.text
    assert bool(found.fix) is not ok
    assert ("elsewhere" in found.text) == ("elsewhere" in text)


def test_turn() -> None:
    assert doctor._turn(settings()).text.startswith("none")
    relay = settings(turn_urls=("turn:relay.example:3478",), turn_secret="hunter2", turn_ttl=600)
    assert doctor._turn(relay).text == "turn:relay.example:3478, with credentials for 600 s"


def test_tls(tmp_path: Path) -> None:
    assert doctor._tls(settings()).ok
    good = certificates.make(tmp_path / "good")
    found = doctor._tls(settings(tls_cert=good.cert, tls_key=good.key))
    assert found.ok
    assert found.text.endswith("for localhost, 127.0.0.1")
    over = certificates.make(tmp_path / "over", days=-0.5)
    found = doctor._tls(settings(tls_cert=over.cert, tls_key=over.key))
    assert (found.ok, "is not good now" in found.text, "renew" in found.fix) == (False, True, True)
    found = doctor._tls(settings(tls_cert=good.cert, tls_key=over.key))
    assert (found.ok, "does not belong to" in found.text) == (False, True)


def test_origins() -> None:
    def found(*patterns: str, **options: Any) -> doctor.Finding:
        return doctor._origins(settings(agents=(AgentConfig(id="mara", allowed_origins=patterns),), **options))

    assert found("https://page.example").ok
    assert found("*", allow_any_origin=True).ok
    assert "VOICE_ALLOW_ANY_ORIGIN" in found("*").text
    bad = found("page.example")
    assert not bad.ok
    assert "agents.mara.allowed_origins = 'page.example': expected an origin" in bad.text


def test_a_clock_that_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._clock().ok
    monkeypatch.setattr(time, "time", lambda: 0.0)
    found = doctor._clock()
    assert (found.ok, bool(found.fix)) == (False, True)


async def test_redis_and_the_clocks(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, clock = await doctor._redis(redis_url)
    assert answers.ok
    assert clock.ok
    assert "s apart from that of Redis" in clock.text
    honest = time.time
    for shift in (-30.0, 30.0):
        monkeypatch.setattr(time, "time", lambda shift=shift: honest() + shift)
        answers, clock = await doctor._redis(redis_url)
        assert (answers.ok, clock.ok) == (True, False)
        assert "30." in clock.text or "29." in clock.text
        assert "NTP" in clock.fix


async def test_a_redis_that_refuses_and_one_that_is_gone(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-getdel")
        (found,) = await doctor._redis(own_redis.url)
        assert (found.ok, "GETDEL" in found.fix) == (False, True)
        admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">hunter2")
    (found,) = await doctor._redis(own_redis.url)
    assert (found.ok, "VOICE_REDIS_URL" in found.fix) == (False, True)
    own_redis.kill()
    (found,) = await doctor._redis(own_redis.url)
    assert (found.ok, found.text) == (False, "does not answer")


@pytest.mark.models
async def test_languages() -> None:
    engines = Engines(Settings.load())
    try:
        spanish, portuguese = [await doctor._language(engines, language) for language in ("es-MX", "pt-BR")]
    finally:
        await engines.aclose()
    assert spanish.ok
    assert spanish.text == "whisper hears it, pico speaks it"
    assert not portuguese.ok
    assert portuguese.text == "nobody here hears and speaks 'pt-BR'; the call is in English"
    assert portuguese.fix
