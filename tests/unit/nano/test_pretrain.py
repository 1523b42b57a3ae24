"""Pretraining: every stage runs, and a resumed run ends where an unbroken one does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from t2agent.nano import corpus, processor
from t2agent.nano.architecture import build
from t2agent.nano.pretrain import _start, run_stage, write_base
from t2agent.nano.stages import STAGES
from t2agent.nano.trainee import Trainee, take_over


@pytest.fixture(autouse=True)
def _eager() -> object:
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_and_resumes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Muon's five iterations are in bfloat16, which many processors cannot multiply by themselves:
    # they took most of this test.
    monkeypatch.setattr(torch.optim, "Muon", partial(torch.optim.Muon, ns_steps=1))
    tokenizer = processor.train_tokenizer(corpus.texts(500, 0))
    stage = replace(STAGES[name], steps=2, rows=min(STAGES[name].rows, 1))
    stage = replace(stage, images=min(stage.images, 2))
    weights = {}
    for folder, stops in (("whole", [2]), ("broken", [1, 2])):
        for last in stops:
            # The schedule is the whole run's; the process ends after `last` steps.
            trainee = Trainee(build(tokenizer, seed=0)).train()
            before = {n: p.detach().clone() for n, p in trainee.named_parameters()}
            run_stage(trainee, tokenizer, stage, tmp_path / folder, 0, last=last)
        state = torch.load(tmp_path / folder / name / "state.pt", weights_only=True)
        weights[folder] = state["weights"]
    changed = {n for n, was in before.items() if not torch.equal(weights["whole"][n], was)}
    vision = {n for n in before if ".vision_model." in n or n.startswith(("what.", "tone."))}
    if name == "vision":
        assert changed == vision
    elif name == "text":
        assert changed
        assert not changed & vision
    else:
        assert changed > vision
    for key, whole in weights["whole"].items():
        assert torch.equal(whole, weights["broken"][key]), key
    lines = (tmp_path / "broken" / f"{name}.jsonl").read_text().splitlines()
    assert len(lines) == 2


def test_a_stage_starts_with_what_the_stages_before_it_trained(tmp_path: Path) -> None:
    tokenizer = processor.train_tokenizer(corpus.texts(100, 0))
    stage = replace(STAGES["vision"], steps=1, images=1)
    before = Trainee(build(tokenizer, seed=0)).train()
    run_stage(before, tokenizer, stage, tmp_path, 0)
    trainee = Trainee(build(tokenizer, seed=1))
    had = {n: p.detach().clone() for n, p in trainee.named_parameters()}
    _start(trainee, STAGES["joint"], tmp_path)
    trained = dict(before.named_parameters())
    for name, now in trainee.named_parameters():
        seeing = ".vision_model." in name or name.startswith(("what.", "tone."))
        assert torch.equal(now, trained[name] if seeing else had[name]), name


def test_a_model_takes_over_the_weights_of_another_with_its_own_tokenizer(tmp_path: Path) -> None:
    before = processor.train_tokenizer(corpus.texts(100, 0))
    now = processor.train_tokenizer(["Zanzibar is far. Zanzibar is near."] * 20)
    old, model = build(before, seed=0), build(now, seed=1)
    write_base(old, before, tmp_path / "base")
    take_over(model, now, tmp_path / "base")
    had = {name: weight.float() for name, weight in old.state_dict().items()}
    tokens = ("embed_tokens.weight", "lm_head.weight")
    for name, weight in model.state_dict().items():
        if not name.endswith(tokens):
            assert torch.equal(weight, had[name]), name
    source = next(w for n, w in had.items() if n.endswith(tokens))
    given = model.get_input_embeddings().weight
    end = processor.END
    assert torch.equal(
        given[now.convert_tokens_to_ids(end)], source[before.convert_tokens_to_ids(end)]
    )
    word = "Zanzibar"
    assert word in now.get_vocab()
    assert word not in before.get_vocab()
    pieces = before.encode(word, add_special_tokens=False)
    assert torch.allclose(given[now.get_vocab()[word]], source[pieces].mean(0))
