from __future__ import annotations

import threading
import warnings
from collections import defaultdict

import pytest
import torch
from PIL import Image

from t2agent.errors import ContextLengthError
from t2agent.models.generate import Generation, Prompt, encode, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.models import CONTEXT, END, build_text_model, tiny_text_model, tiny_vision_model

PROMPTS = [Prompt.user("Hello there"), Prompt.user("What is seven times three plus twelve?")]
RED = Image.new("RGB", (64, 64), "red")
BLUE = Image.new("RGB", (40, 64), "blue")


def options(**changes: object) -> GenerationOptions:
    return GenerationOptions(**{"max_tokens": 16, **changes})  # type: ignore[arg-type]


def sampled(seed: int | None = 0, **changes: object) -> GenerationOptions:
    return options(temperature=1.0, seed=seed, **changes)


@pytest.mark.parametrize("build", [tiny_text_model, tiny_vision_model])
def test_greedy_is_what_transformers_generates(build: object) -> None:
    model: T2Model = build()  # type: ignore[operator]
    for prompt in PROMPTS:
        inputs = encode(model, [prompt])
        raw = model.model.generate(**inputs, max_new_tokens=16, do_sample=False)
        new = raw[0, inputs["input_ids"].shape[1] :].tolist()
        [ours] = generate(model, [prompt], options())
        assert ours.token_ids == tuple(new)
        assert ours.text == model.tokenizer.decode(new, skip_special_tokens=True)
        assert ours.prompt_tokens == inputs["input_ids"].shape[1]
        assert ours.completion_tokens == len(new)


def test_a_batch_is_answered_as_one_by_one() -> None:
    model = tiny_text_model()
    alone = [generate(model, [prompt], options())[0] for prompt in PROMPTS]
    assert generate(model, PROMPTS, options()) == alone


def test_a_batch_with_and_without_images_is_answered_as_one_by_one() -> None:
    model = tiny_vision_model()
    prompts = [
        Prompt.user("What is it?", RED),
        Prompt.user("no picture here"),
        Prompt.user("And a literal <image>?", BLUE),
    ]
    alone = [generate(model, [prompt], options())[0] for prompt in prompts]
    assert generate(model, prompts, options()) == alone


def test_images_change_the_answer() -> None:
    model = tiny_vision_model()
    red, blue = generate(model, [Prompt.user("What?", RED), Prompt.user("What?", BLUE)], options())
    assert red.text != blue.text


def test_a_seed_repeats_whatever_the_global_state() -> None:
    model = tiny_text_model()
    first = generate(model, PROMPTS, sampled())
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    assert generate(model, PROMPTS, sampled()) == first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert generate(model, PROMPTS, sampled(seed=1)) != first


def test_without_a_seed_answers_differ() -> None:
    model = tiny_text_model()
    torch.manual_seed(0)
    first = generate(model, PROMPTS, sampled(seed=None))
    torch.manual_seed(0)
    assert generate(model, PROMPTS, sampled(seed=None)) != first


def test_a_seeded_answer_is_the_same_in_any_batch() -> None:
    model = tiny_text_model()
    alone = [generate(model, [prompt], sampled())[0] for prompt in PROMPTS]
    assert generate(model, PROMPTS, sampled()) == alone


def test_samples_come_prompt_by_prompt_and_differ() -> None:
    model = tiny_text_model()
    answers = generate(model, PROMPTS, sampled(), samples=3)
    assert len({answer.token_ids for answer in answers}) == 6
    assert generate(model, PROMPTS[1:], sampled(), samples=3) == answers[3:]


def test_samples_of_image_prompts() -> None:
    model = tiny_vision_model()
    prompts = [Prompt.user("What?", RED), Prompt.user("no picture")]
    answers = generate(model, prompts, sampled(), samples=2)
    assert generate(model, prompts[:1], sampled(), samples=2) == answers[:2]


def test_copies_of_a_prompt_are_sampled_independently() -> None:
    model = tiny_text_model()
    answers = generate(model, [PROMPTS[0]] * 3, sampled())
    assert len({answer.token_ids for answer in answers}) == 3


def test_greedy_samples_are_equal() -> None:
    model = tiny_text_model()
    pieces: dict[int, str] = defaultdict(str)

    def collect(row: int, piece: str) -> None:
        pieces[row] += piece

    answers = generate(model, PROMPTS, options(), samples=2, on_text=collect)
    assert answers[0] == answers[1] != answers[2] == answers[3]
    assert [pieces[row] for row in range(4)] == [answer.text for answer in answers]


def test_sampling_follows_the_softmax() -> None:
    model = tiny_text_model()
    inputs = encode(model, PROMPTS[:1])
    with torch.no_grad():
        logits = model.model(**inputs).logits[0, -1]
    expected = torch.softmax(logits / 0.7, -1)
    draws = generate(
        model, PROMPTS[:1], GenerationOptions(max_tokens=1, temperature=0.7, seed=5), samples=4000
    )
    counts = torch.zeros_like(expected)
    for draw in draws:
        counts[draw.token_ids[0]] += 1
    likely = expected.topk(5).indices
    error = (counts[likely] / 4000 - expected[likely]).abs()
    assert (error < 4 * (expected[likely] / 4000).sqrt()).all()


def test_top_p_keeps_the_likeliest_tokens() -> None:
    model = tiny_text_model()
    inputs = encode(model, PROMPTS[:1])
    with torch.no_grad():
        probabilities = torch.softmax(model.model(**inputs).logits[0, -1], -1)
    ordered, tokens = probabilities.sort(descending=True)
    kept = tokens[: int((ordered.cumsum(0) < 0.5).sum()) + 1].tolist()
    draws = generate(model, PROMPTS[:1], sampled(max_tokens=1, top_p=0.5), samples=500)
    assert {draw.token_ids[0] for draw in draws} == set(kept)


def test_a_very_low_temperature_is_greedy() -> None:
    model = tiny_text_model()
    [cold] = generate(model, PROMPTS[:1], options(temperature=1e-30, seed=0))
    assert cold.token_ids == generate(model, PROMPTS[:1], options())[0].token_ids


def test_stop_strings_end_a_row_and_only_it() -> None:
    model = tiny_text_model()
    free = generate(model, PROMPTS, options())
    stop = free[0].text[5:8]
    assert stop not in free[1].text
    stopped, other = generate(model, PROMPTS, options(stop=(stop,)))
    assert stopped.text == free[0].text[: free[0].text.find(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens < free[0].completion_tokens
    assert other == free[1]


def test_a_special_token_as_a_stop_string() -> None:
    model = _ending_with(END)
    model.model.generation_config.eos_token_id = None
    model.tokenizer.eos_token, kept = None, model.tokenizer.eos_token
    try:
        [answer] = generate(model, PROMPTS[:1], options(stop=(END,)))
    finally:
        model.tokenizer.eos_token = kept
    assert answer.finish_reason == "stop"
    assert answer.completion_tokens == 1


def test_the_end_token_stops_and_is_counted() -> None:
    model = _ending_with(END)
    [answer] = generate(model, PROMPTS[:1], options())
    end = model.tokenizer.convert_tokens_to_ids(END)
    assert answer == Generation("", (end,), "stop", answer.prompt_tokens)


def test_pieces_of_text_together_are_the_text() -> None:
    model = tiny_text_model()
    expected = generate(model, PROMPTS, sampled(), samples=2)
    pieces: dict[int, list[str]] = defaultdict(list)
    got = generate(
        model, PROMPTS, sampled(), samples=2, on_text=lambda row, text: pieces[row].append(text)
    )
    assert got == expected
    assert ["".join(pieces[row]) for row in range(4)] == [answer.text for answer in expected]
    assert all(len(row) > 3 for row in pieces.values())


def test_cancelling_ends_all_rows_at_the_next_token() -> None:
    model = tiny_text_model()
    cancel = threading.Event()
    seen: list[str] = []

    def stop_soon(row: int, text: str) -> None:
        seen.append(text)
        if len(seen) == 4:
            cancel.set()

    answers = generate(model, PROMPTS, options(max_tokens=100), cancel=cancel, on_text=stop_soon)
    assert {answer.finish_reason for answer in answers} == {"cancelled"}
    assert all(answer.completion_tokens < 10 for answer in answers)
    free = generate(model, PROMPTS, options(max_tokens=100))
    assert all(full.text.startswith(cut.text[:3]) for full, cut in zip(free, answers, strict=True))


@pytest.mark.parametrize("watched", [False, True])
def test_cancelling_one_row(watched: bool) -> None:
    model = tiny_text_model()
    cancels = [threading.Event(), threading.Event()]
    cancels[0].set()
    seen: dict[int, str] = defaultdict(str)

    def see(row: int, text: str) -> None:
        seen[row] += text

    first, second = generate(
        model, PROMPTS, options(), cancel=cancels, on_text=see if watched else None
    )
    [whole, alone] = generate(model, PROMPTS, options())
    assert second == alone
    assert first.finish_reason == "cancelled"
    assert first.token_ids == whole.token_ids[:1]
    if watched:
        assert [seen[0], seen[1]] == [first.text, second.text]


def test_an_error_in_on_text_reaches_the_caller() -> None:
    def fail(row: int, text: str) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        generate(tiny_text_model(), PROMPTS, options(), on_text=fail)


def test_a_prompt_longer_than_the_context() -> None:
    with pytest.raises(ContextLengthError, match=f"room for {CONTEXT}"):
        generate(tiny_text_model(), [Prompt.user("word " * CONTEXT)], options())


def test_an_answer_ends_with_the_context() -> None:
    model = tiny_text_model()
    [answer] = generate(model, [Prompt.user("7" * (CONTEXT - 30))], options(max_tokens=500))
    assert answer.finish_reason == "length"
    assert answer.prompt_tokens + answer.completion_tokens == CONTEXT


def test_no_prompt_no_answer() -> None:
    assert generate(tiny_text_model(), [], options()) == []


def test_sampling_settings_of_a_checkpoint_do_not_interfere() -> None:
    model = build_text_model()
    plain = generate(model, PROMPTS, options())
    free = generate(model, PROMPTS, sampled())
    model.model.generation_config.update(
        do_sample=True, temperature=0.6, top_k=3, top_p=0.5, max_length=20, num_beams=2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert generate(model, PROMPTS, options()) == plain
        assert generate(model, PROMPTS, sampled()) == free


def _ending_with(token: str) -> T2Model:
    """A model whose every answer is that token."""
    model = build_text_model()
    row = model.tokenizer.convert_tokens_to_ids(token)
    head = model.model.lm_head
    head.weight.data.zero_()
    head.bias = torch.nn.Parameter(torch.zeros(head.weight.shape[0]))
    head.bias.data[row] = 1.0
    return model
