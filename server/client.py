"""The command line as a client of a running server."""

from __future__ import annotations

from typing import Any

import aiohttp

SECONDS = 10.0


class ClientError(Exception):
    """The server did not do what was asked. One line for a person."""


async def mint(url: str, agent: str, metadata: str | None, api_key: str) -> dict[str, Any]:
    """The answer of the token endpoint. Raises ``ClientError``."""
    query = {"agent_id": agent} | ({"metadata": metadata} if metadata is not None else {})
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(f"{url.rstrip('/')}/webrtc/token", params=query, headers=headers) as response,
        ):
            body = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ClientError(f"{url} does not answer as a voice server: {error or type(error).__name__}") from None
    if not isinstance(body, dict) or response.status != 200:
        detail = body.get("detail") if isinstance(body, dict) else None
        raise ClientError(f"{detail or 'unexpected answer'} (status {response.status})")
    return body
