"""Arguments held to the texts of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from t2agent.engine.argument_values import filled, held, numeric


def tool(name: str, description: str, required: Sequence[str] | None = None, **given: Any) -> Any:
    properties = {k: v if isinstance(v, dict) else {"type": v} for k, v in given.items()}
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else list(required),
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def alike(texts: Sequence[str], others: Sequence[str]) -> list[list[float]]:
    """Stands for an encoder that knows nothing: places and lengths decide."""
    return [[0.0] * len(others) for _ in texts]


def arguments(made: Any, *texts: str) -> Any:
    found = filled(made, texts, alike)
    return None if found is None else found["function"]["parameters"]["enum"][0]


FEED = tool("feed_pet", "Feeds a pet.", pet="string", grams="integer")


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ("Feed the cat 40 grams.", {"pet": "cat", "grams": 40}),
        ("Please feed the pet Mora with 7 grams!", {"pet": "Mora", "grams": 7}),
        ('Feed "old Tom" 12 grams.', {"pet": "old Tom", "grams": 12}),
        ("Feed Tom's 'big dog' 12 grams.", {"pet": "big dog", "grams": 12}),
        ("Feed “你好” 12 grams.", {"pet": "你好", "grams": 12}),
    ],
)
def test_values_are_neither_function_words_nor_the_tools_own(request_: str, wanted: Any) -> None:
    assert arguments(FEED, request_) == wanted


def test_each_value_is_from_another_place_and_in_the_order_of_the_arguments() -> None:
    bus = tool("find_bus", "Finds a bus.", start="string", stop="string")
    found = arguments(bus, "Find a bus from Market Street to Central Park.")
    assert found == {"start": "Market Street", "stop": "Central Park"}
    photo = tool("resize", "Resizes a photo.", width="integer", height="integer")
    assert arguments(photo, "Resize the photo to 800 by 600.") == {"width": 800, "height": 600}


def test_the_names_of_arguments_tell_values_apart() -> None:
    def knowing(texts: Sequence[str], others: Sequence[str]) -> list[list[float]]:
        return [[float((a, b) == ("day", "on Friday")) for b in others] for a in texts]

    meet = tool("meet", "Plans a meeting.", day="string", person="string")
    found = filled(meet, ["Plan a meeting with Sarah on Friday."], knowing)
    assert found is not None
    assert found["function"]["parameters"]["enum"] == [{"day": "Friday", "person": "Sarah"}]


def test_choices_lists_and_truth_values() -> None:
    sizes = {"type": "string", "enum": ["small", "large"]}
    pizza = tool("pizza", "Orders a pizza.", topping="string", size=sizes)
    assert arguments(pizza, "Order a large pizza with olives.") == {
        "topping": "olives",
        "size": "large",
    }
    numbers = {"type": "array", "items": {"type": "integer"}}
    assert arguments(tool("sort", "Sorts.", numbers=numbers), "Sort 4, 10, 2.") == {
        "numbers": [4, 10, 2]
    }
    words = {"type": "array", "items": {"type": "string"}}
    assert arguments(tool("mark", "Marks things.", tags=words), "Mark red, green and blue.") == {
        "tags": ["red", "green", "blue"]
    }
    assert arguments(tool("lamp", "Lights.", on="boolean"), "Light it.")["on"] in (True, False)


def test_lists_take_what_commas_join_and_no_other_argument_has() -> None:
    words = {"type": "array", "items": {"type": "string"}}
    mail = tool("email", "Emails people.", recipients=words, subject="string")
    assert arguments(mail, 'Email Tom, Ana and Li the subject "Monday".') == {
        "recipients": ["Tom", "Ana", "Li"],
        "subject": "Monday",
    }
    numbers = {"type": "array", "items": {"type": "integer"}}
    mean = tool("average", "Averages.", values=numbers, of="string")
    assert arguments(mean, "Average 4, 10 and 2 sheep.")["values"] == [4, 10, 2]


def test_a_number_beside_an_arguments_name_is_its_value() -> None:
    hotel = tool("hotel", "Books rooms.", guests="integer", nights="integer")
    assert arguments(hotel, "A room for 3 nights, 2 guests.") == {"guests": 2, "nights": 3}
    assert arguments(hotel, "Nights: 3, guests: 2.") == {"guests": 2, "nights": 3}


def test_prepositions_are_told_to_the_encoder() -> None:
    seen: list[str] = []

    def listening(texts: Sequence[str], others: Sequence[str]) -> list[list[float]]:
        seen.extend(others)
        return alike(texts, others)

    filled(tool("fly", "Flies.", origin="string"), ["I fly from Oslo to the Rome."], listening)
    assert {"from Oslo", "to Rome"} <= set(seen)


def test_optional_arguments_are_left_out_where_the_texts_have_no_value() -> None:
    wake = tool("wake", "Wakes somebody.", ["person"], person="string", minutes="integer")
    assert arguments(wake, "Wake Ana.") == {"person": "Ana"}
    assert arguments(wake, "Wake Ana in 5 minutes.") == {"person": "Ana", "minutes": 5}


def test_what_cannot_be_copied_is_left_to_the_model() -> None:
    where = {"type": "object", "properties": {"x": {"type": "integer"}}}
    assert filled(tool("go", "Goes.", where=where), ["Go to 3."], alike) is None
    assert filled(FEED, ["Feed it."], alike) is None  # no number
    assert filled(tool("clock", "Tells the time."), ["What time is it?"], alike) is None
    dated = {"type": "string", "format": "date"}
    assert filled(tool("day", "Tells the day.", date=dated), ["Which day?"], alike) is None
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"properties": 3}}}
    assert filled(odd, ["hello"], alike) is None
    assert held(odd, ["hello"])["function"]["name"] == "odd"


def test_what_is_held_and_what_is_not() -> None:
    schema = held(
        tool(
            "note",
            "Writes a note.",
            text="string",
            count="integer",
            price="number",
            tags={"type": "array", "items": {"type": "string"}},
            kind={"enum": ["a", "b"]},
            sure="boolean",
        ),
        ["Note sheep 3 times at 2.50 and 20 * 4."],
    )["function"]["parameters"]["properties"]
    assert schema["count"]["enum"] == [3, 20, 4]
    assert schema["price"]["enum"] == [3, 2.5, 20, 4]
    assert "sheep" in schema["text"]["enum"]
    assert schema["tags"]["items"]["enum"] == schema["text"]["enum"]
    assert schema["kind"] == {"enum": ["a", "b"]}
    assert schema["sure"] == {"type": "boolean"}


def test_calculations_and_quotations_are_values_as_they_stand() -> None:
    calculator = tool("calculator", "Works out an expression.", expression="string")
    allowed = held(calculator, ["What is 12 + 7 - 9?"])["function"]["parameters"]
    assert "12 + 7 - 9" in allowed["properties"]["expression"]["enum"]
    said = held(tool("say", "Speaks.", text="string"), ['Say "to be or not to be" now.'])
    assert said["function"]["parameters"]["properties"]["text"]["enum"][0] == "to be or not to be"


def test_a_text_without_values_holds_nothing_back() -> None:
    schema = held(FEED, ["the and of"])["function"]["parameters"]["properties"]
    assert schema == FEED["function"]["parameters"]["properties"]


def test_long_texts_take_no_time_and_hold_nothing_back() -> None:
    text = " ".join(f"word{i}" for i in range(3000))
    schema = held(FEED, [text])["function"]["parameters"]["properties"]
    assert schema["pet"] == {"type": "string"}
    assert filled(FEED, [text + " 3"], alike) is not None


def test_strings_may_be_left_free() -> None:
    schema = held(FEED, ["Feed the cat 40 grams."], strings=False)["function"]["parameters"]
    assert schema["properties"] == {
        "pet": {"type": "string"},
        "grams": {"type": "integer", "enum": [40]},
    }
    assert not numeric(FEED)
    assert numeric(tool("at", "Looks.", x="integer", y="number"))
    assert not numeric(tool("none", "Has none."))
