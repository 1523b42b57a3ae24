from __future__ import annotations

import base64
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2agent.errors import ConfigError, ImageRefusedError, ModalityError, T2Error
from t2agent.tasks.conversations import examples_of
from t2agent.tasks.examples import RowExamples, read_examples
from t2agent.tasks.sources import DatasetRows
from t2agent.tasks.task import answer_text, distinct, example_key
from t2agent.train import Example, ExampleTask

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"name": "weather", "arguments": {"town": "Rome"}}
ASKED = {"role": "assistant", "tool_calls": [{"type": "function", "id": "c1", "function": CALL}]}
USER, SAID = {"role": "user", "content": "Rome?"}, {"role": "assistant", "content": "Sunny."}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sun"}


def judge(reply: str, example: Example) -> float:
    return 1.0 if reply == answer_text(example) else -1.0


def of(row: dict[str, Any], turns: Any = "last") -> list[Example]:
    return examples_of(row, DatasetRows([]).image, turns)


def lines(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    text = "\n".join(map(json.dumps, rows)).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder / name


def roles(example: Example) -> list[str]:
    return [message["role"] for message in example.messages]


# --- examples ----------------------------------------------------------------------------------


def test_a_conversation_is_kept_in_one_form() -> None:
    text = {**CALL, "arguments": '{"town": "Rome"}'}
    old = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": text}]}
    messages = ({"role": "developer", "content": "Be kind."}, USER, old, RESULT)
    example = Example(answer="Sunny.", messages=messages, tools=(TOOL,))
    assert example.prompt == "Rome?"
    assert example.image is None
    assert roles(example) == ["system", "user", "assistant", "tool"]
    same = Example(answer="Sunny.", messages=[messages[0], USER, ASKED, RESULT], tools=[TOOL])  # type: ignore[arg-type]
    assert example == same
    assert Example(**{n: getattr(example, n) for n in ("prompt", "answer", "messages", "tools")})


def test_calls_and_results_without_ids_are_paired() -> None:
    calls = [{"name": "weather"}, {"name": "time"}, {"name": "weather"}]
    results = [{"role": "tool", "name": n, "content": n} for n in ("time", "weather", "weather")]
    messages = (USER, {"role": "assistant", "content": "", "tool_calls": calls}, *results)
    found = Example(answer="x", messages=messages).messages
    assert [call["id"] for call in found[1]["tool_calls"]] == ["call_0", "call_1", "call_2"]
    assert [one["tool_call_id"] for one in found[2:]] == ["call_1", "call_0", "call_2"]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"messages": "Hi"}, ConfigError, "'messages' is 'Hi'; needed a list"),
        ({"messages": [{"role": "judge"}]}, ConfigError, r"messages\[0\].*one of system, user"),
        ({"messages": [USER, {"role": "user", "content": 3}]}, ConfigError, r"messages\[1\]: the"),
        ({"messages": [{**USER, "content": [{"type": "audio"}]}]}, ModalityError, "'audio'"),
        ({"messages": [{**USER, "content": [{"type": "image"}]}]}, ImageRefusedError, r"\[0\]"),
        (
            {"messages": [{**USER, "content": [{"type": "image", "path": "/etc/passwd"}]}]},
            ImageRefusedError,
            "files are not read",
        ),
        ({"messages": [USER, {**ASKED, "tool_calls": [3]}]}, ConfigError, "3 is no call"),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "arguments": "{"}]}]},
            ConfigError,
            r"messages\[1\]: the arguments of the call of 'weather' are no JSON",
        ),
        ({"messages": [SAID]}, ConfigError, "of the user"),
        ({"messages": [USER], "prompt": "Oslo?"}, ConfigError, "put these into the messages"),
        ({"prompt": "Hi", "tools": [{"name": "x"}]}, ConfigError, "is no tool"),
        ({"prompt": "Hi", "tools": [TOOL, TOOL]}, ConfigError, "two tools are named"),
        ({"prompt": "Hi", "calls": [CALL]}, ConfigError, "the tools are none"),
        ({"prompt": "Hi", "tools": [TOOL], "calls": [{"name": "t"}]}, ConfigError, "are weather"),
    ],
)
def test_bad_conversations(fields: dict[str, Any], error: type[T2Error], message: str) -> None:
    with pytest.raises(error, match=message):
        Example(**fields)


def test_equal_examples() -> None:
    red, blue = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue"))

    def shown(image: Image.Image, **more: Any) -> Example:
        content = [{"type": "image", "image": image}, {"type": "text", "text": "What?"}]
        return Example(messages=({"role": "user", "content": content},), **more)

    asked = [
        Example("What?"),
        Example("What?", tools=(TOOL,)),
        shown(red),
        shown(red, tools=(TOOL,)),
        shown(blue),
        Example(messages=({"role": "system", "content": "Be kind."}, USER)),
    ]
    assert len({example_key(example) for example in asked}) == len(asked)
    assert example_key(shown(red, answer="x")) == example_key(shown(red.copy(), answer="y"))
    wanted = [shown(red.copy(), tools=(TOOL,), calls=calls) for calls in ((), (CALL,), (CALL,))]
    assert len(distinct(wanted)) == 2


# --- rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ASKED], "tools": [TOOL]},
        {"messages": [USER, ASKED], "tools": json.dumps([TOOL]), "parallel_tool_calls": False},
        {"prompt": [USER], "completion": [ASKED], "tools": [json.dumps(TOOL)]},
        {"prompt": "Rome?", "completion": [ASKED], "tools": [TOOL]},
        {"prompt": "Rome?", "calls": [CALL], "tools": [TOOL]},
        {"messages": [USER], "calls": json.dumps([CALL]), "tools": [TOOL]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Rome?"}]},
                {"role": "assistant", "function_call": {**CALL, "arguments": '{"town": "Rome"}'}},
            ],
            "functions": [TOOL["function"]],
        },
    ],
)
def test_one_request_in_many_forms(row: dict[str, Any]) -> None:
    assert of(row) == [Example("Rome?", tools=(TOOL,), calls=(CALL,))]


def test_what_is_wanted_of_a_conversation() -> None:
    system, more = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "More?"}
    row = {"messages": [system, USER, ASKED, RESULT, SAID, more, SAID], "tools": [TOOL]}
    [last] = of(row)
    assert (last.prompt, last.answer, len(last.messages)) == ("More?", "Sunny.", 6)
    assert [(len(e.messages), e.answer, len(e.calls)) for e in of(row, "all")] == [
        (2, "", 1),
        (4, "Sunny.", 0),
        (6, "Sunny.", 0),
    ]
    unwanted = {"messages": [USER, SAID, more, {**SAID, "weight": 0}]}
    assert of(unwanted) == [Example("Rome?", "Sunny.")]
    greeted = {"messages": [SAID, USER, SAID]}
    assert [roles(example) for example in of(greeted, "all")] == [["assistant", "user"]]
    only = {"prompt": [USER, SAID, more], "completion": [ASKED, RESULT, SAID], "tools": [TOOL]}
    assert [len(example.messages) for example in of(only, "all")] == [3, 5]
    told = {"messages": [USER, ASKED, RESULT], "tools": [TOOL], "answer": "Sunny."}
    assert [(roles(e)[-1], e.answer) for e in of(told)] == [("tool", "Sunny.")]
    reasoned = {"prompt": "6 * 7 - 2?", "answer": "40", "reference": "42 - 2 = 40."}
    assert of(reasoned) == [Example("6 * 7 - 2?", "40", reference="42 - 2 = 40.")]
    old = {"role": "function", "name": "weather", "content": "sun"}
    [again] = of({"messages": [USER, {"role": "assistant", "function_call": CALL}, old, SAID]})
    assert again.messages[2]["tool_call_id"] == again.messages[1]["tool_calls"][0]["id"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "The sky is blue."}, "no 'prompt' among"),
        ({"prompt": [USER]}, "no 'answer' among"),
        ({"messages": [USER]}, "does not end with a message of the assistant"),
        ({"messages": [USER, {**SAID, "weight": 0}]}, "does not end with"),
        ({"messages": [USER, SAID], "prompt": "Rome?"}, "both 'prompt' and 'messages'"),
        ({"messages": [USER, SAID], "answer": "x"}, "leave one of them out"),
        ({"messages": []}, "'messages' is"),
        ({"messages": [USER, "x"]}, r"messages\[1\] is 'x'"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, r"messages\[1\].*neither"),
        ({"prompt": "Rome?", "completion": 3}, "'completion' is 3"),
        ({"prompt": "Rome?", "calls": 3}, "'calls' is 3"),
        ({"prompt": "Rome?", "answer": "x", "reference": 3}, "'reference' is 3"),
        ({"prompt": "Rome?", "answer": "x", "tools": "[{"}, "'tools' is no JSON"),
        ({"prompt": "Rome?", "answer": "x", "tools": [3]}, "3 is no tool"),
        ({"prompt": "Rome?", "answer": "x", "images": "a.png"}, "'images' is 'a.png'"),
        ({"prompt": "Rome?", "answer": "x", "images": ["http://x.org/a.png"]}, "is an address"),
        ({"prompt": "Rome?", "answer": "x", "images": ["../a.png"]}, "not a file in the ex"),
        (
            {"messages": [{**USER, "content": [{"type": "image"}, "What?"]}, SAID]},
            "more places for images than the 0",
        ),
        (
            {
                "messages": [{**USER, "content": [{"type": "image"}, "What?"]}, SAID],
                "images": ["in.png", "in.png"],
            },
            "2 images are given, and the messages have places for 1",
        ),
        (
            {
                "messages": [
                    {**USER, "content": [{"type": "image_url", "image_url": {"url": "../a.png"}}]},
                    SAID,
                ]
            },
            "not a file in the ex",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for file in (tmp_path / "a.png", folder / "in.png"):
        Image.new("RGB", (2, 2)).save(file)
    file = lines(folder, {"prompt": "Hi", "answer": "x"}, row)
    with pytest.raises(ConfigError, match=message) as caught:
        read_examples(file)
    assert "rows.jsonl, line 2: " in str(caught.value)


def test_images_of_rows(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        Image.new("RGB", (2, 2), name).save(tmp_path / f"{name}.png")
    held = base64.b64encode((tmp_path / "blue.png").read_bytes()).decode()
    address = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{held}"}}
    places = [{"type": "image"}, "or", {"type": "image"}, "?"]
    rows = [
        {"prompt": "What?", "answer": "x", "images": ["red.png"]},
        {"messages": [USER, SAID, USER, SAID], "images": ["red.png", "blue.png"]},
        {"messages": [{**USER, "content": places}, SAID], "images": ["red.png", "blue.png"]},
        {"messages": [{**USER, "content": [{"type": "image", "path": "red.png"}, address]}, SAID]},
    ]
    first, *others = read_examples(lines(tmp_path, *rows))
    assert first.messages == ()
    assert first.image is not None
    for example in others:
        colours = [image.getpixel((0, 0)) for image in example.images]
        assert colours == [(255, 0, 0), (0, 0, 255)]
        assert example.image is example.images[0]
    kinds = [[part["type"] for part in e.messages[0]["content"]] for e in others]
    assert kinds == [["image", "image", "text"], ["image", "text", "image", "text"], ["image"] * 2]


# --- files and data sets -----------------------------------------------------------------------


def test_a_packed_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "calls": [CALL], "tools": [TOOL]} for n in range(9)]
    file = lines(tmp_path, *rows, name="calls.jsonl.gz")
    task = ExampleTask.from_jsonl(file, reward=judge)
    assert task.name == "calls"
    assert all(example.calls == (CALL,) for example in task.sample(9, seed=0))
    (tmp_path / "bad.jsonl.gz").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="cannot read the examples"):
        ExampleTask.from_jsonl(tmp_path / "bad.jsonl.gz")


def test_turns_of_one_conversation_are_in_one_split(tmp_path: Path) -> None:
    row = [[{**USER, "content": f"{n}?"}, SAID, USER, SAID] for n in range(60)]
    file = lines(tmp_path, *({"messages": messages} for messages in row))
    task = ExampleTask.from_jsonl(file, reward=judge, turns="all")
    assert len(task) == 120
    for split in ("train", "val", "test"):
        openings = [
            e.messages[0]["content"][0]["text"] if e.messages else e.prompt
            for e in task.split(split)
        ]
        assert all(openings.count(one) == 2 for one in openings)
    with pytest.raises(ConfigError, match="turns is 'first'"):
        ExampleTask.from_jsonl(file, turns="first")  # type: ignore[arg-type]


def test_rows_are_read_when_they_are_sampled(tmp_path: Path) -> None:
    rows = 400
    file = lines(tmp_path, *({"prompt": f"{n} {'x' * 10_000}", "answer": "y"} for n in range(rows)))
    size = file.stat().st_size
    tracemalloc.start()
    task = ExampleTask.from_jsonl(file, reward=judge)
    drawn = task.sample(8, seed=1)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert drawn == task.sample(8, seed=1)
    assert kept < 8 * 10_000 + 100 * rows + 50_000 < size / 20
    with file.open("a") as more:
        more.write("\n")
    with pytest.raises(ConfigError, match="has been changed"):
        task.sample(8, seed=1)


def test_rows_of_a_data_set() -> None:
    datasets = pytest.importorskip("datasets")
    picture = io.BytesIO()
    Image.new("RGBA", (2, 2)).save(picture, "PNG")
    image = {"bytes": picture.getvalue(), "path": None}
    content = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    rows = [
        {
            "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": c}],
            "images": [image],
            "tools": json.dumps([TOOL]),
        }
        for c in ([{"type": "text", "text": "White."}], [{"type": "text", "text": "Nothing."}])
    ]
    table = datasets.Dataset.from_list(rows)
    table = table.cast_column("images", datasets.List(datasets.Image()))
    first, second = RowExamples(DatasetRows(table))
    assert (first.prompt, first.answer, second.answer) == ("What?", "White.", "Nothing.")
    assert first.image is not None
    assert first.image.getpixel((0, 0)) == (255, 255, 255)  # as ChatT2 shows what is transparent
    plain = datasets.Dataset.from_list(
        [
            {"prompt": "Rome?", "calls": [CALL], "tools": [TOOL]},
            {
                "prompt": "When?",
                "calls": [{"name": "time", "arguments": {"zone": "UTC"}}],
                "tools": [{"type": "function", "function": {"name": "time", "strict": True}}],
            },
        ]
    )
    one, other = RowExamples(DatasetRows(plain))
    assert one == Example("Rome?", tools=(TOOL,), calls=(CALL,))  # without "zone": None
    assert other.calls == ({"name": "time", "arguments": {"zone": "UTC"}},)
    with pytest.raises(ConfigError, match="streaming"):
        ExampleTask.from_dataset(plain.to_iterable_dataset())


def test_the_splits_of_a_data_set() -> None:
    def part(first: int, count: int) -> list[dict[str, str]]:
        return [{"prompt": f"{n}?", "answer": str(n)} for n in range(first, first + count)]

    own = ExampleTask.from_dataset({"train": part(0, 40), "validation": part(40, 5)}, name="own")
    sizes = [len(own.split(split)) for split in ("train", "val", "test")]
    assert sizes == [40, 5, 0]
    taken = ExampleTask.from_dataset({"train": part(0, 40), "test": part(40, 5)})
    assert taken.split("test") == own.split("val")
    assert {e.prompt for e in taken.split("train") + taken.split("val")} == {
        f"{n}?" for n in range(40)
    }
    assert taken.split("val")
    alone = ExampleTask.from_dataset({"train": part(0, 40)})
    assert alone.sample(9, seed=0) == ExampleTask.from_dataset(part(0, 40)).sample(9, seed=0)
    with pytest.raises(ConfigError, match="got the splits 'train', 'odd'"):
        ExampleTask.from_dataset({"train": part(0, 2), "odd": part(2, 2)})


def test_real_rows(shared_data: Path) -> None:
    folder = shared_data / "real"
    with pytest.warns(UserWarning, match="'service'"):
        answers = read_examples(folder / "tool_answers_dev.jsonl.gz")
    assert {message["role"] for e in answers for message in e.messages} >= {"assistant", "tool"}
    with pytest.warns(UserWarning, match="'source'"):
        calls = read_examples(folder / "tool_calls_dev.jsonl.gz")
    assert (len(answers), len(calls)) == (200, 500)
    assert all(example.calls and example.tools for example in calls)
