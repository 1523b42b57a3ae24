"""The image at hand, in an agent of LangChain's and outside of one."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image

from t2agent.images import ImagePolicy
from t2agent.toolbox import load_tools
from t2agent.toolbox.images import last_block, last_image


def block(colour: str, size: tuple[int, int] = (4, 4)) -> dict[str, str]:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}


TEXT = {"type": "text", "text": "Look."}


def test_the_last_image_of_whoever_sent_it() -> None:
    red, green, blue = block("red"), block("green"), block("blue")
    messages: list[Any] = [HumanMessage([red, TEXT, green]), AIMessage("nice"), HumanMessage("?")]
    assert last_block(messages) == green
    messages.append(ToolMessage([TEXT, blue], tool_call_id="1"))
    assert last_block(messages) == blue
    assert last_image(messages, ImagePolicy()).getpixel((0, 0)) == (0, 0, 255)
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + red["base64"]}}
    messages.append(HumanMessage([url]))
    assert last_image(messages, ImagePolicy()).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("messages", [None, "text", [], [3, "x", {"content": [block("red")]}], {}])
def test_what_has_no_image(messages: object) -> None:
    assert last_block(messages) is None
    with pytest.raises(ToolException, match="no image in the conversation"):
        last_image(messages, ImagePolicy())


class Caller(GenericFakeChatModel):
    """A model that calls tools as it was told, and remembers what it was sent."""

    seen: list[Any] = []  # noqa: RUF012 - a field of pydantic's

    def bind_tools(self, tools: Any, **options: Any) -> Caller:
        return self

    def _generate(self, messages: Any, *rest: Any, **more: Any) -> Any:
        self.seen.append(list(messages))
        return super()._generate(messages, *rest, **more)


def calls(*named: tuple[str, dict[str, Any]]) -> AIMessage:
    made = [{"name": n, "args": a, "id": f"{n}{i}"} for i, (n, a) in enumerate(named)]
    return AIMessage("", tool_calls=made)


async def test_in_an_agent_with_a_memory() -> None:
    steps = [
        calls(("crop_image", {"left": 0, "top": 0, "right": 2, "bottom": 3})),
        calls(("zoom_image", {"factor": 4}), ("measure_colour", {"x": 1, "y": 2})),
        calls(("measure_colour", {"x": 7, "y": 11}), ("measure_colour", {"x": 8, "y": 0})),
        AIMessage("done"),
    ]
    for wait in (False, True):
        model = Caller(messages=iter(steps), seen=[])
        agent = create_agent(model, load_tools(), checkpointer=InMemorySaver())
        asked = {"messages": [HumanMessage([TEXT, block("blue")])]}
        config: Any = {"configurable": {"thread_id": "1"}}
        result = await agent.ainvoke(asked, config) if wait else agent.invoke(asked, config)
        answers = [m for m in result["messages"] if isinstance(m, ToolMessage)]
        assert [answer.status for answer in answers] == ["success"] * 4 + ["error"]
        # Calls of one step see what was there before it; the next step sees the larger image.
        assert answers[2].content == "blue (red 0, green 0, blue 255)"
        assert answers[1].artifact == {"width": 8, "height": 12}
        assert answers[3].content == answers[2].content
        assert "8 x 12 pixels" in answers[4].content
        # The model is sent the image in the tool's message.
        assert model.seen[1][-1].content[1]["type"] == "image"


def test_no_model_sees_the_messages_among_the_arguments() -> None:
    for tool in load_tools(["crop_image", "zoom_image", "measure_colour"]):
        assert "messages" not in tool.args
        assert "messages" not in str(tool.tool_call_schema.model_json_schema())  # type: ignore[union-attr]


def test_outside_of_an_agent() -> None:
    (tool,) = load_tools("measure_colour")
    messages = [HumanMessage([block("red")])]
    assert tool.invoke({"x": 0, "y": 0, "messages": messages}).startswith("red")
    assert "no image" in tool.invoke({"x": 0, "y": 0})
