"""An expert of one base model on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf

from t2agent.errors import ConfigError, ExpertFormatError, ExpertMismatchError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.transfer import transfer
from t2agent.models.model import T2Model
from tests.architectures import CLIP, LLAMA, PICTURE, Tokens
from tests.experts import random_expert


def made(build: Callable[[], hf.PreTrainedModel], name: str, targets: str = "all") -> T2Model:
    torch.manual_seed(len(name))
    return T2Model(build(), Tokens(), name=name, targets=targets)


def llama(name: str = "llama", kind: str = "LlamaConfig", **more: Any) -> T2Model:
    config = getattr(hf, kind)(**{**LLAMA, **more})
    return made(lambda: hf.AutoModelForCausalLM.from_config(config), name)


def gpt2() -> T2Model:
    config = hf.GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    return made(lambda: hf.GPT2LMHeadModel(config), "gpt2")


def llava(targets: str = "all") -> T2Model:
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**LLAMA),
        image_token_index=PICTURE,
        vision_feature_layer=-1,
    )
    return made(lambda: hf.LlavaForConditionalGeneration(config), "llava", targets)


def deep(layers: int, **more: Any) -> T2Model:
    return llama(f"deep-{layers}", num_hidden_layers=layers, **more)


def numbered(model: T2Model) -> Expert:
    """An expert whose values tell layer and direction: 2 + layer + direction / 1000."""
    z = {}
    for module, length in model.shapes.items():
        layer = int(module.split("layers.")[1].split(".")[0])
        z[module] = 2 + layer + torch.arange(length) / 1000
    return Expert(ExpertCard("numbered", base=model.name, base_fingerprint=model.fingerprint), z)


def layer_of(z: torch.Tensor) -> int:
    return int(z[0]) - 2


def test_the_same_shapes_are_taken_over_as_they_are() -> None:
    old, new = llama("one"), llama("another", "Qwen2Config")
    expert = random_expert(old, "math", 1)
    expert = Expert(
        replace(expert.card, examples=("2 + 3?",), scores={"val": 1.0}, training={"steps": 9}),
        dict(expert.z),
    )
    with pytest.raises(ExpertMismatchError, match="t2agent experts transfer"):
        new.registry.register(expert)
    with pytest.raises(ExpertMismatchError, match="transfer"), new.adapted(expert):
        pass

    result = transfer(expert, new, name="carried")

    assert result.expert.z.keys() == expert.z.keys() == new.shapes.keys()
    assert all(torch.equal(result.expert.z[m], expert.z[m]) for m in expert.z)
    report = result.report
    assert report.exact
    assert (report.kept_directions, report.kept_norm) == (1.0, 1.0)
    assert report.counts() == {
        "same layer": 14, "other layer": 0, "cut": 0, "extended": 0, "unused": 0, "untouched": 0,
    }  # fmt: skip
    card = result.expert.card
    assert (card.name, card.base, card.base_fingerprint) == ("carried", "another", new.fingerprint)
    assert (card.examples, card.scores) == (("2 + 3?",), {})
    assert card.training["method"] == "transfer"
    assert card.training["expert"] == "math"
    assert card.training["sha256"] == expert.digest()
    assert (card.training["base"], card.training["base_fingerprint"]) == ("one", old.fingerprint)
    assert card.training["report"] == report.to_dict()
    assert card.training["training"] == {"steps": 9}
    assert new.registry.register(result.expert).name == "carried"
    with new.adapted("carried"):
        pass


@pytest.mark.parametrize(
    ("old", "new", "rule", "sources"),
    [
        (2, 4, "depth", [0, 0, 1, 1]),
        (2, 5, "depth", [0, 0, 1, 1, 1]),  # halves go up
        (4, 2, "depth", [0, 3]),
        (3, 1, "depth", [1]),
        (1, 3, "depth", [0, 0, 0]),
        (4, 3, "depth", [0, 2, 3]),
        (2, 4, "index", [0, 1, None, None]),
        (4, 2, "index", [0, 1]),
        (3, 3, "depth", [0, 1, 2]),
    ],
)
def test_layers_by_rule(old: int, new: int, rule: Any, sources: list[int | None]) -> None:
    model = deep(new)
    expert = numbered(deep(old))
    result = transfer(expert, model, layers=rule)

    for module in model.shapes:
        layer = int(module.split("layers.")[1].split(".")[0])
        wanted = sources[layer]
        if wanted is None:
            assert module not in result.expert.z
            assert module in result.report.untouched
        else:
            assert layer_of(result.expert.z[module]) == wanted
    report = result.report
    used = {source for source in sources if source is not None}
    assert report.kept_directions == pytest.approx(len(used) / old)
    assert len(report.unused) == 7 * (old - len(used))
    assert report.depths == {"layers": (old, new)}
    assert report.exact == (old == new)
    same = sum(source == layer for layer, source in enumerate(sources))
    assert report.counts()["same layer"] == 7 * same
    norms = [sum(float((z - 1).double().square().sum()) for m, z in expert.z.items()
                 if layer_of(z) in chosen) for chosen in (used, range(old))]  # fmt: skip
    assert report.kept_norm == pytest.approx(norms[0] / norms[1])


def test_an_expert_that_does_not_reach_the_last_layer() -> None:
    old, new = deep(4), deep(8)
    part = Expert(
        numbered(old).card, {m: z for m, z in numbered(old).z.items() if "layers.0." in m}
    )
    assert {layer_of(z) for z in transfer(part, new).expert.z.values()} == {0}
    assert len(transfer(part, new).expert.z) == len(new.shapes)  # as if that were all of it
    told = transfer(part, new, source_layers=4)
    assert {m.split(".")[2] for m in told.expert.z} == {"0", "1"}
    assert told.report.depths == {"layers": (4, 8)}
    with pytest.raises(ConfigError, match="4 layers"):
        transfer(numbered(old), new, source_layers=3)


def test_directions_by_rule() -> None:
    narrow, wide = llama("narrow"), llama("wide", hidden_size=48, intermediate_size=64)
    expert = numbered(narrow)
    up = transfer(expert, wide)
    relative = transfer(expert, wide, directions="relative")
    for module, length in wide.shapes.items():
        source = expert.z[module]
        wanted = torch.ones(length)
        kept = min(length, len(source))
        wanted[:kept] = source[:kept]
        assert torch.equal(up.expert.z[module], wanted)
        places = [int(k * (len(source) - 1) / (length - 1) + 0.5) for k in range(length)]
        assert torch.equal(relative.expert.z[module], source[places])
    assert up.report.counts()["extended"] == len(wide.shapes)
    assert not up.report.exact
    assert up.report.kept_directions == relative.report.kept_directions == 1.0

    down = transfer(numbered(wide), narrow)
    assert down.report.counts()["cut"] == len(narrow.shapes)
    total = sum(wide.shapes.values())
    assert down.report.kept_directions == pytest.approx(sum(narrow.shapes.values()) / total)
    assert 0 < down.report.kept_norm < down.report.kept_directions  # later ones are larger here
    assert all(match.kept == match.length for match in down.report.matches)


def test_what_wraps_the_language_model_does_not_matter() -> None:
    text, seeing = llama(), llava()
    there = transfer(numbered(text), seeing)
    assert there.report.exact
    assert all("language_model" in module for module in there.expert.z)
    whole = transfer(numbered(text), llava("all+vision"))
    assert whole.report.counts()["untouched"] > 0
    assert not any("vision" in module for module in whole.expert.z)
    back = transfer(random_expert(llava("all+vision"), "eyes"), text)
    assert set(back.expert.z) == set(text.shapes)
    assert any("vision_tower" in module for module in back.report.unused)
    assert not back.report.exact
    assert back.report.kept_directions < 1


def test_fused_layers_do_not_match_and_are_named() -> None:
    with pytest.raises(ExpertMismatchError, match=r"attn\.c_attn.*") as caught:
        transfer(random_expert(llama(), "math"), gpt2())
    for text in ("'math'", "'llama'", "'gpt2'", "mlp.down_proj"):
        assert text in str(caught.value)
    phi = llama("phi", "Phi3Config")
    partly = transfer(random_expert(llama(), "math"), phi)
    assert {m.rpartition(".")[2] for m in partly.expert.z} == {"o_proj", "down_proj"}
    assert "self_attn.q_proj" in partly.report.to_dict()["kinds unused"]
    assert "self_attn.qkv_proj" in partly.report.to_dict()["kinds untouched"]


def test_an_expert_that_changes_nothing_loses_nothing() -> None:
    old = deep(4)
    report = transfer(Expert.identity(old, "one"), deep(2)).report
    assert (report.moved, report.kept_directions, report.kept_norm) == (0, 1.0, 1.0)


def test_a_path_of_this_machine_is_not_told() -> None:
    old = llama("/home/somebody/secret/tiny")
    card = transfer(random_expert(old, "x"), llama("new")).expert.card
    assert card.training["base"] == "tiny"
    assert "somebody" not in str(card.to_dict())


def test_what_is_refused() -> None:
    model = llama()
    expert = random_expert(model, "x")
    for wrong in ({"layers": "width"}, {"directions": "any"}):
        with pytest.raises(ConfigError, match="give one of"):
            transfer(expert, model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot name"):
        transfer(expert, model, name="no name")
    broken = Expert(expert.card, {**expert.z, next(iter(expert.z)): torch.full((16,), torch.nan)})
    with pytest.raises(ExpertFormatError):
        transfer(broken, model)
