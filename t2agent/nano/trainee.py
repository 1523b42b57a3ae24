"""t2-nano while it is trained: its losses, and weights to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from t2agent.nano import drawing
from t2agent.nano.corpus import Batch


class Trainee(nn.Module):
    """The model, and the two heads of the dense loss, which are dropped in the end."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model
        width = model.config.vision_config.hidden_size
        self.what = nn.Linear(width, drawing.KINDS)
        self.tone = nn.Linear(width, drawing.TONES)
        # The embeddings of the stock tower hold what the compiler cannot trace.
        self.encode = torch.compile(model.model.vision_model.encoder.forward)

    def see(self, pixels: Tensor) -> Tensor:
        """Patch features of images: (images, 64, width)."""
        tower = self.model.model.vision_model
        side = drawing.SIZE // drawing.PATCH
        whole = torch.ones(len(pixels), side, side, dtype=torch.bool)
        hidden = tower.embeddings(pixel_values=pixels, patch_attention_mask=whole)
        hidden = self.encode(inputs_embeds=hidden).last_hidden_state
        features: Tensor = tower.post_layernorm(hidden)
        return features

    def dense_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the patches' labels; the empty patches, most of them, count less."""

        def loss(head: nn.Linear, labels: Tensor) -> Tensor:
            weight = torch.ones(head.out_features)
            weight[0] = 0.2
            return cross_entropy(head(features).flatten(0, 1).float(), labels.flatten(), weight)

        return loss(self.what, batch.what) + 0.3 * loss(self.tone, batch.tone)

    def language_loss(self, embeds: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Weighted next-token loss, and the share of the replies' tokens that are right."""
        same = batch.document[:, :, None] == batch.document[:, None, :]
        allowed = (same & torch.ones_like(same[0]).tril())[:, None]
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.bfloat16).min)
        hidden = self.model.model.text_model(
            inputs_embeds=embeds,
            attention_mask=mask.to(torch.bfloat16),
            position_ids=batch.position,
            use_cache=False,
        ).last_hidden_state
        logits = self.model.lm_head(hidden)[:, :-1].flatten(0, 1).float()
        target, weight = batch.ids[:, 1:].flatten(), batch.weight[:, 1:].flatten()
        loss = (cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
        reply = weight == 1
        right = ((logits.argmax(-1) == target) & reply).sum() / reply.sum()
        return loss, right


def embed(trainee: Trainee, batch: Batch, features: Tensor | None) -> Tensor:
    """The batch's input, (rows, ROW, width), with the images' features in their places."""
    embeds: Tensor = trainee.model.get_input_embeddings()(batch.ids)
    if features is None:
        return embeds
    images = trainee.model.model.connector(features).flatten(0, 1)
    holes = (batch.ids == trainee.model.config.image_token_id)[..., None]
    return embeds.masked_scatter(holes, images.to(embeds.dtype))


def take_over(model: Any, tokenizer: PreTrainedTokenizerFast, base: Path) -> None:
    """Give ``model`` the weights of a base model with another tokenizer."""
    weights = load_file(base / "model.safetensors")
    before = AutoTokenizer.from_pretrained(base)
    name = next(n for n in weights if n.endswith("embed_tokens.weight"))
    old, new = weights.pop(name).float(), model.get_input_embeddings().weight.data
    for token, index in tokenizer.get_vocab().items():
        known = before.get_vocab().get(token)
        text = tokenizer.decode([index])
        pieces = [known] if known is not None else before.encode(text, add_special_tokens=False)
        if pieces:
            new[index] = old[pieces].mean(0)
    weights.pop("lm_head.weight", None)  # tied
    model.load_state_dict(weights, strict=False)
