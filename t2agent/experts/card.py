"""The card of an expert: what it is for, which base model it belongs to, how it was made."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeGuard, get_args

from t2agent.errors import ConfigError
from t2agent.paths import public_name

Modality = Literal["text", "image"]
Step = Literal["text", "labels", "calls", "results", "json"]
"""The step of a conversation that an expert answers: a request that offers labels for a text, one
with tools on offer, a tool's result that just came, a reply that must be JSON, or other text."""

NAME_LENGTH = 64
"""The most characters of an expert's name."""
MOST_BEAMS = 16
"""The most beginnings of a reply that are written at once."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}")
_README_EXAMPLES = 8
_README_SCORES = 100
_README_DEPTH = 4
# The Hub refuses a card with a license that is none of its own names. One of them that is missing
# here does no harm: it is "other" with its name, as those that the Hub does not know.
_HUB_LICENSES = re.compile(
    r"apache-2\.0|mit|bsd-[23]-clause|mpl-2\.0|(a|l)?gpl-3\.0|cc0-1\.0|cc-by(-nc)?(-sa)?-4\.0|openrail|"
    r"gemma|llama([23]|3\.[123]|4)|unknown|other"
)
PIPELINES: Mapping[Modality, str] = {"text": "text-generation", "image": "image-text-to-text"}
"""The Hub's names of what experts and models are for."""


@dataclass(frozen=True, slots=True)
class ExpertCard:
    """What an expert says about itself.

    ``name`` has 1 to 64 letters, digits, ``.``, ``_`` or ``-`` and starts with a letter or digit.
    ``examples`` are requests that the expert is meant for; the dispatcher learns from them.
    ``negatives`` are requests near to these that it is not for; the dispatcher's gate learns them.
    ``modality`` is the kind of request that it serves, ``step`` the step of a conversation, such as
    "calls" for an expert that calls tools: the dispatcher chooses it there alone. ``base`` and
    ``base_fingerprint`` tell the base model; an empty fingerprint fits every base model whose
    layers have the same shapes.
    ``caution`` is of experts for "calls": nats that are taken from the logarithm of the probability
    that a reply begins with a call, where it may be words instead. Above 0 there are fewer calls.
    ``beams``: how many beginnings of a greedy reply that a grammar holds (JSON, a call, a label)
    are written at once, of which the likeliest whole reply is given.
    ``grounding``: nats that a value of such a reply loses, a string or a number, which is not in
    what was said (`t2agent.models.grounding`).
    ``training`` and ``scores`` are free, in plain JSON.

    Raises:
        ConfigError: a field is not as said.
    """

    name: str
    description: str = ""
    examples: tuple[str, ...] = ()
    modality: Modality = "text"
    base: str = ""
    base_fingerprint: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    negatives: tuple[str, ...] = ()
    step: Step = "text"
    caution: float = 0.0
    beams: int = 1
    grounding: float = 0.0

    def __post_init__(self) -> None:
        check_name(self.name)
        for key in ("description", "base", "base_fingerprint", "license"):
            value = getattr(self, key)
            if not _is_text(value):
                raise ConfigError(f"{key} of expert {self.name!r} is {value!r:.80}; give a string")
        if self.modality not in get_args(Modality):
            raise ConfigError(
                f"modality of expert {self.name!r} is {self.modality!r}; give 'text' or 'image'"
            )
        if self.step not in get_args(Step):
            raise ConfigError(
                f"step of expert {self.name!r} is {self.step!r}; give one of "
                f"{', '.join(get_args(Step))}"
            )
        for key in ("caution", "grounding"):
            value = getattr(self, key)
            if not (_is_number(value) and math.isfinite(value)):
                raise ConfigError(
                    f"{key} of expert {self.name!r} is {value!r:.80}; give a finite number"
                )
        if type(self.beams) is not int or not 1 <= self.beams <= MOST_BEAMS:
            raise ConfigError(
                f"beams of expert {self.name!r} is {self.beams!r:.80}; give a whole number from 1 "
                f"to {MOST_BEAMS}"
            )
        for key in ("examples", "negatives"):
            object.__setattr__(self, key, self._strings(key))
        for key in ("training", "scores"):
            object.__setattr__(self, key, self._plain(key))

    def to_dict(self) -> dict[str, Any]:
        """The card in plain JSON."""
        plain = {key.name: getattr(self, key.name) for key in dataclasses.fields(self)}
        return {**plain, "examples": list(self.examples), "negatives": list(self.negatives)}

    @classmethod
    def from_dict(cls, plain: object) -> ExpertCard:
        """The card that `to_dict` wrote. Keys that this version does not know are left out.

        Raises:
            ConfigError: there is no name, or a field cannot be used.
        """
        if not isinstance(plain, Mapping) or "name" not in plain:
            raise ConfigError("the card must be a JSON object with a name")
        known = {key.name for key in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in plain.items() if key in known})

    def readme(self, parameters: int) -> str:
        """A model card for the Hub: YAML front matter, then the same in words.

        Args:
            parameters: how many numbers the expert has learnt.
        """
        from huggingface_hub import EvalResult

        base, pipeline = public_name(self.base), PIPELINES[self.modality]
        task = self.training.get("task")
        data = task if isinstance(task, str) and task else self.name
        numbers = dict(islice(_numbers(self.scores), _README_SCORES))
        front = front_matter(
            self.base,
            "adapter",
            self.license,
            library_name="t2agent",
            pipeline_tag=pipeline,
            tags=["t2agent", "transformer-squared", "svf", self.modality],
            metrics=list(numbers) or None,
            model_name=self.name if numbers else None,
            eval_results=[
                EvalResult(pipeline, data, data, key, value, metric_name=key)
                for key, value in numbers.items()
            ]
            or None,
        )
        lines = [front, f"# {self.name}", ""]
        if self.description:
            lines += [self.description, ""]
        words = (
            f"An SVF expert (Transformer-Squared) with {parameters:,} parameters for the base "
            f"model {base or '(not named)'}: one number per singular value of each weight."
        )
        lines += [
            words,
            "",
            "```python",
            "from t2agent import Expert, register_expert",
            "",
            'expert = Expert.from_pretrained("user/this-repository")  # or this folder\'s path',
            f"register_expert(expert, model={json.dumps(base or '...')})",
            "```",
            "",
        ]
        for title, texts in (
            ("Meant for requests such as", self.examples),
            ("Not meant for requests such as", self.negatives),
        ):
            if texts:
                lines += [f"## {title}", ""]
                lines += [f"- {' '.join(text.split())}" for text in texts[:_README_EXAMPLES]]
                lines += [""]
        for title, table in (("Training", self.training), ("Scores", self.scores)):
            if table:
                body = json.dumps(table, indent=2, ensure_ascii=False)
                lines += [f"## {title}", "", "```json", body, "```", ""]
        return "\n".join(lines)

    def _strings(self, key: str) -> tuple[str, ...]:
        given = getattr(self, key)
        if isinstance(given, Iterable) and not isinstance(given, str):
            strings = tuple(given)
            if all(map(_is_text, strings)):
                return strings
        raise ConfigError(f"{key} of expert {self.name!r} must be a sequence of strings")

    def _plain(self, key: str) -> dict[str, Any]:
        value = getattr(self, key)
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
            text.encode()
            plain = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{key} of expert {self.name!r} is not plain JSON ({error}); give a dict of "
                "strings, finite numbers, lists and dicts"
            ) from error
        if not isinstance(plain, dict):
            raise ConfigError(
                f"{key} of expert {self.name!r} is a {type(value).__name__}; give a dict"
            )
        return plain


def check_name(name: object) -> str:
    """The name of an expert, if it can be one.

    Raises:
        ConfigError: it is not a string of the form that `ExpertCard` describes.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r:.80} cannot name an expert; use 1 to 64 letters, digits, '.', '_' or '-', "
            "with a letter or digit first"
        )
    return name


def front_matter(base: str, relation: str, license_name: str, **facts: Any) -> str:
    """What the Hub files a model under, as the YAML that its card begins with.

    relation: of the model to its base model, "adapter" or "finetune". facts: further ones, as
    huggingface_hub's ModelCardData takes them.
    """
    from huggingface_hub import ModelCardData

    if public := public_name(base):
        facts |= {"base_model": public, "base_model_relation": relation}
    if _HUB_LICENSES.fullmatch(license_name.lower()):
        facts["license"] = license_name.lower()
    elif license_name:
        facts |= {"license": "other", "license_name": license_name}
    # Through JSON: of a subclass of str, YAML would tell the class.
    plain = json.loads(json.dumps(ModelCardData(**facts).to_dict()))
    return f"---\n{ModelCardData(**plain).to_yaml()}\n---\n"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in scores, with their keys joined by dots; what is nested deeply is left out."""
    for key, value in scores.items():
        if isinstance(value, Mapping) and prefix.count(".") < _README_DEPTH:
            yield from _numbers(value, f"{prefix}{key}.")
        elif _is_number(value):
            yield f"{prefix}{key}", value


def _is_text(value: object) -> bool:
    """Whether it is a string that UTF-8 can hold: JSON may smuggle in half a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
