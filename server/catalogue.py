"""What can be asked for by name over HTTP, and who that is. Source: protocol 2.8, 2.9, 7.2, 7.3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from config import shortcuts
from config.agent import AgentConfig
from config.identity import base_language
from pipeline.engine import FALLBACK_LANGUAGE, LANGUAGES, Engines, takes_any_voice
from pipeline.tts import Voice
from server.http import ApiError

AUTO = "auto"
"""Stands for whatever model the provider takes by itself."""


class Speaker(NamedTuple):
    """Who shall speak."""

    engine: str
    voice: str
    """An id of the engine; empty: its own choice for the language."""
    language: str
    """BCP-47 tag."""
    model: str | None = None
    """One of the engine's; ``None``: its own choice."""


class Listener(NamedTuple):
    """Who shall write down."""

    engine: str
    language: str
    model: str
    """As answers name it: ``provider/model``, or the provider alone."""
    part: str | None = None
    """The model that is asked for; ``None``: the engine's own choice."""


def voices(engines: Engines, provider: str = "", language: str = "") -> list[tuple[str, Voice]]:
    """The voices that are offered, each with its provider; those of one provider, those that speak a language."""
    offers = engines.offers("tts")
    spoken = base_language(language)
    return [
        (name, voice)
        for name, engine in offers.items()
        if provider in ("", name)
        for voice in getattr(engine, "voices", ())
        if not spoken or spoken in map(base_language, voice.languages)
    ]


def speaker(engines: Engines, wish: str, language: str | None = None, model: str | None = None) -> Speaker:
    """Who speaks when ``wish`` is written for a voice, in any of the forms of protocol 7.2.

    Raises ``ApiError`` 400 with ``BAD_VOICE`` or ``BAD_MODEL``.
    """
    asked = _read(shortcuts.voice, wish, "BAD_VOICE")
    offers = engines.offers("tts")
    provider, name = asked.get("provider"), asked.get("voice_id", "")
    if provider is None and name in offers:
        provider, name = name, ""
    if provider is not None and provider not in offers:
        _refuse("BAD_VOICE", f"There is no voice provider {provider!r:.40} here, only {', '.join(offers)}")
    found = _speaker(offers, provider, name or "", language)
    if found is None and provider is None:
        first = next(iter(offers))  # a raw id belongs to the provider that the operator prefers
        found = Speaker(first, wish.strip(), language or FALLBACK_LANGUAGE) if takes_any_voice(offers[first]) else None
    if found is None:
        where = f" that speaks {language!r:.40}" if language else ""
        _refuse("BAD_VOICE", f"There is no voice {wish!r:.80}{where} here; GET /v1/audio/voices lists them")
    return found._replace(model=_part(found.engine, offers[found.engine], model))


def _speaker(offers: Mapping[str, Any], provider: str | None, name: str, language: str | None) -> Speaker | None:
    for engine, offer in offers.items():
        if provider not in (None, engine):
            continue
        offered = getattr(offer, "voices", ())
        meant = [voice for voice in offered if not name or voice.answers_to(name)]
        for voice in meant:
            if language is None or _speaks(offer, voice, language):
                return Speaker(engine, voice.id if name else "", language or voice.languages[0])
        if provider and not meant and takes_any_voice(offer):
            return Speaker(engine, name, language or FALLBACK_LANGUAGE)
    return None


def _speaks(engine: Any, voice: Voice, language: str) -> bool:
    return takes_any_voice(engine) or base_language(language) in map(base_language, voice.languages)


def listener(engines: Engines, model: str | None, language: str) -> Listener:
    """Who writes down what is said in ``language`` when ``model`` is asked for, ``None``: whoever is preferred.

    Raises ``ApiError`` 400 with ``BAD_MODEL`` or, when nobody knows the language, ``BAD_REQUEST``.
    """
    knowing = engines.offers("stt", language)
    if model is None or model == AUTO:
        if not knowing:
            _refuse("BAD_REQUEST", f"Nobody here understands {language!r:.40}")
        name = next(iter(knowing))
        return Listener(name, language, _full(name, knowing[name]))
    asked = _read(shortcuts.stt, model, "BAD_MODEL")
    offers = engines.offers("stt")
    name = asked["provider"]
    if name not in offers:
        _refuse("BAD_MODEL", f"There is no recogniser {name!r:.40} here, only {', '.join(offers)}")
    if name not in knowing:
        _refuse("BAD_MODEL", f"{name} does not know {language!r:.40}")
    part = _part(name, offers[name], asked.get("model") and f"{name}/{asked['model']}")
    return Listener(name, language, f"{name}/{part}" if part else _full(name, offers[name]), part)


def language_of(engines: Engines, model: str | None) -> str | None:
    """The only language in which what is asked for could listen; ``None`` when there are several."""
    offers = engines.offers("stt")
    if model is not None and model != AUTO:
        name = _read(shortcuts.stt, model, "BAD_MODEL")["provider"]
        offers = {name: offers[name]} if name in offers else {}
    known = [LANGUAGES.get(name) for name in offers]
    only = frozenset().union(*filter(None, known)) if all(known) else frozenset()
    return next(iter(only)) if len(only) == 1 else None


def tag(text: str) -> str:
    """A BCP-47 tag in its usual spelling. Raises ``ApiError`` 400."""
    spoken, problems = AgentConfig.parse("", {"language": text})
    if problems:
        _refuse("BAD_REQUEST", f"language: {problems[0].text}")
    return spoken.language


def _part(name: str, engine: Any, model: str | None) -> str | None:
    """The model of an engine that is asked for as ``provider/model``. A provider in a cloud knows its own models; an
    engine has those of its attribute ``models``, or none to choose from.
    """
    if model is None or model in (AUTO, name):
        return None
    provider, slash, part = (each.strip() for each in model.partition("/"))
    known = (AUTO, *getattr(engine, "models", ()))
    if not slash or provider.lower() != name or (part not in known and not hasattr(engine, "breaker")):
        _refuse("BAD_MODEL", f"{name} has no model {model!r:.60}, only {', '.join(f'{name}/{each}' for each in known)}")
    return None if part == AUTO else part


def _full(name: str, engine: Any) -> str:
    models = getattr(engine, "models", ())
    return f"{name}/{models[0]}" if models else name


def _read(parse: Callable[[object], dict[str, Any]], text: str, code: str) -> dict[str, Any]:
    try:
        return parse(text)
    except ValueError as error:
        raise ApiError(400, str(error), code) from None


def _refuse(code: str, detail: str) -> NoReturn:
    raise ApiError(400, detail, code)
