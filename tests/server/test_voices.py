"""Who can speak here: lists, filters, names in every form, and previews."""

from __future__ import annotations

import io
from typing import Any

import av
import pytest

from config.settings import Settings
from pipeline.engine import TABLE, Engines
from pipeline.tts import Voice
from pipeline.tts.espeak import Espeak
from server.catalogue import Speaker, listener, speaker
from server.http import ApiError
from server.languages import described
from tests.server.backends import bearer, house
from tests.server.test_http import shape

SCRIPTED = {"stt": "instant", "llm": "instant", "tts": "instant"}


@pytest.fixture(autouse=True)
def _espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not installed everywhere."""
    monkeypatch.setattr(Espeak, "available", True)


async def test_the_list_tells_what_a_client_reads() -> None:
    async with house(public_url="https://voice.example") as server:
        status, body = await server.get("/api/sdk/voices", provider="hibari")
        assert (status, body) == (
            200,
            {
                "success": True,
                "total": 1,
                "voices": [
                    {
                        "id": "heart",
                        "name": "Heart",
                        "alias": "heart",
                        "provider": "hibari",
                        "gender": "female",
                        "style": "warm",
                        "description": "A small neural voice of one core",
                        "preview_url": "https://voice.example/api/sdk/voice-preview?provider=hibari&voice=heart",
                        "languages": [
                            {"code": "en", "name": "English", "flag": "🇺🇸", "nativeName": "English", "region": "US"}
                        ],
                    }
                ],
            },
        )


@pytest.mark.parametrize(
    ("query", "aliases"),
    [
        ({"provider": "pico", "language": "es"}, ["pico/es-es"]),
        ({"provider": "PICO", "language": "es-MX"}, ["pico/es-es"]),
        ({"language": "fr"}, ["pico/fr-fr", "espeak/fr-fr"]),
        ({"provider": "elevenlabs"}, []),
        ({"provider": "instant"}, []),
        ({"language": "zz"}, []),
    ],
)
async def test_the_list_is_filtered(query: dict[str, str], aliases: list[str]) -> None:
    async with house() as server:
        public = await server.get("/api/sdk/voices", **query)
        assert public == await server.get("/v1/audio/voices", bearer("acme"), **query)
        assert public[1]["success"]
        assert [f"{row['provider']}/{row['alias']}" for row in public[1]["voices"]] == aliases
        assert public[1]["total"] == len(aliases)


async def test_a_backend_shows_its_key_and_pages_are_counted() -> None:
    async with house(mint_rate=2) as server:
        for headers, code in (({}, "MISSING_KEY"), ({"X-API-Key": "pk_wrong_key"}, "INVALID_KEY")):
            status, body = await server.get("/v1/audio/voices", headers)
            assert (status, body["code"]) == (401, code)
        assert [(await server.get("/api/sdk/voices"))[0] for _ in range(3)] == [200, 200, 429]
        async with server.http.get("/api/sdk/voices") as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert (await shape(response))["code"] == "RATE_LIMITED"
        assert (await server.get("/v1/audio/voices", bearer("acme")))[0] == 200


async def test_a_preview_is_made_once_and_is_music_to_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    first = TABLE["tts"]["instant"]
    monkeypatch.setitem(TABLE["tts"], "instant", lambda own: made.append("instant") or first(own))
    async with house(**SCRIPTED) as server:
        sounds = []
        for query in ({"provider": "instant", "voice": "hum"}, {"voice": "instant/HUM", "lang": "en-GB"}):
            async with server.http.get("/api/sdk/voice-preview", params=query) as response:
                assert (response.status, response.content_type) == (200, "audio/mpeg")
                assert "max-age" in response.headers["Cache-Control"]
                sounds.append(await response.read())
        assert sounds[0] == sounds[1]
        async with server.http.get("/api/sdk/voice-preview?voice=hum&lang=es") as response:
            assert await response.read() != sounds[0]
        assert made == ["instant"] * 2  # of the calls, and of the background
    with av.open(io.BytesIO(sounds[0])) as container:
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert seconds == pytest.approx(9 * 0.28, abs=0.2)  # nine words


@pytest.mark.parametrize(
    "query", ["", "voice=nobody", "provider=hibari", "voice=hum&lang=fr", "voice=elevenlabs/sarah", "voice=%00/"]
)
async def test_no_preview_of_what_is_not_listed(query: str) -> None:
    async with house(**SCRIPTED) as server, server.http.get(f"/api/sdk/voice-preview?{query}") as response:
        assert response.status == 404
        await shape(response)


async def test_previews_are_counted() -> None:
    async with house(**SCRIPTED, mint_rate=2) as server:
        statuses = []
        for _ in range(3):
            async with server.http.get("/api/sdk/voice-preview?voice=hum") as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 429]


# --- names


class Cloud:
    name = "elevenlabs"
    voices = (Voice("EXAVITQu4vr4xnSDxMaL", ("en", "es"), "Sarah", alias="sarah"),)
    any_voice = True
    models = ("eleven_flash_v2_5",)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE["tts"], "elevenlabs", lambda _: Cloud())


SPEAKERS: list[tuple[str, str | None, Speaker]] = [
    ("hibari/heart", None, Speaker("hibari", "heart", "en-US")),
    ("Hibari/Heart", "en-GB", Speaker("hibari", "heart", "en-GB")),
    ("heart", None, Speaker("hibari", "heart", "en-US")),
    ("pico/es-es", None, Speaker("pico", "es-ES", "es-ES")),
    ("es-ES", "es-MX", Speaker("pico", "es-ES", "es-MX")),
    ("espeak/es-es", None, Speaker("espeak", "es-ES", "es-ES")),
    ("pico", "es", Speaker("pico", "", "es")),
    ("pico", None, Speaker("pico", "", "en-US")),
]


@pytest.mark.parametrize(("wish", "language", "expected"), SPEAKERS)
def test_a_voice_is_found_by_every_form_of_its_name(wish: str, language: str | None, expected: Speaker) -> None:
    assert speaker(Engines(Settings()), wish, language) == expected


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(
    ("wish", "voice"),
    [
        ("elevenlabs/sarah", "EXAVITQu4vr4xnSDxMaL"),
        ("sarah", "EXAVITQu4vr4xnSDxMaL"),
        ("elevenlabs:EXAVITQu4vr4xnSDxMaL", "EXAVITQu4vr4xnSDxMaL"),
        ("elevenlabs:AnotherId", "AnotherId"),
    ],
)
def test_the_names_of_a_provider_in_the_cloud(wish: str, voice: str) -> None:
    found = speaker(Engines(Settings()), wish, "es", "elevenlabs/eleven_flash_v2_5")
    assert found == Speaker("elevenlabs", voice, "es", "eleven_flash_v2_5")


@pytest.mark.usefixtures("cloud")
def test_a_raw_id_alone_belongs_to_the_preferred_provider() -> None:
    assert speaker(Engines(Settings(tts="elevenlabs")), "AnotherId").voice == "AnotherId"
    with pytest.raises(ApiError):
        speaker(Engines(Settings()), "AnotherId")


REFUSALS: list[tuple[str, str | None, str | None, str]] = [
    ("", None, None, "BAD_VOICE"),
    ("/", None, None, "BAD_VOICE"),
    ("elevenlabs/sarah", None, None, "BAD_VOICE"),
    ("hibari/sarah", None, None, "BAD_VOICE"),
    ("hibari/heart", "es", None, "BAD_VOICE"),
    ("instant/hum", None, None, "BAD_VOICE"),
    ("hibari/heart", None, "tts-1", "BAD_MODEL"),
    ("hibari/heart", None, "pico/auto", "BAD_MODEL"),
    ("hibari/heart", None, "hibari/huge", "BAD_MODEL"),
]


@pytest.mark.parametrize(("wish", "language", "model", "code"), REFUSALS)
def test_what_is_not_here_is_refused(wish: str, language: str | None, model: str | None, code: str) -> None:
    with pytest.raises(ApiError) as refusal:
        speaker(Engines(Settings()), wish, language, model)
    assert (refusal.value.status, refusal.value.code) == (400, code)


@pytest.mark.parametrize(
    ("model", "language", "expected"),
    [
        (None, "en", ("moonshine", "moonshine/tiny")),
        (None, "es-MX", ("whisper", "whisper/base")),
        ("auto", "en", ("moonshine", "moonshine/tiny")),
        ("whisper", "en", ("whisper", "whisper/base")),
        ("whisper/base", "es", ("whisper", "whisper/base")),
        ("Whisper/auto", "es", ("whisper", "whisper/base")),
    ],
)
def test_a_recogniser_is_found_by_name_and_language(model: str | None, language: str, expected: Any) -> None:
    found = listener(Engines(Settings()), model, language)
    assert (found.engine, found.model) == expected
    assert found.language == language


@pytest.mark.parametrize(
    ("model", "language"),
    [("moonshine", "es"), ("deepgram/nova-3", "en"), ("whisper/huge", "en"), ("whisper-1", "en"), (":", "en")],
)
def test_recognisers_that_are_not_here(model: str, language: str) -> None:
    with pytest.raises(ApiError) as refusal:
        listener(Engines(Settings()), model, language)
    assert (refusal.value.status, refusal.value.code) == (400, "BAD_MODEL")


def test_languages_have_names_and_flags() -> None:
    assert described("pt-BR") == {
        "code": "pt",
        "name": "Portuguese",
        "flag": "🇧🇷",
        "nativeName": "português",
        "region": "BR",
    }
    assert described("ca")["flag"] == "🇪🇸"
    assert described("tlh") == {"code": "tlh", "name": "tlh", "nativeName": "tlh"}
    assert "region" not in described("zh-Hans")
