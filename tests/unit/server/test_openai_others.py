"""The other routes of OpenAI's API, and of vLLM's, as a client asks."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
from conftest import KEY
from openai import BadRequestError, OpenAI

from t2agent.dispatch.encoder import Encoder

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)


@pytest.fixture
def http(address: str):
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


def test_models_are_listed_with_their_base(client):
    found = {model.id: model for model in client.models.list()}
    assert found["t2-nano"].model_extra["parent"] is None
    assert found["t2-nano:math"].model_extra["parent"] == "t2-nano"
    assert found["t2-nano:base"].model_extra["root"] == "t2-nano"
    assert client.models.retrieve("t2-nano:math=0.5+json=0.5").model_extra["root"] == "t2-nano"


def test_text_is_continued(client):
    options = {"model": "t2-nano:base", "max_tokens": 5, "logprobs": 1}
    whole = client.completions.create(prompt=["1 2 3", "a b c"], **options)
    assert [choice.index for choice in whole.choices] == [0, 1]
    for choice in whole.choices:
        assert "".join(choice.logprobs.tokens) == choice.text
    chunks = client.completions.create(prompt="1 2 3", stream=True, **options)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == whole.choices[0].text
    told = [choice.logprobs for choice in choices if choice.logprobs]
    assert len(told) > 1
    wanted = whole.choices[0].logprobs
    assert [one for some in told for one in some.tokens] == wanted.tokens
    assert [one for some in told for one in some.text_offset] == wanted.text_offset
    logs = [one for some in told for one in some.token_logprobs]
    assert logs == pytest.approx(wanted.token_logprobs, abs=1e-4)


def test_a_response(client):
    found = client.responses.create(model="t2-nano", input="What is 7 * 3 + 12?")
    assert found.output_text.endswith("33.")
    assert found.status == "completed"
    assert found.usage.output_tokens > 0


def test_a_response_that_is_cut_says_so(client):
    found = client.responses.create(model="t2-nano", input="7 * 3?", max_output_tokens=2)
    assert found.status == "incomplete"
    assert found.incomplete_details.reason == "max_output_tokens"


def test_a_response_in_a_form(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    found = client.responses.create(model="t2-nano", input="7 * 3?", text=form)
    assert isinstance(json.loads(found.output_text)["n"], int)


def test_a_response_calls_tools_and_reads_their_results(client):
    asked = {"role": "user", "content": "What is the weather in Oslo?"}
    options = {"model": "t2-nano", "tools": [WEATHER], "instructions": "Be brief."}
    found = client.responses.create(input=[asked], tool_choice="required", **options)
    [call] = found.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    last = client.responses.create(
        input=[asked, call.model_dump(exclude_none=True), result], **options
    )
    assert last.output


@pytest.mark.parametrize("choice", ["none", "required"])
def test_the_events_of_a_response_add_up(client, choice):
    events = list(
        client.responses.create(
            model="t2-nano",
            input="What is the weather in Oslo?",
            tools=[WEATHER],
            tool_choice=choice,
            stream=True,
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    [item] = events[-1].response.output
    kind = "output_text" if choice == "none" else "function_call_arguments"
    pieces = [event.delta for event in events if event.type == f"response.{kind}.delta"]
    whole = item.content[0].text if choice == "none" else item.arguments
    assert "".join(pieces) == whole


def test_nothing_is_kept_of_a_response(client):
    with pytest.raises(BadRequestError, match="whole conversation"):
        client.responses.create(model="t2-nano", input="And?", previous_response_id="resp_1")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_the_dispatcher_s(client, encoding):
    texts = ["What is 3 + 4?", "A red house"]
    found = client.embeddings.create(model="any", input=texts, encoding_format=encoding)
    own = Encoder.shared().encode(texts)
    if encoding == "float":
        assert np.allclose([one.embedding for one in found.data], own)
    else:
        assert all(isinstance(one.embedding, str) for one in found.data)
    alone = client.embeddings.create(model="any", input=texts[0]).data[0].embedding
    assert np.allclose(alone, own[0])


def test_tokens_and_back(http):
    found = http.post("/tokenize", json={"prompt": "hello you"}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert http.post("/detokenize", json={"tokens": found["tokens"]}).json() == {
        "prompt": "hello you"
    }


def test_a_conversation_s_tokens_are_those_of_a_request(http):
    messages = [{"role": "user", "content": "What is 7 * 3?"}]
    count = http.post("/tokenize", json={"messages": messages}).json()["count"]
    asked = {"model": "t2-nano", "messages": messages, "max_tokens": 1}
    reply = http.post("/v1/chat/completions", json=asked).json()
    assert reply["usage"]["prompt_tokens"] == count


def test_an_unknown_token_is_told(http):
    reply = http.post("/detokenize", json={"tokens": [10**6]})
    assert reply.status_code == 400
    assert "1000000" in reply.json()["error"]["message"]


def test_figures_by_expert(http):
    asked = {"model": "t2-nano:json", "messages": [{"role": "user", "content": "a"}]}
    http.post("/v1/chat/completions", json={**asked, "max_tokens": 2})
    text = http.get("/metrics").text
    assert 't2agent_requests_total{expert="json",model="t2-nano"}' in text
    assert 't2agent_seconds_count{expert="json",model="t2-nano",part="second_pass"}' in text
    assert 't2agent_queue{model="t2-nano"} 0.0' in text
