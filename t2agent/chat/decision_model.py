"""T2DecisionModel: LangChain's typed decisions, by a base model that adapts itself to each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

from langchain_core.decisions import BaseDecisionModel, ClassifierRequest, ClassifierResponse
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from t2agent.chat.messages import to_prompt
from t2agent.chat.settings import CHOICE, KeptHere, choice_of
from t2agent.engine.deciding import answer_questions, in_text
from t2agent.engine.threads import give_back_threads, giving_back_threads
from t2agent.engine.two_passes import Choice, Engine
from t2agent.errors import ConfigError, ModalityError
from t2agent.experts.registry import Registry
from t2agent.images import AllowedUrls, ImagePolicy, is_image_block, read_image
from t2agent.models.installed import AUTO
from t2agent.models.model import T2Model
from t2agent.models.options import config_errors

_MEDIA = ("audio", "video", "file")


class T2DecisionModel(KeptHere, BaseDecisionModel):
    """Answers questions about a text, messages or JSON with a probability for each option.

        model = T2DecisionModel()
        model.invoke({"state": "Where is my parcel?", "questions": {
            "urgent": Noul(instructions="Is this urgent?"),
            "team": Choice(instructions="Who can help?", criteria={"sales": None, "post": None}),
        }}).choices["team"].probabilities

    Nothing is generated: the options are scored as replies, calibrated by what the model thinks of
    them without the state (`t2agent.engine.deciding`), and each question is dispatched like a
    request of `ChatT2`, whose fields these are. Options of one call, or of `.bind(...)`: one of
    ``expert``, ``mixture`` and ``dispatch``.

    A "choice" is answered by its options' names, a "score" by its levels' texts, a "noul" by yes
    and no; instructions and descriptions are shown. Confidence of a choice: how far its probability
    is above chance, of a score: how near to it the levels lie, each 1 at best. Messages in a state
    are read as ChatT2 reads them, and images are seen where the model sees; "box" questions are not
    answered.

    Raises, when called: ConfigError for questions that cannot be asked, ModalityError for an image
    where the model reads text only and for other media, ImageRefusedError as ChatT2,
    ContextLengthError for what is too long, ExpertNotFoundError for an unknown expert.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Any = AUTO
    """A base model's name or path, or a T2Model; once loaded, its name."""
    dispatch: Any = "embedding"
    """As of ChatT2."""
    experts: Any = None
    """Those that dispatch may choose; as of ChatT2."""
    expert: Any = None
    """One that answers all questions, instead of dispatch: a name or an Expert."""
    device_map: Any = None
    dtype: Any = "auto"
    allow_image_urls: AllowedUrls = False
    """As of ChatT2."""
    allow_image_files: bool = False

    engine: Engine = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """What dispatches and answers; copies of this object share its model."""

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    def __init__(self, model: T2Model | str = AUTO, **fields: Any) -> None:
        known = (name for name, field in type(self).model_fields.items() if not field.exclude)
        with config_errors(type(self).__name__, known):
            super().__init__(**{"model": model, **fields})
        engine: Engine | None = self.engine
        if engine is not None and self.model == engine.model.name:
            base = engine.model
        elif isinstance(self.model, T2Model):
            base = self.model
        else:
            base = T2Model.from_pretrained(self.model, device_map=self.device_map, dtype=self.dtype)
        self.model = base.name
        if engine is not None and engine.serves(base, self.experts):
            self.engine = engine.dispatching(self.dispatch)
        else:
            self.engine = Engine(base, self.dispatch, experts=self.experts)
        give_back_threads()  # those that loaded the model

    @property
    def t2(self) -> T2Model:
        """The base model."""
        return self.engine.model

    @property
    def registry(self) -> Registry:
        """The experts of the base model."""
        return self.engine.model.registry

    @property
    def _provider(self) -> str:
        return "t2agent"

    def invoke(
        self,
        input: ClassifierRequest,  # noqa: A002
        config: RunnableConfig | None = None,
        **given: Any,
    ) -> ClassifierResponse:
        """Answer one request, with the options of this call. Raises as the class says."""
        return BaseDecisionModel.invoke(self._for_call(given), input, config)

    async def ainvoke(
        self,
        input: ClassifierRequest,  # noqa: A002
        config: RunnableConfig | None = None,
        **given: Any,
    ) -> ClassifierResponse:
        """As `invoke`."""
        return await BaseDecisionModel.ainvoke(self._for_call(given), input, config)

    def _for_call(self, given: dict[str, Any]) -> Self:
        if unknown := given.keys() - set(CHOICE):
            raise ConfigError(
                f"unknown option(s) {', '.join(sorted(unknown))}: a call takes {', '.join(CHOICE)}"
            )
        told = self.model_copy() if given else self
        if given:
            told._given = given
        return told

    def _classify(self, state: Any, questions: Mapping[str, Any]) -> ClassifierResponse:
        choice: Choice = choice_of(self._given, self.expert)
        policy = ImagePolicy(allow_files=self.allow_image_files, allow_urls=self.allow_image_urls)
        reader = _Reader(policy)
        asked = {name: reader.question(name, one) for name, one in questions.items()}
        decided = answer_questions(
            self.engine, reader.state(state), asked, images=reader.images, choice=choice
        )
        for name, answer in decided.answers.items():
            if answer["type"] == "score":  # with images as they were given
                answer["legend"] = dict(enumerate(_fields(questions[name])["criteria"]))
        return ClassifierResponse.model_validate(
            {
                "model": self.model,
                "answers": decided.answers,
                "usage": {"input_tokens": decided.tokens, "output_tokens": 0},
            }
        )

    async def _aclassify(self, state: Any, questions: Mapping[str, Any]) -> ClassifierResponse:
        return await asyncio.to_thread(giving_back_threads(self._classify), state, questions)


class _Reader:
    """Turns states and questions into text, with placeholders for the images in them."""

    def __init__(self, policy: ImagePolicy) -> None:
        self._policy = policy
        self._mark = uuid4().hex  # which nobody can write into a text
        self.images: dict[str, Image] = {}

    def state(self, state: Any) -> str:
        """A text, a message's text, a conversation by roles, or JSON that is written out."""
        if isinstance(state, BaseMessage):
            return str(self._plain(state)["content"])
        if _is_list(state) and state and all(isinstance(one, BaseMessage) for one in state):
            told = map(self._plain, state)
            return "\n\n".join(f"{one['role']}: {one['content']}" for one in told)
        return in_text(self._plain(state))

    def question(self, name: str, given: Any) -> Any:
        """A question in System One's form."""
        plain = _fields(given)
        if isinstance(plain, Mapping) and plain.get("type") == "box":
            raise ConfigError(
                f"question {name!r} asks for a box, which a T2DecisionModel does not find: ask a "
                "choice, a noul or a score"
            )
        return self._plain(plain)

    def _plain(self, value: Any) -> Any:
        """JSON, with messages as objects and placeholders for images."""
        if isinstance(value, BaseMessage):
            prompt = to_prompt([value], self._policy)
            images, [message] = iter(prompt.images), prompt.messages
            texts = [
                part["text"] if part["type"] == "text" else self._kept(next(images))
                for part in message["content"]
            ]
            return {"role": message["role"], "content": "".join(texts)}
        if isinstance(value, Mapping):
            if is_image_block(value):
                return self._kept(read_image(value, self._policy))
            if value.get("type") in _MEDIA and value.keys() & {"base64", "url", "data", "file_id"}:
                raise ModalityError(
                    f"there is a block of type {value['type']!r}: give text, JSON or images"
                )
            return {name: self._plain(one) for name, one in value.items()}
        if _is_list(value):
            return [self._plain(one) for one in value]
        return value

    def _kept(self, image: Image) -> str:
        placeholder = f"<image {len(self.images)} {self._mark}>"
        self.images[placeholder] = image
        return placeholder


def _fields(question: Any) -> Any:
    return question.model_dump() if isinstance(question, BaseModel) else question


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
