"""Readers of a log: nothing lost, nothing twice, whatever they do and whatever happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from server import log_tail
from server.log_entries import Entry, encode
from server.log_store import Line, LogInfo, LogKey, Page
from server.log_tail import AT_ONCE, Fanout, Tail, joined, text_frame
from tests.server.sockets import visiting

CALL = LogKey("acme", "call", "c1")


def line(seq: int) -> Line:
    return Line(CALL, "mara", seq, encode(Entry("bot.finished", 1.0, {"id": str(seq)}), call="c1", agent="mara"))


class Log:
    """A log in memory: some numbers are of lines that are not kept."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.last = 0

    def append(self, kept: Sequence[bool]) -> list[Line]:
        lines = []
        for keeps in kept:
            self.last += 1
            lines.append(line(self.last))
            if keeps:
                self.kept.append(self.last)
        return lines

    def page(self, after: int, limit: int) -> Page:
        found = [seq for seq in self.kept if seq > after]
        return Page(LogInfo("mara", self.last), [line(seq) for seq in found[:limit]], len(found) > limit)


STEP = st.one_of(
    st.tuples(st.just("append"), st.lists(st.booleans(), min_size=1, max_size=6)),
    st.tuples(st.just("read"), st.just([])),
    st.tuples(st.just("slow read"), st.lists(st.booleans(), min_size=1, max_size=4)),
    st.tuples(st.just("doubt"), st.just([])),
    st.tuples(st.just("lose"), st.lists(st.booleans(), min_size=1, max_size=4)),
    st.tuples(st.just("reconnect"), st.just([])),
)


@given(st.lists(STEP, max_size=60), st.integers(1, 4), st.integers(1, 12))
def test_every_stored_line_comes_once_and_in_order(
    steps: list[tuple[str, list[bool]]], limit: int, recent: int
) -> None:
    log, tail = Log(), Tail(0)
    got: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_tail, "RECENT", recent)
        for step, kept in [*steps, ("doubt", []), *[("read", [])] * 500]:
            match step:
                case "append":
                    got += [each.seq for each in tail.hear(log.append(kept))]
                case "read" | "slow read":
                    if tail.is_live:
                        continue
                    page = log.page(tail.seen, limit)
                    if kept:  # while it is on its way
                        got += [each.seq for each in tail.hear(log.append(kept))]
                    got += [each.seq for each in tail.read(page)]
                    if not page.more and (late := tail.go_live()) is not None:
                        got += [each.seq for each in late]
                case "doubt":
                    tail.doubt()
                case "lose":
                    log.append(kept)
                    tail.doubt()
                case "reconnect":
                    tail = Tail(tail.seen)
    assert tail.is_live
    assert got == sorted(set(got))
    assert [seq for seq in got if seq in log.kept] == log.kept


class Follower:
    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.doubts = 0
        self.fails = False

    def take(self, lines: Sequence[Line], frames: bytes) -> None:
        if self.fails:
            raise RuntimeError("broken")
        self.frames.append(frames)

    def doubt(self) -> None:
        self.doubts += 1


async def test_each_line_is_encoded_once_for_all_who_follow() -> None:
    fanout, followers = Fanout(), [Follower() for _ in range(3 * AT_ONCE)]
    followers[0].fails = True
    for follower in followers:
        fanout.add(CALL, follower)
    await fanout.deliver(CALL, [line(1), line(2)])
    await fanout.deliver(LogKey("globex", "call", "c1"), [line(3)])
    assert {len(follower.frames) for follower in followers[1:]} == {1}
    assert len({id(follower.frames[0]) for follower in followers[1:]}) == 1
    fanout.doubt()
    assert {follower.doubts for follower in followers} == {1}
    for follower in followers:
        fanout.remove(CALL, follower)
    await fanout.deliver(CALL, [line(3)])
    assert not fanout._followers


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
async def test_frames_are_what_a_client_reads(length: int) -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.write(text_frame("é" * (length // 2) + "x" * (length % 2)) + text_frame("next"))
        await socket.send_str("from the library")
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    async with visiting(app) as http, http.ws_connect("/", max_msg_size=0) as socket:
        first, second, third = [(await socket.receive(20)).data for _ in range(3)]
        assert (len(first.encode()), second, third) == (length, "next", "from the library")
        assert (await socket.receive(20)).type is aiohttp.WSMsgType.CLOSE


def test_a_feed_has_no_numbers() -> None:
    frame = joined([line(7)], numbered=False)
    assert b'"seq"' not in frame
    assert json.loads(joined([line(7)])[2:])["seq"] == 7
