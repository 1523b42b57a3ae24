"""PEFT's adapters on the trainer: they learn, resume, are saved, and leave the base as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2agent.errors import ConfigError, ExpertFormatError, ExpertMismatchError
from t2agent.experts.expert import Expert
from t2agent.models.generate import generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.train import Example, ExampleTask, train_expert
from t2agent.train.peft import Adapted, load_adapter, train_adapter
from tests.models import build_text_model, tiny_text_model
from tests.unit.tasks.sandbox.untouched import logits, same_base

FAST: dict[str, Any] = {
    "progress": False, "max_tokens": 3, "prompts": 4, "samples": 4, "validate_every": 2,
    "mixed_precision": "no",
}  # fmt: skip
KINDS = [("lora", 2), ("ia3", None)]


def vowel_first(reply: str, example: Example) -> float:
    return 1.0 if any(letter in "aeiou" for letter in reply[:2]) else -1.0


def vowels(reply: str, example: Example) -> float:
    """Never saturates."""
    return sum(letter in "aeiou" for letter in reply) / max(1, len(reply)) - 0.5


def make_task(reward: Any = vowels) -> ExampleTask:
    return ExampleTask("vowels", [Example(f"say {i}", "the dog") for i in range(40)], reward)


def same(first: Adapted, second: Adapted) -> bool:
    mine, others = first.adapter.parameters, second.adapter.parameters
    return list(mine) == list(others) and all(torch.equal(v, others[n]) for n, v in mine.items())


@pytest.mark.parametrize(("kind", "rank", "rate"), [("lora", 2, 0.02), ("ia3", None, 0.1)])
def test_reinforce_learns_a_bandit(kind: Any, rank: int | None, rate: float) -> None:
    model, task = build_text_model(), make_task(vowel_first)
    options = {**FAST, "prompts": 8, "samples": 8, "learning_rate": rate}
    adapted = train_adapter(model, task, kind=kind, rank=rank, steps=14, **options)
    assert adapted.scores["val_base"] < 0.0
    assert adapted.scores["val"] > 0.7
    tests = task.split("test")
    with adapted.active():
        replies = generate(model, [Prompt.of(e) for e in tests], GenerationOptions(max_tokens=3))
    assert sum(vowel_first(r.text, e) for r, e in zip(replies, tests, strict=True)) > 0


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_sft_raises_the_probability_of_the_answers(
    kind: Any, rank: int | None, tmp_path: Path
) -> None:
    adapted = train_adapter(
        build_text_model(), make_task(), kind=kind, rank=rank, method="sft", steps=20,
        checkpoint=tmp_path, learning_rate=0.05, patience=0, **FAST,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert rows[-1]["loss"] < 0.5 * rows[1]["loss"]
    assert adapted.training["method"] == "sft"


@pytest.mark.parametrize(("kind", "rank", "rate"), [("lora", 2, 0.05), ("ia3", None, 0.2)])
def test_sft_teaches_a_reply(kind: Any, rank: int | None, rate: float) -> None:
    examples = [Example(f"say {i}", "river") for i in range(40)]
    task = ExampleTask("river", examples, "exact")
    options = {**FAST, "max_tokens": 8, "learning_rate": rate, "patience": 0, "validate_every": 10}
    adapted = train_adapter(
        build_text_model(), task, kind=kind, rank=rank, method="sft", steps=60, **options
    )
    assert (adapted.scores["val_base"], adapted.scores["val"]) == (-1.0, 1.0)
    with adapted.active() as model:
        (reply,) = generate(model, [Prompt.of(Example("say 99", ""))], GenerationOptions())
    assert reply.text == "river"


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_the_best_values_are_kept_not_the_last(kind: Any, rank: int | None) -> None:
    calls = iter(range(10_000))  # each reply is judged worse than all before
    task = make_task(lambda reply, example: -next(calls) / 10_000)
    model = build_text_model()
    options = {**FAST, "kind": kind, "rank": rank, "patience": 0}
    adapted = train_adapter(model, task, steps=3, **options)
    assert (adapted.training["best_step"], adapted.training["steps"]) == (0, 3)
    before = logits(model)
    with adapted.active(merged=False):
        assert torch.equal(logits(model), before)


def test_the_samples_are_those_of_an_expert_with_the_same_seed() -> None:
    class Seen:
        name, seen = "seen", []  # type: ignore[var-annotated]
        reward = staticmethod(vowels)

        def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
            self.seen.append((n, seed, split))
            return make_task().sample(n, seed=seed, split=split)

    drawn = []
    for train in (train_expert, train_adapter):
        Seen.seen = []
        train(tiny_text_model(), Seen(), steps=3, seed=4, patience=0, **FAST)
        drawn.append(Seen.seen)
    assert drawn[0] == drawn[1]
    assert [split for *_, split in drawn[0]].count("train") == 5  # twice before the steps


@pytest.mark.parametrize("method", ["reinforce", "sft"])
@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_the_base_stays_as_it_is(kind: Any, rank: int | None, method: Any) -> None:
    model = build_text_model()
    check = same_base(model)
    adapted = train_adapter(
        model, make_task(), kind=kind, rank=rank, method=method, steps=2, **FAST
    )
    check()
    for merged in (True, False, None):
        with pytest.raises(KeyError), adapted.active(merged=merged):
            raise KeyError
        check()
    # SVF on the same model, as if nothing had been.
    expert = Expert.identity(model, "ones")
    next(iter(expert.z.values())).fill_(1.5)
    with model.adapted(expert):
        changed = logits(model)
    fresh = build_text_model()
    with fresh.adapted(expert):
        assert torch.equal(logits(fresh), changed)


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_resuming_gives_the_adapter_of_an_unbroken_run(
    kind: Any, rank: int | None, tmp_path: Path
) -> None:
    calls = 0

    def stopping(reply: str, example: Example) -> float:
        nonlocal calls
        calls += 1
        if calls == 40:
            raise KeyboardInterrupt
        return vowels(reply, example)

    options = {**FAST, "kind": kind, "rank": rank, "steps": 5, "patience": 0}
    whole = train_adapter(build_text_model(), make_task(), **options)
    model = build_text_model()
    check = same_base(model)
    with pytest.raises(KeyboardInterrupt):
        train_adapter(model, make_task(stopping), checkpoint=tmp_path, **options)
    check()
    assert 0 < json.loads((tmp_path / "state.json").read_text())["progress"]["step"] < 5
    resumed = train_adapter(build_text_model(), make_task(), checkpoint=tmp_path, **options)
    assert same(whole, resumed)
    assert whole.scores == resumed.scores
    with pytest.raises(ConfigError, match="adapter"):
        train_expert(
            build_text_model(), make_task(), checkpoint=tmp_path, steps=5, patience=0, **FAST
        )
    with pytest.raises(ConfigError, match=r"another run: .*rank"):
        train_adapter(
            build_text_model(), make_task(), checkpoint=tmp_path,
            **{**options, "kind": "lora", "rank": 5},
        )  # fmt: skip


def test_the_record(tmp_path: Path) -> None:
    model = tiny_text_model()
    adapted = train_adapter(model, make_task(), kind="lora", rank=1, steps=1, seed=3, **FAST)
    assert adapted.training["adapter"] == "lora"
    assert adapted.training["parameters"] == adapted.parameters
    assert adapted.training["seed"] == 3
    assert adapted.training["hyper"]["learning_rate"] == 0.002
    adapted.save(tmp_path / "a")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names >= {"adapter_config.json", "adapter_model.safetensors", "training.json"}
    back = load_adapter(model, tmp_path / "a")
    assert same(back, adapted)
    assert (back.scores, back.training) == (adapted.scores, adapted.training)
    with pytest.raises(ExpertMismatchError, match="load that model"):
        load_adapter(build_text_model(seed=1), tmp_path / "a")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "a"
    train_adapter(tiny_text_model(), make_task(), rank=1, steps=1, **FAST).save(folder)
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        {"training.json": None},
        {"training.json": b"{"},
        {"training.json": b"[]"},
        {"adapter_model.safetensors": None},
        {"adapter_model.safetensors": b"no"},
        {"modules": 3},
        {"modules": "("},
        {"scores": None},
        {"training": {}},
        {"training": {"adapter": "lokr", "rank": 1}},
        {"training": {"adapter": ["lora"], "rank": 1}},
        {"training": {"adapter": "lora", "rank": "1"}},
        {"training": {"adapter": "lora", "rank": None}},
        {"training": {"adapter": "ia3", "rank": 1}},
    ],
    ids=str,
)
def test_damaged_adapters(damage: dict[str, Any], saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    shutil.copytree(saved, folder)
    record = json.loads((folder / "training.json").read_text())
    for name, content in damage.items():
        if name in record:
            (folder / "training.json").write_text(json.dumps({**record, name: content}))
        elif content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    with pytest.raises(ExpertFormatError, match="train_adapter"):
        load_adapter(tiny_text_model(), folder)


@pytest.mark.parametrize("change", ["missing", "more", "shape", "rank"])
def test_tensors_that_do_not_fit(change: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    shutil.copytree(saved, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = min(tensors)
    if change == "missing":
        del tensors[name]
    elif change == "more":
        tensors["more"] = torch.ones(1)
    elif change == "shape":
        tensors[name] = tensors[name].T.contiguous()
    else:
        record = json.loads((folder / "training.json").read_text())
        record["training"]["rank"] = 2
        (folder / "training.json").write_text(json.dumps(record))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ExpertMismatchError, match="more" if change == "more" else "lora_A"):
        load_adapter(tiny_text_model(), folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lokr"}, "lora, dora, .*ia3"),
        ({"kind": "ia3", "rank": 2}, "leave it out"),
        ({"kind": "road", "rank": 2}, "leave it out"),
        ({"kind": "vera"}, "rank"),
        ({"rank": 0}, "rank"),
        ({"directions": 3}, "no singular directions"),
        ({"evenness": 0.5}, "evenness is 0.5.*no singular directions"),
        ({"modules": "nowhere"}, "matches none"),
        ({"steps": 0}, "steps"),
    ],
)
def test_unusable_options(options: dict[str, Any], message: str) -> None:
    check = same_base(tiny_text_model())
    with pytest.raises(ConfigError, match=message):
        train_adapter(tiny_text_model(), make_task(), **{**FAST, **options})
    check()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [("lora", "reinforce"), ("ia3", "sft")])
def test_t2_nano_improves(kind: Any, method: Any, tmp_path: Path) -> None:
    from t2agent.nano.tasks import TASKS

    model = T2Model.from_pretrained("t2-nano")
    check = same_base(model)
    train_adapter(
        model, TASKS["reasoning"], kind=kind, method=method, steps=6, prompts=16, validation=4,
        validate_every=6, patience=0, checkpoint=tmp_path, progress=False, learning_rate=0.01,
    )  # fmt: skip
    check()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()][1:]
    key, sign = ("loss", -1) if method == "sft" else ("reward", 1)
    first, last = (sum(row[key] for row in part) for part in (rows[:2], rows[-2:]))
    assert sign * last > sign * first
