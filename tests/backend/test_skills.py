"""Skills that a call takes up and lays down, by the backend's wish or the model's. Protocol 3.15."""

from __future__ import annotations

from typing import Any

from config.agent import AgentConfig
from tests.backend.scene import Scene, call, perform, tool


def skill(name: str, activation: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"About {name}.",
        "instructions": f"You know {name}.",
        "tools": [tool(f"{name}_tool")],
        "activation": activation,
    }


SKILLS = [skill("wine", "model"), skill("tea", "manual"), skill("house", "always")]


async def turn(stage: Scene, count: int) -> None:
    """The user speaks, and is answered for the ``count``-th time."""
    stage.person.say("tell me")
    await stage.frame("bot.finished", count)


def test_a_backend_loads_and_unloads() -> None:
    async def scene(stage: Scene) -> None:
        await turn(stage, 1)
        stage.send("skill.load", skill="tea")
        stage.send("skill.load", skill="tea")
        await turn(stage, 2)
        stage.send("skill.unload", skill="tea")
        stage.send("skill.unload", skill="tea")
        await turn(stage, 3)

    stage = perform(greeting="", prompt="Be kind.", skills=SKILLS, tools=[tool("book")])(scene)
    assert [line for line in stage.story() if line.startswith("skill.")] == [
        "skill.loaded skill=tea by=manual",
        "skill.unloaded skill=tea by=manual",
    ]
    always = {"book", "house_tool", "loadSkill"}
    assert [set(offered) for offered in stage.llm.offered] == [always, always | {"tea_tool"}, always]
    known = [[name for name in ("wine", "tea", "house") if f"You know {name}." in stage.prompt(n)] for n in range(3)]
    assert known == [["house"], ["tea", "house"], ["house"]]
    assert stage.prompt(1).index("Be kind.") < stage.prompt(1).index("You know tea.")


def test_the_model_chooses_and_the_backend_never_sees_how() -> None:
    async def scene(stage: Scene) -> None:
        await turn(stage, 1)
        stage.person.say("thanks")
        round_of_tools = await stage.frame("llm.tool_call")
        assert [each["name"] for each in round_of_tools["tool_calls"]] == ["wine_tool"]
        stage.result(round_of_tools, b2="cheers")
        await stage.frame("bot.finished", 2)

    answers = (
        [call("loadSkill", "a1", skill="wine")],
        "A red one.",
        [call("unloadSkill", "b1", skill="wine"), call("wine_tool", "b2")],
        "Bye.",
    )
    stage = perform(*answers, greeting="", skills=SKILLS)(scene)
    assert [line for line in stage.story() if line.startswith(("skill.", "llm.tool"))] == [
        "skill.loaded skill=wine by=model",
        "skill.unloaded skill=wine by=model",
        "llm.tool_call D wine_tool(b2)",
    ]
    assert "You know wine." in stage.prompt(1)
    assert [set(offered) & {"loadSkill", "unloadSkill", "wine_tool"} for offered in stage.llm.offered] == [
        {"loadSkill"},
        {"unloadSkill", "wine_tool"},
        {"unloadSkill", "wine_tool"},
        {"loadSkill"},
    ]
    assert [event.tool for event in stage.log.all("llm.tool_result")] == ["wine_tool"]


def test_the_model_may_choose_only_what_is_its_to_choose() -> None:
    async def scene(stage: Scene) -> None:
        await turn(stage, 1)

    wrong = [call("loadSkill", f"a{n}", skill=name) for n, name in enumerate(("tea", "house", "beer", 5, None))]
    stage = perform([*wrong, call("unloadSkill", "b")], "Sorry.", greeting="", skills=SKILLS)(scene)
    results = [message["content"] for message in stage.messages() if message["role"] == "tool"]
    assert len(results) == 6
    assert all("error" in result for result in results)
    assert not stage.all_frames("llm.tool_call")


def test_a_skill_that_does_not_exist() -> None:
    async def scene(stage: Scene) -> None:
        for frame in ({"skill": "beer"}, {"skill": ""}, {"skill": 5}, {}, {"skill": "x" * 5000}):
            stage.send("skill.load", **frame)
            stage.send("skill.unload", **frame)

    stage = perform(greeting="", skills=SKILLS)(scene)
    errors = stage.all_frames("error")
    assert [(frame["code"], frame["call_id"]) for frame in errors] == [("BAD_COMMAND", "c1")] * 10


def test_a_skill_that_is_always_active_can_be_neither_loaded_nor_unloaded() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("skill.load", skill="house")
        stage.send("skill.unload", skill="house")
        await turn(stage, 1)

    stage = perform(greeting="", skills=SKILLS)(scene)
    assert "You know house." in stage.prompt()
    assert not [line for line in stage.story() if line.startswith(("skill.", "error"))]


def test_what_was_loaded_stays_so_when_the_agent_is_configured_anew() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("skill.load", skill="tea")
        stage.send("skill.load", skill="wine")
        agent, _ = AgentConfig.parse("demo", {"skills": [skill("tea", "manual") | {"instructions": "Tea is green."}]})
        stage.call.reload(agent)
        await turn(stage, 1)

    stage = perform(greeting="", skills=SKILLS)(scene)
    assert "Tea is green." in stage.prompt()
    assert "You know" not in stage.prompt()
    assert stage.llm.offered == [["tea_tool"]]


def test_tools_of_a_skill_run_like_others() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("skill.load", skill="tea")
        stage.person.say("tea please")
        stage.result(await stage.frame("llm.tool_call"), a1="hot")
        await stage.frame("bot.finished")

    stage = perform([call("tea_tool", "a1")], "Here.", greeting="", skills=SKILLS)(scene)
    assert stage.story("user.speaking", "bot.word", "message.confirmed")[1:] == [
        "skill.loaded skill=tea by=manual",
        "speech.started turn_id=1",
        "user.message turn_id=1 A 'tea please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'tea please'",
        "llm.before turn=1",
        "llm.tool_call B tea_tool(a1)",
        "bot.speaking C ''",
        "bot.finished C 'Here.'",
        "call.ended reason=hangup",
    ]


def test_the_model_chooses_where_there_is_no_backend() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("tell me")
        await stage.event("bot.finished")

    stage = perform([call("loadSkill", "a1", skill="wine")], "Red.", attended=False, greeting="", skills=SKILLS)(scene)
    assert stage.llm.offered == [["loadSkill"], ["unloadSkill"]]
    assert "You know wine." in stage.prompt()
    assert stage.log.all("bot.finished")[0].text == "Red."


def test_a_tool_of_the_agent_does_not_hide_how_skills_are_chosen() -> None:
    async def scene(stage: Scene) -> None:
        await turn(stage, 1)

    stage = perform(
        [call("loadSkill", "a1", skill="wine")], "Red.", greeting="", skills=SKILLS, tools=[tool("loadSkill")]
    )(scene)
    assert "You know wine." in stage.prompt()
    assert not stage.all_frames("llm.tool_call")
    assert stage.llm.offered[0].count("loadSkill") == 1
