from __future__ import annotations

import pytest

from t2agent.experts.module_names import Place, depths, place


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model.layers.3.self_attn.q_proj", Place("layers", 3, "self_attn.q_proj")),
        ("model.language_model.layers.3.mlp.up_proj", Place("layers", 3, "mlp.up_proj")),
        ("language_model.model.layers.10.mlp.up_proj", Place("layers", 10, "mlp.up_proj")),
        ("transformer.h.0.attn.c_attn", Place("h", 0, "attn.c_attn")),
        ("h.0.attn.c_attn", Place("h", 0, "attn.c_attn")),
        ("model.layers.1.mlp.experts.5.up_proj", Place("layers", 1, "mlp.experts.5.up_proj")),
        (
            "model.vision_tower.vision_model.encoder.layers.2.mlp.fc1",
            Place("vision_tower.vision_model.encoder.layers", 2, "mlp.fc1"),
        ),
        ("model.connector.linear_1", Place("", None, "connector.linear_1")),
        ("model", Place("", None, "")),
        ("layers.²", Place("", None, "layers.²")),
    ],
)
def test_places(name: str, found: Place) -> None:
    assert place(name) == found


def test_depths() -> None:
    names = ["model.layers.0.q", "model.layers.4.q", "vision.blocks.1.q", "projector"]
    assert depths(names) == {"layers": 5, "vision.blocks": 2}
    assert depths([]) == {}
