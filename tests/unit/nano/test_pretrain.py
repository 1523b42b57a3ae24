"""Pretraining: every stage runs, and a resumed run ends where an unbroken one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2agent.nano import corpus, processor
from t2agent.nano.architecture import build
from t2agent.nano.pretrain import STAGES, Trainee, run_stage


@pytest.fixture(autouse=True)
def _eager() -> object:
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_and_resumes(name: str, tmp_path: Path) -> None:
    tokenizer = processor.train_tokenizer(corpus.texts(500, 0))
    stage = replace(STAGES[name], steps=3, rows=min(STAGES[name].rows, 4))
    stage = replace(stage, images=min(stage.images, 4))
    weights = {}
    for folder, stops in (("whole", [3]), ("broken", [1, 3])):
        for last in stops:
            # The schedule is the whole run's; the process ends after `last` steps.
            trainee = Trainee(build(tokenizer, seed=0)).train()
            before = {n: p.detach().clone() for n, p in trainee.named_parameters()}
            run_stage(trainee, tokenizer, stage, tmp_path / folder, 0, last=last)
        weights[folder] = load_file(tmp_path / folder / name / "weights.safetensors")
    changed = {n for n, w in weights["whole"].items() if not torch.equal(w, before[n])}
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
    assert len(lines) == 3
