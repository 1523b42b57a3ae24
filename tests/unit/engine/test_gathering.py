from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from t2agent.engine.batching import (
    ROWS,
    Call,
    Gatherer,
    answer_together,
    gathered,
    joint,
    seat,
    submit,
)
from t2agent.engine.two_passes import Engine, Given
from t2agent.models.generate import Prompt, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.experts import WordDispatcher, random_expert
from tests.models import build_text_model


class Doubling:
    """Doubles numbers, once it is let; refuses negative ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.cancels: list[Sequence[threading.Event]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int], cancels: Sequence[threading.Event]) -> list[int]:
        self.batches.append(list(numbers))
        self.cancels.append(cancels)
        self.begun.set()
        assert self.go_on.wait(5)
        if any(number < 0 for number in numbers):
            raise ValueError(f"negative: {min(numbers)}")
        return [2 * number for number in numbers]


@pytest.fixture
def run() -> Doubling:
    return Doubling()


def test_a_lone_request_hardly_waits(run: Doubling) -> None:
    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(run)
    waits = []
    for number in range(5):
        begun = time.perf_counter()
        assert gatherer.submit("", number).future.result(5) == 2 * number
        waits.append(time.perf_counter() - begun)
    assert min(waits) < 0.02
    assert run.batches == [[0], [1], [2], [3], [4]]


def test_who_waits_is_answered_together(run: Doubling) -> None:
    gatherer: Gatherer[int, int] = Gatherer(run)
    first = gatherer.submit("", 0)
    assert run.begun.wait(5)
    rest = [gatherer.submit("", number) for number in range(1, 6)]
    run.go_on.set()
    assert [ticket.future.result(5) for ticket in [first, *rest]] == [0, 2, 4, 6, 8, 10]
    assert run.batches == [[0], [1, 2, 3, 4, 5]]


def test_the_oldest_goes_first_with_those_of_its_key(run: Doubling) -> None:
    gatherer: Gatherer[int, int] = Gatherer(run, rows=2)
    gatherer.submit("a", 0)
    assert run.begun.wait(5)
    keys = ["a", "b", "a", "a", "b"]
    tickets = [gatherer.submit(key, number) for number, key in enumerate(keys, 1)]
    run.go_on.set()
    for ticket in tickets:
        ticket.future.result(5)
    assert run.batches == [[0], [1, 3], [2, 5], [4]]


def test_an_error_is_of_one_request_alone(run: Doubling) -> None:
    gatherer: Gatherer[int, int] = Gatherer(run)
    gatherer.submit("", 0)
    assert run.begun.wait(5)
    tickets = [gatherer.submit("", number) for number in (1, -2, 3, -4)]
    run.go_on.set()
    assert [tickets[place].future.result(5) for place in (0, 2)] == [2, 6]
    for place, number in ((1, -2), (3, -4)):
        with pytest.raises(ValueError, match=str(number)):
            tickets[place].future.result(5)
    assert gatherer.submit("", 5).future.result(5) == 10


def test_who_gives_up_is_left_out_and_nobody_else(run: Doubling) -> None:
    gatherer: Gatherer[int, int] = Gatherer(run)
    running = gatherer.submit("", 0)
    assert run.begun.wait(5)
    waiting = [gatherer.submit("", number) for number in (1, 2, 3)]
    waiting[1].give_up()
    running.give_up()
    assert run.cancels[0][0].is_set()
    run.go_on.set()
    assert [waiting[place].future.result(5) for place in (0, 2)] == [2, 6]
    assert run.batches == [[0], [1, 3]]
    assert not any(cancel.is_set() for cancel in run.cancels[1])
    assert waiting[1].future.cancelled()


def test_a_lone_caller_answers_in_its_own_thread(run: Doubling) -> None:
    threads = []

    def here(numbers: Sequence[int], cancels: Sequence[threading.Event]) -> list[int]:
        threads.append(threading.current_thread())
        return run(numbers, cancels)

    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(here)
    assert [gatherer.answer("", number) for number in (1, 2)] == [2, 4]
    assert threads == [threading.current_thread()] * 2
    assert gatherer.submit("", 3).future.result(5) == 6
    assert threads[2] is not threading.current_thread()


def test_callers_that_find_it_busy_are_answered_together(run: Doubling) -> None:
    gatherer: Gatherer[int, int] = Gatherer(run)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gatherer.answer, "", 0)
        assert run.begun.wait(5)
        rest = [pool.submit(gatherer.answer, "", number) for number in (1, -2, 3)]
        while len(gatherer._waiting) < 3:
            time.sleep(0.001)
        run.go_on.set()
        assert first.result(5) == 0
        assert [rest[place].result(5) for place in (0, 2)] == [2, 6]
        with pytest.raises(ValueError, match="-2"):
            rest[1].result(5)
    assert [sorted(batch) for batch in run.batches[:2]] == [[0], [-2, 1, 3]]


def test_an_interrupted_caller_leaves_it_free() -> None:
    def interrupted(numbers: Sequence[int], _cancels: Sequence[threading.Event]) -> list[int]:
        if numbers == [0]:
            raise KeyboardInterrupt
        return list(numbers)

    gatherer: Gatherer[int, int] = Gatherer(interrupted)
    with pytest.raises(KeyboardInterrupt):
        gatherer.answer("", 0)
    assert gatherer.answer("", 1) == 1
    assert gatherer.submit("", 2).future.result(5) == 2


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "t2agent-gathering"]


def test_one_thread_serves_calls_and_ends_when_none_come(run: Doubling) -> None:
    run.go_on.set()
    before = set(workers())
    gatherer: Gatherer[int, int] = Gatherer(run, idle=0.2)
    used = set()
    for number in range(3):
        assert gatherer.submit("", number).future.result(5) == 2 * number
        used |= set(workers()) - before
    assert len(used) == 1
    [worker] = used
    worker.join(5)
    assert not worker.is_alive()
    assert gatherer.submit("", 4).future.result(5) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_answers_with_a_thread_of_its_own(run: Doubling) -> None:
    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(run)
    gatherer.submit("", 1).future.result(5)  # its thread waits while the process forks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os._exit(gatherer.submit("", 21).future.result(5) != 42)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_all_that_are_expected_are_answered_together(run: Doubling) -> None:
    run.go_on.set()
    numbers = list(range(ROWS + 8))
    gatherer: Gatherer[int, int] = Gatherer(run, expected=len(numbers))
    tickets = [gatherer.submit("", number) for number in numbers]
    assert [ticket.future.result(5) for ticket in tickets] == [2 * number for number in numbers]
    assert run.batches == [numbers]


def test_expected_ones_with_another_key_are_answered_apart(run: Doubling) -> None:
    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(run, expected=3)
    tickets = [gatherer.submit(key, number) for number, key in enumerate("aba")]
    assert [ticket.future.result(5) for ticket in tickets] == [0, 2, 4]
    assert run.batches == [[0, 2], [1]]


def test_nothing_runs_before_the_last_has_come(run: Doubling) -> None:
    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(run, expected=3)
    with ThreadPoolExecutor(1) as pool:
        first, second = gatherer.submit("", 1), pool.submit(gatherer.answer, "", 2)
        with pytest.raises(TimeoutError):
            first.future.result(0.05)
        gatherer.leave()
        assert first.future.result(5) == 2
        assert second.result(5) == 4
    assert run.batches == [[1, 2]]


def test_nobody_waits_for_those_who_never_come(run: Doubling) -> None:
    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(run, expected=4)
    ticket = gatherer.submit("", 1)
    gatherer.leave(4)
    assert ticket.future.result(5) == 2
    assert gatherer.answer("", 3) == 6  # who comes too late is answered none the less


def test_where_all_others_left_the_last_answers_in_its_own_thread() -> None:
    threads = []

    def here(numbers: Sequence[int], _cancels: Sequence[threading.Event]) -> list[int]:
        threads.append(threading.current_thread())
        return list(numbers)

    gatherer: Gatherer[int, int] = Gatherer(here, expected=2)
    gatherer.leave()
    assert gatherer.answer("", 1) == 1
    assert threads == [threading.current_thread()]


def test_a_failure_costs_few_tries() -> None:
    tried: list[list[int]] = []

    def halve(numbers: Sequence[int], _cancels: Sequence[threading.Event]) -> list[int]:
        tried.append(list(numbers))
        if 3 in numbers:
            raise ValueError("no half of 3")
        return [number // 2 for number in numbers]

    gatherer: Gatherer[int, int] = Gatherer(halve, expected=8)
    tickets = [gatherer.submit("", number) for number in range(8)]
    with pytest.raises(ValueError, match="no half of 3"):
        tickets.pop(3).future.result(5)
    assert [ticket.future.result(5) for ticket in tickets] == [0, 0, 1, 2, 2, 3, 3]
    assert len(tried) == 7  # by halves, not one by one


def test_who_gave_up_before_the_last_came_is_left_out(run: Doubling) -> None:
    run.go_on.set()
    gatherer: Gatherer[int, int] = Gatherer(run, expected=2)
    first = gatherer.submit("", 1)
    first.give_up()
    assert gatherer.submit("", 2).future.result(5) == 4
    assert run.batches == [[2]]
    assert first.future.cancelled()


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    return model


QUESTIONS = ("an alpha one", "a beta one, longer", "neither of them", "alpha again")


def calls_to(model: T2Model, **options: object) -> Callable[[str], Call]:
    engine = Engine(model, WordDispatcher("alpha", "beta"))
    given = GenerationOptions(**{"max_tokens": 12, **options})  # type: ignore[arg-type]
    return lambda text: Call(engine, Prompt.user(text), given)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_each_gets_what_it_gets_alone(model: T2Model, options: dict[str, object]) -> None:
    call = calls_to(model, **options)
    asked = [*QUESTIONS, *QUESTIONS]  # a seed answers both copies alike
    alone = [answer_together([call(text)])[0] for text in asked]
    tickets = [submit(call(text)) for text in asked]
    for ticket, answer in zip(tickets, alone, strict=True):
        found = ticket.future.result(30)
        assert found.generation == answer.generation
        assert found.decision.mixture == answer.decision.mixture


def test_each_has_a_choice_of_its_own(model: T2Model) -> None:
    engine, options = Engine(model, None), GenerationOptions(max_tokens=8)
    prompt = Prompt.user("hello")
    choices = [None, Given("alpha"), WordDispatcher("alpha"), Given({"beta": 0.5}), "off"]
    calls = [Call(engine, prompt, options, choice) for choice in choices]
    answers = answer_together(calls)
    assert [answer.decision.strategy for answer in answers] == [
        "off", "given", "word", "given", "off",
    ]  # fmt: skip
    for what, answer in zip((None, "alpha", None, {"beta": 0.5}, None), answers, strict=True):
        with model.adapted(what):
            assert generate(model, [prompt], options)[0] == answer.generation


def test_calls_with_other_options_are_answered_apart(model: T2Model) -> None:
    one, other = calls_to(model), calls_to(model, max_tokens=3)
    tickets = [submit(make("hello")) for make in (one, other, one, other)]
    lengths = [ticket.future.result(30).generation.completion_tokens for ticket in tickets]
    assert lengths == [12, 3, 12, 3]


def test_a_row_that_is_given_up_ends_and_the_others_do_not(model: T2Model) -> None:
    call = calls_to(model, max_tokens=20)
    given_up, wanted = threading.Event(), threading.Event()
    given_up.set()
    ended, whole = answer_together([call("hello"), call("an alpha one")], [given_up, wanted])
    assert ended.generation.finish_reason == "cancelled"
    assert ended.generation.completion_tokens == 1
    assert whole.generation == answer_together([call("an alpha one")])[0].generation
    assert whole.generation.completion_tokens == 20


def test_a_seat_is_taken_once_and_by_its_owner(model: T2Model) -> None:
    call = calls_to(model, max_tokens=3)("hello")
    right = answer_together([call])[0].generation
    mine, other = object(), object()
    with joint(2) as batch:
        with seat(batch, mine):
            assert gathered(call, other).generation == right  # not of the batch: it does not wait
            ticket = submit(call, mine)
            assert gathered(call, mine).generation == right
            assert not ticket.future.done()
        with seat(batch, mine):
            pass  # leaves without a request
        assert ticket.future.result(30).generation == right


def test_copies_differ_in_a_joint_batch_alone(model: T2Model) -> None:
    call = calls_to(model, temperature=1.0, seed=3)("hello")

    def both(owner: object) -> list[str]:
        with joint(2) as batch:
            tickets = []
            for _ in range(2):
                with seat(batch, batch):
                    tickets.append(submit(call, owner or batch))
            return [ticket.future.result(30).generation.text for ticket in tickets]

    assert len(set(both(None))) == 2
    assert len(set(both("nobody with a seat"))) == 1


def test_leaving_a_joint_batch_ends_it(model: T2Model) -> None:
    call = calls_to(model, max_tokens=200)("hello")
    with joint(2) as batch, seat(batch, None):
        ticket = submit(call)
    generation = ticket.future.result(30).generation
    assert generation.finish_reason == "cancelled"
    assert generation.completion_tokens == 1
