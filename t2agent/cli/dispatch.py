"""``t2agent dispatch``: which experts a request goes to, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from t2agent.cli.command import Report
from t2agent.cli.options import Image, Model, Strategy, picture
from t2agent.cli.start import load, starting
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.dispatch import Dispatcher


def show(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The request.")],
    image: Image = None,
    dispatch: Strategy = None,
    model: Model = AUTO,
    as_json: bool = False,
) -> Report:
    """Show the scores of the experts and the mixture that would answer. No answer is generated."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from t2agent.experts.mixture import Mixture
    from t2agent.experts.registry import Registry

    if not prompt.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    with starting("Loading the dispatcher", show=not as_json):
        if image is not None:
            picture(image)  # one that cannot be read is an error, as for an answer
        from t2agent.dispatch import Decision, EmbeddingDispatcher, Request

        dispatcher: Dispatcher | None
        if dispatch in (None, "embedding"):
            dispatcher = EmbeddingDispatcher(Registry(model))  # needs no base model
        else:
            from t2agent.dispatch.strategies import make_dispatcher

            dispatcher = make_dispatcher(dispatch, load(model, show=False))
        request = Request(prompt, images=int(image is not None))
        if dispatcher is not None:
            dispatcher.dispatch([request])  # the first one loads the encoder
    decision = (
        Decision(Mixture(), "off") if dispatcher is None else dispatcher.dispatch([request])[0]
    )
    weights = decision.mixture.weights
    table = Table("expert", "score", "weight")
    for name, score in sorted(decision.scores.items(), key=lambda item: -item[1]):
        weight = f"{weights[name]:.2f}" if name in weights else ""
        table.add_row(Text(name), f"{score:.3f}", weight)
    scope = "in scope" if decision.in_scope else "out of scope: the base model answers"
    if decision.gate is not None:
        scope += f" (gate {decision.gate:.3f}, threshold {decision.threshold:.3f})"
    line = f"{scope}; {decision.strategy}, {decision.seconds * 1000:.1f} ms"
    return Report(decision.to_dict(), Group(table, Text(line, style="dim")))
