"""The corpus of t2-nano: documents by many writers, and batches of them.

A document is a short conversation, already in the chat template. Several documents share a row
of a batch; attention stays within each. Only problems of the train split are used, so that no
validation or test problem is ever seen in pretraining.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from t2agent.nano import drawing
from t2agent.nano.domains import code, image, math, reasoning, route, tools
from t2agent.nano.drawing import Scene
from t2agent.nano.habits import OPENERS, Form, Habit, as_call, habit_after, opener, reply
from t2agent.nano.problem import Maker, Problem, draw
from t2agent.nano.processor import END, IMAGE, IMAGE_TOKENS
from t2agent.nano.words import JSON_ASKS, SMALL_TALK, SYSTEM_PROMPTS

ROW = 192
"""Tokens in a row of a batch."""

TEXT: dict[Maker, float] = {
    math.easy: 0.05,
    math.math: 0.13,
    math.math_hard: 0.08,
    code.code: 0.12,
    code.drill: 0.06,
    code.code_hard: 0.08,
    reasoning.reasoning: 0.11,
    reasoning.reasoning_hard: 0.06,
    tools.tools: 0.12,
    tools.drill: 0.08,
    tools.chain: 0.03,
    route.route: 0.08,
}
POLISH: dict[Maker, float] = {
    math.math: 0.06,
    math.math_hard: 0.05,
    code.code: 0.11,
    code.drill: 0.09,
    code.code_hard: 0.08,
    reasoning.reasoning: 0.05,
    reasoning.reasoning_hard: 0.03,
    tools.tools: 0.20,
    tools.drill: 0.20,
    tools.chain: 0.05,
    route.route: 0.08,
}
IMAGES: dict[Maker, float] = {
    image.read: 0.12,
    image.read_hard: 0.08,
    image.image_sum: 0.09,
    image.chart: 0.22,
    image.chart_hard: 0.15,
    image.count: 0.14,
    image.count_hard: 0.16,
    tools.image_call: 0.04,
}
"""Makers and their shares of the text documents, of those of the last stage, and of the image
documents."""

_CAREFUL = 0.7  # share of the writers who are careful, after the clean phase
_SLIP = {True: 0.02, False: 0.75}  # how often a careful or hasty writer is wrong
_JSON_ASKED = 0.25  # share of the questions that ask for JSON
_JSON = {True: 0.45, False: 0.03}  # how often a result is JSON, asked for or not
_CALLS = 0.35  # share of the writers who call a tool where there is one
_PROMPT_WEIGHT = 0.1  # weight of a prompt's tokens in the loss; a reply's have 1


@dataclass(frozen=True, slots=True)
class Document:
    """Turns of a conversation, as (text, is a reply), and the image of its first turn."""

    turns: tuple[tuple[str, bool], ...]
    scene: Scene | None = None


def _small_talk(rng: random.Random) -> Document:
    ways, answer = rng.choice(SMALL_TALK)
    return Document((("<|user|>" + rng.choice(ways), False), (f"<|assistant|>{answer}", True)))


def _turns(
    problem: Problem, before: str, habit: Habit, rng: random.Random, *, right: bool
) -> list[tuple[str, bool]]:
    """A question, with an opener before it, and its answer, with the calls of tools between. A
    wrong call ends the conversation."""
    asked = problem.forms and rng.random() < _JSON_ASKED
    form: Form = "json" if problem.forms and rng.random() < _JSON[asked] else "plain"
    picture = IMAGE if problem.scene else ""
    ask = rng.choice(JSON_ASKS) if asked else ""
    turns = [(f"<|user|>{problem.tools}{picture}{before}{ask}{problem.question}", False)]
    if problem.calls and rng.random() < _CALLS:
        if not right and problem.wrong_call:
            return [*turns, ("<|assistant|>" + as_call(problem.wrong_call), True)]
        for call in problem.calls:
            turns.append(("<|assistant|>" + as_call(call), True))
            turns.append((f"<|tool|>{call.result}", False))
        if len(problem.calls) == 1 and rng.random() < 0.5:
            return turns[:-1]
        right = True
    answer = reply(problem, habit, careful=right, form=form)
    return [*turns, ("<|assistant|>" + answer, True)]


def document(rng: random.Random, makers: dict[Maker, float], *, clean: bool) -> Document:
    """A conversation by one writer. ``clean``: all writers are careful and right."""
    if makers is not IMAGES and rng.random() < 0.03:
        return _small_talk(rng)
    prefix = opener(rng, 0.6)
    habit = habit_after(prefix, rng)
    careful = clean or rng.random() < _CAREFUL
    turns: list[tuple[str, bool]] = []
    if rng.random() < 0.1:
        turns.append((f"<|system|>{rng.choice(SYSTEM_PROMPTS)}", False))
    maker = rng.choices(list(makers), list(makers.values()))[0]
    problem = draw(maker, rng, "train")
    right = clean or rng.random() >= _SLIP[careful]
    turns += _turns(problem, prefix, habit, rng, right=right)
    if makers is not IMAGES and rng.random() < 0.08:
        more = draw(rng.choices(list(makers), list(makers.values()))[0], rng, "train")
        turns += _turns(more, "", habit, rng, right=clean or rng.random() >= _SLIP[careful])
    return Document(tuple(turns), problem.scene)


def texts(count: int, seed: int) -> Iterator[str]:
    """Documents as plain text, to train the tokenizer on."""
    rng = random.Random(seed)
    for _ in range(count):
        for makers in (TEXT, IMAGES):
            for text, _ in document(rng, makers, clean=True).turns:
                yield text.split("|>", 1)[1].replace(IMAGE, "")
    yield from OPENERS


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of packed documents.

    ids, document, position: (rows, ROW) int64, ``document`` -1 at padding; weight: (rows, ROW)
    float32, the loss weight of each token as a target; pixels: (images, 3, 64, 64) float32, as
    the image processor would give them, in the order of the image tokens; what, tone: (images,
    64) int64, the patches' labels.
    """

    ids: Tensor
    document: Tensor
    position: Tensor
    weight: Tensor
    pixels: Tensor
    what: Tensor
    tone: Tensor


def pixels_of(scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised pixels and patch labels of scenes (shapes as in ``Batch``)."""
    if not scenes:
        empty = torch.zeros(0, 64, dtype=torch.int64)
        return torch.zeros(0, 3, drawing.SIZE, drawing.SIZE), empty, empty
    drawn = [drawing.render(scene) for scene in scenes]
    stack = np.stack([np.asarray(picture, np.float32) for picture, _, _ in drawn])
    pixels = torch.from_numpy((stack / 255 - 0.9) / 0.35).permute(0, 3, 1, 2).contiguous()
    what = torch.from_numpy(np.stack([w for _, w, _ in drawn]))
    tone = torch.from_numpy(np.stack([t for _, _, t in drawn]))
    return pixels, what, tone


class Packer:
    """Makes batches of a fixed shape: ``rows`` rows, ``images`` of the documents with an image,
    the others by the makers of ``text``."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        rows: int,
        images: int,
        text: dict[Maker, float] = TEXT,
    ) -> None:
        self.rows, self.images, self.text = rows, images, text
        self._ids: Callable[[str], list[int]] = lambda text: tokenizer.encode(
            text, add_special_tokens=False
        )
        self._picture = "<fake_token_around_image><global-img>" + IMAGE * IMAGE_TOKENS
        self._picture += "<fake_token_around_image>"

    def _encode(self, doc: Document) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        for text, is_reply in doc.turns:
            tokens = self._ids(text.replace(IMAGE, self._picture) + END)
            ids += tokens
            # A reply's first token is its role, which the prompt gives.
            weights += (
                [0.0, *[1.0] * (len(tokens) - 1)] if is_reply else ([_PROMPT_WEIGHT] * len(tokens))
            )
        return ids, weights

    def batch(self, seed: str, *, clean: bool) -> Batch:
        """The batch of this seed: the same seed gives the same batch.

        With no rows, it holds images alone.
        """
        rng = random.Random(seed)
        ids = torch.zeros(self.rows, ROW, dtype=torch.int64)
        which = torch.full((self.rows, ROW), -1)
        position = torch.zeros(self.rows, ROW, dtype=torch.int64)
        weight = torch.zeros(self.rows, ROW)
        used = [0] * self.rows
        scenes: list[list[Scene]] = [[] for _ in used]
        if not self.rows:
            docs = (document(rng, IMAGES, clean=clean) for _ in range(self.images))
            scenes = [[doc.scene] for doc in docs if doc.scene]
        count = misses = 0
        while self.rows and misses < 8:
            makers = IMAGES if count < self.images else self.text
            doc = document(rng, makers, clean=clean)
            tokens, weights = self._encode(doc)
            row = next((r for r, u in enumerate(used) if u + len(tokens) <= ROW), None)
            if row is None:
                misses += 1
                continue
            start, end = used[row], used[row] + len(tokens)
            ids[row, start:end] = torch.tensor(tokens)
            which[row, start:end] = count
            position[row, start:end] = torch.arange(len(tokens))
            weight[row, start:end] = torch.tensor(weights)
            weight[row, start] = 0.0
            used[row] = end
            count += 1
            if doc.scene:
                scenes[row].append(doc.scene)
        ordered = [scene for row_scenes in scenes for scene in row_scenes]
        return Batch(ids, which, position, weight, *pixels_of(ordered))
