"""Instructions and tools that a conversation takes up and lays down. Source: protocol 3.15."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from config.agent import SkillConfig
from pipeline.events import Event, SkillLoaded, SkillUnloaded

LOAD, UNLOAD = "loadSkill", "unloadSkill"
"""Tools that the model is offered and the server runs itself."""


class Skills:
    """Which of an agent's skills are active in one session."""

    def __init__(self, publish: Callable[[Event], None]) -> None:
        self._publish = publish
        self._declared: dict[str, SkillConfig] = {}
        self._loaded: set[str] = set()

    def declare(self, skills: Iterable[SkillConfig]) -> None:
        """The agent's skills, anew. What was loaded stays so if it is still there."""
        self._declared = {skill.name: skill for skill in skills}
        self._loaded &= self._declared.keys()

    @property
    def active(self) -> list[SkillConfig]:
        return [
            skill for skill in self._declared.values() if skill.activation == "always" or skill.name in self._loaded
        ]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Those of the active skills."""
        return [tool for skill in self.active for tool in skill.tools]

    @property
    def choices(self) -> list[dict[str, Any]]:
        """With which the model takes up and lays down skills; the server runs them itself."""
        offered = []
        choosable = [skill for skill in self._declared.values() if skill.activation == "model"]
        idle = [skill for skill in choosable if skill.name not in self._loaded]
        busy = [skill for skill in choosable if skill.name in self._loaded]
        if idle:
            offered.append(_choice(LOAD, "Take up a skill before you need it.", idle))
        if busy:
            offered.append(_choice(UNLOAD, "Lay down a skill that is not needed any more.", busy))
        return offered

    @property
    def instructions(self) -> list[str]:
        """What the active skills add to the prompt."""
        return [skill.instructions for skill in self.active if skill.instructions]

    def load(self, name: str, *, by: str) -> bool:
        """Active from the next generation on. ``False``: there is no such skill. ``by``: ``manual`` or ``model``."""
        if not self._may(name, by):
            return False
        if name not in self._loaded and self._declared[name].activation != "always":
            self._loaded.add(name)
            self._publish(SkillLoaded(skill=name, by=by))
        return True

    def unload(self, name: str, *, by: str) -> bool:
        """Not active any more; a skill that is always active stays so."""
        if not self._may(name, by):
            return False
        if name in self._loaded:
            self._loaded.discard(name)
            self._publish(SkillUnloaded(skill=name, by=by))
        return True

    def runs(self, tool: str) -> bool:
        """Whether this tool is the server's own. An agent without skills may have one of the same name."""
        choosable = any(skill.activation == "model" for skill in self._declared.values())
        return choosable and tool in {LOAD, UNLOAD}

    def choose(self, tool: str, arguments: object) -> dict[str, Any]:
        """Run ``LOAD`` or ``UNLOAD`` for the model; the result tells it what came of it."""
        name = arguments.get("skill") if isinstance(arguments, dict) else None
        done = (self.load if tool == LOAD else self.unload)(str(name), by="model")
        return {"ok": True} if done else {"error": f"there is no skill {str(name)[:64]!r}"}

    def _may(self, name: str, by: str) -> bool:
        skill = self._declared.get(name)
        return skill is not None and (by == "manual" or skill.activation == "model")


def _choice(name: str, description: str, skills: Iterable[SkillConfig]) -> dict[str, Any]:
    lines = [description, *(f"{skill.name}: {skill.description}" for skill in skills)]
    schema = {"type": "string", "enum": [skill.name for skill in skills]}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "\n".join(lines),
            "parameters": {"type": "object", "properties": {"skill": schema}, "required": ["skill"]},
        },
    }
