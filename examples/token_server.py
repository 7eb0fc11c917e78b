"""Who may call, decided by your application: tokens for its signed-in users, with facts about them sealed inside.

    pip install aiohttp
    VOICE_API_KEY=pk_… python token_server.py     # then open http://localhost:3000

The secret key stays here. A page gets a token that is good for one call with one agent within a minute, and can
neither read nor change what is sealed in it; the agent's backend gets that as ``call.metadata``.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import aiohttp
from aiohttp import web

URL = os.environ.get("VOICE_URL", "http://localhost:8080").rstrip("/")
API_KEY = os.environ["VOICE_API_KEY"]
AGENT = os.environ.get("VOICE_AGENT", "receptionist")
PORT = int(os.environ.get("PORT", "3000"))

routes = web.RouteTableDef()
users: dict[str, dict[str, str]] = {}
"""Session -> user. Yours stand in your application, behind a password."""


@routes.get("/")
async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).with_name("page.html"))


@routes.post("/sign-in")
async def sign_in(request: web.Request) -> web.Response:
    form = await request.post()
    session = secrets.token_urlsafe()
    users[session] = {"userId": f"u_{len(users) + 1}", "name": str(form.get("name", ""))[:80]}
    response = web.Response(status=303, headers={"Location": "/"})
    response.set_cookie("session", session, httponly=True, samesite="Lax")
    return response


@routes.get("/voice-token")
async def voice_token(request: web.Request) -> web.Response:
    """The voice server's answer as it is: ``{token, server, expires_in, …}``."""
    user = users.get(request.cookies.get("session", ""))
    if user is None:
        return web.json_response({"error": "Please sign in first"}, status=401)
    query = {"agent_id": AGENT, "metadata": json.dumps(user)}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{URL}/webrtc/token", params=query, headers=headers) as answer,
        ):
            body, status = await answer.json(), answer.status
    except aiohttp.ClientError:
        body, status = {"error": "The voice server does not answer"}, 502
    if status == 401:  # our key, not our user, is at fault
        body, status = {"error": "The voice server refuses our key"}, 502
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})


def application() -> web.Application:
    app = web.Application()
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(
        application(), host="127.0.0.1", port=PORT, print=lambda _: print(f"http://localhost:{PORT}", flush=True)
    )
