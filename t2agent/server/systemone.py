"""/v1/systemone: typed decisions, in the shapes of `transformers serve`.

    {"model": "smollm2", "state": "WIN a FREE phone!", "questions": {"spam": {"type": "noul",
     "instructions": "Is this spam?"}}}
    -> {"model": "smollm2", "answers": {"spam": {"type": "noul", "noul": 0.97}},
        "usage": {"input_tokens": 41, "output_tokens": 0}}

A deviation: the experts are those of t2agent, and who answered stands in "t2agent".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from t2agent.engine.deciding import Content, Questions, answer_questions, in_text
from t2agent.engine.two_passes import Choice, Engine
from t2agent.images import ImagePolicy, read_image
from t2agent.models.options import config_errors


class Asset(BaseModel):
    """An image, by the placeholder that stands for it in a text of the request."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["image"] = "image"
    data_base64: str
    """An image file in base64, or a data: URL."""


class SystemOneRequest(BaseModel):
    """The body of a request. ``assets``: images, at most four, by their placeholders."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    state: Content
    questions: Annotated[Questions, Field(max_length=64)]
    assets: dict[Annotated[str, Field(min_length=1)], Asset] = Field(
        default_factory=dict, max_length=4
    )

    @classmethod
    def read(cls, body: Any) -> SystemOneRequest:
        """The request of a body's JSON. Raises ConfigError for what is none."""
        with config_errors("body", cls.model_fields):
            return cls.model_validate(body)


def systemone(
    engine: Engine, request: SystemOneRequest, *, model: str, choice: Choice = None
) -> dict[str, Any]:
    """The body of the answer.

    engine, choice: of the model that the request names, and who chooses the mixtures, as of
        `answer_questions`. model: its name as it was asked for.

    Raises:
        ImageRefusedError: an asset is no image, or too large; and whatever `answer_questions`
            raises.
    """
    images = {
        name: read_image({"type": "image", "base64": asset.data_base64}, ImagePolicy())
        for name, asset in request.assets.items()
    }
    questions: Mapping[str, Any] = {
        name: question.model_dump() for name, question in request.questions.items()
    }
    decided = answer_questions(
        engine, in_text(request.state), questions, images=images, choice=choice
    )
    return {
        "model": model,
        "answers": decided.answers,
        "usage": {"input_tokens": decided.tokens, "output_tokens": 0},
        "t2agent": {"mixtures": decided.mixtures},
    }
