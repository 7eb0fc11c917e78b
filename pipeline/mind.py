"""What thinks in one session, spoken or typed: the agent, what its model is told, its tools, its skills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from config.agent import AgentConfig
from config.patch import LayeredAgent, Patch, parse_patch
from pipeline.barrier import Barrier
from pipeline.briefing import Briefing, Question
from pipeline.control import MAX_CONTEXT_KEY, MAX_CONTEXT_KEYS, MAX_CONTEXT_VALUE
from pipeline.conversation import Conversation
from pipeline.desk import CommandError, Handler, complaint, optional_text_of, text_of
from pipeline.events import Event
from pipeline.history import History
from pipeline.llm import LanguageModel
from pipeline.skills import Skills
from pipeline.tools import Tools

MAX_NAME = 128


class Mind:
    """Owned by a call or a chat, which says what is heard and what is answered."""

    def __init__(
        self,
        agent: AgentConfig,
        *,
        channel: Literal["voice", "chat"],
        publish: Callable[[Event], None],
        clock: Callable[[], datetime],
        on_configured: Callable[[Patch], None],
        on_paused: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_configured``: the backend has changed the agent of this session; the patch is in force already.

        ``on_paused``: a person has taken over.
        """
        self._channel = channel
        self._layers = LayeredAgent(agent)
        self._on_configured = on_configured
        self._on_paused = on_paused
        self.conversation = Conversation()
        self.skills = Skills(publish)
        self.briefing = Briefing(
            agent, channel=channel, conversation=self.conversation, skills=self.skills, clock=clock
        )
        self.tools = Tools(publish, self.conversation, self.skills)
        self._barrier = Barrier(publish)
        self.is_attended = False
        """A backend serves the agent now."""
        self.is_paused = False
        """A person has taken over: the model does not answer. Protocol 3.18."""

    @property
    def agent(self) -> AgentConfig:
        """As it is configured for this session now."""
        return self.briefing.agent

    @property
    def answers(self) -> bool:
        """The server's language model answers."""
        return self.agent.generates and not self.is_paused

    def attend(self, present: bool) -> None:
        self.is_attended = present
        self.tools.attend(present)

    def reload(self, agent: AgentConfig) -> None:
        """The agent was configured anew, for all of its sessions."""
        self._layers.reload(agent)
        self.briefing.agent = self._layers.current

    def lay_browser(self, patch: Patch) -> None:
        """The browser's wishes, which count where the backend has none."""
        self._layers.lay_browser(patch)
        self.briefing.agent = self._layers.current

    def set_context(self, key: str, value: str | None) -> None:
        """What the page shows; ``None`` deletes. Beyond ``MAX_CONTEXT_KEYS`` nothing is added."""
        shown = self.briefing.ui_context
        if value is None:
            shown.pop(key, None)
        elif key in shown or len(shown) < MAX_CONTEXT_KEYS:
            shown[key] = value

    async def prepare(self, turn: int) -> None:
        """Let the backend set something before this turn is answered. Protocol 3.16."""
        if self.is_attended:
            await self._barrier.wait(turn, self.agent.preparing, opted_in_only=self._channel == "chat")

    def ask(self, engine: LanguageModel, language: str, conversation: Conversation | None = None) -> Question:
        """What the model is to be asked now; see ``Briefing.question``."""
        return self.briefing.question(engine, language, tools=self.tools.were_attended, conversation=conversation)

    async def aclose(self) -> None:
        await self.tools.aclose()

    # --- commands of the backend

    def handlers(self) -> dict[str, Handler]:
        return {
            **History(self.briefing).handlers(),
            "llm.ready": self._ready,
            "llm.tool_result": self._tool_result,
            "session.configure": self._configure,
            "session.pause": self._pause,
            "session.resume": self._resume,
            "set_context": self._set_context,
            "skill.load": self._load,
            "skill.unload": self._unload,
        }

    def _ready(self, frame: Mapping[str, Any]) -> None:
        self._barrier.ready(frame.get("turn"))

    def _tool_result(self, frame: Mapping[str, Any]) -> None:
        results = frame.get("results")
        if not isinstance(results, list):
            raise CommandError("results: expected a list")
        self.tools.on_results(frame.get("msg_id"), results)

    def _configure(self, frame: Mapping[str, Any]) -> list[dict[str, Any]]:
        changes, problems = parse_patch(frame)
        patch = dict(changes)
        self.briefing.set_variables(patch.pop("vars", {}))
        if "prompt" in patch:
            self.briefing.instructions = None
        self._layers.lay_session(patch)
        self.briefing.agent = self._layers.current
        self._on_configured(patch)
        answers = [{"event": "session.configured", "session_id": frame.get("session_id")}]
        if wrong := [str(problem) for problem in problems if problem.kind == "invalid"]:
            answers.append(complaint("; ".join(wrong)))
        return answers

    def _pause(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self.is_paused = True
        self._on_paused()
        return {"event": "session.paused", "session_id": frame.get("session_id")}

    def _resume(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self.is_paused = False
        return {"event": "session.resumed", "session_id": frame.get("session_id")}

    def _set_context(self, frame: Mapping[str, Any]) -> None:
        self.set_context(text_of(frame, "key", MAX_CONTEXT_KEY), optional_text_of(frame, "value", MAX_CONTEXT_VALUE))

    def _load(self, frame: Mapping[str, Any]) -> None:
        if not self.skills.load(text_of(frame, "skill", MAX_NAME), by="manual"):
            raise CommandError("skill: there is no skill of this name")

    def _unload(self, frame: Mapping[str, Any]) -> None:
        if not self.skills.unload(text_of(frame, "skill", MAX_NAME), by="manual"):
            raise CommandError("skill: there is no skill of this name")
