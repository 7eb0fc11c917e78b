"""Was the caller answered? Follows the frames of a call without I/O and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from server.peer import Heard, Utterance

SETTLE_SECONDS = 3.0
"""After the file, how long an answer that ended before it may still turn out not to be the last."""


@dataclass
class Dialogue:
    """Follows the frames of a call: greeting, the turn that was played, the answer to it. No I/O, no clock."""

    began: float = float("inf")
    ended: float = float("inf")
    turn: Heard | None = None
    """The last ``turn.end`` since the file began."""
    answer: Heard | None = None
    """The ``bot.speaking`` that followed it first and was not interrupted."""
    finished: Heard | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    spoke: bool = False

    def begin(self, moment: float) -> None:
        """The file begins to play."""
        self.began = moment

    def said(self, utterance: Utterance) -> None:
        """The file was played."""
        self.ended = utterance.ended

    def feed(self, heard: Heard) -> None:
        message = str(heard.frame.get("message_id", ""))
        match heard.event:
            case "bot.speaking":
                self.spoke = True
                self.open.add(message)
                if self.turn is not None and self.answer is None:
                    self.answer = heard
            case "bot.finished" | "bot.interrupted":
                self.open.discard(message)
                if self.answer is not None and message == self.answer.frame.get("message_id"):
                    self._close(heard)
            case "turn.end" if heard.at > self.began:
                self.turn, self.answer, self.finished = heard, None, None
            case "user.speaking" if self.turn is not None:
                # The file goes on after a pause: what was answered so far was not the whole of it.
                self.turn, self.answer, self.finished = None, None, None
            case "turn.latency":
                self.stages[str(heard.frame.get("turn_id"))] = heard.frame

    def _close(self, heard: Heard) -> None:
        if heard.event == "bot.finished":
            self.finished = heard
        else:
            self.answer = None

    @property
    def greeted(self) -> bool:
        """A first message was spoken and none is being spoken."""
        return self.spoke and not self.open

    def complete(self, now: float) -> bool:
        """A message begun after the ``turn.end`` of the file was spoken to its end, and the file has no more to say."""
        if self.finished is None or now < self.ended:
            return False
        return self.finished.at >= self.ended or now >= self.ended + SETTLE_SECONDS
