"""Whether a base model is what it was: modules, parameters, attributes, results."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from t2agent.models.model import T2Model


def logits(model: T2Model) -> Tensor:
    inputs = model.tokenizer("What is seven", return_tensors="pt")
    with torch.no_grad():
        out: Tensor = model.model(**inputs).logits
    return out


def same_base(model: T2Model) -> Callable[[], None]:
    """Take stock of the model; the function returned asserts that nothing has changed."""
    hf = model.model
    modules = [(name, id(module)) for name, module in hf.named_modules()]
    parameters = [(name, id(p), p.requires_grad) for name, p in hf.named_parameters()]
    values = {name: value.clone() for name, value in hf.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in hf.named_modules()}
    before = logits(model)

    def check() -> None:
        assert [(name, id(module)) for name, module in hf.named_modules()] == modules
        assert [(n, id(p), p.requires_grad) for n, p in hf.named_parameters()] == parameters
        assert all(torch.equal(value, values[n]) for n, value in hf.state_dict().items())
        assert {n: set(vars(module)) for n, module in hf.named_modules()} == attributes
        assert torch.equal(logits(model), before)
        assert T2Model(hf, model.processor).fingerprint == model.fingerprint

    return check
