from __future__ import annotations

import dataclasses
import json

import pytest
from PIL import Image

from t2agent.bench.paper.suite import draw, nano_suite, real_suite
from t2agent.errors import ConfigError, ModalityError
from t2agent.nano.tasks import COMBINATIONS, DOMAINS, SIBLINGS
from t2agent.train import Example, ExampleTask
from tests.models import tiny_vision_model
from tests.unit.bench.paper_suite import Words, files, shared, suite


def test_the_suite_of_t2_nano():
    found = nano_suite(shared())

    assert found.domains == DOMAINS
    assert found.unseen == (*SIBLINGS.values(), *COMBINATIONS)
    assert found.expected("math") == found.expected("math_hard") == "math"
    assert found.expected("math_json") is None
    assert set(found.descriptions) == set(DOMAINS)


def test_real_tasks_with_the_unseen_ones_of_the_paper():
    found = real_suite(shared(), ["mbpp", "arc_easy", "math"])

    assert found.domains == ("mbpp", "arc_easy", "math")
    assert found.siblings == {"mbpp": "humaneval", "arc_easy": "arc_challenge"}
    assert found.unseen == ("humaneval", "arc_challenge")
    assert found.expected("humaneval") == "mbpp"
    assert found.combinations == {}
    assert found.conflicting("mbpp", "math")
    assert real_suite(shared(), ["gsm8k", "math"]).domains == ("gsm8k",)


def test_tasks_from_files(tmp_path):
    found = real_suite(shared(), files(tmp_path))

    assert found.domains == tuple(found.tasks) == ("sums", "poems")
    assert found.unseen == ()
    assert set(found.checked()) == {"sums", "poems"}


def test_a_file_beside_another_is_its_unseen_task(tmp_path):
    sums, poems = files(tmp_path)
    lines = [{"prompt": f"{n} plus {n}?", "answer": str(2 * n)} for n in range(3)]
    (tmp_path / "sums.unseen.jsonl").write_text("\n".join(map(json.dumps, lines)))

    found = real_suite(shared(), [sums, poems])

    assert found.domains == ("sums", "poems")
    assert found.siblings == {"sums": "sums_unseen"}
    assert len(found.tasks["sums_unseen"].split("test")) == 3
    assert "sums_unseen" in found.checked()


def test_what_is_no_suite(tmp_path):
    sums, _ = files(tmp_path)
    with pytest.raises(ConfigError, match=r"--task.*gsm8k"):
        real_suite(shared(), [])
    with pytest.raises(ConfigError, match=r"got the task 'gsm9k'.*gsm8k"):
        real_suite(shared(), ["gsm9k"])
    with pytest.raises(ConfigError, match="two tasks are named 'sums'"):
        real_suite(shared(), [sums, sums])


def test_changed_data_are_other_data():
    one = suite().checked()
    other = suite()
    other = dataclasses.replace(other, tasks={**other.tasks, "sums": Words("products")})

    assert one == suite().checked()
    assert {name for name, known in other.checked().items() if known != one[name]} == {"sums"}


def test_a_list_that_is_shorter_than_asked_for_is_drawn_once():
    task = ExampleTask("few", [Example(f"prompt {i}", "x") for i in range(40)])
    examples = draw(task, 100, 0, "test")

    assert sorted(e.prompt for e in examples) == sorted(e.prompt for e in task.split("test"))
    assert len(draw(Words("words"), 100, 0, "test")) == 100


@pytest.mark.parametrize("name", ["classifier", "others"])
def test_names_that_dispatch_needs(name):
    wrong = suite(tasks={name: Words(name)}, domains=(name,), siblings={}, combinations={})
    with pytest.raises(ConfigError, match=name):
        wrong.checked()


def test_a_split_that_is_missing_is_noticed_before_anything_runs():
    untrained = suite(domains=("sums", "poems", "poems_hard"), siblings={"sums": "sums_hard"})
    with pytest.raises(ConfigError, match="no split train"):
        untrained.checked()


def test_images_for_a_model_that_reads_text_only():
    picture = Image.new("RGB", (8, 8))
    task = ExampleTask("look", [Example(f"what? {i}", "x", picture) for i in range(30)])
    parts = {"tasks": {"look": task}, "domains": ("look",), "siblings": {}, "combinations": {}}
    with pytest.raises(ModalityError, match="'look' has images"):
        suite(**parts).checked()

    assert suite(tiny_vision_model(), **parts).checked().keys() == {"look"}
