from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import given
from hypothesis import strategies as st

from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.experts.folder import CONFIG_FILE, README_FILE, parse_config
from t2agent.experts.registry import Registry
from t2agent.paths import bundled, public_name

FULL = ExpertCard(
    "math-2.0_x",
    description='Sums: "two"\n--- and more',
    examples=("What is 2 + 2?", "Add\n7 and 8"),
    modality="image",
    base="org/base",
    base_fingerprint="abc",
    training={"method": "reinforce", "steps": 25},
    scores={"math": 0.97},
    license="apache-2.0",
    caution=0.5,
    beams=4,
)


@pytest.mark.parametrize("name", ["a", "7b", "A.b_c-d", "x" * 64])
def test_names_that_are_fine(name: str) -> None:
    assert ExpertCard(name).name == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, ".hidden", "-x", "_x", "a/b", "..", "a b", "é", "a\n", None, 3]
)
def test_names_that_are_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="cannot name an expert"):
        ExpertCard(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", None),
        ("description", "half a pair: \ud800"),
        ("examples", "one string"),
        ("examples", [1]),
        ("examples", 7),
        ("examples", ["\udc00"]),
        ("modality", "sound"),
        ("base", 1),
        ("base_fingerprint", None),
        ("training", [1]),
        ("training", {"loss": float("nan")}),
        ("scores", {"x": object()}),
        ("scores", {"x": "\ud800"}),
        ("license", 2),
        ("caution", float("nan")),
        ("caution", True),
        ("caution", "much"),
        ("beams", 0),
        ("beams", 17),
        ("beams", True),
        ("beams", 2.0),
    ],
)
def test_a_wrong_field_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        ExpertCard("x", **{field: value})  # type: ignore[arg-type]


def test_a_card_survives_json() -> None:
    assert ExpertCard.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


def test_a_card_keeps_no_hold_of_what_it_was_given() -> None:
    training = {"steps": 1}
    card = ExpertCard("x", training=training)
    training["steps"] = 2
    assert card.training == {"steps": 1}


def test_keys_of_later_versions_are_left_out() -> None:
    assert ExpertCard.from_dict({"name": "x", "colour": "red"}) == ExpertCard("x")


@pytest.mark.parametrize("plain", [None, [], {}, "x", {"name": ""}])
def test_what_is_no_card_is_refused(plain: object) -> None:
    with pytest.raises(ConfigError):
        ExpertCard.from_dict(plain)


def front_matter(readme: str) -> dict[str, object]:
    return yaml.safe_load(readme.removeprefix("---\n").split("\n---\n")[0])  # type: ignore[no-any-return]


def test_the_readme_is_a_model_card_for_the_hub() -> None:
    readme = FULL.readme(7168)
    assert front_matter(readme) == {
        "library_name": "t2agent",
        "pipeline_tag": "image-text-to-text",
        "base_model": "org/base",
        "base_model_relation": "adapter",
        "license": "apache-2.0",
        "tags": ["t2agent", "transformer-squared", "svf", "image"],
        "metrics": ["math"],
        "model-index": [
            {
                "name": "math-2.0_x",
                "results": [
                    {
                        "task": {"type": "image-text-to-text"},
                        "dataset": {"type": "math-2.0_x", "name": "math-2.0_x"},
                        "metrics": [{"type": "math", "name": "math", "value": 0.97}],
                    }
                ],
            }
        ],
    }
    for text in ("# math-2.0_x", "7,168 parameters", "- Add 7 and 8", '"steps": 25', "0.97"):
        assert text in readme


def test_the_readme_of_a_bare_card() -> None:
    front = front_matter(ExpertCard("x").readme(1))
    assert front["pipeline_tag"] == "text-generation"
    optional = {"base_model", "base_model_relation", "license", "metrics", "model-index"}
    assert not optional & front.keys()


def test_the_hubs_library_reads_the_readme() -> None:
    scores = {
        "val": 0.9,
        "val_base": 0.2,
        "by task": {"math": 1, "code": 0},
        "good": True,
        "x": "y",
    }
    card = ExpertCard("sums", base="org/base", training={"task": "math"}, scores=scores)
    data = ModelCard(card.readme(5)).data
    assert data.library_name == "t2agent"
    assert data.base_model == "org/base"
    assert data.base_model_relation == "adapter"
    assert data.model_name == "sums"
    found = {one.metric_type: one.metric_value for one in data.eval_results}
    assert found == {"val": 0.9, "val_base": 0.2, "by task.math": 1, "by task.code": 0}
    assert {one.dataset_name for one in data.eval_results} == {"math"}
    ModelCardData(**data.to_dict())  # it validates what it is given


@pytest.mark.parametrize(
    ("given_license", "front"),
    [
        ("MIT", {"license": "mit"}),
        ("CC-BY-NC-SA-4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("other", {"license": "other"}),
        ("Acme's own", {"license": "other", "license_name": "Acme's own"}),
        ("mit\n---\nlicense: gpl", {"license": "other", "license_name": "mit\n---\nlicense: gpl"}),
    ],
)
def test_a_license_that_the_hub_does_not_know_is_another(
    given_license: str, front: dict[str, str]
) -> None:
    found = front_matter(ExpertCard("x", license=given_license).readme(1))
    assert {key: found[key] for key in found if key.startswith("license")} == front


@given(st.text(), st.text(), st.dictionaries(st.text(), st.floats(-1, 1) | st.integers()))
def test_whatever_a_card_says_its_readme_can_be_read(
    base: str, license_: str, scores: dict[str, float]
) -> None:
    readme = ExpertCard("x", "a\n---\nb", base=base, license=license_, scores=scores).readme(1)
    data = ModelCard(readme).data
    assert data.library_name == "t2agent"
    assert data.tags == ["t2agent", "transformer-squared", "svf", "text"]
    # Unicode's line breaks may have become spaces.
    assert (data.base_model or "").split() == public_name(base).split()
    told = data.license if data.license_name is None else data.license_name
    assert (told or "").lower().split() == license_.lower().split()
    found = [(one.metric_type.split(), one.metric_value) for one in data.eval_results or ()]
    assert found == [(key.split(), value) for key, value in islice(scores.items(), 100)]


def test_a_string_of_another_class_is_a_string_on_the_card() -> None:
    class Own(str):
        __slots__ = ()

    front = front_matter(ExpertCard(Own("x"), base=Own("org/b"), license=Own("Own")).readme(1))
    assert (front["base_model"], front["license_name"]) == ("org/b", "Own")


@pytest.mark.parametrize("name", Registry("t2-nano").names())
def test_the_shipped_experts_readmes_are_those_of_their_cards(name: str) -> None:
    folder = bundled("experts") / "t2-nano" / name
    config = parse_config(folder, (folder / CONFIG_FILE).read_bytes())
    assert (folder / README_FILE).read_text("utf-8") == config.card.readme(config.parameters)


def test_scores_that_are_nested_deeply_are_left_out() -> None:
    scores: dict[str, Any] = {"a": 1.0}
    for _ in range(200):
        scores = {"a": scores}
    assert "model-index" not in front_matter(ExpertCard("x", scores=scores).readme(1))


def test_the_readme_does_not_tell_a_path() -> None:
    readme = ExpertCard("x", base="/data/someone/models/tiny").readme(1)
    assert "someone" not in readme
    assert front_matter(readme)["base_model"] == "tiny"
