"""The client and the widget on pages of another origin, in real browsers against a real server with its real models."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser.browsers import ChromiumTab, chromium, firefox
from tests.browser.host import HostSite
from tests.browser.tab import Tab
from tests.live import LiveServer
from tests.words import normalised

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.browser, pytest.mark.models, pytest.mark.timeout(180)]

KEY = "pk_publishable_0123456789abcdef0123456789abcdef"
SECRET = "pk_0123456789abcdef0123456789abcdef"
SUM = "question-sum.flac"

AGENTS = """
[agents.shop]
greeting = "Welcome."
prompt = "Be brief."
allowed_origins = ["{origin}"]

[agents.brief]
greeting = "Hello."
prompt = "Be brief."
allowed_origins = ["{origin}"]
session_limits = {{ idle_timeout_seconds = 2, idle_warning_seconds = 1, idle_grace_seconds = 1 }}
"""

WIDGET_PAGE = """<!doctype html><html lang="en"><title>A shop</title>
<script type="module" src="{server}/widget.js"></script>
<script type="module" src="/widget-page.js"></script>
<voice-widget agent="shop" server="{server}" api-key="{key}"></voice-widget></html>"""

WIDGET_SCRIPT = """
const widget = document.querySelector("voice-widget");
window.seen = [];
widget.onUserMessage = (text) => seen.push(["onUserMessage", text]);
widget.onBotSpeaking = (text) => seen.push(["onBotSpeaking", text]);
widget.onCallEnded = (reason) => seen.push(["onCallEnded", reason]);
const events = ["user.message", "bot.speaking", "bot.finished", "call.ended", "connected", "disconnected", "error"];
for (const name of events) {
  widget.addEventListener(name, ({ detail }) => seen.push([name, detail.text ?? detail.reason ?? detail.error]));
}
widget.client.on("state", ({ state }) => seen.push(["state", state]));
"""

CLIENT_PAGE = """<!doctype html><html lang="en"><title>A page</title>
<script type="module" src="/client-page.js"></script></html>"""

CLIENT_SCRIPT = """
import {{ PinecallClient, PinecallError }} from "{server}/client.js";
window.PinecallClient = PinecallClient;
window.seen = [];
window.make = (options) => {{
  window.client = new PinecallClient(options);
  for (const name of ["*", "state", "connected", "disconnected", "call.ended", "error", "microphone", "audio"]) {{
    client.on(name, (detail) => seen.push([name, detail.event ?? detail.state ?? null, detail]));
  }}
}};
window.tried = (options) => client.connect(options).then(() => null, (error) =>
  [error instanceof PinecallError, error.code, error.message]);
"""


@dataclass(frozen=True)
class Stage:
    server: LiveServer
    host: HostSite
    stranger: HostSite
    """A site that no agent lists."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("server")
    with HostSite() as host, HostSite() as stranger:
        config = folder / "voice.toml"
        config.write_text(AGENTS.format(origin=host.origin))
        keys = {
            "VOICE_PUBLISHABLE_KEYS": KEY,
            "VOICE_API_KEYS": SECRET,
            "VOICE_MINT_RATE": "0",
            "VOICE_OFFER_RATE": "0",
        }
        with LiveServer(folder, "--config", str(config), environment=keys) as server:
            for site in (host, stranger):
                site.publish(
                    {
                        "/widget": WIDGET_PAGE.format(server=server.url, key=KEY),
                        "/widget-page.js": WIDGET_SCRIPT,
                        "/client": CLIENT_PAGE,
                        "/client-page.js": CLIENT_SCRIPT.format(server=server.url),
                    },
                    server.url,
                )
            yield Stage(server, host, stranger)


@pytest.fixture
async def tab(stage: Stage, tmp_path: Path) -> AsyncIterator[ChromiumTab]:
    async with chromium(tmp_path) as tab:
        yield tab
        await tab.close()
    stage.server.empty_after(4.0)


SHADOW = "document.querySelector('voice-widget').shadowRoot"


async def open_widget(tab: Tab, site: HostSite) -> None:
    await tab.goto(f"{site.origin}/widget")
    await tab.until("!!(window.seen && document.querySelector('voice-widget').shadowRoot)", 20, "the widget is there")
    await tab.prepare(SUM)


async def open_client(tab: Tab, stage: Stage, **options: Any) -> None:
    """A page whose client takes these options. ``server`` need not be told: client.js came from there."""
    await tab.goto(f"{stage.host.origin}/client")
    await tab.until("!!window.make", 20, "client.js was imported")
    await tab.prepare(SUM)
    await tab.run(f"make({json.dumps(options)})")


async def press(tab: Tab, selector: str) -> None:
    await tab.run(f"{SHADOW}.querySelector({json.dumps(selector)}).click()")


async def until_widget(tab: Tab, state: str) -> None:
    await tab.until(f"document.querySelector('voice-widget').state === {json.dumps(state)}", 30, f"the widget: {state}")


async def until_spoken(tab: Tab, times: int) -> None:
    """Until the agent has spoken so many messages to their end."""
    await tab.until(f"seen.filter(([name]) => name === 'bot.finished').length >= {times}", 40, f"{times} messages")


async def text_of(tab: Tab, selector: str) -> str:
    return str(await tab.evaluate(f"{SHADOW}.querySelector({json.dumps(selector)}).textContent"))


async def seen(tab: Tab, name: str) -> list[Any]:
    """What the page was told under this name."""
    found: list[Any] = await tab.evaluate(f"seen.filter(([name]) => name === {json.dumps(name)})")
    return [entry[-1] for entry in found]


async def until_frame(tab: Tab, event: str, condition: str = "true") -> Any:
    """The first frame of this name for which ``condition`` on ``frame`` holds."""
    look = f"seen.map(([, , frame]) => frame).find((frame) => frame?.event === {json.dumps(event)} && ({condition}))"
    return await tab.until(look, 40, f"{event} with {condition}")


def token(stage: Stage, agent: str = "shop") -> str:
    """What a backend does."""
    request = urllib.request.Request(
        f"{stage.server.url}/webrtc/token?agent_id={agent}", headers={"Authorization": f"Bearer {SECRET}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(json.load(response)["token"])


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["client.js", "widget.js", "client.d.ts", "widget.d.ts"])
def test_any_page_may_import_the_files(stage: Stage, name: str) -> None:
    with urllib.request.urlopen(f"{stage.server.url}/{name}", timeout=10) as response:
        headers = response.headers
        body = response.read().decode()
    kind = "text/javascript" if name.endswith(".js") else "text/plain"
    assert headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "public, max-age=300"
    assert "PinecallClient" in body
    assert "widget" not in body or name.startswith("widget"), "the client does not drag the widget in"


# Widget --------------------------------------------------------------------------------------------------------------


async def test_the_widget_talks_on_another_origin(tab: Tab, stage: Stage) -> None:
    """Under a policy without a word about styles: greeting, a spoken question, mute, the end."""
    await open_widget(tab, stage.host)
    assert await text_of(tab, ".status") == "Click to talk"
    assert await tab.evaluate(f"getComputedStyle({SHADOW}.querySelector('.talk')).borderRadius") == "50%"
    assert await tab.evaluate(f"{SHADOW}.querySelector('.mute').hidden")
    await press(tab, ".talk")
    await until_spoken(tab, 1)
    assert await text_of(tab, ".caption") == "Welcome."
    assert await tab.evaluate(f"{SHADOW}.querySelector('.talk').getAttribute('aria-label')") == "End the call"

    await tab.say(SUM)
    await until_spoken(tab, 2)
    await until_widget(tab, "listening")
    assert "twelve" in (await text_of(tab, ".caption")).lower()
    assert (await text_of(tab, ".heard")).startswith("Answer: ")
    assert await tab.loud(0.0) is not None, "the agent was heard"

    await press(tab, ".mute")
    assert await text_of(tab, ".mute") == "Unmute"
    assert await tab.evaluate("document.querySelector('voice-widget').client.muted")
    await press(tab, ".mute")
    assert not await tab.evaluate("document.querySelector('voice-widget').client.muted")

    await press(tab, ".talk")
    await until_widget(tab, "idle")
    for name, handler in (("user.message", "onUserMessage"), ("bot.speaking", "onBotSpeaking")):
        assert await seen(tab, name) == await seen(tab, handler) != []
    assert await seen(tab, "call.ended") == await seen(tab, "onCallEnded") == ["disconnected"]
    assert len(await seen(tab, "connected")) == 1
    assert await seen(tab, "disconnected") == ["disconnected"]
    assert await seen(tab, "error") == []
    states = await seen(tab, "state")
    assert states[:3] == ["connecting", "listening", "speaking"]
    assert "thinking" in states
    assert states[-1] == "idle"
    stage.server.empty_after(3.0)
    await tab.assert_untroubled()


async def test_a_wrong_origin_is_refused_clearly(tab: ChromiumTab, stage: Stage) -> None:
    """The widget is worked by keyboard."""
    await open_widget(tab, stage.stranger)
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("Enter")
    await until_widget(tab, "error")
    refusal = f"No token: Origin {stage.stranger.origin} is not allowed for agent 'shop'"
    assert await text_of(tab, ".problem") == refusal
    assert not await tab.evaluate(f"{SHADOW}.querySelector('.problem').hidden")
    assert await seen(tab, "error") == [refusal]
    assert await seen(tab, "onCallEnded") == []
    await tab.page.keyboard.press("Enter")  # it can be tried again
    await tab.until("seen.filter(([name]) => name === 'error').length === 2", 20, "a second refusal")
    assert stage.server.calls() == 0


async def test_the_widget_takes_tokens_from_the_page(tab: Tab, stage: Stage) -> None:
    """No key, no agent: a backend minted the token. ``start()``, ``end()``, and removal from the page."""
    await open_widget(tab, stage.host)
    tokens = json.dumps([token(stage), token(stage)])
    await tab.run(
        f"const widget = document.querySelector('voice-widget'); const tokens = {tokens};"
        "widget.removeAttribute('api-key'); widget.removeAttribute('agent');"
        "widget.tokenProvider = async () => ({ token: tokens.pop(), server: 'http://internal.invalid' });"
        "await widget.start();"
    )
    assert stage.server.calls() == 1
    await tab.run("document.querySelector('voice-widget').end()")
    await until_widget(tab, "idle")
    stage.server.empty_after(3.0)
    await tab.run("await document.querySelector('voice-widget').start()")
    await tab.run("document.body.append(document.querySelector('voice-widget'))")
    assert await tab.evaluate("document.querySelector('voice-widget').client.state") != "idle", "moved, it goes on"
    await tab.run("document.querySelector('voice-widget').remove()")
    stage.server.empty_after(3.0)


async def test_every_attribute_and_event_of_the_widget(tab: Tab, stage: Stage) -> None:
    """``server`` left out, ``language``, and DOM events whose detail is the frame."""
    await open_widget(tab, stage.host)
    await tab.run(
        "const widget = document.querySelector('voice-widget'); widget.removeAttribute('server');"
        "widget.setAttribute('language', 'es'); window.told = []; window.bubbled = 0;"
        "document.addEventListener('bot.word', () => bubbled++);"
        "for (const name of ['session.started', 'user.speaking', 'user.message', 'bot.speaking', 'bot.word',"
        " 'bot.finished', 'bot.interrupted', 'turn.end', 'connected', 'disconnected', 'call.ended'])"
        " widget.addEventListener(name, (event) => told.push([name, event instanceof CustomEvent, event.detail]));"
        "widget.onBotSpeaking = (text, frame) => told.push(['onBotSpeaking', frame.event === 'bot.speaking', text]);"
        "await widget.start()"
    )
    await until_spoken(tab, 1)
    assert await tab.evaluate("told.find(([name]) => name === 'session.started')[2].language") == "es"
    assert await text_of(tab, ".caption") == "Welcome."
    assert await tab.evaluate("document.querySelector('voice-widget').client.sendText('¿Cuántos son siete y cinco?')")
    await until_spoken(tab, 2)
    assert "doce" in (await text_of(tab, ".caption")).lower()
    await tab.say(SUM)
    await tab.until("told.some(([name]) => name === 'user.speaking' || name === 'user.message')", 40, "something heard")
    await tab.run("document.querySelector('voice-widget').client.sendText('Cuenta hasta treinta.')")
    await tab.until("told.filter(([name]) => name === 'bot.word').length > 6", 40, "it counts")
    await tab.run("document.querySelector('voice-widget').client.sendText('¿Qué hora es?')")
    await tab.until("told.some(([name]) => name === 'bot.interrupted')", 40, "an interruption")
    await tab.run("document.querySelector('voice-widget').end()")
    await until_widget(tab, "idle")
    told = await tab.evaluate("told")
    assert {name for name, *_ in told} >= {"user.message", "bot.speaking", "turn.end", "connected", "disconnected"}
    assert all(right for _, right, _ in told), "each is a CustomEvent, or the frame behind a property"
    assert all(detail["event"] == name for name, _, detail in told if name.startswith(("bot.", "user.", "call.")))
    assert await tab.evaluate("bubbled") == 0, "they do not bubble"
    await tab.run("document.querySelector('voice-widget').onBotSpeaking = null")
    await tab.assert_untroubled()


async def test_properties_set_before_the_widget_came_count(tab: Tab, stage: Stage) -> None:
    await open_client(tab, stage)
    await tab.run(
        "const early = document.createElement('voice-widget'); early.tokenProvider = () => { throw new Error('mine') };"
        f"document.body.append(early); await import('{stage.server.url}/widget.js')"
    )
    await press(tab, ".talk")
    await until_widget(tab, "error")
    assert await text_of(tab, ".problem") == "No token: mine"


# Client --------------------------------------------------------------------------------------------------------------


async def test_every_function_of_the_client(tab: Tab, stage: Stage) -> None:
    await open_client(tab, stage)
    assert await tab.evaluate("[client.state, client.muted, client.sessionId]") == ["idle", False, None]
    assert (
        await tab.evaluate("[client.sendText('x'), client.setContext('k', 'v'), client.configure({})]") == [False] * 3
    )
    server = stage.server.url.replace("http://", "ws://")
    asked = {"token": token(stage), "server": server, "agentId": "shop", "metadata": {"page": "test"}}
    await tab.run(
        "window.words = []; window.hear = ({ word }) => words.push(word); client.on('bot.word', hear);"
        "window.stopCounting = client.on('bot.word', () => (window.counted = (window.counted ?? 0) + 1));"
        "client.on('bot.word', () => { if (words.length === 1) throw new Error('a mistake of the page') });"
    )
    assert await tab.evaluate(f"await tried({json.dumps(asked)})") is None
    assert await tab.evaluate("(await tried({})) [1]") == "IN_CALL"
    assert await tab.evaluate("client.sessionId") == (await until_frame(tab, "session.started"))["session_id"]
    await until_frame(tab, "bot.finished")
    assert await tab.evaluate("words.join(' ')") == "Welcome."
    assert await tab.evaluate("voiceTest.troubles.splice(0)") == ["Uncaught Error: a mistake of the page"]
    assert await tab.evaluate("counted") == 1
    await tab.run("client.off('bot.word', hear); stopCounting(); words.length = 0")

    await tab.run("client.mute()")
    assert await tab.evaluate("client.muted")
    track = "seen.find(([name]) => name === 'microphone')[2].stream.getAudioTracks()[0]"
    assert not await tab.evaluate(f"{track}.enabled")
    await tab.say(SUM)
    await tab.run("client.unmute()")
    assert await tab.evaluate(f"{track}.enabled")

    assert await tab.evaluate("client.setContext('cart', 'two shoes')")
    assert await tab.evaluate("client.configure({ language: 'en', prompt: 'Never mind.' })")
    assert (await until_frame(tab, "config.updated"))["config"] == {"language": "en"}
    assert await tab.evaluate("client.sendText('What is nine minus five?')")
    assert "four" in (await until_frame(tab, "bot.finished", "frame.text !== 'Welcome.'"))["text"].lower()
    said = [frame["text"] for frame in await seen(tab, "*") if frame["event"] == "user.message"]
    assert said == ["What is nine minus five?"], "what was said while muted was not heard"
    assert await tab.evaluate("[words.length, counted]") == [0, 1], "a listener that left hears nothing"

    await tab.run("client.setMuted(true); client.disconnect(); client.disconnect()")
    assert await tab.evaluate("[client.state, client.muted, client.sessionId]") == ["idle", False, None]
    assert await tab.evaluate(f"{track}.readyState") == "ended"
    assert await seen(tab, "disconnected") == [{"reason": "disconnected", "detail": None}]
    (ended,) = await seen(tab, "call.ended")
    assert ended["reason"] == "disconnected"
    states = [entry["state"] for entry in await seen(tab, "state")]
    assert states[:2] == ["connecting", "listening"]
    assert {"thinking", "speaking"} < set(states)
    stage.server.empty_after(3.0)
    await tab.assert_untroubled()


async def test_every_option_and_event_of_a_call(tab: Tab, stage: Stage) -> None:
    """A microphone of the page's own, a bare token from a provider, a language, wishes, and an interruption."""
    await open_client(tab, stage, agentId="nobody", language="en")
    options = f"""{{
        server: {json.dumps(stage.server.url)}, tokenProvider: async () => {json.dumps(token(stage))}, language: "es",
        microphone: window.mine = await navigator.mediaDevices.getUserMedia({{ audio: true }}),
        config: {{ language: "de", greeting: "Hola a todos." }}, metadata: {{ page: "test" }} }}"""
    await tab.run(
        "for (const name of ['answered', 'user.speaking', 'bot.interrupted', 'session.started'])"
        " client.on(name, (detail) => seen.push([name, null, detail]))"
    )
    assert await tab.evaluate(f"await tried({options})") is None
    assert await tab.evaluate("seen.find(([name]) => name === 'microphone')[2].stream === mine")
    (answered,) = await seen(tab, "answered")
    assert answered["sessionId"]
    assert answered["sessionId"] == await tab.evaluate("client.sessionId")
    assert 0 < answered["offeredAt"] < answered["answeredAt"] < await tab.evaluate("performance.now()")
    started = await until_frame(tab, "session.started")
    assert (started["language"], started["session_id"]) == ("es", answered["sessionId"])
    assert (await until_frame(tab, "bot.finished"))["text"] == "Hola a todos.", "the wishes beside the language count"
    assert (await seen(tab, "connected"))[0]["sessionId"] == answered["sessionId"]

    await tab.say(SUM)
    await tab.until("seen.some(([name]) => name === 'user.speaking')", 40, "something is heard from that microphone")
    await until_frame(tab, "bot.finished", "frame.text !== 'Hola a todos.'")
    assert await tab.evaluate("client.sendText('Cuenta hasta treinta.')")
    await until_frame(tab, "bot.word", "frame.word.toLowerCase().startsWith('tres')")
    assert await tab.evaluate("client.sendText('¿Qué hora es?')")
    interrupted = await until_frame(tab, "bot.interrupted")
    assert interrupted["played_ms"] > 0
    assert len(await seen(tab, "bot.interrupted")) == 1
    await tab.run("client.disconnect()")
    assert await tab.evaluate("mine.getAudioTracks()[0].readyState") == "ended", "the stream belonged to the call"
    stage.server.empty_after(3.0)
    await tab.assert_untroubled()


async def test_the_server_ends_a_call(tab: Tab, stage: Stage) -> None:
    """By keyboard, with options of the constructor, twice with one client."""
    await open_client(tab, stage, agentId="brief", apiKey=KEY, microphone=False, config={"greeting": False})
    for calls in (1, 2):
        assert await tab.evaluate("await tried()") is None
        await tab.until(f"seen.filter(([name]) => name === 'disconnected').length === {calls}", 40, "the end")
        ended = (await seen(tab, "disconnected"))[-1]
        assert ended == {"reason": "idle_timeout", "detail": "The call ended because nobody spoke."}
        assert len(await seen(tab, "call.ended")) == calls, "told once, by the server or here"
        stage.server.empty_after(3.0)
    assert "bot.word" not in {frame["event"] for frame in await seen(tab, "*")}, "no greeting was asked for"


async def test_what_cannot_work_is_refused_before_the_call(tab: Tab, stage: Stage) -> None:
    await open_client(tab, stage)
    cases: list[tuple[str, str, str]] = [
        ("{}", "AGENT_ID_REQUIRED", "Neither a token nor an agent"),
        ("{ agentId: 'shop', apiKey: 'pk_secret' }", "SECRET_KEY", "publishable"),
        ("{ agentId: 'shop', apiKey: 'pk_publishable_wrong' }", "INVALID_KEY", "No token: "),
        ("{ agentId: 'nobody' }", "AGENT_OFFLINE", "'nobody' is not online"),
        ("{ agentId: 'shop', server: 'voice.example.org' }", "BAD_SERVER", "wss://"),
        ("{ agentId: 'shop', server: 'ftp://voice.example.org' }", "BAD_SERVER", "wss://"),
        ("{ agentId: 'shop', server: 'http://localhost:9' }", "NO_ANSWER", "the server does not answer"),
        ("{ token: 'wrtc_nonsense' }", "TOKEN_MALFORMED", "The call was refused: "),
        ("{ tokenProvider: () => null }", "TOKEN_PROVIDER_FAILED", "gave none"),
        ("{ tokenProvider: async () => { throw new Error('no money') } }", "TOKEN_PROVIDER_FAILED", "no money"),
    ]
    for options, code, text in cases:
        ours, found, message = await tab.evaluate(f"await tried({options})")
        assert (ours, found) == (True, code), message
        assert text in message
    for name, code in (("NotAllowedError", "MICROPHONE_REFUSED"), ("NotFoundError", "MICROPHONE_MISSING")):
        await tab.run(f"voiceTest.microphone = '{name}'")
        assert (await tab.evaluate("await tried({ tokenProvider: () => { window.minted = true } })"))[1] == code
    assert not await tab.evaluate("window.minted"), "the microphone is asked for first"
    errors = await seen(tab, "error")
    assert len(errors) == len(cases) + 2
    assert errors[0] == {
        "event": "error",
        "error": "Neither a token nor an agent was named.",
        "code": "AGENT_ID_REQUIRED",
    }
    assert await seen(tab, "call.ended") == await seen(tab, "disconnected") == []
    assert stage.server.calls() == 0


async def test_a_call_is_given_up_while_it_is_made(tab: Tab, stage: Stage) -> None:
    await open_client(tab, stage, agentId="shop")
    await tab.run(
        "window.plays = 0; HTMLMediaElement.prototype.play = () => plays++ ? Promise.resolve()"
        " : Promise.reject(new DOMException('', 'NotAllowedError'))"
    )
    await tab.run("window.given = tried({ tokenProvider: () => new Promise(() => {}) })")
    await tab.until("seen.some(([name]) => name === 'microphone')", 20, "the microphone is open")
    await tab.run("client.disconnect()")
    assert (await tab.evaluate("await given"))[1] == "DISCONNECTED"
    track = "seen.find(([name]) => name === 'microphone')[2].stream.getAudioTracks()[0]"
    assert await tab.evaluate(f"{track}.readyState") == "ended"
    assert await seen(tab, "error") == await seen(tab, "disconnected") == []
    assert await tab.evaluate("await tried()") is None, "the next call works"
    blocked = (await seen(tab, "error"))[-1]
    assert blocked["code"] == "AUDIO_BLOCKED", "a browser that plays no sound is told of"
    assert "clicks" in blocked["error"]
    await tab.run("dispatchEvent(new PointerEvent('pointerup'))")
    assert await tab.evaluate("plays") == 2, "and plays it with the next click"
    await tab.run("client.disconnect(); dispatchEvent(new PointerEvent('pointerup'))")
    assert await tab.evaluate("plays") == 2
    await tab.run("window.given = tried({ microphone: false }); client.disconnect()")
    assert (await tab.evaluate("await given"))[1] == "DISCONNECTED"
    await tab.assert_untroubled()


async def test_firefox_connects(stage: Stage, tmp_path: Path) -> None:
    async with firefox(tmp_path) as tab:
        await tab.goto(f"{stage.host.origin}/widget")
        await tab.until("!!window.seen", 20, "the widget is there")
        await tab.run(
            "const { stream } = new AudioContext().createMediaStreamDestination();"
            "navigator.mediaDevices.getUserMedia = async () => stream"
        )
        await press(tab, ".talk")
        await until_spoken(tab, 1)
        assert await text_of(tab, ".caption") == "Welcome."
        assert await tab.loud(0.0) is not None, "the agent was heard"
        assert await tab.evaluate(f"getComputedStyle({SHADOW}.querySelector('.talk')).borderTopLeftRadius") == "50%"
        await press(tab, ".talk")
        await until_widget(tab, "idle")
        stage.server.empty_after(4.0)
        await tab.assert_untroubled()


async def test_firefox_hears_a_question(stage: Stage, tmp_path: Path) -> None:
    """The page's policy allows the tape that stands for a microphone there, and nothing else than it did."""
    strict, stage.host.policy = stage.host.policy, f"{stage.host.policy}; media-src blob:"
    try:
        async with firefox(tmp_path) as tab:
            await open_widget(tab, stage.host)
            await press(tab, ".talk")
            await until_spoken(tab, 1)
            await until_widget(tab, "listening")
            await tab.say(SUM)
            await until_spoken(tab, 2)
            assert {"seven", "plus", "five"} <= set(normalised((await seen(tab, "onUserMessage"))[0]))
            assert "twelve" in (await text_of(tab, ".caption")).lower()
            await press(tab, ".talk")
            await until_widget(tab, "idle")
            assert await seen(tab, "onCallEnded") == ["disconnected"]
            stage.server.empty_after(4.0)
            await tab.assert_untroubled()
    finally:
        stage.host.policy = strict
