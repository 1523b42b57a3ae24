"""The model cards of exports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2agent.paths import public_name

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert
    from t2agent.experts.mixture import Mixture
    from t2agent.models.exchange.records import LoraExport, MergedExport
    from t2agent.models.model import T2Model

_LIBRARIES = {"lora": "peft", "merged": "transformers"}


def title(mixture: Mixture) -> str:
    """What an export is called unless a name is given."""
    return _only(mixture) or "mixture"


def lora_card(model: T2Model, experts: Sequence[Expert], report: LoraExport) -> str:
    """The card of a PEFT folder, with the error of each layer."""
    base = public_name(model.name)
    auto = type(model.model).__name__
    if report.exact:
        words = f"It is exact at rank {report.rank}: no direction that moves was left out."
    else:
        words = (
            f"It is the best approximation of rank {report.rank}; rank {report.needed} would be "
            f"exact. Relative error of the change, all layers together: {report.error:.3e}."
        )
    lines = [
        *_front(model, experts, "lora", ["lora", "t2agent", "transformer-squared", "svf"]),
        f"# {report.name}",
        "",
        *_told(experts),
        f"{_origin(report.mixture)}, exported as a LoRA of rank {report.rank} for {base}. {words}",
        "",
        "```python",
        "from peft import PeftModel",
        f"from transformers import {auto}",
        "",
        f"base = {auto}.from_pretrained({json.dumps(base)})",
        'model = PeftModel.from_pretrained(base, "path/of/this/folder")',
        "```",
        "",
        f"{report.vllm}.",
        "",
        f"## Error by layer ({report.dtype})",
        "",
        "Error: ||dW - B A|| / ||dW|| (Frobenius), where dW is the change that the expert makes.",
        "",
        "| layer | directions moved | kept | error |",
        "|---|---:|---:|---:|",
        *(f"| `{e.name}` | {e.moved} | {e.kept} | {e.error:.3e} |" for e in report.layers),
        f"| all | | | {report.error:.3e} |",
        "",
    ]
    return "\n".join(lines)


def merged_card(model: T2Model, experts: Sequence[Expert], report: MergedExport) -> str:
    """The card of a full checkpoint."""
    auto = type(model.model).__name__
    words = (
        f"{_origin(report.mixture)}, merged into the weights of {public_name(model.name)}: "
        f"{len(report.changed)} layers differ from it. dtype: {report.dtype}."
    )
    lines = [
        *_front(model, experts, "merged", ["t2agent", "transformer-squared", "svf"]),
        f"# {report.name}",
        "",
        *_told(experts),
        words,
        "",
        "```python",
        f"from transformers import {auto}",
        "",
        f'model = {auto}.from_pretrained("path/of/this/folder")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _front(model: T2Model, experts: Sequence[Expert], kind: str, tags: list[str]) -> list[str]:
    sees = "image" in model.modalities
    front: dict[str, object] = {
        "library_name": _LIBRARIES[kind],
        "pipeline_tag": "image-text-to-text" if sees else "text-generation",
        "base_model": public_name(model.name),
        "base_model_relation": "adapter" if kind == "lora" else "finetune",
    }
    licenses = {expert.card.license for expert in experts}
    if len(licenses) == 1 and (license_name := licenses.pop()):
        front["license"] = license_name
    front["tags"] = tags
    # A JSON value is a YAML value, whatever the text holds.
    body = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]
    return ["---", *body, "---", ""]


def _told(experts: Sequence[Expert]) -> list[str]:
    """What the experts say they are for."""
    lines: list[str] = []
    for expert in experts:
        if expert.card.description:
            lines += [f"{expert.name}: {' '.join(expert.card.description.split())}", ""]
    return lines


def _origin(mixture: Mixture) -> str:
    if _only(mixture):
        return f"The SVF expert {_only(mixture)} (Transformer-Squared)"
    text = " + ".join(f"{weight:g} {name}" for name, weight in mixture.weights.items())
    more = f", with other weights in {len(mixture.layers)} parts" if mixture.layers else ""
    return f"A mixture of SVF experts (Transformer-Squared): {text or 'nothing'}{more}"


def _only(mixture: Mixture) -> str | None:
    """The name of the expert that is all of a mixture, with weight 1."""
    plain = not mixture.layers and list(mixture.weights.values()) == [1.0]
    return next(iter(mixture.weights)) if plain else None
