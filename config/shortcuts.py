"""The short forms of ``voice``, ``stt``, ``llm`` and ``tools``, resolved to one canonical object each.

Source: protocol 7.2, 7.3, 7.4. Every function takes what stood on the wire and returns a dictionary with snake_case
keys, in which a provider of ``None`` means the server's default. What is neither a string nor an object raises
``ValueError`` with a text for a person; the types inside an object are checked by the caller (``config.agent``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from config.providers import LOCAL_MODELS, PRESETS

VOICE_PROVIDERS = frozenset(
    {"deepgram", "espeak", "google", "hibari", "pico", "polly", "rime", "soniox", "xai"}
    | {name for name, preset in PRESETS.items() if "tts" in preset.kinds}
)
LLM_PROVIDERS = LOCAL_MODELS | {"pinecall"} | {name for name, preset in PRESETS.items() if "llm" in preset.kinds}
LLM_ALIASES = {"gemini": "google", "claude": "anthropic", "grok": "xai"}
FLUX_NAMES = frozenset({"flux", "flux-en", "flux-multi"})

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def snake(key: str) -> str:
    """``promptVars`` is ``prompt_vars``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower()


def voice(value: object) -> dict[str, Any]:
    """``{provider, voice_id, model, speed, language, options}`` of ``elevenlabs/sarah``, ``elevenlabs:ID``, ``polly``,
    a bare voice name, or an object.
    """
    if isinstance(value, str):
        provider, separator, name = _split(_said(value), "/:")
        if separator == "/":
            return {"provider": provider.lower(), "voice_id": name.lower()}
        if separator:  # a raw id of the provider is case-sensitive, an alias is not
            return {"provider": provider.lower(), "voice_id": name}
        if name.lower() in VOICE_PROVIDERS:
            return {"provider": name.lower()}
        return {"voice_id": name.lower()}
    found = _object(value)
    for alias in ("voice", "id"):
        if (name := found.pop(alias, None)) is not None:
            found.setdefault("voice_id", name)
    return _with_options(found, ("provider", "voice_id", "model", "speed", "language"))


def stt(value: object) -> dict[str, Any]:
    """``{provider, model, language, options}`` of ``deepgram/nova-3``, ``deepgram:nova-3:es``, ``deepgram``, an object.

    Flux has several names (``flux``, ``deepgram-flux``, ``deepgram/flux-en``); here it is a model of ``deepgram``.
    """
    if isinstance(value, str):
        provider, separator, model = _split(_said(value), "/:")
        if not separator:
            return _flux({"provider": model.lower()})
        found = {"provider": provider.lower(), "model": model}
        if separator == ":":
            found["model"], _, found["language"] = (part.strip() for part in model.partition(":"))
        return _flux({key: name for key, name in found.items() if name})
    return _flux(_with_options(_object(value), ("provider", "model", "language")))


def llm(value: object) -> dict[str, Any]:
    """``{provider, model, enabled, temperature, max_tokens, base_url, prompt}`` of ``gpt-4.1-mini``,
    ``openrouter/x-ai/grok-4``, ``pinecall:fast``, or an object.
    """
    if isinstance(value, str):
        return _model(_said(value))
    found = _object(value)
    for alias, key in (("engine", "provider"), ("llm", "model"), ("instructions", "prompt")):
        if (other := found.pop(alias, None)) is not None:
            found.setdefault(key, other)
    provider, model = found.get("provider"), found.get("model")
    named = _model(model) if isinstance(model, str) and model.strip() else {}
    if not isinstance(provider, str):
        return named | found if provider is not None else found | named
    if named and provider.strip().lower() == str(model).strip().lower():
        return found | named  # early clients put a model without a provider into both keys
    found["provider"] = _managed(provider)
    if "base_url" not in found and named.get("model") and named["provider"] == found["provider"]:
        found["model"] = named["model"]  # {provider: "openai", model: "openai/gpt-4.1"}
    return found


def tool(value: object) -> dict[str, Any]:
    """A function in chat-completions form; the flat form ``{name, description, parameters}`` is accepted.

    So is the SDK's own tool object, which ``call.update`` serialises as it is: its parameters are ``_jsonSchema``
    (protocol 3.8). Raises ``ValueError`` when a model could not be offered it.
    """
    if not isinstance(value, Mapping):
        raise ValueError("expected an object")
    function = value.get("function", value)
    if not isinstance(function, Mapping) or value.get("type", "function") != "function":
        raise ValueError('expected {"type": "function", "function": {…}}')
    name, description = function.get("name"), function.get("description")
    parameters = function.get("_jsonSchema", function.get("parameters"))
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise ValueError("expected a name of 1 to 64 letters, digits, _ or -")
    if description is not None and not isinstance(description, str):
        raise ValueError("expected a description that is text")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValueError("expected parameters that are a JSON schema object")
    sendable(parameters)
    sendable(description)
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description or "",
            "parameters": dict(parameters or {"type": "object", "properties": {}}),
        },
    }


def sendable(value: Any) -> Any:
    """The value, if it can be sent on as it is: the JSON parser also lets lone surrogates and NaN through.

    Raises ``ValueError``.
    """
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ValueError("expected JSON that can be sent on") from None
    return value


def _model(text: str) -> dict[str, Any]:
    """Provider and model of a string. ``qwen3:8b`` is a model with a tag, since ``qwen3`` is no provider."""
    provider, separator, model = _split(text, "/:")
    if separator == "/" or (separator and _llm_provider(provider) in LLM_PROVIDERS):
        return {"provider": _managed(provider), "model": model}
    if not separator and _llm_provider(text) in LLM_PROVIDERS:
        return {"provider": _managed(text), "model": ""}
    return {"provider": "openai", "model": text}


def _llm_provider(name: str) -> str:
    return LLM_ALIASES.get(name.strip().lower(), name.strip().lower())


def _managed(name: str) -> str | None:
    """``pinecall`` is whatever the operator of the server has chosen."""
    provider = _llm_provider(name)
    return None if provider == "pinecall" else provider


def _flux(found: dict[str, Any]) -> dict[str, Any]:
    provider = found.get("provider")
    if isinstance(provider, str) and provider.lower().removeprefix("deepgram-") in FLUX_NAMES:
        model = provider.lower().removeprefix("deepgram-")
        return found | {"provider": "deepgram", "model": found.get("model") or model}
    return found


def _said(text: str) -> str:
    if not text.strip("/: "):
        raise ValueError("expected a name, found an empty text")
    return text.strip()


def _split(text: str, separators: str) -> tuple[str, str, str]:
    """Cut at whichever separator comes first: (before, separator, after), or ``("", "", text)`` without one.

    A separator with nothing on one of its sides is no separator.
    """
    at = min((i for s in separators if (i := text.find(s)) >= 0), default=-1)
    if 0 < at < len(text) - 1:
        return text[:at].strip(), text[at], text[at + 1 :].strip()
    return "", "", text.strip(f"{separators} ")


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a string or an object")
    found = {snake(str(key)): item for key, item in value.items() if item is not None and item != ""}
    if isinstance(provider := found.get("provider"), str):
        found["provider"] = provider.strip().lower()
    return found


def _with_options(found: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Move what only one provider understands (``stability``, ``eot_threshold``, …) into ``options``."""
    canonical = {key: item for key, item in found.items() if key in known}
    if options := {key: item for key, item in found.items() if key not in known}:
        canonical["options"] = options
    return canonical
