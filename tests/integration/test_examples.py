"""Each example runs as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from t2agent.paths import bundled
from tests.imported import Imported

ROOT = Path(__file__).resolve().parents[2]
needs_nano = pytest.mark.skipif(
    not (bundled("experts") / "t2-nano" / "base").is_dir(), reason="t2-nano is not trained yet"
)


# As a kernel does it, without one: a notebook's last expression of a cell is shown.
RUN_CELLS = """
import ast

def run(cells):
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells, 1):
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"<cell {number}>", "exec"), names)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names)
            if shown is not None:
                print(repr(shown))
"""


@pytest.fixture
def run(libraries: Imported) -> Callable[..., str]:
    """What a script prints."""

    def printed(script: Path, *args: str) -> str:
        return output(libraries.run([str(script), *args]))

    return printed


@pytest.fixture
def example(run: Callable[..., str]) -> Callable[..., str]:
    """What an example prints."""
    return lambda name, *args: run(ROOT / "examples" / name, *args)


def output(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("smollm2")
def test_chat():
    """This one by itself: Python starts it, and it imports what it needs."""
    command = [sys.executable, str(ROOT / "examples" / "01_chat.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = output(
        subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    )

    assert "answer is 48.   (experts: {'arithmetic'" in printed
    assert "experts: {'label'" in printed
    assert "Paris" in printed.split("streamed:")[1]


@needs_nano
def test_images(example):
    printed = example("02_images.py")

    assert "answer: " in printed
    assert "read" in printed


@needs_nano
def test_an_image_of_the_users_own(example, tmp_path):
    from PIL import Image

    Image.new("RGB", (300, 200), "white").save(tmp_path / "own.png")

    assert "see for yourself" in example("02_images.py", str(tmp_path / "own.png"))


@pytest.mark.usefixtures("smollm2")
def test_a_custom_expert(example):
    printed = example("03_custom_expert.py", "3")

    assert "'val_base': -1.0" in printed
    assert printed.split("shop-codes: ")[-1] != printed.split("base model: ")[-1].splitlines()[0]


def test_a_real_model_or_its_stand_in(example):
    printed = example("04_real_model.py", "nobody/has-this-model")

    assert "STAND-IN" in printed
    assert "Qwen2ForCausalLM" in printed
    assert "restored bit for bit: True" in printed
    changes = [float(line.split(":")[0].split()[-1]) for line in printed.splitlines()
               if line.startswith("largest change")]  # fmt: skip
    assert changes[0] == 0.0
    assert min(changes[1:]) > 0.0


@pytest.mark.usefixtures("smollm2")
def test_an_agent(example):
    weather, order, thanks, own = example("05_agent.py").split("decisions kept: ")

    assert "[tools] get_weather({'city': 'Bergen'})" in weather
    assert "heavy rain" in weather.split("[answer]")[1]
    assert "[tools] find_order({'order_number': '48213'})" in order
    assert "Thursday" in order.split("[answer]")[1]
    assert "gives" not in thanks
    assert "opening_hours({'day': 'Saturday'})" in own
    assert own.rstrip().endswith("strategies: embedding, given")


def test_what_needs_the_real_model_says_how_to_get_it(example):
    """No base model is installed in a test's own folder."""
    names = ["05_agent.py", "07_structured_output.py", "08_langgraph.py"]
    if find_spec("langchain_core.decisions"):
        names.append("11_router.py")
    for name in names:
        assert example(name).rstrip().endswith("t2agent models add smollm2")


@needs_nano
def test_an_agent_and_images(example):
    printed = example("06_image_agent.py")

    asked, opened = printed.split("Multiply")[0].splitlines()[0], printed.split("Multiply")[0]
    number = asked.split("it shows ")[1].rstrip(")")
    assert "open_image gives an image" in opened
    assert f"[read] {number}" in opened
    assert f"calculator gives {12 * int(number)}" in printed
    assert "crop_image gives an image" in printed


@pytest.mark.usefixtures("smollm2")
def test_structured_output(example):
    contact, restaurant, *called, delivery = example("07_structured_output.py").splitlines()

    assert contact.startswith("Contact(person='Maria Lopez', company='Northwind Bicycles'")
    assert "'name': 'The Golden Curry'" in restaurant
    assert restaurant.endswith("{'extract': 1.0}")
    assert called == ["called find_order: {'order_number': '48213'}"]
    assert delivery == "Delivery(order_number='48213', arrival='Thursday')"


@pytest.mark.usefixtures("smollm2")
def test_a_graph_with_memory_and_approval(example):
    booked, weather, refused = example("08_langgraph.py").split("user: ")[1:]

    assert "book_table({'restaurant': \"Luigi's\", 'people': 4, 'time': '7 pm'})? yes" in booked
    assert "T-4471" in booked.split("agent [answer]: ")[1]
    assert "heavy rain" in weather.split("agent [answer]: ")[1]
    assert re.search(r"remembered: \d+ messages, 2 of the user", weather)
    assert "? no" in refused
    assert "T-4471" not in refused
    assert refused.rstrip().endswith("1 of the user")


@pytest.mark.usefixtures("smollm2")
def test_a_router(example):
    pytest.importorskip("langchain.agents.middleware.model_router")
    sum_, play, spam = re.split(r"user: |probability", example("11_router.py"))[1:]

    assert "route arithmetic" in sum_
    assert "48" in sum_.split("[arithmetic]: ")[1]
    assert "route conversation" in play
    assert "[base model]: " in play
    assert re.search(r"of spam: 0\.\d\d", spam)


@needs_nano
def test_an_expert_trained_by_trl(example):
    pytest.importorskip("trl")
    printed = example("10_trl.py")

    assert "8 + 14" not in printed.split("base model: ")[1].splitlines()[0]
    assert re.search(r"equations: \d+ \+ 14 = \d+", printed)


@needs_nano
def test_experts_elsewhere(example, monkeypatch):
    from t2agent import ChatT2
    from tests.openai_server import serving

    alone = example("09_remote.py")

    assert "--lora-modules" in alone
    assert re.findall(r"would go to (\S+):", alone) == ["math", "code", "t2-nano"]

    with serving(ChatT2()) as server:
        monkeypatch.setenv("T2AGENT_REMOTE_URL", server.url)
        printed = example("09_remote.py")

    assert "33" in printed
    assert "[2, 4, 7, 9]" in printed
    assert re.findall(r"  by (\S+)", printed) == ["math", "code", "t2-nano"]


@needs_nano
@pytest.mark.usefixtures("smollm2")
def test_the_notebook(run, tmp_path):
    """Its code cells, one after the other in one process; the last value of a cell is shown."""
    notebook = json.loads((ROOT / "examples" / "agent.ipynb").read_text())
    assert notebook["nbformat"] == 4
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    script = tmp_path / "notebook.py"
    script.write_text(f"{RUN_CELLS}\nrun({cells!r})\n")

    printed = run(script)

    assert "Thursday" in printed.split("arrival")[-1]
    assert "[['tools'], ['read']]" in printed
    assert "('given', {'tools': 1.0}), ('off', {})" in printed
