"""The agent: LangChain's create_agent with a ChatT2, which adapts itself at every step.

Dispatch happens at each model call, from the messages of that step, so a request that turns from
arithmetic to an image changes its experts on the way. `T2Middleware` does the same for an agent
that somebody builds with create_agent.
"""

from __future__ import annotations

import inspect
import json
import operator
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NotRequired

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import (
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    OmitFromInput,
)
from langchain_core.messages import AIMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import BaseTool
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from langsmith import get_current_run_tree

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.remote import ChatT2Remote
from t2agent.chat.settings import CHOICE, choice_of
from t2agent.errors import ConfigError, StepLimitError
from t2agent.models.model import T2Model
from t2agent.toolbox import load_tools
from t2agent.toolbox.experts import DECISIONS, asked_for, since_user
from t2agent.toolbox.images import needs_image

Options = Mapping[str, Any]
"""Options of one model call, as `ChatT2` takes them: ``{"expert": "math"}``."""
Choose = Callable[[ModelRequest[Any]], Options | None]
Handler = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]


class T2State(AgentState[Any]):
    """An agent's state with the decision of each model call, the first one first.

    A decision is plain JSON, `t2agent.Decision.to_dict`: the same as in the message's
    ``response_metadata["dispatch"]``. Where an agent was ended because it got nowhere, "t2_stop"
    says why: ``{"reason": "repeated_call", "tool": ..., "args": ..., "times": ...}``.
    """

    t2_decisions: NotRequired[Annotated[list[dict[str, Any]], OmitFromInput, operator.add]]
    t2_stop: NotRequired[Annotated[dict[str, Any] | None, OmitFromInput]]


class T2Middleware(AgentMiddleware[T2State, Any, Any]):
    """Gives an agent of create_agent its say in which experts answer, and keeps the decisions.

        create_agent(ChatT2(), tools, middleware=[T2Middleware(dispatch="prompt")])

    Without options each step goes through the dispatcher of the agent's ChatT2. What decides, the
    first of these that says something: an expert that was asked for with the tool use_expert
    since the user spoke; ``choose``; ``options``. Each step's decision is added to the state's
    "t2_decisions" and, where LangSmith traces, to the metadata of the step's run.

    It also sees to it that an agent ends: the same call with the same arguments twice in one reply
    is one call; one that brought the same result ``max_repeats`` steps running ends the agent with
    what is there (the last message says so, and the state's "t2_stop"); and what a structured
    reply was refused for is marked as an error, without which LangChain (1.4.7) ends without an
    answer where an ordinary call stands beside it.

    Args:
        options: of every model call, as of `ChatT2.bind`: one of ``expert``, ``mixture`` and
            ``dispatch``, and ``temperature``, ``max_tokens`` and the like.
        choose: called with each model call's request; what it returns goes before ``options``.
            None leaves it to them.
        max_steps: most model calls for one message of the user; None for any number.
        max_repeats: steps running that one call may bring the same result; None for any number.

    Raises:
        ConfigError: options that no call takes, or a limit below 1; when it runs, an agent whose
            model is neither a ChatT2 nor a ChatT2Remote.
        StepLimitError: when it runs, after ``max_steps`` model calls without an answer; it holds
            the messages until then.
    """

    state_schema = T2State

    def __init__(
        self,
        *,
        choose: Choose | None = None,
        max_steps: int | None = 25,
        max_repeats: int | None = 3,
        **options: Any,
    ) -> None:
        super().__init__()
        self.tools = []
        for name, limit in (("max_steps", max_steps), ("max_repeats", max_repeats)):
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ConfigError(f"{name} is {limit!r}: give a whole number from 1, or None")
        if choose is not None and not callable(choose):
            raise ConfigError(f"choose is {choose!r:.80}: give a function of a ModelRequest")
        choice_of(options, None)  # for its error: what a call would refuse
        self.choose, self.options = choose, options
        self.max_steps, self.max_repeats = max_steps, max_repeats

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Handler
    ) -> ExtendedModelResponse[Any]:
        """One step: choose, call the model, keep the decision; or end where it gets nowhere."""
        return self._ended(request) or _kept(handler(self._chosen(request)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: AsyncHandler
    ) -> ExtendedModelResponse[Any]:
        """The same for asynchronous agents."""
        return self._ended(request) or _kept(await handler(self._chosen(request)))

    def _ended(self, request: ModelRequest[Any]) -> ExtendedModelResponse[Any] | None:
        """The end of an agent in which a call brings the same result again and again."""
        call = self.max_repeats and _repeated(request.messages, self.max_repeats)
        if not call:
            return None
        stop = {"reason": "repeated_call", "tool": call["name"], "args": call["args"]}
        message = AIMessage(
            f"I stopped without an answer: {call['name']} was called {self.max_repeats} times "
            "running with the same arguments and gave the same result.",
            response_metadata={"finish_reason": stop["reason"]},
        )
        update = {"t2_stop": {**stop, "times": self.max_repeats}}
        return ExtendedModelResponse(ModelResponse([message]), Command(update=update))

    def _chosen(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """The request with the options of its model call."""
        if not isinstance(request.model, ChatT2 | ChatT2Remote):
            raise ConfigError(
                f"T2Middleware got a {type(request.model).__name__} as the agent's model, which "
                "has no experts: give create_agent a ChatT2 or a ChatT2Remote, or leave the "
                "middleware out"
            )
        self._check_steps(request)
        settings = dict(request.model_settings)
        expert = asked_for(request.messages)
        asked = {} if expert is None else {"expert": expert}
        for more in (self.options, self._by_function(request), asked):
            if any(name in more for name in CHOICE):
                settings = {k: v for k, v in settings.items() if k not in CHOICE}
            settings |= more
        return request.override(model_settings=settings)

    def _by_function(self, request: ModelRequest[Any]) -> Options:
        given = None if self.choose is None else self.choose(request)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"choose returned {given!r:.80}: let it return options of a call, such as "
                "{'expert': 'math'}, or None"
            )
        choice_of(given, None)
        return given

    def _check_steps(self, request: ModelRequest[Any]) -> None:
        steps = [m for m in since_user(request.messages) if isinstance(m, AIMessage)]
        if self.max_steps is None or len(steps) < self.max_steps:
            return
        called = ", ".join(call["name"] for call in steps[0].tool_calls) or "no tool"
        raise StepLimitError(
            f"the agent has no answer after {len(steps)} model call(s), the most it may make (the "
            f"last one called {called}): ask for less at a time, or allow more (max_steps)",
            messages=request.messages,
        )


def create_t2_agent(
    model: ChatT2 | T2Model | str | None = None,
    tools: str | Iterable[str | BaseTool | Callable[..., Any] | dict[str, Any]] | None = None,
    *,
    system_prompt: str | SystemMessage | None = None,
    **create_agent_options: Any,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A LangGraph agent that chooses experts at every step and calls tools.

        agent = create_t2_agent()
        agent.invoke({"messages": [("user", "Compute 54 * 77, then add 13.")]})

    Each AIMessage tells in ``response_metadata["dispatch"]`` which experts answered it, and the
    state in "t2_decisions" all decisions.

    Args:
        model: a base model's name, a T2Model or a ChatT2, or one with options (``chat.bind(...)``),
            which are then those of every step; None for "auto", as of ChatT2.
        tools: names of bundled tools and plugins, LangChain tools and functions, mixed; None for
            all bundled tools and plugins that need no option but the model (those for images only
            with a model that sees). What else a tool needs, `t2agent.toolbox.load_tools` takes.
        system_prompt: stands before each conversation.
        create_agent_options: as of `langchain.agents.create_agent`: middleware, response_format,
            checkpointer, ... A `T2Middleware` is added where ``middleware`` has none.

    Raises:
        ConfigError: another kind of model (for these there is create_agent), an unknown tool or
            option, two tools of one name.
    """
    known = set(inspect.signature(create_agent).parameters) - {"model", "tools", "system_prompt"}
    if unknown := sorted(set(create_agent_options) - known):
        raise ConfigError(
            f"unknown option(s) {', '.join(unknown)}: create_agent takes {', '.join(sorted(known))}"
        )
    chat, options = _chat(model)
    middleware: Sequence[AgentMiddleware[Any, Any, Any]] = create_agent_options.pop(
        "middleware", ()
    )
    if not any(isinstance(one, T2Middleware) for one in middleware):
        middleware = [*middleware, T2Middleware(**options)]
    elif options:
        raise ConfigError(
            f"the model is bound to {', '.join(options)} and the middleware holds a T2Middleware: "
            "give these options to T2Middleware"
        )
    agent: CompiledStateGraph[Any, Any, Any, Any] = create_agent(
        chat,
        _tools(chat, tools),
        system_prompt=system_prompt,
        middleware=middleware,
        **create_agent_options,
    )
    return agent


def _chat(model: object) -> tuple[ChatT2, dict[str, Any]]:
    """The chat model, and what it is bound to: create_agent would lose that without a word."""
    options: dict[str, Any] = {}
    while isinstance(model, RunnableBinding) and not isinstance(model, ChatT2):
        options = {**model.kwargs, **options}
        model = model.bound
    if isinstance(model, ChatT2):
        return model, options
    if model is None or isinstance(model, str | T2Model):
        return ChatT2() if model is None else ChatT2(model), options
    raise ConfigError(
        f"create_t2_agent got a {type(model).__name__} as model: give a base model's name, a "
        "T2Model or a ChatT2; agents of other models are made with langchain.agents.create_agent"
    )


def _tools(chat: ChatT2, given: object) -> list[Any]:
    defaults = {
        "chat": chat,
        "allow_image_urls": chat.allow_image_urls,
        "allow_image_files": chat.allow_image_files,
    }
    if given is None:
        sees = "image" in chat.t2.modalities
        return [tool for tool in load_tools(defaults=defaults) if sees or not needs_image(tool)]
    if isinstance(given, str | BaseTool) or not isinstance(given, Iterable):
        given = [given]
    tools: list[Any] = []
    for one in given:
        tools += load_tools(one, defaults=defaults) if isinstance(one, str) else [one]
    names = [tool.name for tool in tools if isinstance(tool, BaseTool)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two tools are named {min(twice)!r}: leave one of them out")
    return tools


def _key(call: ToolCall) -> tuple[str, str]:
    """Equal for the same call with the same arguments, in whichever order they stand."""
    return call["name"], json.dumps(call["args"], sort_keys=True, default=str)


def _repeated(messages: Sequence[Any], times: int) -> ToolCall | None:
    """A call that brought the same result in each of the last ``times`` steps."""
    results: dict[str | None, str] = {}
    common: dict[tuple[object, ...], ToolCall] | None = None
    for message in since_user(messages):
        if isinstance(message, ToolMessage):
            results[message.tool_call_id] = json.dumps(message.content, default=str)
        elif isinstance(message, AIMessage):
            calls: dict[tuple[object, ...], ToolCall] = {
                (*_key(call), results.get(call["id"])): call for call in message.tool_calls
            }
            common = calls if common is None else {k: common[k] for k in common.keys() & calls}
            times -= 1
            if not common or not times:
                break
    return next(iter(common.values())) if common and not times else None


def _kept(response: ModelResponse[Any]) -> ExtendedModelResponse[Any]:
    response.result[:] = [_mended(message, response) for message in response.result]
    decisions = [
        message.response_metadata["dispatch"]
        for message in response.result
        if isinstance(message, AIMessage) and "dispatch" in message.response_metadata
    ]
    run = get_current_run_tree()
    if run is not None and decisions:
        run.add_metadata({DECISIONS: decisions})
    return ExtendedModelResponse(response, Command(update={DECISIONS: decisions, "t2_stop": None}))


def _mended(message: Any, response: ModelResponse[Any]) -> Any:
    """A reply without calls that it makes twice; what refused a structured reply, as an error."""
    if isinstance(message, ToolMessage) and response.structured_response is None:
        return message.model_copy(update={"status": "error"})
    if isinstance(message, AIMessage):
        calls = list({_key(call): call for call in reversed(message.tool_calls)}.values())[::-1]
        if len(calls) < len(message.tool_calls):
            return message.model_copy(update={"tool_calls": calls})
    return message
