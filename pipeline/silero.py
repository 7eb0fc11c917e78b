"""Voice activity by Silero VAD v6 (MIT; ONNX file of the package ``silero-vad``): one network for all calls.

**Thread.** The event loop collects what waits and keeps every state; one thread does nothing but run the network, which
lets the GIL go: 50 talking calls take a sixth of a core, and the ticks beside them stay as punctual as without.

**Gate.** Most of a call is silence, and WebRTC's detector, which every frame has passed already, knows it for 5 us. The
network is asked from 200 ms before its first "speech" to 500 ms after its last, or after the last window that the
network itself took for one. With a sentence every 9 s that is a third of the windows (in noise of -5 dB nearly all,
where the detector always says "speech"). Against asking always, clean and in noise of -15 and -5 dB, at most 0.5 % of
the voiced windows are lost and no sentence, and the median onset is told at most 11 ms later. Mode 3 of the detector,
loudness alone, and another small network (earshot) were tried as the gate: they save up to a sixth in loud noise, find
onsets later, and would come on top of the detector that is there.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.audio import FRAME_MS, INPUT_RATE, AudioFrame, Pcm
from pipeline.engine import EngineError
from pipeline.onnx import open_session

logger = logging.getLogger(__name__)

WINDOW, CONTEXT = 512, 64
"""Samples that one probability is about (32 ms), and those before them that the network sees too."""

STATE = (2, 1, 128)
"""Shape of what the network remembers of one stream."""

LEAD = 200 // FRAME_MS
"""Frames before the first that may be speech, which bring the network's memory up to date."""

HANGOVER = 500 // FRAME_MS
"""Frames that are asked about after the last that may be speech."""

DOUBT = 0.3
"""A probability above this keeps the gate open."""

MAX_WAITING = 16
"""Windows (512 ms) of one call that may wait; what is older says nothing about now."""

State = NDArray[np.float32]
Answers = tuple[list[float], list[State]]


class Activity(NamedTuple):
    """What the network makes of one window."""

    probability: float
    """Of speech, 0 to 1."""
    time: float
    """Media time of the end of the window, s."""


@dataclass(slots=True)
class Window:
    pcm: Pcm
    """Context and window, shape ``(CONTEXT + WINDOW,)``."""
    time: float
    """Of its end."""
    fresh: bool
    """What came before it was not heard: the memory begins anew."""


class VoiceActivity:
    """The ear for one call. Made by ``Silero.listen``; every method belongs to the event loop and none blocks."""

    def __init__(self, silero: Silero, on_activity: Callable[[Activity], None]) -> None:
        self._silero, self._on_activity = silero, on_activity
        self.skipped = 0
        """Windows that were left out because the thread was behind."""
        self._waiting: deque[Window] = deque()
        self._unasked: deque[AudioFrame] = deque(maxlen=LEAD + 1)  # while the gate is closed
        self._rest: Pcm = np.zeros(CONTEXT, np.int16)  # of the next window: its context and what is there of itself
        self._state: State | None = None
        self._epoch = self._gap = self._quiet = 0
        self._fresh = True
        self.reset()

    def hear(self, frame: AudioFrame) -> bool:
        """Take the next frame. ``False``: it is certainly silence, and nothing will be told about it.

        ``True``: its windows are told to ``on_activity``, each once, in the order of their times, usually some ms
        later. The first ones after silence look back, up to 200 ms before this frame.

        Without a network each frame is told at once as the cheap detector judges it: probability 0 or 1.
        """
        if not self._silero.ready:
            self._tell(Activity(float(frame.is_speech), _end(frame)))
            return True
        self._quiet = 0 if frame.is_speech else self._quiet + 1
        if self._quiet > HANGOVER:
            self._gap += 1
            self._unasked.append(frame)
            return False
        if self._gap:
            self._open_gate()
        self._cut(frame)
        return True

    def reset(self) -> None:
        """Forget what was heard, and what waits."""
        self._epoch += 1  # what was asked before is not told
        self._waiting.clear()
        self._unasked.clear()
        self._rest = np.zeros(CONTEXT, np.int16)
        self._fresh = True
        self._gap = 0  # frames since the gate was closed
        self._quiet = HANGOVER  # frames since the last that may have been speech

    def close(self) -> None:
        """Nothing is told any more."""
        self.reset()
        self._silero.forget(self)

    def _open_gate(self) -> None:
        """Ask about the end of the silence. When its beginning is gone, the network begins anew."""
        if self._gap > LEAD:
            self._fresh = True
            self._rest = self._unasked.popleft().pcm[-CONTEXT:]
        for frame in self._unasked:
            self._cut(frame)
        self._unasked.clear()
        self._gap = 0

    def _cut(self, frame: AudioFrame) -> None:
        """Windows of 32 ms out of frames of 20."""
        pcm = np.concatenate([self._rest, frame.pcm])
        while len(pcm) >= CONTEXT + WINDOW:
            time = _end(frame) - (len(pcm) - CONTEXT - WINDOW) / INPUT_RATE
            self._waiting.append(Window(pcm[: CONTEXT + WINDOW], time, self._fresh))
            self._fresh = False
            self._silero.ask(self)
            pcm = pcm[WINDOW:]
        self._rest = pcm
        while len(self._waiting) > MAX_WAITING:
            # What follows has its own context, and the memory bears a gap.
            self._waiting[1].fresh |= self._waiting.popleft().fresh
            self.skipped += 1

    def next(self) -> Question | None:
        """For ``Silero``: the oldest window that waits."""
        if not self._waiting:
            return None
        window = self._waiting.popleft()
        return Question(self, self._epoch, window, None if window.fresh else self._state)

    def learn(self, question: Question, probability: float, state: State) -> None:
        """For ``Silero``: the answer; at most one question is open."""
        if question.epoch == self._epoch:
            self._state = state
            if probability > DOUBT:
                self._quiet = 0

    def answer(self, question: Question, probability: float) -> None:
        """For ``Silero``: tell it, once all ears have learnt."""
        if question.epoch == self._epoch:
            self._tell(Activity(probability, question.window.time))

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def _tell(self, activity: Activity) -> None:
        try:
            self._on_activity(activity)
        except Exception:
            logger.exception("a call could not take what its ear told")


class Question(NamedTuple):
    ear: VoiceActivity
    epoch: int
    window: Window
    state: State | None


class Network:
    """The network alone; any thread may run it. Raises ``EngineError`` when the file or the library is missing."""

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)
        self._rate = np.array(INPUT_RATE, np.int64)
        self._blank = np.zeros(STATE, np.float32)
        self.run([np.zeros(CONTEXT + WINDOW, np.int16)], [None])  # the first run is slow

    def run(self, windows: list[Pcm], states: list[State | None]) -> Answers:
        """One window, shape ``(CONTEXT + WINDOW,)``, of each of n streams and what is remembered of it, ``None`` at its
        beginning. Returns n probabilities and n new states of shape ``STATE``.
        """
        heard = np.stack(windows).astype(np.float32) * np.float32(1 / 32768)
        memory = np.concatenate([self._blank if state is None else state for state in states], axis=1)
        voiced, memory = self._session.run(None, {"input": heard, "state": memory, "sr": self._rate})
        return voiced[:, 0].tolist(), np.split(memory, len(windows), axis=1)


class Silero:
    """Answers the ears of all calls of this process, on one event loop.

    What waits when the thread is free goes into one batch: of each call the oldest window.
    """

    name = "silero"

    def __init__(self, path: Path) -> None:
        """``path`` of ``silero_vad_16k_op15.onnx``."""
        self.ready = False
        """Whether there is a network. Without one the ears tell what the cheap detector says."""
        self._path = path
        self._asking: dict[VoiceActivity, None] = {}  # an ordered set
        self._busy = False
        self._thread: _Thread | None = None

    async def start(self) -> None:
        """Load the network. Raises ``EngineError`` when it cannot be loaded; may be called again then."""
        if not self._thread:
            thread = self._thread = _Thread(self._path, self._deliver)
            try:
                await thread.loaded
            except BaseException:
                await self.aclose()
                raise
            self.ready, self._busy = self._thread is thread, False  # unless it was closed meanwhile

    def listen(self, on_activity: Callable[[Activity], None]) -> VoiceActivity:
        """An ear. ``on_activity`` is called on the event loop and must neither block nor raise."""
        return VoiceActivity(self, on_activity)

    async def aclose(self) -> None:
        """End the thread, after the batch that it is at; no ear is told what it asked before."""
        thread, self._thread = self._thread, None
        self.ready = False
        self._asking.clear()
        if thread:
            await thread.aclose()

    @property
    def busy(self) -> bool:
        """Whether something is asked that is not told yet."""
        return self._busy or bool(self._asking)

    def ask(self, ear: VoiceActivity) -> None:
        """For the ears: a window waits."""
        if not self._asking and not self._busy:
            asyncio.get_running_loop().call_soon(self._dispatch)  # when all calls of this tick have asked
        self._asking[ear] = None

    def forget(self, ear: VoiceActivity) -> None:
        """For the ears: this one is closed."""
        self._asking.pop(ear, None)

    def _dispatch(self) -> None:
        if self._busy or not self.ready or not self._thread:
            return
        batch = [question for ear in self._asking if (question := ear.next())]
        self._asking = {question.ear: None for question in batch if question.ear.waits}
        if batch:
            self._busy = True
            self._thread.jobs.put(batch)

    def _deliver(self, batch: list[Question], answers: Answers | None) -> None:
        self._busy = False
        if not self.ready:  # closed meanwhile
            return
        if answers is None:
            logger.error("the voice activity network failed; the cheap detector takes its place")
            self.ready = False
            return
        for question, probability, state in zip(batch, *answers, strict=True):
            question.ear.learn(question, probability, state)
        self._dispatch()  # the thread is waiting
        for question, probability in zip(batch, answers[0], strict=True):
            question.ear.answer(question, probability)


class _Thread:
    """The network on a thread of its own. Everything else belongs to the loop that made it."""

    def __init__(self, path: Path, deliver: Callable[[list[Question], Answers | None], None]) -> None:
        self._path, self._deliver = path, deliver
        self._loop = asyncio.get_running_loop()
        self.loaded: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.jobs: queue.SimpleQueue[list[Question] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="silero", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        self.jobs.put(None)
        await self._ended
        self._thread.join()

    def _run(self) -> None:
        try:
            network = Network(self._path)
        except Exception as error:  # noqa: BLE001 - whatever a native library raises goes to the loop
            trouble = error if isinstance(error, EngineError) else EngineError(f"{self._path.name} is damaged")
            self._tell(_settle, self.loaded, trouble)
        else:
            self._tell(_settle, self.loaded, None)
            self._serve(network)
        self._tell(_settle, self._ended, None)

    def _serve(self, network: Network) -> None:
        while batch := self.jobs.get():
            answers = None
            try:
                answers = network.run([each.window.pcm for each in batch], [each.state for each in batch])
            except Exception:
                logger.exception("Silero raised")
            self._tell(self._deliver, batch, answers)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *args)


def _settle(future: asyncio.Future[None], trouble: EngineError | None) -> None:
    if future.done():  # nobody waits any more
        return
    if trouble:
        future.set_exception(trouble)
    else:
        future.set_result(None)


def _end(frame: AudioFrame) -> float:
    return frame.time + len(frame.pcm) / INPUT_RATE
