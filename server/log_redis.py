"""The logs of a fleet in Redis streams: each server reads and follows what any writes. Redis 6.2 or newer.

Of each log a stream (its ids are the numbers of the log) and a hash with what ``LogInfo`` says. A batch is one script,
so that it is appended whole, numbered without holes and published in the order of its numbers. What is live only is
published and never stored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from server.log_store import GAP_TAIL, MAX_PAGE, Deliver, Doubt, Draft, Line, LogInfo, LogKey, Page, StoreError, feed_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

REDIS_SECONDS = 2.0
"""The longest wait for an answer."""

IDLE_SECONDS = 20.0
"""A subscription that is silent for so long is asked whether it is there."""

AGAIN_SECONDS = 0.5
"""Between two attempts to subscribe."""

AT_ONCE = 256
"""Published lines that are delivered together, if so many are there."""

GONE_SECONDS = 180.0
"""A server that has shown no sign of life for so long has crashed; it shows one with each sweep and each batch."""

SWEEP = 100
"""Calls that are deleted at once, and entries of each agent's log: Redis does nothing else meanwhile."""

SHARE = 0.05
STREAM, META, FEED = "voice:log:", "voice:log-meta:", "voice:log-feed:"

# ARGV: token, server, tail of a gap; then of each draft: key, feed, agent, body, ts, flags, numbers it stands for.
_COMMIT = """
if not redis.call('SET', 'voice:log-batch:' .. ARGV[1], 1, 'NX', 'EX', 600) then return 0 end
redis.call('ZADD', 'voice:log-servers', redis.call('TIME')[1], ARGV[2])
local live = 'voice:log-live:' .. ARGV[2]
for at = 4, #ARGV, 7 do
  local key, feed, agent, body, ts = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local flags, lost = ARGV[at + 5], tonumber(ARGV[at + 6])
  local meta = 'voice:log-meta:' .. key
  local last = redis.call('HINCRBY', meta, 'last', math.max(lost, 1))
  redis.call('HSET', meta, 'agent', agent)
  if lost > 0 then
    local range = string.format('"from":%d,"resume_from":%d}}', last - lost + 1, last + 1)
    body = string.sub(body, 1, -#ARGV[3] - 1) .. range
  end
  local seq = string.format('%d', last)
  if not string.find(flags, 'e') then
    redis.call('XADD', 'voice:log:' .. key, seq .. '-0', 'b', body, 't', ts)
    redis.call('HINCRBY', meta, 'size', #body)
    redis.call('INCRBY', 'voice:log-size', #body)
  end
  local closes = 0
  if string.find(flags, 'o') then
    redis.call('HSET', meta, 'live', 1)
    redis.call('SADD', live, key)
    redis.call('ZREM', 'voice:log-ended', key)
  elseif string.find(flags, 'c') then
    closes = 1
    redis.call('HSET', meta, 'live', 0)
    redis.call('SREM', live, key)
    redis.call('ZADD', 'voice:log-ended', ts, key)
  elseif string.find(flags, 'a') then
    redis.call('SADD', 'voice:log-agents', key)
  end
  local message = seq .. ' ' .. closes .. ' ' .. agent .. ' ' .. body
  redis.call('PUBLISH', 'voice:log:' .. key, message)
  if feed ~= '' then redis.call('PUBLISH', 'voice:log-feed:' .. feed, message) end
end
return 1
"""
# ARGV: what is as old as this goes, in epoch seconds; bytes in all; how many at once; which share of too much.
_EXPIRE = """
local cutoff, sweep = tonumber(ARGV[1]), tonumber(ARGV[3])
local function too_much() return tonumber(redis.call('GET', 'voice:log-size') or 0) > tonumber(ARGV[2]) end
local pressed = too_much()
if pressed then
  local share = math.min(math.floor(redis.call('ZCARD', 'voice:log-ended') * tonumber(ARGV[4])), sweep - 1)
  local oldest = redis.call('ZRANGE', 'voice:log-ended', share, share, 'WITHSCORES')
  if #oldest == 0 then pressed = false else cutoff = math.max(cutoff, tonumber(oldest[2])) end
end
local gone = redis.call('ZRANGEBYSCORE', 'voice:log-ended', '-inf', cutoff, 'LIMIT', 0, sweep)
for _, key in ipairs(gone) do
  local meta = 'voice:log-meta:' .. key
  redis.call('DECRBY', 'voice:log-size', redis.call('HGET', meta, 'size') or 0)
  redis.call('UNLINK', meta, 'voice:log:' .. key)
  redis.call('ZREM', 'voice:log-ended', key)
end
local again = #gone == sweep
for _, key in ipairs(redis.call('SMEMBERS', 'voice:log-agents')) do
  local meta, stream, last, size, count = 'voice:log-meta:' .. key, 'voice:log:' .. key, nil, 0, 0
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', sweep)) do
    if tonumber(entry[2][4]) > cutoff then break end
    last, size, count = entry[1], size + #entry[2][2], count + 1
  end
  if last then
    local floor = string.match(last, '%d+')
    redis.call('XTRIM', stream, 'MINID', string.format('%d', floor + 1))
    redis.call('HSET', meta, 'floor', floor)
    redis.call('HINCRBY', meta, 'size', -size)
    redis.call('DECRBY', 'voice:log-size', size)
    again = again or count == sweep
  end
end
return (again or (pressed and too_much())) and 1 or 0
"""
# ARGV: server, seconds after which one is gone. What one leaves is the caller's own from now on.
_ORPHANS = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', 'voice:log-servers', now, ARGV[1])
local found = {}
for _, server in ipairs(redis.call('ZRANGEBYSCORE', 'voice:log-servers', '-inf', now - tonumber(ARGV[2]))) do
  for _, key in ipairs(redis.call('SMEMBERS', 'voice:log-live:' .. server)) do
    redis.call('SADD', 'voice:log-live:' .. ARGV[1], key)
    table.insert(found, key)
    table.insert(found, redis.call('HGET', 'voice:log-meta:' .. key, 'agent') or '')
  end
  redis.call('DEL', 'voice:log-live:' .. server)
  redis.call('ZREM', 'voice:log-servers', server)
end
return found
"""


class RedisStore:
    """Implements ``server.log_store.LogStore``. Connects at the first use."""

    def __init__(
        self, url: str, *, max_age: float, max_bytes: int, gone: float = GONE_SECONDS, timeout: float = REDIS_SECONDS
    ) -> None:
        """``max_age``: seconds for which a finished call is kept. ``max_bytes``: of all entries, about."""
        wait = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}
        self._redis = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=8, timeout=timeout, **wait))
        self._commit_script = self._redis.register_script(_COMMIT)
        self._expire_script = self._redis.register_script(_EXPIRE)
        self._orphans_script = self._redis.register_script(_ORPHANS)
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._gone = gone
        self._server = secrets.token_hex(8)
        self._last = f"voice:log-server:{self._server}"
        """A channel to which nobody publishes, subscribed to behind the others."""
        self._watched: Counter[LogKey] = Counter()  # none of them 0
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._channels: dict[str, LogKey] = {}
        self._deliver: Deliver
        self._doubt: Doubt
        self._pubsub: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # one subscription after another, in their order

    async def start(self, deliver: Deliver, doubt: Doubt) -> None:
        self._deliver, self._doubt = deliver, doubt
        self._listener = asyncio.create_task(self._listen(), name="logs in Redis")

    async def commit(self, drafts: Sequence[Draft], token: str) -> None:
        arguments: list[Any] = [token, self._server, GAP_TAIL]
        for draft in drafts:
            feed = _key(feed_of(draft.log, draft.agent)) if draft.log.kind == "call" else ""
            arguments += [_key(draft.log), feed, draft.agent, draft.body, draft.ts, _flags(draft), draft.lost]
        await _ask(self._commit_script(args=arguments))

    async def find(self, log: LogKey) -> LogInfo | None:
        return _info(await _ask(self._redis.hmget(META + _key(log), "agent", "last", "floor", "live")))

    async def read(self, log: LogKey, after: int, limit: int) -> Page | None:
        async with self._redis.pipeline(transaction=True) as both:
            both.hmget(META + _key(log), "agent", "last", "floor", "live")
            both.xrange(STREAM + _key(log), min=f"({after}-0", count=limit + 1)
            fields, found = await _ask(both.execute())
        info = _info(fields)
        if info is None:
            return None
        lines: list[Line] = []
        size = 0
        for number, entry in found:
            body = entry[b"b"].decode()
            if len(lines) == limit or (lines and size + len(body) > MAX_PAGE):
                return Page(info, lines, more=True)
            lines.append(Line(log, info.agent, int(number.partition(b"-")[0]), body))
            size += len(body)
        return Page(info, lines, more=False)

    async def watch(self, log: LogKey) -> None:
        channel = _channel(log)
        self._watched[log] += 1
        self._channels[channel] = log
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.get_running_loop().create_future()
            self._tell("subscribe", channel)
        try:
            async with asyncio.timeout(2 * REDIS_SECONDS):
                await asyncio.shield(confirmed)
        except TimeoutError:
            await self.unwatch(log)
            raise StoreError("no subscription in time") from None
        except asyncio.CancelledError:  # who watches has left
            await self.unwatch(log)
            raise

    async def unwatch(self, log: LogKey) -> None:
        self._watched[log] -= 1
        if self._watched[log] > 0:
            return
        channel = _channel(log)
        del self._watched[log], self._channels[channel]
        self._confirmed.pop(channel, None)
        self._tell("unsubscribe", channel)

    def is_watched(self, log: LogKey) -> bool:
        """By a server that this one does not know of, perhaps."""
        return True

    async def expire(self, now: float) -> bool:
        return bool(await _ask(self._expire_script(args=[now - self._max_age, self._max_bytes, SWEEP, SHARE])))

    async def orphans(self) -> Sequence[tuple[LogKey, str]]:
        found = await _ask(self._orphans_script(args=[self._server, self._gone]))
        texts = [each.decode() for each in found]
        return [(_parsed(key), agent) for key, agent in zip(texts[::2], texts[1::2], strict=True)]

    async def aclose(self) -> None:
        tasks = [*self._telling, *filter(None, [self._listener])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose()

    def _tell(self, verb: Literal["subscribe", "unsubscribe"], channel: str) -> None:
        """In a task of its own: who watches may leave in the middle of it, and the connection is everybody's."""
        task = asyncio.create_task(self._say(verb, channel), name=f"{verb} to a log")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _say(self, verb: Literal["subscribe", "unsubscribe"], channel: str) -> None:
        """A connection that is gone has no subscriptions, and the next one begins with those that are wanted then."""
        async with self._turn:
            if (pubsub := self._pubsub) is not None:
                # The last of them is how the library says that the connection is gone.
                with suppress(RedisError, OSError, TimeoutError, AttributeError):
                    await (pubsub.subscribe(channel) if verb == "subscribe" else pubsub.unsubscribe(channel))

    # --- what others publish

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    asked: set[str] = set()
                    while wanted := self._channels.keys() - asked:
                        await pubsub.subscribe(*wanted)
                        asked |= wanted
                    self._pubsub = pubsub
                    await pubsub.subscribe(self._last)
                    await self._receive(pubsub)
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("logs in Redis cannot be followed: %s", type(error).__name__)
            except Exception:  # nothing that somebody publishes ends this
                logger.exception("logs in Redis cannot be followed")
            finally:
                self._pubsub = None
            await asyncio.sleep(AGAIN_SECONDS)

    async def _receive(self, pubsub: PubSub) -> None:
        """Raises ``TimeoutError`` when the connection does not answer any more."""
        asked = False
        while True:
            message = await pubsub.get_message(timeout=IDLE_SECONDS if not asked else REDIS_SECONDS)
            if message is None and asked:
                raise TimeoutError
            asked = message is None
            if asked:
                await pubsub.ping()
            lines: defaultdict[LogKey, list[Line]] = defaultdict(list)
            count = 0
            while message is not None:
                self._take(message, lines)
                count += 1
                message = await pubsub.get_message(timeout=0.0) if count < AT_ONCE else None
            for log, group in lines.items():
                await self._deliver(log, group)

    def _take(self, message: dict[str, Any], lines: defaultdict[LogKey, list[Line]]) -> None:
        if message["type"] not in ("message", "subscribe"):
            return
        channel = message["channel"].decode()
        log = self._channels.get(channel)
        if message["type"] == "subscribe":
            if channel == self._last:  # all others were before it: nothing is missed from here on
                self._doubt()
            confirmed = self._confirmed.get(channel)
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(None)
        elif log is not None:
            seq, closes, agent, body = message["data"].decode().split(" ", 3)
            lines[log].append(Line(log, agent, int(seq), body, closes == "1"))


def _key(log: LogKey) -> str:
    return ":".join(log)


def _parsed(key: str) -> LogKey:
    org, _, name = key.split(":", 2)
    return LogKey(org, "call", name)


def _channel(log: LogKey) -> str:
    return (FEED if log.kind == "feed" else STREAM) + _key(log)


def _flags(draft: Draft) -> str:
    flags = {"e": draft.ephemeral, "o": draft.opens, "c": draft.closes, "a": draft.log.kind == "agent"}
    return "".join(name for name, holds in flags.items() if holds)


def _info(fields: Sequence[bytes | None]) -> LogInfo | None:
    agent, last, floor, live = fields
    if agent is None or last is None:
        return None
    return LogInfo(agent.decode(), int(last), int(floor or 0), live == b"1")


async def _ask(command: Awaitable[T] | Any) -> Any:
    try:
        return await command
    except (RedisError, OSError, TimeoutError) as error:
        # The class alone: some texts of the library repeat the address, and that may hold a password.
        raise StoreError(f"Redis: {type(error).__name__}") from None
