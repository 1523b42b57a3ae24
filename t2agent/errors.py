"""The errors of t2agent. Each says what was got, what was needed and what to do next.

T2Error
├── ConfigError            an option or argument is unusable
├── ExpertError
│   ├── ExpertNotFoundError    no expert of that name
│   ├── ExpertExistsError      the name is taken
│   ├── ExpertFormatError      a damaged folder, or not safetensors
│   ├── ExpertMismatchError    made for another base model, or other shapes
│   └── HubError               the Hub cannot be reached, or refuses
├── ModalityError          an image for a text model
├── ImageRefusedError      a path or URL not allowed, too large, or not an image
├── ContextLengthError     the prompt leaves no room for an answer
├── GrammarError           a tool or schema that no grammar can be made of
├── EndpointError          an endpoint cannot be reached, refuses, or answers nonsense
├── BusyError              too many requests wait already
├── TrainingError          a training that has nothing to learn from, or is not finite any more
├── StepLimitError         an agent took too many steps without an answer
└── NotCopyableError       what holds a loaded model cannot be pickled

NoSignalWarning is a warning: examples that tell nothing about experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class T2Error(Exception):
    """Base class of every error that t2agent raises on purpose."""


class ConfigError(T2Error, ValueError):
    """An option or argument is unusable."""


class ExpertError(T2Error):
    """Base class of the errors about experts."""


class ExpertNotFoundError(ExpertError, KeyError):
    """No expert of that name is registered."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return Exception.__str__(self)


class ExpertExistsError(ExpertError):
    """An expert of that name is registered already."""


class ExpertFormatError(ExpertError, ValueError):
    """An expert's folder is damaged, incomplete or not safetensors."""


class ExpertMismatchError(ExpertError, ValueError):
    """An expert was made for another base model, or its vectors have other shapes."""


class HubError(ExpertError, OSError):
    """The Hub cannot be reached, or refuses what was asked of it."""


class ModalityError(T2Error, ValueError):
    """A request holds an image, but the model reads text only."""


class ImageRefusedError(T2Error, ValueError):
    """An image is a path or URL that the caller did not allow, too large, or not an image."""


class ContextLengthError(T2Error, ValueError):
    """The prompt leaves no room for an answer in the model's context."""


class GrammarError(T2Error, ValueError):
    """A tool or schema that no grammar can be made of."""


class EndpointError(T2Error, RuntimeError):
    """An endpoint that serves experts cannot be reached, refuses, or answers what is no answer.

    Attributes:
        status: the HTTP status of its answer; None where no answer came, or a good one broke off.
    """

    def __init__(self, *args: object, status: int | None = None) -> None:
        super().__init__(*args)
        self.status = status


class BusyError(T2Error, RuntimeError):
    """Too many requests wait already, or none is taken any more."""


class TrainingError(T2Error, RuntimeError):
    """A training has nothing to learn from, or its numbers are not finite any more."""


class StepLimitError(T2Error, RuntimeError):
    """An agent took as many steps as it may, and has no answer yet.

    Attributes:
        messages: the conversation until then, so that nothing that was found out is lost.
    """

    def __init__(self, *args: object, messages: Sequence[Any] = ()) -> None:
        super().__init__(*args)
        self.messages = tuple(messages)


class NotCopyableError(T2Error, TypeError):
    """An object that holds a loaded model was to be pickled or copied deeply."""


class NoSignalWarning(UserWarning):
    """No reply to the examples earned more than another: nothing can be learned from them."""
