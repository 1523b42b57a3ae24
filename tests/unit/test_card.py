from __future__ import annotations

import json

import pytest
import yaml

from t2agent.card import ExpertCard
from t2agent.errors import ConfigError

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
    return yaml.safe_load(readme.split("---\n")[1])  # type: ignore[no-any-return]


def test_the_readme_is_a_model_card_for_the_hub() -> None:
    readme = FULL.readme(7168)
    assert front_matter(readme) == {
        "library_name": "t2agent",
        "pipeline_tag": "image-text-to-text",
        "base_model": "org/base",
        "license": "apache-2.0",
        "tags": ["t2agent", "transformer-squared", "svf", "image"],
    }
    for text in ("# math-2.0_x", "7,168 parameters", "- Add 7 and 8", '"steps": 25', "0.97"):
        assert text in readme


def test_the_readme_of_a_bare_card() -> None:
    front = front_matter(ExpertCard("x").readme(1))
    assert front["pipeline_tag"] == "text-generation"
    assert not {"base_model", "license"} & front.keys()


def test_the_readme_does_not_tell_a_path() -> None:
    readme = ExpertCard("x", base="/data/someone/models/tiny").readme(1)
    assert "someone" not in readme
    assert front_matter(readme)["base_model"] == "tiny"
