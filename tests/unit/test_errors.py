from __future__ import annotations

import inspect
import pickle
import re

import pytest

from t2agent import errors

ALL = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
}


def test_the_tree_is_what_its_docstring_draws() -> None:
    parents = ["T2Error"]
    drawn = {"T2Error": "Exception"}
    for line in inspect.getdoc(errors).splitlines():
        if found := re.match(r"([│ ]*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            drawn[found[2]] = parents[depth - 1]
            parents[depth:] = [found[2]]
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_the_message_is_shown_as_it_was_written_also_after_pickling(name: str) -> None:
    error = ALL[name]("no expert 'x'. Do this.")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "no expert 'x'. Do this."
