"""What a language model is told in one session: the agent's words, what was added to them, and what was said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from config.agent import AgentConfig, LlmConfig
from pipeline.conversation import Conversation
from pipeline.llm import GenerateOptions, LanguageModel, Message
from pipeline.meter import Meter
from pipeline.prompt import PromptTemplate
from pipeline.skills import Skills

MAX_CONTEXT = 64
"""Blocks that a backend may add."""

MAX_VARIABLES = 256


@dataclass(frozen=True, slots=True)
class Question:
    """What a language model is asked. Two that are equal would be answered alike."""

    engine: LanguageModel
    messages: Sequence[Message]
    options: GenerateOptions
    tools: Sequence[dict[str, Any]] = ()
    meter: Meter = field(default_factory=Meter, compare=False)
    """Where the answer counts."""


class Briefing:
    """One for each call or chat. ``agent`` may be replaced at any time; it counts from the next question on."""

    def __init__(
        self,
        agent: AgentConfig,
        *,
        channel: Literal["voice", "chat"],
        conversation: Conversation,
        skills: Skills,
        clock: Callable[[], datetime],
    ) -> None:
        """``clock`` gives the present, aware."""
        self.conversation = conversation
        self.skills = skills
        self.variables: dict[str, str] = {}
        """Set during the session; they beat the agent's."""
        self.context: list[str] = []
        """Blocks behind the prompt."""
        self.ui_context: dict[str, str] = {}
        self.instructions: str | None = None
        """In place of the agent's prompt."""
        self.meter = Meter()
        self._channel = channel
        self._clock = clock
        self.agent = agent

    @property
    def agent(self) -> AgentConfig:
        return self._agent

    @agent.setter
    def agent(self, agent: AgentConfig) -> None:
        self._agent = agent
        self.skills.declare(agent.skills)

    def render(self, text: str) -> str:
        """A text of the agent with its variables replaced."""
        return self._template().render(text, self._clock())

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Merge. What is over ``MAX_VARIABLES`` is dropped."""
        for name, value in variables.items():
            if name in self.variables or len(self.variables) < MAX_VARIABLES:
                self.variables[name] = value

    def add_context(self, text: str) -> None:
        """Append a block; beyond ``MAX_CONTEXT`` the oldest is dropped."""
        self.context = [*self.context, text][-MAX_CONTEXT:]

    def question(
        self, engine: LanguageModel, language: str, *, tools: bool, conversation: Conversation | None = None
    ) -> Question:
        """What to ask now. ``tools``: somebody is there to run them. ``conversation``: another than what was said."""
        llm = self._agent.llm or LlmConfig()
        options = GenerateOptions(
            model=llm.model,
            temperature=llm.temperature,
            max_tokens=llm.max_tokens,
            language=language,
            timezone=self._agent.timezone,
        )
        prompt = self._template().system_prompt(self._clock())
        messages = (conversation or self.conversation).for_model(prompt)
        return Question(engine, messages, options, self._tools(run=tools), self.meter)

    def _tools(self, *, run: bool) -> tuple[dict[str, Any], ...]:
        """The agent's and those of its active skills, each name once. ``run``: somebody is there to run them."""
        backends = (*self.skills.tools, *self._agent.tools) if run else ()
        offered = {tool["function"]["name"]: tool for tool in (*backends, *self.skills.choices)}
        return tuple(offered.values())

    def _template(self) -> PromptTemplate:
        agent = self._agent
        return PromptTemplate(
            prompt=agent.effective_prompt if self.instructions is None else self.instructions,
            timezone=agent.timezone,
            agent_variables=agent.vars,
            call_variables=self.variables,
            context=[*self.context, *self.skills.instructions],
            ui_context=self.ui_context,
            channel=self._channel,
            raw=agent.raw_prompt,
        )
