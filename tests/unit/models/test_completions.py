"""The logits of given completions are those that `generate` saw, whatever the architecture."""

from __future__ import annotations

import pytest
import torch
import transformers
from PIL import Image

from t2agent.experts.expert import Expert
from t2agent.models.generate import Prompt, encode
from t2agent.models.likelihood import completion_logits, make_batch
from t2agent.models.model import T2Model
from tests.models import build_tokenizer, build_vision_model, tiny_text_model

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, object]]] = {
    "absolute positions": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": 2, "n_head": 4},
    ),
    "offset positions": (
        "OPTConfig",
        "OPTForCausalLM",
        {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 128},
    ),
    "alibi": ("BloomConfig", "BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "sliding window": (
        "MistralConfig",
        "MistralForCausalLM",
        {**SMALL, "intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": 6},
    ),
    "recurrent layers": (
        "Lfm2Config",
        "Lfm2ForCausalLM",
        {
            **SMALL,
            "intermediate_size": 64,
            "num_key_value_heads": 2,
            "layer_types": ["conv", "full_attention"],
        },
    ),
}  # fmt: skip
PROMPTS = [
    Prompt.user("What is seven times three plus twelve?"),
    Prompt.user("Hi"),
    Prompt.user("Write a function that sorts"),
]


def build(kind: str) -> T2Model:
    if kind == "rotary positions":
        return tiny_text_model()
    config_name, class_name, options = ARCHITECTURES[kind]
    tokenizer = build_tokenizer()
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, config_name)(vocab_size=len(tokenizer), **options, **ids)
    torch.manual_seed(0)
    hf = getattr(transformers, class_name)(config)
    for parameter in hf.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return T2Model(hf, tokenizer, name="tiny")


def some_expert(model: T2Model) -> Expert:
    ones = Expert.identity(model, "some")
    generator = torch.Generator().manual_seed(1)
    noise = {k: 1 + 0.5 * torch.randn(len(v), generator=generator) for k, v in ones.z.items()}
    return Expert(ones.card, noise)


def check_against_generate(model: T2Model, prompts: list[Prompt]) -> None:
    inputs = encode(model, prompts)
    with model.adapted(some_expert(model)):
        out = model.model.generate(
            **inputs, max_new_tokens=9, do_sample=False, num_return_sequences=1,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        seen = torch.stack(out.logits, dim=1)  # prompts, tokens, vocabulary
        new = out.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        # Of each prompt several completions, of different lengths and not in order.
        wanted = [(2, 9), (0, 4), (1, 1), (0, 9), (1, 7), (2, 2)]
        batch = make_batch(model, prompts, [(i, new[i][:length]) for i, length in wanted])
        with torch.no_grad():
            logits = completion_logits(model, batch)
    expected = torch.cat([seen[i, :length] for i, length in wanted])
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits, expected.float(), atol=2e-4, rtol=1e-3)
    assert batch.targets().tolist() == [token for i, n in wanted for token in new[i][:n]]
    assert batch.rows().tolist() == [row for row, (_, n) in enumerate(wanted) for _ in range(n)]


@pytest.mark.filterwarnings("ignore:not adapted")
@pytest.mark.parametrize("kind", ["rotary positions", *ARCHITECTURES])
def test_equal_to_generation(kind: str) -> None:
    check_against_generate(build(kind), PROMPTS)


@pytest.mark.filterwarnings("ignore:not adapted")
def test_what_is_recurrent_runs_as_one_sequence() -> None:
    two = [(0, [5]), (0, [6])]
    assert not make_batch(build("recurrent layers"), PROMPTS, two).shared
    model = build("sliding window")
    assert make_batch(model, PROMPTS, two).shared
    assert not make_batch(model, PROMPTS, two, cached=False).shared
    assert not make_batch(model, PROMPTS, [(0, [5]), (1, [5])]).shared  # nothing to share


@pytest.mark.parametrize("recurrent", [False, True])
def test_equal_to_generation_with_images(recurrent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_vision_model()
    if recurrent:
        monkeypatch.setattr(model.model, "_is_stateful", True)
    images = [Image.linear_gradient("L").rotate(90 * i).convert("RGB") for i in range(2)]
    prompts = [
        Prompt.user("What is it?", images[0]),
        Prompt.user("Is the large circle red?", images[1]),
        Prompt.user("No image here"),
    ]
    check_against_generate(model, prompts)


def test_an_image_changes_the_logits() -> None:
    model = build_vision_model()
    image = Image.linear_gradient("L").convert("RGB")
    for other, same in ((image.rotate(180), False), (image.copy(), True)):
        prompts = [Prompt.user("What is it?", image), Prompt.user("What is it?", other)]
        batch = make_batch(model, prompts, [(0, [5, 6]), (1, [5, 6])])
        with torch.no_grad():
            first, second = completion_logits(model, batch).split(2)
        assert torch.allclose(first, second, atol=1e-3) is same
