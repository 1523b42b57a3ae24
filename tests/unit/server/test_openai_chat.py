"""/v1/chat/completions, as OpenAI's own client asks."""

from __future__ import annotations

import json

import pytest
from conftest import KEY
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

ASK = [{"role": "user", "content": "What is 7 * 3 + 12?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
TRIED = [{"role": "user", "content": "What is the weather in Oslo?"}]


@pytest.fixture
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)


def asked(client: OpenAI, **options):
    return client.chat.completions.create(**{"model": "t2-nano", "messages": ASK, **options})


def streamed(client: OpenAI, **options):
    return list(asked(client, stream=True, **options))


def text_of(chunks, index: int = 0) -> str:
    return "".join(
        choice.delta.content or ""
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    )


def test_a_reply_is_right_and_says_who_gave_it(client):
    reply = asked(client)
    assert reply.choices[0].message.content.endswith("33.")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    dispatch = reply.model_extra["t2agent"]["dispatch"]
    assert dispatch["strategy"] == "embedding"
    assert dispatch["mixture"]["weights"]["math"] > 0


def test_the_decision_is_in_headers(client):
    raw = client.chat.completions.with_raw_response.create(model="t2-nano", messages=ASK)
    assert raw.headers["x-t2agent-mixture"].startswith("math=")
    assert raw.headers["x-t2agent-in-scope"] == "true"


def test_a_stream_adds_up_to_the_reply(client):
    whole, chunks = asked(client), streamed(client)
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert "dispatch" in chunks[-1].model_extra["t2agent"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_its_usage(client):
    chunks = streamed(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage == asked(client).usage


async def test_the_async_client_gets_the_same(address, client):
    other = AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
    reply = await other.chat.completions.create(model="t2-nano", messages=ASK)
    stream = await other.chat.completions.create(model="t2-nano", messages=ASK, stream=True)
    assert reply.choices[0].message.content == text_of([chunk async for chunk in stream])


def test_a_model_s_name_says_who_answers(client):
    def weights(name: str):
        reply = asked(client, model=name, max_tokens=1)
        return reply.model_extra["t2agent"]["dispatch"]["mixture"]["weights"]

    assert weights("t2-nano:base") == {}
    assert weights("t2-nano:json") == {"json": 1.0}
    assert weights("t2-nano:math=0.7+json=0.3") == {"math": 0.7, "json": 0.3}


@pytest.mark.parametrize(
    ("name", "said"),
    [("gpt-4o", "not served"), ("t2-nano:nobody", "nobody"), ("t2-nano:math=x", "no mixture")],
)
def test_a_name_that_is_not_served_is_told(client, name, said):
    with pytest.raises((NotFoundError, BadRequestError), match=said):
        asked(client, model=name)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": WEATHER["function"]}]
)
def test_a_tool_that_must_be_called_is_called(client, choice):
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": "get_weather"}}
    reply = asked(client, messages=TRIED, tools=[WEATHER], tool_choice=choice)
    message = reply.choices[0].message
    [call] = message.tool_calls
    assert (call.function.name, message.content) == ("get_weather", None)
    assert list(json.loads(call.function.arguments)) == ["city"]
    assert reply.choices[0].finish_reason == "tool_calls"


def test_no_tool_is_called_where_none_may_be(client):
    reply = asked(client, messages=TRIED, tools=[WEATHER], tool_choice="none")
    assert reply.choices[0].message.tool_calls is None


def test_a_streamed_call_adds_up(client):
    options = {"messages": TRIED, "tools": [WEATHER], "tool_choice": "required"}
    whole = asked(client, **options).choices[0].message.tool_calls[0]
    chunks = streamed(client, **options)
    pieces = [c for one in chunks for c in one.choices[0].delta.tool_calls or ()]
    assert pieces[0].function.name == whole.function.name
    assert "".join(one.function.arguments for one in pieces) == whole.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_one_call_where_they_may_not_be_parallel(client):
    several = [{"role": "user", "content": "Weather in Oslo, and the time? And in Rome?"}]
    options = {"messages": several, "tools": [WEATHER, TIME], "tool_choice": "required"}
    reply = asked(client, parallel_tool_calls=False, **options)
    assert len(reply.choices[0].message.tool_calls) == 1


def test_a_tool_s_result_is_read(client):
    call = {"id": "a", "type": "function"}
    call["function"] = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    messages = [
        *TRIED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
    ]
    reply = asked(client, messages=messages, tools=[WEATHER])
    assert reply.choices[0].message.content
    assert reply.usage.prompt_tokens > asked(client, messages=TRIED).usage.prompt_tokens


def test_json_of_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"total": {"type": "integer"}, "unit": {"enum": ["kg", "m"]}},
        "required": ["total", "unit"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    found = json.loads(asked(client, response_format=form).choices[0].message.content)
    assert isinstance(found["total"], int)
    assert found["unit"] in ("kg", "m")


def test_any_json(client):
    reply = asked(client, response_format={"type": "json_object"})
    assert isinstance(json.loads(reply.choices[0].message.content), dict)


def test_several_replies(client):
    reply = asked(client, model="t2-nano:base", n=3, temperature=3.0, seed=5, max_tokens=12)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in reply.choices]
    assert len(set(texts)) > 1
    again = asked(client, model="t2-nano:base", n=3, temperature=3.0, seed=5, max_tokens=12)
    assert [choice.message.content for choice in again.choices] == texts
    chunks = streamed(client, model="t2-nano:base", n=3, temperature=3.0, seed=5, max_tokens=12)
    assert [text_of(chunks, index) for index in range(3)] == texts


def test_logprobs(client):
    reply = asked(client, logprobs=True, top_logprobs=3, max_tokens=5)
    content = reply.choices[0].logprobs.content
    assert "".join(one.token for one in content) == reply.choices[0].message.content
    for one in content:
        assert len(one.top_logprobs) == 3
        assert one.top_logprobs[0].logprob == one.logprob <= 0  # greedy: the likeliest
        assert bytes(one.bytes).decode() == one.token


@pytest.mark.parametrize("stop", [None, ["33"]])
def test_a_stream_has_the_logprobs_of_what_it_says(client, stop):
    options = {"logprobs": True, "top_logprobs": 3, "stop": stop}
    wanted = asked(client, **options).choices[0].logprobs.content
    chunks = [choice for chunk in streamed(client, **options) for choice in chunk.choices]
    told = [choice.logprobs.content if choice.logprobs else [] for choice in chunks]
    assert [one for some in told for one in some] == wanted
    assert sum(map(bool, told)) > 1
    said = spelled = ""
    for choice, found in zip(chunks[:-1], told, strict=False):
        said += choice.delta.content or ""
        spelled += "".join(one.token for one in found)
        assert said.startswith(spelled)


def test_a_reply_ends_before_a_stop(client):
    whole = asked(client).choices[0].message.content
    reply = asked(client, stop=["33", "never"])
    assert reply.choices[0].message.content == whole.split("33")[0]
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_reply_is_cut(client, name):
    reply = asked(client, **{name: 4})
    assert reply.usage.completion_tokens == 4
    assert reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "options",
    [{"top_p": 1e-6}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1.0}}],
    ids=["top_p", "top_k", "min_p"],
)
def test_what_leaves_one_token_is_greedy(client, options):
    greedy = asked(client).choices[0].message.content
    assert asked(client, temperature=2.0, seed=1, **options).choices[0].message.content == greedy


def test_beams_search_a_reply_by_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "yz", 12]}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "found", "schema": schema}}

    def found(beams):
        return [
            asked(
                client,
                messages=[{"role": "user", "content": text}],
                response_format=form,
                extra_body={"num_beams": beams},
            )
            .choices[0]
            .message.content
            for text in ("a", "b b", "1 2 3", "x or yz", "the text")
        ]

    assert found(8) != found(1)


def test_repetition_is_punished(client):
    plain = asked(client, max_tokens=24).choices[0].message.content
    other = asked(client, max_tokens=24, extra_body={"repetition_penalty": 3.0})
    assert other.choices[0].message.content != plain


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1}, "temperature"),
        ({"n": 0}, "n is 0"),
        ({"extra_body": {"num_beams": 99}}, "num_beams is 99"),
        ({"top_logprobs": 50, "logprobs": True}, "top_logprobs"),
        ({"frequency_penalty": 1.0}, "repetition_penalty"),
        ({"messages": [{"content": "no role"}]}, "role"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "role 'alien'; give one of user"),
        ({"messages": [{"role": "User", "content": "x"}]}, "role 'User'"),
        ({"tools": [{"type": "function"}]}, "no tool"),
        ({"messages": [{"role": "user", "content": "a " * 3000}]}, "tokens"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
    ],
)
def test_what_cannot_be_done_is_told(client, options, said):
    with pytest.raises(BadRequestError, match=said) as caught:
        asked(client, **options)
    assert caught.value.body["type"] == "invalid_request_error"


def test_an_error_in_a_stream_is_told_too(client):
    with pytest.raises(BadRequestError, match="tokens"):
        streamed(client, messages=[{"role": "user", "content": "a " * 3000}])
