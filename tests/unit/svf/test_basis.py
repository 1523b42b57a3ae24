"""The decomposition: the same directions and values as a singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2agent.errors import ConfigError
from t2agent.svf.basis import decompose


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_it_gives_back_the_weight_and_its_adaptation(m: int, n: int, chunk: int) -> None:
    torch.manual_seed(m * 100 + n)
    W = torch.randn(m, n, dtype=torch.float64)
    z = torch.rand(min(m, n), dtype=torch.float64)
    U, s, Vh = torch.linalg.svd(W, full_matrices=False)
    basis = decompose(W, chunk=chunk)
    assert basis.size == min(m, n)
    torch.testing.assert_close(basis.s, s, rtol=1e-6, atol=1e-7)
    Q = basis.q
    new = Q @ (z[:, None] * (Q.mT @ W)) if basis.side == "out" else ((W @ Q) * z) @ Q.mT
    torch.testing.assert_close(new, (U * (s * z)) @ Vh, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("m", "n", "side"), [(3, 5, "out"), (4, 4, "out"), (5, 3, "in")])
def test_side_is_the_narrow_one(m: int, n: int, side: str) -> None:
    assert decompose(torch.randn(m, n)).side == side


def test_large_blocks_and_chunks_agree_with_one_product() -> None:
    W = torch.randn(700, 900)
    whole = torch.linalg.eigvalsh(W.double() @ W.double().mT).flip(0).sqrt()
    torch.testing.assert_close(decompose(W, chunk=256).s.double(), whole, rtol=1e-6, atol=1e-6)


def test_signs_do_not_depend_on_where_the_weight_lies() -> None:
    W = torch.randn(6, 9)
    first, turned = decompose(W), decompose(W.mT.contiguous())
    torch.testing.assert_close(first.q, turned.q, rtol=1e-5, atol=1e-5)
    assert bool((first.q.gather(0, first.q.abs().argmax(0, keepdim=True)) > 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_directions_have_the_weights_dtype(dtype: torch.dtype) -> None:
    basis = decompose(torch.randn(4, 6).to(dtype))
    assert basis.q.dtype == dtype
    assert basis.s.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_offset_is_the_bias_in_the_basis() -> None:
    W, b = torch.randn(4, 6), torch.randn(4)
    basis = decompose(W, b)
    assert basis.offset is not None
    torch.testing.assert_close(basis.offset, basis.q.mT @ b)
    assert decompose(W.mT, torch.randn(6)).offset is None


def test_rank_deficient_weights_are_decomposed() -> None:
    W = torch.randn(8, 2) @ torch.randn(2, 8)
    basis = decompose(W)
    assert bool((basis.s[2:] < 1e-3).all())
    torch.testing.assert_close(basis.q @ basis.q.mT, torch.eye(8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("m", [3, 5])
def test_a_weight_of_zeros_is_decomposed(m: int) -> None:
    basis = decompose(torch.zeros(m, 4))
    assert not basis.s.any()
    torch.testing.assert_close(basis.q @ basis.q.mT, torch.eye(basis.size))


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.ones(3), "shape"),
        (torch.ones(3, 3, dtype=torch.int8), "int8"),
        (torch.full((3, 3), float("nan")), "not finite"),
    ],
)
def test_unusable_weights_are_refused(weight: torch.Tensor, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        decompose(weight)
    with pytest.raises(ConfigError, match="chunk"):
        decompose(torch.ones(2, 2), chunk=0)
