"""The bodies of requests, in OpenAI's forms, and what they ask of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t2agent.engine.reply_form import ReplyForm
from t2agent.errors import ConfigError
from t2agent.experts.card import MOST_BEAMS
from t2agent.images import ImagePolicy, read_image
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.replies.messages import read_message
from t2agent.server.failures import RefusedError

Body = TypeVar("Body", bound=BaseModel)

COPIES = 16
"""Replies to one request at most (``n``)."""
_EMBEDDED = ImagePolicy()  # images that the message itself holds, and no others
_ROLES = {
    **{role: role for role in ("user", "assistant", "system", "tool")},
    "developer": "system",
    "function": "tool",
}
_TOP = Annotated[int, Field(ge=0, le=20)]


def read_body(kind: type[Body], given: object) -> Body:
    """A body of a kind. Raises RefusedError for one of another form."""
    if not isinstance(given, Mapping):
        raise RefusedError(400, "the body is no JSON object; send one", "invalid_json")
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place} is {first.get('input')!r:.100}: {first['msg'].lower()}"
        raise RefusedError(400, told, "invalid_value", place) from error


class Sampled(BaseModel):
    """What all requests for text share."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    n: int | None = Field(default=None, ge=1, le=COPIES)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=10)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    num_beams: int | None = Field(default=None, ge=1, le=MOST_BEAMS)
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None

    @property
    def copies(self) -> int:
        """Replies that are wanted."""
        return self.n or 1

    @property
    def usage_in_stream(self) -> bool:
        """Whether a stream ends with the tokens that it took."""
        return bool((self.stream_options or {}).get("include_usage"))

    def options(self, most: int, *, logprobs: int | None = None) -> GenerationOptions:
        """How replies are sampled. most: their longest, in tokens.

        Without a temperature a reply is greedy, and several are sampled at 1.

        Raises RefusedError for what is not supported, ConfigError for what is out of range.
        """
        for name in ("frequency_penalty", "presence_penalty"):
            if getattr(self, name):
                told = f"{name} is not supported; leave it out, or give repetition_penalty"
                raise RefusedError(400, told, "unsupported_parameter", name)
        temperature = self.temperature
        if temperature is None:
            temperature = 1.0 if self.copies > 1 else 0.0
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        return GenerationOptions(
            max_tokens=min(self.longest or most, most),
            temperature=temperature,
            top_p=self.top_p or 1.0,
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            num_beams=self.num_beams,
            stop=tuple(stops),
            seed=None if self.seed is None else self.seed % 2**63,
            logprobs=logprobs,
        )

    @property
    def longest(self) -> int | None:
        """Tokens of a reply at most, as the request says."""
        return self.max_tokens


class ChatRequest(Sampled):
    """The body of /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: Any = None
    logprobs: bool | None = None
    top_logprobs: _TOP | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)

    @property
    def longest(self) -> int | None:
        """Tokens of a reply at most, as the request says."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def told(self) -> int | None:
        """How many likely tokens are told for each place; None for no probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def form(self) -> ReplyForm:
        """The form of the reply. Raises ConfigError for one that is none."""
        return ReplyForm.of(
            {
                "tools": self.tools or (),
                "tool_choice": self.tool_choice if self.tools else None,
                "parallel_tool_calls": self.parallel_tool_calls,
                "response_format": self.response_format,
                "on_misfit": "keep",
            }
        )

    def prompt(self) -> Prompt:
        """The conversation. Raises as `read_conversation`."""
        return read_conversation(self.messages)


class CompletionRequest(Sampled):
    """The body of /v1/completions: plain text that is continued."""

    prompt: str | list[str]
    logprobs: _TOP | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    @property
    def prompts(self) -> list[str]:
        """The texts. Raises RefusedError for what cannot be done."""
        for name in ("echo", "suffix"):
            if getattr(self, name):
                told = f"{name} is not supported; leave it out"
                raise RefusedError(400, told, "unsupported_parameter", name)
        found = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not found:
            raise RefusedError(
                400, "prompt is empty; give a text, or several", "invalid_value", "prompt"
            )
        return found


class EmbeddingsRequest(BaseModel):
    """The body of /v1/embeddings."""

    model_config = ConfigDict(extra="ignore")

    input: str | list[str]
    model: str | None = None
    encoding_format: str = "float"
    dimensions: int | None = None


class TokenizeRequest(BaseModel):
    """The body of /tokenize: a text, or a conversation."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[Any] | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(BaseModel):
    """The body of /detokenize."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]


class ExpertRequest(BaseModel):
    """The body of POST /v1/experts: an expert's folder on the server, or an address on the Hub."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(min_length=1)
    model: str | None = None
    name: str | None = None
    replace: bool = False


def read_conversation(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """OpenAI's messages as a prompt. Images are read from data: URLs alone.

    Raises ConfigError, ModalityError and ImageRefusedError as `read_message` and `read_image`.
    """
    images: list[Image] = []

    def keep(block: Mapping[str, Any]) -> dict[str, Any]:
        images.append(read_image(block, _EMBEDDED))
        return {"type": "image"}

    found = []
    for number, message in enumerate(messages):
        role = message.get("role")
        known = _ROLES.get(role) if isinstance(role, str) else None
        if known is None:
            raise ConfigError(
                f"messages[{number}] has the role {role!r:.40}; give one of {', '.join(_ROLES)}"
            )
        found.append(read_message({**message, "role": known}, keep))
    return Prompt(tuple(found), tuple(images))
