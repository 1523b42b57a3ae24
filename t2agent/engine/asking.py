"""From a conversation and the form of its reply to a call of the engine."""

from __future__ import annotations

from functools import partial

from t2agent.engine.batching import Call
from t2agent.engine.reply_form import ReplyForm
from t2agent.engine.shortlist import Shortlist
from t2agent.engine.two_passes import Choice, Engine, Given
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt, render


def shown(
    engine: Engine, prompt: Prompt, form: ReplyForm, choice: Choice, most: int | None
) -> tuple[ReplyForm, Prompt, Shortlist]:
    """The form and the prompt with what the model must know of it, and the tools that are shown.

    most: how many tools, as of `t2agent.engine.shortlist.most_tools`.
    """
    prompt = form.prompt(prompt)
    if not form.tools:
        return form, prompt, Shortlist()
    deciding = engine
    if choice is not None and not isinstance(choice, Given):
        deciding = engine.dispatching(choice)
    return form.shown(prompt, most, engine.similarity, partial(deciding.wants_tools, prompt))


def call_of(
    engine: Engine,
    prompt: Prompt,
    form: ReplyForm,
    options: GenerationOptions,
    choice: Choice,
    most: int | None,
) -> tuple[Call, ReplyForm, Shortlist]:
    """The call with all that its answer depends on, the form of its reply, and the tools that it
    shows.

    Raises what `render` and `ReplyForm.constraint` raise.
    """
    form, prompt, tools = shown(engine, prompt, form, choice, most)
    prompt = render(engine.model, prompt)
    constraint, keep = form.constraint(engine.model, prompt), form.marks(engine.model)
    return Call(engine, prompt, options, choice, constraint, keep), form, tools
