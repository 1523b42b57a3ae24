"""Decoding by packed weights, against the same weights in transformers' own model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from t2agent import Expert, ExpertCard, T2Model
from t2agent.engine.two_passes import Engine
from t2agent.models import packed
from t2agent.models.drafting import CachedSteps
from t2agent.models.generate import Prompt, encode, generate
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_steps import Steps, packed_weights
from t2agent.models.slots import Held
from tests.unit.models.test_gguf import write

pytestmark = pytest.mark.skipif(not packed.available(), reason="no fast kernel here")

PROMPTS = [Prompt.user("ab 12 cd"), Prompt.user("a longer prompt, with more tokens: 1 2 3")]


@pytest.fixture(scope="module", params=[True, False], ids=["bfloat16", "widened"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> T2Model:
    folder = tmp_path_factory.mktemp("gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("T2AGENT_HOME", str(folder / "home"))
        patch.setattr("t2agent.models.precision.has_bfloat16_units", lambda device: request.param)
        found = T2Model.from_pretrained(write(folder / "tiny.gguf"))
        assert found.model.dtype == (torch.bfloat16 if request.param else torch.float32)
        assert packed_weights(found) is not None
        found.decompose(progress=False)
    return found


def expert(model: T2Model, name: str, seed: int, directions: int = 16) -> Expert:
    draw = torch.Generator().manual_seed(seed)
    z = {}
    for layer, r in model.shapes.items():
        z[layer] = torch.ones(r)
        z[layer][:directions] += torch.randn(min(r, directions), generator=draw)
    return Expert(ExpertCard(name), z)


def compared(
    model: T2Model, prompts: Sequence[Prompt], what: object, sizes: Sequence[int] = (1, 1, 3)
) -> float:
    """How far the logits of tokens after the prompts are from those of the same weights in
    float32, relative to how far bfloat16's are."""
    inputs = encode(model, prompts)
    new = torch.randint(
        3, 200, (len(prompts), sum(sizes)), generator=torch.Generator().manual_seed(0)
    )
    ids = torch.cat([inputs["input_ids"], new], 1)
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)

    def whole() -> torch.Tensor:
        out = model.model(input_ids=ids, attention_mask=mask, position_ids=positions)
        return out.logits[:, -sum(sizes) :].float()

    own = model.model.dtype
    with model.adapted(what), torch.no_grad():  # type: ignore[arg-type]
        cache, start = DynamicCache(), inputs["input_ids"].shape[1]
        model.model(**inputs, position_ids=positions[:, :start], past_key_values=cache)
        made = packed_weights(model)
        assert made is not None
        layers = made.adapted(model)
        assert layers is not None
        steps = Steps.after(made, layers, cache, inputs["attention_mask"], sum(sizes))
        found = torch.cat([steps(part) for part in new.split(list(sizes), 1)], 1)
        again = steps.length = start
        steps(new[:, :1])
        assert steps.length == again + 1
        try:
            model.model.float()
            exact = whole()
            model.model.bfloat16()
            rounded = whole()
        finally:
            model.model.to(own)
    assert (exact - rounded).norm() > 0
    return float((found - exact).norm() / (rounded - exact).norm())


def test_logits_are_as_near_as_bfloat16_s(model: T2Model) -> None:
    assert compared(model, PROMPTS[:1], None) < 2


def test_rows_padding_and_experts(model: T2Model) -> None:
    one, two = expert(model, "one", 1), expert(model, "two", 2)
    assert compared(model, PROMPTS, None) < 2
    assert compared(model, PROMPTS[:1], one) < 3
    assert compared(model, PROMPTS, one) < 3
    assert compared(model, PROMPTS, [one, two]) < 3
    assert compared(model, PROMPTS, [two, None]) < 3


@pytest.mark.parametrize("packed_ones", [True, False])
def test_beginnings_go_on_as_each_alone(model: T2Model, packed_ones: bool) -> None:
    inputs = encode(model, PROMPTS[:1])
    made = packed_weights(model)
    assert made is not None

    def begun(rows: int) -> Steps | CachedSteps:
        cache = DynamicCache()
        with torch.no_grad():
            model.model(**inputs, past_key_values=cache)
        if not packed_ones:
            return CachedSteps(model.model, cache)
        layers = made.adapted(model)
        assert layers is not None
        mask = inputs["attention_mask"].repeat_interleave(rows, 0)
        return Steps.after(made, layers, cache, mask, 8)

    with model.adapted(expert(model, "any", 5)), torch.no_grad():
        steps = begun(4)
        said: list[list[int]] = [[]]
        draw = torch.Generator().manual_seed(0)
        for sources in ([0, 0, 0], [2, 0, 2, 1], [0, 1, 2, 3], [3, 1], [1], [0, 0]):
            new = torch.randint(3, 200, (len(sources), 1), generator=draw)
            steps.branch(sources)
            found = steps(new)
            said = [[*said[at], *token] for at, token in zip(sources, new.tolist(), strict=True)]
            for tokens, logits in zip(said, found, strict=True):
                alone = begun(1)
                for token in tokens:
                    wanted = alone(torch.tensor([[token]]))[0]
                # Up to rounding: how products sum depends on where numbers lie in memory.
                torch.testing.assert_close(logits, wanted, rtol=0, atol=0.1)


@pytest.mark.parametrize("started", [-(10**9), 10**9], ids=["beside", "written"])
def test_experts_stand_beside_weights_or_are_written_into_them(
    model: T2Model, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2agent.models.packed_llama._STARTED", started)
    some, whole = expert(model, "some", 3), expert(model, "whole", 4, directions=64)
    for name in list(some.z)[::2]:
        some.z[name].fill_(1)  # a weight that is left alone beside one that is not
    for one in (some, whole):
        assert compared(model, PROMPTS[:1], one) < 3
        made = packed_weights(model)
        assert made is not None
        with model.adapted(one):
            layers = made.adapted(model)
            assert layers is not None
            assert any(added for _, added in layers) == (started < 0)
            assert made.adapted(model) is layers  # kept
        with model.merged(one):
            assert made.adapted(model) is None


def test_generate_streams_stops_and_ends_alike(model: T2Model) -> None:
    options = GenerationOptions(max_tokens=12)
    pieces: list[str] = []
    [found] = generate(
        model, PROMPTS[:1], options, quantized=True, on_text=lambda _, text: pieces.append(text)
    )
    assert "".join(pieces) == found.text
    assert 1 <= found.completion_tokens <= 12
    both = generate(model, PROMPTS, options, quantized=True)
    assert both[0].token_ids == found.token_ids
    drawn = GenerationOptions(max_tokens=12, temperature=1.0, seed=3)
    assert generate(model, PROMPTS[:1], drawn, quantized=True)[0].token_ids


def test_the_engine_decodes_so_unless_told_not_to(
    model: T2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    step = Steps.__call__

    def counted(self: Steps, tokens: torch.Tensor) -> torch.Tensor:
        used.append(tokens.shape[1])
        return step(self, tokens)

    monkeypatch.setattr(Steps, "__call__", counted)
    options = GenerationOptions(max_tokens=4)
    Engine(model, "off", quantized=False).answer(PROMPTS[:1], options)
    assert not used
    Engine(model, "off").answer(PROMPTS[:1], options)
    assert used


def test_another_file_s_weights_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "home"))
    model = T2Model.from_pretrained(write(tmp_path / "tiny.gguf"))
    with torch.no_grad():
        model.model.model.layers[0].mlp.down_proj.weight.neg_()
    assert packed_weights(model) is None


def test_a_row_s_logits_do_not_depend_on_its_company(model: T2Model) -> None:
    made = packed_weights(model)
    assert made is not None
    experts = (expert(model, "first", 5), None, expert(model, "second", 6), None)
    draw, shape = torch.Generator().manual_seed(0), (made.keys, made.size)
    rows = []
    for number, one in enumerate(experts):
        sizes = (shape[0], 5 + 2 * number, shape[1])
        pairs = [[torch.randn(sizes, generator=draw) for _ in "kv"] for _ in made.layers]
        with model.adapted(one):
            layers = made.adapted(model)
        assert layers is not None
        rows.append((Held(tuple((k, v) for k, v in pairs)), layers))

    def run(places: Sequence[int], groups: Sequence[Sequence[int]]) -> torch.Tensor:
        steps = Steps(made, [], len(places), 32)
        steps.length = max(rows[place][0].length for place in places)
        for at, place in enumerate(places):
            steps.put(at, rows[place][0])
        steps.adapt([(group, rows[places[group[0]]][1]) for group in groups])
        token = torch.full((len(places), 1), 7)
        return torch.cat([steps(token), steps(token)], 1)

    together = run(range(4), [[2], [1, 3]])
    assert not together[0].any()  # it does not go on
    for place in (1, 2, 3):
        assert torch.equal(together[place], run([place], [[0]])[0])
    left = run(range(2), [[1]])  # of two the second alone goes on, in its place
    assert torch.equal(left[1], run([1], [[0]])[0])
