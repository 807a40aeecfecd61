"""Whitening and SoftDecay: what fitting means, where data have no extent, what is kept on disk."""

from __future__ import annotations

import pytest
import torch

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import LinearMap, SoftDecay, Whitening

FITS = {"Whitening": Whitening.fit, "SoftDecay": SoftDecay.fit}


def vectors(count: int, dim: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, rank, generator=generator) @ torch.randn(rank, dim, generator=generator) + 3


def test_whitening_fit_gives_the_identity_as_scatter():
    x = vectors(50, 8, 8)
    white = Whitening.fit(x)(x)
    torch.testing.assert_close(white.T @ white, torch.eye(8), rtol=0, atol=1e-4)
    torch.testing.assert_close(white.sum(dim=0), torch.zeros(8), rtol=0, atol=1e-4)


def test_whitening_fit_by_hand():
    """Along the axes the scatter is 8 and 2."""
    fitted = Whitening.fit(torch.tensor([[3.0, 5.0], [-1.0, 5.0], [1.0, 6.0], [1.0, 4.0]]))
    torch.testing.assert_close(fitted.mean, torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(fitted.factor, torch.diag(torch.tensor([8.0, 2.0]) ** -0.5))


def test_soft_decay_fit_by_hand():
    """Singular values 3 and 1: s' = ln(0.64 + 0.6 s) / 0.6, rescaled to 3 at s = 3."""
    fitted = SoftDecay.fit(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    softened = torch.log(0.64 + 0.6 * torch.tensor([3.0, 1.0]))
    expected = torch.diag(torch.tensor([1.0, 3.0]) * softened / softened[0])
    torch.testing.assert_close(fitted.factor, expected, rtol=1e-5, atol=1e-6)


def test_soft_decay_fit_to_one_vector_is_the_identity_on_it():
    """The published per-utterance use."""
    x = vectors(1, 8, 8)
    torch.testing.assert_close(SoftDecay.fit(x)(x), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(
    "x",
    [vectors(50, 8, 3), vectors(3, 8, 3), vectors(1, 8, 1), torch.full((5, 8), 0.1), torch.zeros(5, 8)],
    ids=["rank_3", "few", "one", "constant", "zero"],
)
def test_fit_rank_deficient_is_finite_and_bounded(name, x):
    fitted = FITS[name](x)
    assert fitted.factor.isfinite().all()
    assert torch.linalg.matrix_norm(fitted(x), 2) <= max(1, torch.linalg.matrix_norm(x, 2)) * 1.001
    assert fitted(torch.ones(8) * 1e3).isfinite().all()


@pytest.mark.parametrize("name", FITS)
def test_fit_keeps_what_is_small_among_many_vectors(name):
    """Repeating the vectors makes their scatter 34 times as large, and changes none of its directions."""
    spread = torch.logspace(0, -3.3, 8)
    x = (vectors(300, 8, 8) - 3) * spread
    once, repeated = FITS[name](x), FITS[name](x.repeat(34, 1))
    assert torch.linalg.matrix_rank(repeated.factor) == 8
    if name == "Whitening":
        torch.testing.assert_close(repeated.factor * 34**0.5, once.factor, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FITS)
def test_fit_order_of_vectors_does_not_matter(name):
    x = vectors(50, 8, 8)
    fitted, reversed_ = FITS[name](x), FITS[name](x.flip(0))
    torch.testing.assert_close(fitted.factor, reversed_.factor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FITS)
def test_linear_map_save_load(name, tmp_path):
    fitted = FITS[name](vectors(50, 8, 8))
    path = tmp_path / "map.safetensors"
    fitted.save(path, {"corpus": "fluent"})
    loaded = LinearMap.load(name, path, expect={"corpus": "fluent"})
    torch.testing.assert_close((loaded.mean, loaded.factor), (fitted.mean, fitted.factor), rtol=0, atol=0)
    with pytest.raises(InputError, match="with corpus 'other', but they were made with 'fluent'"):
        LinearMap.load(name, path, expect={"corpus": "other"})


def test_linear_map_load_refuses_another_pooling(tmp_path):
    path = tmp_path / "map.safetensors"
    Whitening.fit(vectors(50, 8, 8)).save(path, {})
    with pytest.raises(InputError) as error:
        LinearMap.load("SoftDecay", path)
    assert str(error.value) == f"{path}: expected a file of SoftDecay, but it is of Whitening."
