"""How loud the user, the room and the bot's echo are: who stands out of none is a television, or somebody behind."""

from __future__ import annotations

import math
from collections import deque

from media.audio import FRAME_MS
from pipeline.turn_rules import SILENT, UNECHOED_MS, UNVOICED_MS
from pipeline.turn_settings import TurnSettings

RISE, FALL = 0.4, 0.1
"""How fast the room's level follows, dB a frame: it settles where 80 of 100 frames are softer."""

UNREST_RISE = 0.02
"""Weight of one frame in how restless the room is."""

UNRESTS, LEAST_ABOVE_ROOM = 3.0, 4.0
"""A voice is louder than the room by so many times what that changes by itself, and by so much, dB."""

FEWEST = 12
"""Frames before a first turn from which the room is known."""

DELAY = 30
"""Frames after which what was heard belongs to the room: a voice must not raise what it has to stand out of."""

QUICK, HASTE = 50, 10
"""Frames at the beginning of a call in which it follows so many times as fast."""

VOICE_SLOWER = 10
"""So many times as slowly it follows a voice at the microphone, which is hardly ever the room's."""

BELOW_USER = 11.0
"""So much softer, dB, than they usually are nobody speaks for long."""

SWELL, FADE = 1.0, 0.03
"""How fast the user's level follows, dB a frame: it stays near the loudest that they are."""

ENOUGH = 15
"""Frames of echo from which its level is known."""

SMOOTHING = 0.03
"""Weight of one frame in the level of the echo."""

ECHO = 0.65
"""Likeness to what the bot says from which a frame is its echo."""

LOUD = -32.0
"""What is louder, dBFS, is somebody at the microphone, whatever the room is like, and no echo."""

SURE_ECHO = 0.75
"""Likeness that a voice has by chance in one frame of a hundred; the loudness of the echo is learnt from these."""

HARDLY_ECHO = 0.15
"""What is less like it is none."""

ABOVE_ECHO, FAR_ABOVE_ECHO = 8.0, 14.0
"""What is louder than the echo usually is by so much, dB, is a voice over it: if hardly alike, and in any case."""

FADED, NEAR_ROOM, CLEARLY_FADED = 32.0, 3.0, 15.0
"""A voice that is so much softer, dB, than it was is none any more, nor one that hardly stands out of the room; it must
be softer by the third in any case: the room may have been anything before."""


class Loudness:
    """Levels in dBFS, as frames of 20 ms have them."""

    def __init__(self) -> None:
        self.room: float | None = None
        """What the microphone hears while nobody has the turn. ``None``: nothing yet."""
        self.user: float | None = None
        """The user's voice in their turns, where it is loud. ``None``: they have not spoken."""
        self.echo: float | None = None
        """The bot's voice as it comes back. ``None``: it has not, for all that is known."""
        self._echoes: list[float] = []
        self._frames = 0
        self._unrest = 0.0  # how far the room is from its level, in the mean, dB
        self._recent: deque[tuple[float, bool]] = deque()  # levels that may become the room's; of a voice nearby?

    @property
    def soft(self) -> float:
        """What is softer for long is not the user's voice."""
        return -math.inf if self.user is None else self.user - BELOW_USER

    def least(self, settings: TurnSettings) -> float:
        """What is softer does not interrupt: it is somebody else's, or not meant."""
        user = -math.inf if self.user is None else self.user - settings.below_user
        # What changes little by itself need not be topped by much.
        known = self._frames >= QUICK
        margin = min(settings.above_room, max(LEAST_ABOVE_ROOM, UNRESTS * self._unrest) if known else math.inf)
        room = -math.inf if self.room is None else self.room + margin
        return max(settings.min_level, user, min(room, LOUD))

    def faded(self, loudest: float) -> float:
        """What is softer has no voice in it any more, though a detector hears one for some 0.1 s longer.

        ``loudest``: as the user was in this turn.
        """
        room = -math.inf if self.room is None else self.room + NEAR_ROOM
        return min(max(room, loudest - FADED), loudest - CLEARLY_FADED)

    def is_echo(self, level: float, likeness: float) -> bool:
        """Whether a frame is alike to what the bot said, or hardly louder than what was alike before.

        Learns from those that surely are.
        """
        if level > LOUD:
            return False
        if likeness >= ECHO and (self.echo is None or level < self.echo + FAR_ABOVE_ECHO):
            if likeness >= SURE_ECHO:
                self.hear_echo(level)
            return True
        return self.echo is not None and likeness >= HARDLY_ECHO and level < self.echo + ABOVE_ECHO

    def hear_room(self, level: float, *, voice: bool = False) -> None:
        """A frame in which the user does not have the turn; it may be a voice that wants it."""
        heard = level, voice and level > LOUD
        self._recent.append(heard)
        quick = self._frames < QUICK
        if len(self._recent) > DELAY:
            oldest = self._recent.popleft()
            level, nearby = heard if quick else oldest
        elif quick:
            level, nearby = heard
        else:
            return
        self._frames += 1
        if self.room is None:
            self.room = level
        if not nearby:
            self._unrest += (1 / self._frames if quick else UNREST_RISE) * (abs(level - self.room) - self._unrest)
        pace = HASTE if quick else 1
        if level > self.room:
            self.room = min(level, self.room + RISE * pace / (VOICE_SLOWER if nearby else 1))
        else:
            self.room = max(level, self.room - FALL * pace)

    def forget_recent(self) -> None:
        """The last frames were the user's after all. Nor is the next voice to be taken for the room of a new call."""
        if self._frames < QUICK:
            recent = sorted(level for level, _ in self._recent)
            enough = len(recent) >= FEWEST
            self.room = recent[len(recent) // 5] if enough else None
            self._frames = QUICK if enough else 0
        self._recent.clear()

    def hear_echo(self, level: float) -> None:
        """A frame of the bot's voice."""
        if len(self._echoes) < ENOUGH:
            self._echoes.append(level)
            self.echo = sorted(self._echoes)[ENOUGH // 2] if len(self._echoes) == ENOUGH else None
        elif self.echo is not None:
            self.echo += SMOOTHING * (level - self.echo)

    def hear_user(self, level: float) -> None:
        """A frame with voice of the user's turn."""
        if self.user is None:
            self.user = level
        self.user = min(level, self.user + SWELL) if level > self.user else self.user - FADE


class Feedback:
    """Whether the bot may hear itself: from how the microphone was while it spoke, ms in the whole call."""

    def __init__(self) -> None:
        self._spoken = 0
        self._silent = 0
        self._voiceless = 0

    def hear(self, level: float, *, voice: bool) -> None:
        """A frame while the bot was audible; ``voice``: it may have been one, or the bot's."""
        self._spoken += FRAME_MS
        self._silent += FRAME_MS * (level < SILENT)
        self._voiceless += FRAME_MS * (not voice)

    def is_possible(self, guard_ms: int) -> bool:
        """For so long, unless the microphone has heard nothing of the bot, or nothing like a voice."""
        return self._spoken < guard_ms and self._silent < UNECHOED_MS and self._voiceless < UNVOICED_MS
