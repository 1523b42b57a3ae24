"""TextVQA (Singh et al. 2019) and OK-VQA (Marino et al. 2019): questions about a photograph.

Ten people answered each question. A reply scores min(n / 3, 1), where n of them said the same
after the usual normalisation (lower case, no articles, no punctuation, digits for number words,
contractions with their apostrophe). The official scripts average this over the ten ways to leave
one person out, which changes a score by at most 0.1; here it is the plain form.

The answers to TextVQA's test split are not public: "test" is its validation split, as in most
reports. The copy of OK-VQA that loads without running code holds its validation part, val2014,
alone, the one that results are reported on: "test" here, and there is nothing to train on.
The paper states no prompt: the usual one of LLaVA is used.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from t2agent.errors import ConfigError, ImageRefusedError
from t2agent.tasks.paper.base import RealTask
from t2agent.tasks.paper.rows import Source
from t2agent.tasks.sources import image_in
from t2agent.tasks.task import Example

if TYPE_CHECKING:
    from PIL.Image import Image

_HINT = "Answer the question using a single word or phrase."
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())} | {"none": "0"}
_APOSTROPHES = (
    "aren't can't couldn't could've didn't doesn't don't hadn't hasn't haven't he'd he's how'd "
    "how'll how's i'm i've isn't it'd it'll ma'am mightn't might've mustn't must've needn't "
    "not've o'clock shan't should've shouldn't somebody's someone's something's that'd that's "
    "there'd there's they'd they'll they're they've wasn't we've weren't what'll what're "
    "what's what've when's where'd where's where've who'd who'll who's who've why'll why're "
    "why's won't wouldn't would've y'all you'd you'll you're you've"
)
_CONTRACTIONS = {word.replace("'", ""): word for word in _APOSTROPHES.split()}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_\-><@`,?!*:~|&^%$#]")
_POINT = re.compile(r"\.(?!\d)")
_COMMA = re.compile(r"(?<=\d),(?=\d)")


@dataclass(frozen=True, slots=True)
class VqaExample(Example):
    """An example with the answers of all people; ``answer`` is the one most of them gave."""

    answers: tuple[str, ...] = ()


class _Vqa(RealTask):
    max_tokens = 32
    key = "question"

    def example(self, row: dict[str, Any]) -> Example:
        """The question and the photograph."""
        answers = tuple(str(answer) for answer in row["answers"] or ())
        if not answers:
            raise ConfigError(
                f"nobody answered {row['question']!r}; needed a split of {self.source.repository} "
                "with answers"
            )
        return VqaExample(
            prompt=f"{row['question'].strip()}\n{_HINT}",
            answer=Counter(answers).most_common(1)[0][0],
            image=self._photograph(row),
            answers=answers,
        )

    def _photograph(self, row: dict[str, Any]) -> Image:
        stored = row["image"]
        data, name = (
            (stored.get("bytes"), stored.get("path"))
            if isinstance(stored, dict)
            else (None, stored)
        )
        if data is None and isinstance(name, str) and self._folder is not None:
            return image_in(self._folder, name)
        if not isinstance(data, bytes):
            raise ConfigError(
                f"got the image {type(stored).__name__}; needed the path of a file in the data's "
                "folder, or the images of the data set"
            )
        from t2agent.images import decode_image

        try:
            return decode_image(data)
        except ImageRefusedError as error:
            raise ConfigError(f"the image of {row['question']!r}: {error}") from error

    def score(self, reply: str, example: Example) -> float:
        """The share of people who agree, a third of them being enough: min(n / 3, 1)."""
        if not isinstance(example, VqaExample):
            raise ConfigError(
                f"got an example of another task: {example.prompt!r}; needed one of {self.name!r}"
            )
        said = normalise(reply)
        return min(sum(normalise(answer) == said for answer in example.answers) / 3, 1.0)


class TextVqa(_Vqa):
    """See the module."""

    name = "textvqa"
    source = Source("lmms-lab/textvqa", (None,), ("question", "image", "answers"))
    splits: ClassVar = {"train": "train", "test": "validation"}


class OkVqa(_Vqa):
    """See the module."""

    name = "okvqa"
    source = Source("lmms-lab/OK-VQA", (None,), ("question", "image", "answers"))
    splits: ClassVar = {"test": "val2014"}


def normalise(text: str) -> str:
    """An answer in the form in which two people's are compared."""
    text = _COMMA.sub("", text.lower().strip())
    text = _POINT.sub("", _PUNCTUATION.sub(" ", text))
    words = (_DIGITS.get(word, word) for word in text.split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
