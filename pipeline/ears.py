"""The two neural ears that all calls share. Either may be missing: turns are then taken by what is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from media.audio import Pcm
from pipeline.engine import EngineError
from pipeline.models import SILERO
from pipeline.silero import Activity, Silero, VoiceActivity
from pipeline.turn_model import TurnModel

logger = logging.getLogger(__name__)


class Ears:
    """Voice activity and the audio turn model, loaded once for a server."""

    def __init__(self, models_dir: Path) -> None:
        self.silero = Silero(models_dir / SILERO.name)
        self.turn_model = TurnModel()

    async def start(self) -> None:
        """Load both at once. Never raises: one warning tells what is not there."""
        outcomes = await asyncio.gather(self.silero.start(), self.turn_model.start(), return_exceptions=True)
        troubles = [str(each) for each in outcomes if isinstance(each, EngineError)]
        if troubles:
            logger.warning("turns are taken by simpler means: %s", "; ".join(troubles))
        for each in outcomes:
            if isinstance(each, BaseException) and not isinstance(each, EngineError):
                raise each

    def listen(self, on_activity: Callable[[Activity], None]) -> VoiceActivity:
        """An ear for one call; see ``Silero.listen``. Close it."""
        return self.silero.listen(on_activity)

    async def is_complete(self, pcm: Pcm) -> float | None:
        """The probability that a turn is complete; see ``TurnModel.ask``."""
        return await self.turn_model.ask(pcm)

    async def aclose(self) -> None:
        """Release both."""
        await asyncio.gather(self.silero.aclose(), self.turn_model.aclose())
