"""What a backend hears of the providers that its agent asks for. Protocol 3.3."""

from __future__ import annotations

from tests.providers.openai_chat import OpenAiServer
from tests.server.backends import house


async def test_a_missing_key_is_told_at_once() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", llm="gpt-4.1-mini")
        warning = await backend.next()
        assert (warning["code"], warning["agent_id"]) == ("FALLBACK", "mara")
        assert warning["error"] == "openai is not set up: OPENAI_API_KEY is not set; local takes its place"
        await backend.quiet()


async def test_a_refused_key_is_told_as_soon_as_that_turns_out() -> None:
    async with OpenAiServer() as openai:
        options = {"provider_keys": ["openai:sk-wrong-and-secret"], "provider_urls": [f"openai={openai.url}"]}
        async with house(**options) as server, server.backend() as backend:
            await backend.create("mara", llm="gpt-4.1-mini")
            warning = await backend.next()
            assert (warning["code"], warning["agent_id"]) == ("FALLBACK", "mara")
            assert warning["error"].startswith("openai refuses the key (401)")
            assert "secret" not in warning["error"]
            await backend.create("mara", llm="gpt-4.1-mini")  # now it is known
            assert (await backend.next())["error"] == warning["error"]
            await backend.quiet()


async def test_a_good_key_is_nothing_to_tell() -> None:
    async with OpenAiServer() as openai:
        options = {"provider_keys": [f"openai:{openai.key}"], "provider_urls": [f"openai={openai.url}"]}
        async with house(**options) as server, server.backend() as backend:
            await backend.create("mara", llm="gpt-4.1-mini")
            await backend.quiet()
