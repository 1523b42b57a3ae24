"""``t2agent chat``: one answer, or a conversation.

It goes to the engine, not through ChatT2: importing LangChain takes half a second, and a picture
stays a picture from turn to turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report, answered_by, console, one_line, printable
from t2agent.cli.options import Image, Model, Quantized, Seed, Strategy, picture
from t2agent.cli.start import load, starting
from t2agent.errors import ContextLengthError, T2Error
from t2agent.models.installed import AUTO
from t2agent.models.options import GenerationOptions

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from t2agent.engine.two_passes import Answer, Engine, Given

_HELP = "/new forgets the conversation, /quit or Ctrl-D ends it."


def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT]", help="Read from a pipe if not given; at a terminal, a conversation."
        ),
    ] = None,
    image: Image = None,
    expert: Annotated[
        str | None, typer.Option("--expert", "-e", metavar="NAME", help="Answer with this expert.")
    ] = None,
    dispatch: Strategy = None,
    model: Model = AUTO,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Seed = None,
    quantized: Quantized = True,
    as_json: bool = False,
) -> Report:
    """Answer a prompt with the experts that it needs; without one, hold a conversation."""
    if expert is not None and dispatch is not None:
        raise typer.BadParameter("give --expert or --dispatch, not both", param_hint="--expert")
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    if prompt is not None and not prompt.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    if prompt is None and as_json:
        raise typer.BadParameter("--json needs a PROMPT", param_hint="--json")
    options = GenerationOptions(max_tokens=max_tokens, temperature=temperature, seed=seed)
    if expert is not None:
        from t2agent.experts.registry import Registry

        Registry(model).card(expert)  # an unknown name is told before seconds of loading
    with starting(f"Loading {model}", show=not as_json):
        shown = None if image is None else picture(image)
        from t2agent.engine.two_passes import Engine, Given

        strategy = "off" if expert is not None else dispatch or "embedding"
        # Whether merging repays is measured in a second, which a single answer seldom earns back.
        base, merging = load(model, show=False), prompt is None
        engine = Engine(base, strategy, merging=merging, quantized=quantized)
        engine.decide([""])  # the first decision loads the encoder and fits
    talk = _Talk(engine, None if expert is None else Given(expert), options, shown)
    if prompt is None:
        _converse(talk)
        return Report(None)
    if as_json:
        return Report(_plain(model, talk.ask(prompt)))
    _show(talk, prompt)
    return Report(None)


@dataclass
class _Talk:
    """A conversation and what answers it."""

    engine: Engine
    choice: Given | None
    options: GenerationOptions
    picture: Picture | None
    messages: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def stream(self, text: str) -> Iterator[str | Answer]:
        """The pieces of the answer and the answer; the turn is remembered once it is whole."""
        from t2agent.models.prompt import Prompt

        turn = Prompt.user(text, self.picture)
        asked = Prompt((*self.messages, *turn.messages), (*self.pictures, *turn.images))
        for piece in self.engine.stream(asked, self.options, choice=self.choice):
            if not isinstance(piece, str):
                reply = [{"type": "text", "text": piece.generation.text}]
                self.messages = [*asked.messages, {"role": "assistant", "content": reply}]
                self.pictures, self.picture = list(asked.images), None
            yield piece

    def ask(self, text: str) -> Answer:
        """The whole answer."""
        *_, answer = self.stream(text)
        assert not isinstance(answer, str)
        return answer


def _converse(talk: _Talk) -> None:
    with suppress(ImportError):  # not on Windows; input() gets line editing and history from it
        import readline  # noqa: F401

    aside = console(stderr=True)
    aside.print(f"{talk.engine.model.name}: {_HELP}", style="dim")
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        text = line.strip()
        if text == "/quit":
            return
        if text == "/new":
            talk.messages, talk.pictures = [], []
        elif line.startswith("/"):
            told = f"{text.split()[0]} is no command. {_HELP} With a space before it, it is a text."
            typer.echo(f"error: {told}", err=True)
        elif text:
            try:
                _show(talk, text)
            except KeyboardInterrupt:
                print()  # the answer was enough; the conversation goes on
            except T2Error as error:
                hint = " /new starts over." if isinstance(error, ContextLengthError) else ""
                typer.echo(f"error: {one_line(error)}{hint}", err=True)


def _show(talk: _Talk, text: str) -> None:
    """Print the answer as it comes, and on stderr which experts gave it."""
    begin = time.perf_counter()
    for piece in talk.stream(text):
        if isinstance(piece, str):
            sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
        else:
            sys.stdout.write("\n")
            answer = piece
        sys.stdout.flush()
    console(stderr=True).print(
        _footer(answer, time.perf_counter() - begin), style="dim", markup=False
    )


def _footer(answer: Answer, seconds: float) -> str:
    decision, generation = answer.decision, answer.generation
    who = answered_by(decision.mixture.weights, in_scope=decision.in_scope)
    cut = ", cut at --max-tokens" if generation.finish_reason == "length" else ""
    length = f"{generation.completion_tokens} tokens{cut}, {seconds:.1f} s"
    return f"{who} [{decision.strategy}] {length}"


def _plain(model: str, answer: Answer) -> dict[str, Any]:
    facts = answer.to_dict()
    return {
        **{name: facts[name] for name in ("text", "dispatch", "usage")},
        "model_name": model,
        "finish_reason": facts["finish_reason"],
    }
