from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2agent.errors import ConfigError
from t2agent.tasks import programs
from t2agent.tasks.paper import load_task
from t2agent.tasks.paper.code import CodeExample, _Code
from t2agent.tasks.programs import extract
from t2agent.tasks.reward import scores
from t2agent.tasks.sandbox.run import Program, RunResult
from t2agent.train import Example

ROWS = Path(__file__).parent / "rows"


def get(name: str) -> tuple[_Code, list[CodeExample]]:
    task = load_task(name, ROWS / name)
    assert isinstance(task, _Code)
    examples = task.all("test")
    assert all(isinstance(example, CodeExample) for example in examples)
    return task, examples  # type: ignore[return-value]


def test_mbpp_prompt_and_right_and_wrong_replies() -> None:
    task, examples = get("mbpp")
    square = examples[3]
    assert "Write a function to find the perimeter of a square." in square.prompt
    assert "assert square_perimeter(10)==40" in square.prompt
    assert "square_perimeter(5)" not in square.prompt
    assert square.names == ("square_perimeter",)
    right = "def square_perimeter(a):\n    return 4 * a"
    replies = {
        right: 1.0,
        f"Sure!\n```python\n{right}\n```\nIt works.": 1.0,
        f"First:\n```python\nx = 1\n```\nthen\n```py\n{right}\n```\n```\nprinted\n```": 1.0,
        f"```python\n{right}": 1.0,
        f"  ```python\n  {right.replace(chr(10), chr(10) + '  ')}\n  ```": 1.0,
        f"```python\n{right}\nif __name__ == '__main__':\n    input()\n```": 1.0,
        "def square_perimeter(a):\n    return 40": -1.0,  # only the test that was shown
        "def square_perimeter(a):\n    return a * a": -1.0,
        "def other(a):\n    return 4 * a": -1.0,
        "def square_perimeter(a):\n    while True: pass": -1.0,
        "def square_perimeter(a): exit()": -1.0,
        "import os; os._exit(0)": -1.0,
        "Multiply by four.": -1.0,
        "": -1.0,
    }
    scores = task.scores(list(replies), [square] * len(replies))
    assert [2 * s - 1 for s in scores] == list(replies.values())
    assert task.reward(right, square) == 1.0


def test_canonical_solutions_pass_and_broken_ones_fail() -> None:
    for name in ("mbpp", "humaneval"):
        task, examples = get(name)
        answers = [example.answer for example in examples]
        assert task.scores(answers, examples) == [1.0] * len(examples)
        broken = [a.replace("return", "return None and") for a in answers]
        assert task.scores(broken, examples) == [0.0] * len(examples)


def test_the_programs_of_many_replies_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    task, examples = get("mbpp")
    at_once, run_many = [], programs.run_many

    def counted(programs: list[Program], *, seconds: float) -> list[RunResult]:
        at_once.append(len(programs))
        return run_many(programs, seconds=seconds)

    monkeypatch.setattr(programs, "run_many", counted)
    replies = [examples[0].answer, "def f(): pass", examples[1].answer]
    asked = [examples[0], examples[0], examples[1]]
    assert scores(task, replies, asked) == [1.0, -1.0, 1.0]
    assert at_once == [3]


def test_a_function_with_the_name_of_a_built_in(tmp_path: Path) -> None:
    row = {
        "text": "Write a python function to find the sum of common divisors of two numbers.",
        "code": "def sum(a,b):\r\n    return 6",
        "test_list": ["assert sum(10,15) == 6"],
    }
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    task = load_task("mbpp", tmp_path)
    (example,) = task.all("test")
    assert task.score(example.answer, example) == 1.0
    (tmp_path / "test.jsonl").write_text(json.dumps({**row, "test_list": []}))
    with pytest.raises(ConfigError, match="without a text or tests"):
        load_task("mbpp", tmp_path).all("test")


def test_humaneval_takes_the_function_or_its_body() -> None:
    task, examples = get("humaneval")
    add = examples[-1]
    assert add.names == ("add",)
    assert '"""Add two numbers x and y' in add.prompt
    replies = [
        "    return x + y",
        "return x + y",
        "z = x\n    return z + y",
        "if x:\n    return x + y\nreturn y",
        "```python\n    return x + y\n```",
        "```python\ndef add(x: int, y: int):\n    return x + y\n```",
        "```python\ndef add(x, y): return x - y\n```",
        "pass",
    ]
    assert task.scores(replies, [add] * 8) == [1, 1, 1, 1, 1, 1, 0, 0]
    shift = examples[3]  # whose test calls a function of the head
    body = "```python\ndef decode_shift(s):\n    return ''.join(map(f, s))\n"
    body += "def f(c):\n    return chr((ord(c) - 102) % 26 + 97)"
    assert task.score(body, shift) == 1.0
    typed = examples[0]  # whose head imports List
    assert task.score("def has_close_elements(numbers: List[float], t: float): pass", typed) == 0


def test_extract() -> None:
    assert extract("no block") == "no block"
    assert extract("```\na\n```\n```python\ndef f(): 1\n```", ["f"]) == "def f(): 1\n"
    assert extract("```\na\n```\n```python\nb\n```", ["f"]) == "a\n"
    assert extract("```bash\npip install x\n```\n```python\nb\n```") == "b\n"
    assert extract("```python\ndef f(): 1\n```\n```python\ndef f(): 2\n```", ["f"]).endswith("2\n")


def test_needs_its_own_examples() -> None:
    task, _ = get("mbpp")
    with pytest.raises(ConfigError, match="example of another task"):
        task.reward("x = 1", Example("a", "b"))


def test_warns_where_nothing_seals_programs_off(monkeypatch: pytest.MonkeyPatch) -> None:
    task, examples = get("mbpp")
    monkeypatch.setattr(programs, "protection", lambda: frozenset({"audit", "limits"}))
    with pytest.warns(RuntimeWarning, match="neither namespaces nor seccomp"):
        task.score("x = 1", examples[0])
