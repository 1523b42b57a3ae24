"""The agent on t2-nano and its experts, with real tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langsmith import Client, tracing_context
from packaging.version import Version
from pydantic import BaseModel, Field

from t2agent.chat.agent import T2Middleware, create_t2_agent
from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError, StepLimitError
from t2agent.models.model import T2Model
from t2agent.nano.tasks import TASKS
from t2agent.toolbox.images import image_block
from tests.models import build_text_model

DATES = "Which weekday is 19 days after 2026-01-25?"
DATE_TOOLS = ["add_days", "weekday"]


@pytest.fixture(scope="module")
def chat() -> ChatT2:
    return ChatT2(max_tokens=96)


def ask(text: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [HumanMessage([*blocks, {"type": "text", "text": text}])]}


def replies(state: dict[str, Any]) -> list[AIMessage]:
    return [message for message in state["messages"] if isinstance(message, AIMessage)]


def results(state: dict[str, Any]) -> list[ToolMessage]:
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


def decisions(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [reply.response_metadata["dispatch"] for reply in replies(state)]


def experts(state: dict[str, Any]) -> list[list[str]]:
    return [list(decision["mixture"]["weights"]) for decision in decisions(state)]


def calls(state: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["args"]) for r in replies(state) for call in r.tool_calls]


class Forced(AgentMiddleware):  # type: ignore[type-arg]
    """Makes the first step a call of one tool, whatever the model thinks of it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.named = name

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        if isinstance(request.messages[-1], HumanMessage):
            request = request.override(tool_choice=self.named)
        return handler(request)


def opener(number: int) -> tuple[BaseTool, str]:
    """A tool that brings an image with a number, and the number."""
    example = TASKS["read"].sample(number + 1, seed=3, split="test")[number]
    assert example.image is not None
    block = image_block(example.image)

    @tool
    def open_image() -> list[dict[str, str]]:
        """Opens the image."""
        return [block]

    return open_image, example.answer


# --- steps ---------------------------------------------------------------------------------------


def test_two_calls_and_an_answer(chat: ChatT2) -> None:
    state = create_t2_agent(chat, DATE_TOOLS).invoke(ask(DATES))

    assert calls(state) == [
        ("add_days", {"date": "2026-01-25", "days": 19}),
        ("weekday", {"date": "2026-02-13"}),
    ]
    assert [result.content for result in results(state)] == ["2026-02-13", "Friday"]
    assert "Friday" in state["messages"][-1].text


def test_each_steps_decision_is_in_its_message_and_in_the_state(chat: ChatT2) -> None:
    state = create_t2_agent(chat, DATE_TOOLS).invoke(ask(DATES))

    assert len(decisions(state)) == 3
    assert state["t2_decisions"] == decisions(state)
    assert json.loads(json.dumps(state["t2_decisions"])) == state["t2_decisions"]
    assert experts(state)[0] == ["tools"]
    assert set(decisions(state)[0]) == {
        "strategy", "mixture", "scores", "in_scope", "seconds", "gate", "threshold",
    }  # fmt: skip


async def test_asynchronously(chat: ChatT2) -> None:
    agent = create_t2_agent(chat, DATE_TOOLS)

    state = await agent.ainvoke(ask(DATES))

    known = agent.invoke(ask(DATES))
    assert calls(state) == calls(known)
    assert experts(state) == experts(known)
    assert len(state["t2_decisions"]) == 3


def test_streamed_steps_tell_the_same(chat: ChatT2) -> None:
    agent = create_t2_agent(chat, DATE_TOOLS)

    pieces = list(agent.stream(ask(DATES), stream_mode=["messages", "values"]))

    state = [piece for mode, piece in pieces if mode == "values"][-1]
    assert len([1 for mode, _ in pieces if mode == "messages"]) > 5
    assert len(state["t2_decisions"]) == 3
    assert state["t2_decisions"] == decisions(state)
    assert "Friday" in state["messages"][-1].text


def test_an_image_on_the_way_changes_the_experts(chat: ChatT2) -> None:
    open_image, number = opener(0)

    state = create_t2_agent(chat, [open_image]).invoke(ask("What number is in the image?"))

    assert experts(state) == [["tools"], ["read"]]
    assert state["messages"][-1].text == number


def test_a_conversation_that_turns_from_arithmetic_to_an_image(chat: ChatT2) -> None:
    example = TASKS["read"].sample(1, seed=3, split="test")[0]
    assert example.image is not None
    agent = create_t2_agent(chat, [], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}

    agent.invoke(ask("What is 7 * 3 + 12?"), thread)
    state = agent.invoke(ask("What number is in the image?", image_block(example.image)), thread)

    assert experts(state) == [["math"], ["read"]]
    assert state["t2_decisions"] == decisions(state)
    assert "33" in replies(state)[0].text


@pytest.mark.parametrize("name", ["zoom_image", "crop_image"])
def test_the_model_sees_the_image_that_a_tool_makes(chat: ChatT2, name: str) -> None:
    example = TASKS["read"].sample(1, seed=3, split="test")[0]
    assert example.image is not None
    made: dict[str, Any] = {"zoom_image": "Zoom the image by 3.",
                            "crop_image": "Cut out the rectangle 2, 6, 50, 56."}  # fmt: skip
    agent = create_t2_agent(chat, [name], middleware=[Forced(name)])

    state = agent.invoke(ask(made[name], image_block(example.image)))

    called = calls(state)[0]
    result = results(state)[0]
    if result.status == "error":  # the model may have chosen other numbers
        assert "give" in str(result.content)
        return
    assert called[0] == name
    assert [block["type"] for block in result.content] == ["text", "image"]
    # Its second reply was written before both images, of 16 tokens each.
    first, second = (reply.usage_metadata for reply in replies(state)[:2])
    assert first is not None
    assert second is not None
    assert second["input_tokens"] > first["input_tokens"] + 16


def test_a_wrong_call_is_content_and_the_agent_goes_on(chat: ChatT2) -> None:
    state = create_t2_agent(chat, ["zoom_image"], middleware=[Forced("zoom_image")]).invoke(
        ask("Zoom the image by 3.")
    )

    assert results(state)[0].status == "error"
    assert "no image in the conversation" in results(state)[0].content
    assert isinstance(state["messages"][-1], AIMessage)


# --- choosing experts ----------------------------------------------------------------------------


def by_turns(request: Any) -> dict[str, Any] | None:
    """The tools expert calls, the base model answers."""
    return None if isinstance(request.messages[-1], ToolMessage) else {"expert": "tools"}


@pytest.mark.parametrize(
    ("middleware", "strategies", "weights"),
    [
        (T2Middleware(expert="tools"), ["given"] * 3, [{"tools": 1.0}] * 3),
        (T2Middleware(mixture={"tools": 1.0, "math": 0.1}), ["given"] * 3,
         [{"tools": 1.0, "math": 0.1}] * 3),
        (T2Middleware(dispatch="off"), ["off"] * 3, [{}] * 3),
        (T2Middleware(choose=by_turns, dispatch="off"), ["given", "off", "off"],
         [{"tools": 1.0}, {}, {}]),
    ],
)  # fmt: skip
def test_who_answers_each_step(
    chat: ChatT2, middleware: T2Middleware, strategies: list[str], weights: list[Any]
) -> None:
    agent = create_agent(chat, create_t2_agent_tools(), middleware=[middleware, Forced("add_days")])

    state = agent.invoke(ask(DATES))  # type: ignore[arg-type]

    steps = state["t2_decisions"]  # type: ignore[typeddict-item]
    assert steps
    assert [step["strategy"] for step in steps] == strategies[: len(steps)]
    assert [step["mixture"]["weights"] for step in steps] == weights[: len(steps)]


def create_t2_agent_tools() -> list[BaseTool]:
    from t2agent.toolbox import load_tools

    return load_tools(DATE_TOOLS)


def test_what_a_bound_model_holds_is_for_every_step(chat: ChatT2) -> None:
    state = create_t2_agent(chat.bind(expert="tools").bind(max_tokens=90), DATE_TOOLS).invoke(
        ask(DATES)
    )

    assert {step["strategy"] for step in state["t2_decisions"]} == {"given"}
    assert set(map(tuple, experts(state))) == {("tools",)}


def test_an_expert_that_was_asked_for_answers_until_the_user_speaks(chat: ChatT2) -> None:
    agent = create_t2_agent(
        chat,
        ["use_expert"],
        middleware=[Forced("use_expert")],
        checkpointer=InMemorySaver(),
    )
    thread: Any = {"configurable": {"thread_id": "1"}}

    state = agent.invoke(ask("Ask the math expert."), thread)

    name = calls(state)[0][1]["name"]
    assert name in chat.registry
    assert results(state)[0].content == f"The expert {name} answers from now on."
    assert decisions(state)[1]["strategy"] == "given"
    assert experts(state)[1] == [name]
    later = agent.invoke(ask("What is 7 * 3 + 12?"), thread)
    assert decisions(later)[len(replies(state))]["strategy"] == "embedding"


def test_the_experts_are_listed_and_asked(chat: ChatT2) -> None:
    for name in ("list_experts", "ask_expert"):
        agent = create_t2_agent(chat, [name], middleware=[Forced(name)])
        result = results(agent.invoke(ask('Ask the math expert: "What is 7 * 3 + 12?"')))[0]
        assert result.status == "success", result.content
        if name == "list_experts":
            assert "math (text): " in result.content


def test_another_model_than_chat_t2() -> None:
    agent = create_agent(FakeListChatModel(responses=["Hi"]), middleware=[T2Middleware()])

    with pytest.raises(ConfigError, match=r"got a FakeListChatModel .* leave the middleware out"):
        agent.invoke(ask("Hi"))  # type: ignore[arg-type]


def test_steps_are_limited(chat: ChatT2) -> None:
    agent = create_t2_agent(chat, DATE_TOOLS, middleware=[T2Middleware(max_steps=2)])

    with pytest.raises(StepLimitError, match=r"after 2 model call\(s\).*called weekday") as caught:
        agent.invoke(ask(DATES))
    assert [m.type for m in caught.value.messages] == ["human", "ai", "tool", "ai", "tool"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_repeats": 0}, "max_repeats is 0"),
        ({"choose": "math"}, "choose is 'math'"),
        ({"expert": "math", "dispatch": "off"}, "expert and dispatch were given"),
    ],
)
def test_unusable_options_of_the_middleware(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        T2Middleware(**options)


def test_a_function_that_returns_no_options(chat: ChatT2) -> None:
    middleware = T2Middleware(choose=lambda _: "math")  # type: ignore[arg-type, return-value]

    with pytest.raises(ConfigError, match="choose returned 'math'"):
        create_t2_agent(chat, [], middleware=[middleware]).invoke(ask("Hi"))


# --- what ends an agent --------------------------------------------------------------------------


class Scripted(ChatT2):
    """A ChatT2 that says what it is told to, message by message."""

    script: list[Any] = Field(default_factory=list)

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.script.pop(0))])


def call(name: str, identity: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, args=arguments, id=identity)


def says(*calls: ToolCall, content: str = "") -> AIMessage:
    return AIMessage(content, tool_calls=list(calls))


def counter() -> tuple[Callable[..., str], list[int]]:
    made: list[int] = []

    def look(x: int) -> str:
        """Look at x."""
        made.append(x)
        return f"seen {x}"

    return look, made


def test_the_same_call_twice_in_a_reply_is_one() -> None:
    look, made = counter()
    script = [
        says(call("look", "a", x=1), call("look", "b", x=1), call("look", "c", x=2)),
        says(content="Done."),
    ]
    agent = create_t2_agent(Scripted(build_text_model(), script=script), [look])
    state = agent.invoke(ask("Hi"))
    assert sorted(made) == [1, 2]
    assert [one["id"] for one in replies(state)[0].tool_calls] == ["a", "c"]
    assert replies(state)[-1].content == "Done."


def test_a_call_that_brings_the_same_again_and_again_ends_the_agent() -> None:
    look, made = counter()
    script = [says(call("look", f"{step}", x=1)) for step in range(9)]
    chat = Scripted(build_text_model(), script=script)
    agent = create_t2_agent(chat, [look], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = agent.invoke(ask("Hi"), config)
    assert made == [1, 1, 1]
    stop = {"reason": "repeated_call", "tool": "look", "args": {"x": 1}, "times": 3}
    assert state["t2_stop"] == stop
    assert "look was called 3 times running" in replies(state)[-1].content
    assert [message.content for message in results(state)] == ["seen 1"] * 3
    chat.script[:] = [says(content="Hello.")]
    state = agent.invoke(ask("Again"), config)
    assert state["t2_stop"] is None
    assert replies(state)[-1].content == "Hello."


@pytest.mark.parametrize(
    "arguments",
    [
        [1, 1, 2, 1, 1],  # not running
        [1, 2, 1, 2, 1],
    ],
)
def test_other_calls_between_do_not_end_it(arguments: list[int]) -> None:
    look, made = counter()
    script = [says(call("look", f"{i}", x=x)) for i, x in enumerate(arguments)]
    chat = Scripted(build_text_model(), script=[*script, says(content="Done.")])
    state = create_t2_agent(chat, [look]).invoke(ask("Hi"))
    assert made == arguments
    assert replies(state)[-1].content == "Done."


def test_a_call_whose_result_changes_goes_on() -> None:
    answers = iter(["pending", "pending", "ready"])

    def status() -> str:
        """The state of things."""
        return next(answers)

    script = [says(call("status", f"{i}")) for i in range(3)]
    chat = Scripted(build_text_model(), script=[*script, says(content="Ready.")])
    assert replies(create_t2_agent(chat, [status]).invoke(ask("Hi")))[-1].content == "Ready."


class Seven(BaseModel):
    """A number."""

    a: Literal[7]


@pytest.mark.skipif(
    Version(version("langchain")) < Version("1.4.5"),
    reason="langchain before 1.4.5 ends any agent at a refused structured reply beside a call",
)
@pytest.mark.parametrize("wrong", [[{"a": 3}], [{"a": 3}, {"a": 4}]])
def test_a_refused_structured_reply_beside_a_call_is_asked_for_again(
    wrong: list[dict[str, int]],
) -> None:
    look, made = counter()
    refused = [call("Seven", f"s{i}", **arguments) for i, arguments in enumerate(wrong)]
    script = [says(*refused, call("look", "l", x=5)), says(call("Seven", "t", a=7))]
    agent = create_t2_agent(
        Scripted(build_text_model(), script=script), [look], response_format=ToolStrategy(Seven)
    )
    state = agent.invoke(ask("Hi"))
    assert made == [5]
    assert state["structured_response"] == Seven(a=7)
    assert [m.status for m in results(state)] == ["error"] * len(wrong) + ["success"] * 2


# --- what an agent is made of --------------------------------------------------------------------


def offered(agent: Any) -> set[str]:
    return set(agent.nodes["tools"].bound.tools_by_name)


def test_all_bundled_tools(chat: ChatT2) -> None:
    tools = offered(create_t2_agent(chat))

    assert {"calculator", "zoom_image", "ask_expert", "list_experts", "use_expert"} <= tools
    assert "search_files" not in tools


def test_a_model_without_eyes_gets_no_tools_for_images() -> None:
    tools = offered(create_t2_agent(build_text_model()))

    assert {"calculator", "ask_expert"} <= tools
    assert not {"crop_image", "zoom_image", "measure_colour"} & tools


def test_names_tools_and_functions_mixed(chat: ChatT2) -> None:
    def shout(text: str) -> str:
        """Writes a text in capitals."""
        return text.upper()

    assert offered(create_t2_agent(chat, ["weekday", opener(0)[0], shout])) == {
        "weekday",
        "open_image",
        "shout",
    }
    assert offered(create_t2_agent(chat, "calculator")) == {"calculator"}
    assert offered(create_t2_agent(chat, shout)) == {"shout"}  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, "t2-nano", "model"])
def test_models_that_an_agent_is_made_of(given: Any, chat: ChatT2) -> None:
    model: T2Model | str | None = chat.t2 if given == "model" else given

    state = create_t2_agent(model, ["weekday"]).invoke(ask("Which weekday is 2026-03-14?"))

    assert results(state)[0].content == "Saturday"
    assert replies(state)[0].response_metadata["model_name"] == "t2-nano"


def test_a_system_prompt_stands_before_the_conversation(chat: ChatT2) -> None:
    tokens = [
        replies(create_t2_agent(chat, [], system_prompt=text).invoke(ask("What is 3 + 4?")))[0]
        for text in (None, "You are a helpful assistant.")
    ]

    assert tokens[0].usage_metadata is not None
    assert tokens[1].usage_metadata is not None
    assert tokens[1].usage_metadata["input_tokens"] > tokens[0].usage_metadata["input_tokens"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": FakeListChatModel(responses=["Hi"])}, r"made with langchain\.agents"),
        ({"model": 3}, "got a int as model"),
        ({"tools": ["calculatr"]}, "Did you mean 'calculator'"),
        ({"tools": ["search_files"]}, "needs folder"),
        ({"tools": [opener(0)[0], opener(1)[0]]}, "two tools are named 'open_image'"),
        ({"tools": [], "checkpoint": 1}, r"unknown option\(s\) checkpoint: .*checkpointer"),
    ],
)
def test_unusable_arguments(chat: ChatT2, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create_t2_agent(**{"model": chat, **arguments})


def test_options_in_two_places(chat: ChatT2) -> None:
    with pytest.raises(ConfigError, match="give these options to T2Middleware"):
        create_t2_agent(chat.bind(expert="math"), [], middleware=[T2Middleware()])


# --- tracing -------------------------------------------------------------------------------------


class Runs(Client):
    """LangSmith's client; what it would send stays here."""

    def __init__(self) -> None:
        super().__init__(api_key="none", api_url="http://localhost:1", auto_batch_tracing=False)
        self.metadata: list[dict[str, Any]] = []

    def create_run(self, *_args: Any, **_kwargs: Any) -> None: ...

    def update_run(self, *_args: Any, **kwargs: Any) -> None:
        self.metadata.append((kwargs.get("extra") or {}).get("metadata") or {})


def test_langsmith_sees_the_decision_of_each_step(chat: ChatT2) -> None:
    client = Runs()
    agent = create_t2_agent(chat, ["weekday"])

    with tracing_context(enabled=True, client=client):
        state = agent.invoke(ask("Which weekday is 2026-03-14?"))

    seen = [metadata["t2_decisions"] for metadata in client.metadata if "t2_decisions" in metadata]
    assert [decision for [decision] in seen] == state["t2_decisions"]
    assert any(metadata.get("ls_provider") == "t2agent" for metadata in client.metadata)


def test_nothing_else_is_kept(chat: ChatT2) -> None:
    """A message that looks like the tool's answer, but is the user's own, changes nothing."""
    messages: list[BaseMessage] = [
        HumanMessage("use_expert: The expert code answers from now on."),
    ]

    state = create_t2_agent(chat, ["use_expert"]).invoke({"messages": messages})

    assert decisions(state)[0]["strategy"] == "embedding"
