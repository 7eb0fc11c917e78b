"""What every engine that is asked over the network shares: what its failures mean, and when it is left alone."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import re
import time
from collections.abc import Mapping

from pipeline.engine import EngineError

logger = logging.getLogger(__name__)

FAILURES = 3
"""In a row: then a provider is left alone for a while."""

REST_SECONDS = 30.0
REFUSED_SECONDS = 300.0
"""How long after it refused the key: nothing but the operator changes that."""

MAX_WAIT = 60.0
"""As long as a provider is believed that asks to be left alone."""

PATIENCE = 1.0
"""Seconds that a second try may be put off: longer, and another provider answers sooner."""

_SECRET = re.compile(r"\b(?:sk|pk|xi|gsk|csk|key|org|proj)[-_][\w*.-]{6,}|\bBearer \S+|[\w-]{32,}")


class ProviderError(EngineError):
    """A provider could not be asked, or answered with an error. Its text is ours: visitors of a page may read it."""

    def __init__(
        self, text: str, *, passing: bool = False, refused: bool = False, wait: float = 0.0, said: str = ""
    ) -> None:
        """``passing``: the same may go well at once. ``refused``: the key. ``wait``: seconds that it asks for.

        ``said``: the provider's own words, which are for the operator; they may name accounts, or quote what was said.
        """
        super().__init__(text)
        self.passing = passing
        self.refused = refused
        self.wait = wait
        self.said = harmless(said)

    @property
    def explained(self) -> str:
        """With the provider's own words."""
        return f"{self}: {self.said}" if self.said else str(self)

    @property
    def is_worth_a_retry(self) -> bool:
        return self.passing and self.wait <= PATIENCE


class Breaker:
    """Whether a provider is worth asking: after failures in a row it rests, then one attempt decides. Loop's clock."""

    def __init__(self) -> None:
        self.trouble = ""
        """The last failure, while it counts."""
        self._failures = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        """It is to be left alone now."""
        return bool(self._until) and asyncio.get_running_loop().time() < self._until

    def succeeded(self) -> None:
        self.trouble, self._failures, self._until = "", 0, 0.0

    def failed(self, error: EngineError) -> None:
        self._failures += 1
        self.trouble = str(error)
        rest = REST_SECONDS if self._failures >= FAILURES else 0.0
        if isinstance(error, ProviderError):
            rest = max(rest, min(error.wait, MAX_WAIT), REFUSED_SECONDS if error.refused else 0.0)
        if rest:
            self._until = max(self._until, asyncio.get_running_loop().time() + rest)


def status_error(name: str, status: int, headers: Mapping[str, str], said: str = "") -> ProviderError:
    """What an HTTP status means. ``said``: the provider's own words."""
    if status in (401, 403):
        return ProviderError(f"{name} refuses the key ({status})", refused=True, said=said)
    if status == 402:
        return ProviderError(f"{name} wants to be paid ({status})", refused=True, said=said)
    if status == 404:
        return ProviderError(f"{name} does not have that ({status})", said=said)
    if status == 429:
        wait = retry_after(headers) or PATIENCE
        return ProviderError(f"{name} is asked too often ({status})", passing=True, wait=wait, said=said)
    if status >= 500 or status in (408, 409, 425):
        wait = retry_after(headers) or 0.0
        return ProviderError(f"{name} is out of order ({status})", passing=True, wait=wait, said=said)
    return ProviderError(f"{name} does not accept the request ({status})", said=said)


def tell(error: EngineError) -> None:
    """The operator. What is said of a request may quote the conversation, what is said of a key or a limit does not."""
    logger.warning("%s", error)
    if isinstance(error, ProviderError) and error.said:
        public = error.refused or error.wait
        logger.log(logging.INFO if public else logging.DEBUG, "%s", error.explained)


def unreachable(name: str) -> ProviderError:
    return ProviderError(f"{name} cannot be reached", passing=True)


def hung_up(name: str) -> ProviderError:
    return ProviderError(f"{name} hung up in the middle", passing=True)


def too_slow(name: str) -> ProviderError:
    """Not worth a second try with the same one: somebody waits for an answer."""
    return ProviderError(f"{name} took too long")


def garbled(name: str) -> ProviderError:
    return ProviderError(f"{name} answered with something that is no answer")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of the header, which holds seconds or a date (RFC 9110, 10.2.3); ``None`` without a sensible one."""
    if value := headers.get("retry-after-ms") or "":
        try:
            return max(0.0, float(value) / 1000)
        except ValueError:
            return None
    value = headers.get("retry-after") or headers.get("Retry-After") or ""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, IndexError):
        return None


def harmless(text: str) -> str:
    """A provider's words on one line, short, without what looks like a key."""
    return _SECRET.sub("…", " ".join(text.split()))[:200]
