"""What the doctor finds, check by check; the command as a whole is tested with the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from config.agent import AgentConfig
from config.settings import Settings
from media import opus
from pipeline.engine import Engines
from server import doctor
from server.finding import Finding
from tests import certificates
from tests.redis_server import RedisServer


def settings(**options: Any) -> Settings:
    return Settings(**options)


def test_the_data_folder(tmp_path: Path) -> None:
    assert doctor._data_folder(settings(data_dir=tmp_path / "not" / "yet")).ok
    (tmp_path / "file").touch()
    found = doctor._data_folder(settings(data_dir=tmp_path / "file" / "data"))
    assert (found.ok, "VOICE_DATA_DIR" in found.fix) == (False, True)


def test_libopus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._libopus().ok
    monkeypatch.setattr(opus, "_candidates", lambda: iter(["libnothing.so.0"]))
    opus.load.cache_clear()
    try:
        found = doctor._libopus()
    finally:
        opus.load.cache_clear()
    assert (found.ok, "apt install libopus0" in found.fix) == (False, True)


@pytest.mark.models
async def test_engines(tmp_path: Path) -> None:
    found = {each.name: each for each in await doctor._engines(settings(stt="nobody", models_dir=tmp_path))}
    assert (found["stt"].ok, found["stt"].text) == (False, "there is no speech recognition engine 'nobody' here")
    assert found["stt"].fix == "set it up, or choose one of moonshine, whisper"
    assert (found["llm"].ok, "voice-server setup" in found["llm"].fix) == (False, True)
    assert (found["tts"].ok, found["tts"].text) == (True, "hibari was loaded")
    assert found["language en"].ok


def test_models(tmp_path: Path) -> None:
    absent = [found for found in doctor._models(settings(models_dir=tmp_path)) if not found.ok]
    assert [found.name for found in absent] == [f"model of {name}" for name in ("silero", "llamacpp")]
    assert absent[0].fix == "run voice-server setup"


def test_the_report_of_a_program_and_of_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    bad = Finding("clock", ok=False, text="is wrong", fix="set it")
    good = Finding("TLS", ok=True, text="none")
    examination = doctor.Examination([bad, good], settings(turn_secret="hunter2").describe())
    doctor.print_report(examination, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"] == [
        {"name": "clock", "ok": False, "text": "is wrong", "fix": "set it"},
        {"name": "TLS", "ok": True, "text": "none", "fix": ""},
    ]
    assert {"name": "port", "value": "8080", "source": "default"} in report["settings"]
    doctor.print_report(examination, as_json=False)
    told = capsys.readouterr().out
    assert told.endswith("ok   TLS: none\nFIX  clock: is wrong\n     set it\n")
    assert "hunter2" not in told + json.dumps(report)
    doctor.print_report(doctor.Examination([good], []), as_json=False)
    assert capsys.readouterr().out.endswith("ok   TLS: none\n\nNothing to fix.\n")


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
    def found(*patterns: str, **options: Any) -> Finding:
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
