"""The two passes: choose a mixture for each request, then answer with it.

The only place that knows their order. First pass: the dispatcher turns each prompt's last
request into a mixture. Second pass: the model, adapted row by row or merged, answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Unpack
from weakref import ref

from t2agent.dispatch import Decision, Dispatcher, Request, ToolAware
from t2agent.dispatch.encoder import Encoder
from t2agent.dispatch.strategies import Strategies
from t2agent.dispatch.tool_offers import RanksTools, ToolSimilarity
from t2agent.dispatch.tool_requests import tool_fit
from t2agent.engine.break_even import BreakEven
from t2agent.engine.threads import pieces
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, Mixture, MixtureLike
from t2agent.models.beams import beams
from t2agent.models.generate import Cancel, Generation, OnText, Prompt, encode, generate, room
from t2agent.models.model import T2Model
from t2agent.models.name_prior import calibrated
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_steps import serves
from t2agent.models.plans import Resolved
from t2agent.models.prompt import open_thoughts, render
from t2agent.replies.constraint import Constraint, options_constraint, text_constraint
from t2agent.replies.messages import (
    Message,
    asking,
    asks_json,
    calls_so_far,
    result_values,
    said_by_others,
    said_since_result,
    text_of,
)
from t2agent.replies.options import offered_options

if TYPE_CHECKING:
    from t2agent.dispatch import SearchResult
    from t2agent.dispatch.few_shot.shots import Examples
    from t2agent.dispatch.few_shot.strategy import AdaptOptions


@dataclass(frozen=True, slots=True)
class Given:
    """A mixture that the caller chose, instead of a dispatcher."""

    what: MixtureLike | Resolved


Choice = Given | Dispatcher | str | None
"""Who chooses the mixture: a dispatcher or strategy, the caller, or None for the engine's own."""


class Engine:
    """Answers prompts with a base model and its experts. Safe to use from several threads.

    dispatcher: a strategy's name (`t2agent.dispatch.strategies.NAMES`), a Dispatcher, or None for
        the base model.
    experts: those that a strategy by name may choose; as of `Strategies`.
    merging: whether a mixture that all rows share may be written into the weights where that is
        faster. The answer can then differ in the last digits of its arithmetic.
    strategies: the model's dispatchers by name, and so the experts, where another engine has them.
    quantized: decode by the 4-bit weights of the model's GGUF file, where it has one and runs on a
        CPU: see `t2agent.models.packed_steps`. False: as it is trained.

    Raises ConfigError for a strategy that does not exist.
    """

    def __init__(
        self,
        model: T2Model,
        dispatcher: Dispatcher | str | None = "embedding",
        *,
        experts: Sequence[Expert | Path | str] | None = None,
        merging: bool = True,
        strategies: Strategies | None = None,
        quantized: bool = True,
    ) -> None:
        self.model = model
        self.merging = merging
        self.quantized = quantized
        self.strategies = Strategies(model, experts) if strategies is None else strategies
        self.registry = self.strategies.experts
        self._given = dispatcher
        self.dispatcher = self.strategies.dispatcher(dispatcher)
        self.break_even = model.attached(BreakEven)

    @cached_property
    def similarity(self) -> ToolSimilarity:
        """How well tools fit requests, by the encoder that dispatches them, where there is one."""
        if isinstance(self.dispatcher, RanksTools):
            return self.dispatcher.tool_similarity
        return ToolSimilarity(Encoder.shared())

    def wants_tools(self, prompt: Prompt) -> bool:
        """Whether a tool on offer is meant, as far as the engine's dispatcher can tell."""
        dispatcher = self.dispatcher
        return not isinstance(dispatcher, ToolAware) or dispatcher.wants_tools(request(prompt))

    def serves(
        self,
        model: T2Model,
        experts: Sequence[Expert | Path | str] | None,
        quantized: bool = True,
    ) -> bool:
        """Whether this engine is of that model, chooses among these experts and decodes so."""
        same = self.model is model and self.quantized == quantized
        return same and self.strategies.given == experts

    def dispatching(self, dispatcher: Dispatcher | str | None) -> Engine:
        """This engine by another dispatcher; they share what is fitted, and the latest task."""
        if dispatcher is self._given or dispatcher == self._given:
            return self
        return Engine(
            self.model,
            dispatcher,
            merging=self.merging,
            strategies=self.strategies,
            quantized=self.quantized,
        )

    def decide(
        self, prompts: Sequence[Prompt | str], choice: Choice | list[Choice] = None
    ) -> list[Decision]:
        """The first pass. choice: one for all prompts, or a list with one for each.

        Raises ExpertNotFoundError for a mixture of unknown experts.
        """
        if isinstance(choice, list):
            return self._decide_each(prompts, choice)
        if isinstance(choice, Given):
            mixture, _ = self.model.resolve(choice.what)
            return [Decision(mixture, "given", dict(mixture.weights), True, 0.0) for _ in prompts]
        dispatcher = self.dispatcher if choice is None else self.strategies.dispatcher(choice)
        if dispatcher is None:
            return [Decision(Mixture(), "off", {}, True, 0.0) for _ in prompts]
        decisions = dispatcher.dispatch([request(prompt) for prompt in prompts])
        if len(decisions) != len(prompts):
            raise ConfigError(
                f"{type(dispatcher).__name__}.dispatch returned {len(decisions)} decisions for "
                f"{len(prompts)} requests: it must return one for each, in their order"
            )
        return decisions

    def _decide_each(
        self, prompts: Sequence[Prompt | str], choices: Sequence[Choice]
    ) -> list[Decision]:
        """The first pass with a choice for each prompt; equal ones are decided together."""
        groups: dict[Hashable, list[int]] = {}
        for row, choice in enumerate(choices):
            groups.setdefault(choice if isinstance(choice, str) else id(choice), []).append(row)
        decided: dict[int, Decision] = {}
        for rows in groups.values():
            found = self.decide([prompts[row] for row in rows], choices[rows[0]])
            decided.update(zip(rows, found, strict=True))
        return [decided[row] for row in range(len(prompts))]

    def adapt(
        self, examples: Examples, *, name: str | None = None, **options: Unpack[AdaptOptions]
    ) -> SearchResult:
        """Search a mixture for a task, for strategy "few-shot", among the engine's experts.

        With a name it becomes an expert of the registry, which the engine may choose from now on;
        without one, it takes the place of the latest such mixture. Options and errors are those
        of `t2agent.dispatch.few_shot.strategy.adapt`.
        """
        from t2agent.dispatch.few_shot.strategy import adapt

        result = adapt(
            self.model,
            examples,
            experts=self.registry,
            latest=self.strategies.latest,
            name=name,
            **options,
        )
        if name is not None and self.registry is not None:
            self.registry.add(name)
        return result

    def answer(
        self,
        prompts: Sequence[Prompt | str],
        options: GenerationOptions,
        *,
        choice: Choice | list[Choice] = None,
        cancel: Cancel = None,
        on_text: OnText | None = None,
        constraints: Sequence[Constraint | None] | None = None,
        keep: frozenset[int] = frozenset(),
        alike: bool = False,
    ) -> list[Answer]:
        """Both passes for a batch; arguments as in `decide` and `generate`.

        All prompts run as one batch, except that those for which the context is shorter than
        `max_tokens` run apart, as do different mixtures where the model cannot take them in one,
        and each whose reply is searched (`t2agent.models.beams`).
        """
        if not prompts:
            return []
        decisions = self.decide(prompts, choice)
        choices = choice if isinstance(choice, list) else [choice] * len(prompts)
        whats: list[MixtureLike | Resolved] = [
            one.what if isinstance(one, Given) else decision.mixture
            for one, decision in zip(choices, decisions, strict=True)
        ]
        held = [
            self.held(prompt, constraint, self.model.resolve(what))
            for prompt, what, constraint in zip(
                prompts, whats, constraints or [None] * len(prompts), strict=True
            )
        ]
        prompts = [one if isinstance(one, str) else render(self.model, one) for one in prompts]
        inputs = encode(self.model, prompts)
        groups: dict[Any, list[int]] = {}
        for row, left in enumerate(room(self.model, inputs)):
            tight = left if left < options.max_tokens else None
            apart = None if self.model.per_row else decisions[row].mixture
            searched = row if beams(options, held[row]) > 1 else None
            groups.setdefault((tight, apart, searched), []).append(row)
        answers: list[Answer | None] = [None] * len(prompts)
        for rows in groups.values():
            part = [prompts[row] for row in rows]
            begun = time.perf_counter()
            run = partial(
                generate,
                self.model,
                part,
                options,
                inputs=inputs if len(groups) == 1 else encode(self.model, part),
                cancel=_of_rows(cancel, rows),
                on_text=_renumbered(on_text, rows),
                constraints=[held[row] for row in rows] if any(held) else None,
                keep=keep,
                alike=alike,
                quantized=self.quantized,
            )
            mixtures = [decisions[row].mixture for row in rows]
            generations = self._second_pass(
                run, [whats[row] for row in rows], mixtures, options.max_tokens
            )
            seconds = (time.perf_counter() - begun) / len(rows)
            for row, generation in zip(rows, generations, strict=True):
                answers[row] = Answer(generation, decisions[row], seconds)
        return [answer for answer in answers if answer is not None]

    def held(
        self, prompt: Prompt | str, constraint: Constraint | None, what: Resolved
    ) -> Constraint | None:
        """What a reply is held to, and how widely it is searched, by the experts that answer.

        Where they are for one step, a reply with labels is held to one of those that the request
        offers, a call to a tool by what of its name is due to the request
        (`t2agent.models.name_prior`), begun with the experts' caution, and a reply about tools'
        results to what those say, as far as the experts are grounded (`t2agent.models.grounding`).
        """
        found = self._held(prompt, constraint, what)
        if not what.experts:
            return found
        cards = [one.card for one in what.experts]
        if found is not None:
            found = replace(found, beams=max(card.beams for card in cards))
        grounding = mean(card.grounding for card in cards)
        if not grounding or isinstance(prompt, str):
            return found
        if any(card.step != "results" for card in cards):
            said = said_by_others(prompt.messages)
            return found and replace(found, said=said, grounding=grounding)
        values = tuple(result_values(prompt.messages))
        if not values:
            return found
        if found is None and open_thoughts(self.model, prompt) is None:
            found = text_constraint()
        return found and replace(found, values=values, grounding=grounding)

    def _held(
        self, prompt: Prompt | str, constraint: Constraint | None, what: Resolved
    ) -> Constraint | None:
        steps = {one.card.step for one in what.experts}
        if isinstance(prompt, str) or len(steps) != 1:
            return constraint
        if constraint is None:
            return self._one_of_options(prompt) if steps == {"labels"} else None
        if steps != {"calls"}:
            return constraint
        caution = mean(one.card.caution for one in what.experts)
        found = replace(calibrated(self.model, constraint, prompt, what), caution=caution)
        asked = said_since_result(prompt.messages)  # of what came before, something is done
        all_of_them = len(found.names) == len(prompt.tools)  # which may be called
        if found.prior is None or not asked or not all_of_them:
            return found
        return replace(found, fit=tool_fit(asked, prompt.tools, self.similarity))

    def _one_of_options(self, prompt: Prompt) -> Constraint | None:
        """That a reply is one of the labels that the request offers; None where it is not clear
        which it offers."""
        if prompt.tools:
            return None
        found = {one.options for one in offered_options(request(prompt).text)}
        if len(found) != 1 or open_thoughts(self.model, prompt) is not None:
            return None
        return options_constraint(found.pop())

    def stream(
        self,
        prompt: Prompt | str,
        options: GenerationOptions,
        *,
        choice: Choice = None,
        cancel: threading.Event | None = None,
        constraint: Constraint | None = None,
        keep: frozenset[int] = frozenset(),
    ) -> Iterator[str | Answer]:
        """The pieces of one answer's text as they become certain, and then the whole answer.

        Generation runs in a thread of its own. Closing the iterator sets `cancel`, which ends it
        at the next token.
        """

        def work(hand_out: Callable[[str], None], cancel: threading.Event) -> Answer:
            [answer] = self.answer(
                [prompt],
                options,
                choice=choice,
                cancel=cancel,
                on_text=lambda _row, piece: hand_out(piece),
                constraints=[constraint],
                keep=keep,
            )
            return answer

        return pieces(work, threading.Event() if cancel is None else cancel)

    def _second_pass(
        self,
        run: Callable[..., list[Generation]],
        whats: Sequence[MixtureLike | Resolved],
        mixtures: Sequence[Mixture],
        max_tokens: int,
    ) -> list[Generation]:
        """What `run` generates, adapted by a mixture for each row: as given, and as decided. It is
        told what the model is adapted to, where that is one mixture and nothing else."""
        shared = len(set(mixtures)) == 1
        resolved = self.model.resolve(whats[0])
        known = resolved if shared and not self.model.entered else None
        with self.break_even.running() as alone:
            key: Hashable = None
            adapted: AbstractContextManager[object]
            if not any(mixture.experts() for mixture in mixtures):
                adapted = nullcontext()  # the base model needs no bases
            elif shared:
                mixture, experts = resolved
                # Weak: what is known of a mixture is kept for longer than its experts are.
                key = (mixture, tuple(map(ref, experts)))
                merge = (
                    self.merging
                    and alone
                    and self.model.writable
                    and not (self.quantized and serves(self.model, resolved, len(whats)))
                    and self.break_even.repays(
                        self.model, resolved, key, rows=len(whats), max_tokens=max_tokens
                    )
                )
                adapted = self.model.merged(resolved) if merge else self.model.adapted(resolved)
            else:
                adapted = self.model.adapted(list(whats))
            with adapted:
                generations = run(what=known)
        self.break_even.note(key, max(len(one.token_ids) for one in generations))
        return generations


def _of_rows(cancel: Cancel, rows: Sequence[int]) -> Cancel:
    return [cancel[row] for row in rows] if isinstance(cancel, Sequence) else cancel


def _renumbered(on_text: OnText | None, rows: Sequence[int]) -> OnText | None:
    if on_text is None:
        return None
    return lambda row, piece: on_text(rows[row], piece)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the second pass generated, and what the first had decided.

    ``seconds``: the time of the second pass; of prompts that were answered together, each bears
    an equal share, as of the first pass in ``decision.seconds``.
    """

    generation: Generation
    decision: Decision
    seconds: float = field(default=0.0, compare=False)

    @property
    def first_pass_share(self) -> float:
        """The share of the first pass in the time of both, from 0 to 1."""
        total = self.decision.seconds + self.seconds
        return self.decision.seconds / total if total > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The answer in plain JSON. "seconds" is the time of the second pass, beside "dispatch"'s
        "seconds", that of the first; "usage" counts tokens."""
        read, written = self.generation.prompt_tokens, self.generation.completion_tokens
        return {
            "text": self.generation.text,
            "finish_reason": self.generation.finish_reason,
            "usage": {
                "input_tokens": read,
                "output_tokens": written,
                "total_tokens": read + written,
            },
            "dispatch": self.decision.to_dict(),
            "seconds": self.seconds,
            "first_pass_share": self.first_pass_share,
        }


def request(prompt: Prompt | str) -> Request:
    """What the dispatcher sees of a prompt."""
    if isinstance(prompt, str):
        return Request(prompt)
    json = asks_json(prompt.messages)
    return last_request(prompt.messages, len(prompt.images), prompt.tools, json=json)


def last_request(
    messages: Sequence[Message],
    images: int,
    tools: tuple[Mapping[str, Any], ...],
    *,
    json: bool = False,
) -> Request:
    """What the dispatcher sees of a conversation: the text of the user's message that asks, how
    many images the whole conversation holds, since the model sees them all, the tools on offer,
    those that were called, and whether the reply must be JSON."""
    asked = messages[asking(messages)] if messages else {}
    text = text_of(asked) if asked.get("role") == "user" else ""
    return Request(text, images, tools, calls_so_far(messages), json)
