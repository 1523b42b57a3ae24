"""t2agent: language models that adapt themselves to each request.

SVF experts (Transformer-Squared, arXiv 2501.06252) for any Hugging Face model, trained by
reinforcement learning and mixed by a dispatcher, as a library, a LangChain chat model and a
command line.

    from t2agent import ChatT2

    ChatT2().invoke("What is 7 times 3 plus 12?")

The names below load what they need on first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2agent.chat.agent import T2Middleware, create_t2_agent
    from t2agent.chat.chat_model import ChatT2
    from t2agent.chat.decision_model import T2DecisionModel
    from t2agent.chat.llm import T2LLM
    from t2agent.chat.remote import ChatT2Remote
    from t2agent.dispatch import Decision, DecisionDispatcher, EmbeddingDispatcher
    from t2agent.errors import (
        BusyError,
        ConfigError,
        ContextLengthError,
        EndpointError,
        ExpertError,
        ExpertExistsError,
        ExpertFormatError,
        ExpertMismatchError,
        ExpertNotFoundError,
        GrammarError,
        HubError,
        ImageRefusedError,
        ModalityError,
        NoSignalWarning,
        NotCopyableError,
        StepLimitError,
        T2Error,
        TrainingError,
    )
    from t2agent.experts.expert import Expert, ExpertCard, Mixture
    from t2agent.experts.registry import Registry, register_expert
    from t2agent.models.model import T2Model

__version__ = "0.1.0"

__all__ = [
    "T2LLM",
    "BusyError",
    "ChatT2",
    "ChatT2Remote",
    "ConfigError",
    "ContextLengthError",
    "Decision",
    "DecisionDispatcher",
    "EmbeddingDispatcher",
    "EndpointError",
    "Expert",
    "ExpertCard",
    "ExpertError",
    "ExpertExistsError",
    "ExpertFormatError",
    "ExpertMismatchError",
    "ExpertNotFoundError",
    "GrammarError",
    "HubError",
    "ImageRefusedError",
    "Mixture",
    "ModalityError",
    "NoSignalWarning",
    "NotCopyableError",
    "Registry",
    "StepLimitError",
    "T2DecisionModel",
    "T2Error",
    "T2Middleware",
    "T2Model",
    "TrainingError",
    "__version__",
    "create_t2_agent",
    "register_expert",
]
# langchain-core has decision models from 1.8 on; where it is older, `import *` does without ours.
_core = find_spec("langchain_core")
if _core and not PathFinder.find_spec("langchain_core.decisions", _core.submodule_search_locations):
    __all__.remove("T2DecisionModel")

_HOME_OF = {
    "ChatT2": "chat.chat_model",
    "ChatT2Remote": "chat.remote",
    "Decision": "dispatch",
    "DecisionDispatcher": "dispatch",
    "EmbeddingDispatcher": "dispatch",
    "Expert": "experts.expert",
    "ExpertCard": "experts.expert",
    "Mixture": "experts.expert",
    "Registry": "experts.registry",
    "T2DecisionModel": "chat.decision_model",
    "T2LLM": "chat.llm",
    "T2Middleware": "chat.agent",
    "T2Model": "models.model",
    "create_t2_agent": "chat.agent",
    "register_expert": "experts.registry",
}


def __getattr__(name: str) -> object:
    if name not in __all__ and name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
