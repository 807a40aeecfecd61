"""Maps: what fitting means, where data have no extent, what is kept on disk."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import LinearMap, fit

FITS = {name: partial(fit, name) for name in ("Whitening", "SoftDecay")}


def vectors(count: int, dim: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, rank, generator=generator) @ torch.randn(rank, dim, generator=generator) + 3


def test_whitening_fit_gives_the_identity_as_scatter():
    x = vectors(50, 8, 8)
    white = fit("Whitening", x)(x)
    torch.testing.assert_close(white.T @ white, torch.eye(8), rtol=0, atol=1e-4)
    torch.testing.assert_close(white.sum(dim=0), torch.zeros(8), rtol=0, atol=1e-4)


def test_whitening_fit_by_hand():
    """Along the axes the scatter is 8 and 2."""
    fitted = fit("Whitening", torch.tensor([[3.0, 5.0], [-1.0, 5.0], [1.0, 6.0], [1.0, 4.0]]))
    torch.testing.assert_close(fitted.mean, torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(fitted.factor, torch.diag(torch.tensor([8.0, 2.0]) ** -0.5))


def test_soft_decay_fit_by_hand():
    """Singular values 3 and 1: s' = ln(0.64 + 0.6 s) / 0.6, rescaled to 3 at s = 3."""
    fitted = fit("SoftDecay", torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    softened = torch.log(0.64 + 0.6 * torch.tensor([3.0, 1.0]))
    expected = torch.diag(torch.tensor([1.0, 3.0]) * softened / softened[0])
    torch.testing.assert_close(fitted.factor, expected, rtol=1e-5, atol=1e-6)


def test_soft_decay_fit_to_one_vector_is_the_identity_on_it():
    """The published per-utterance use."""
    x = vectors(1, 8, 8)
    torch.testing.assert_close(fit("SoftDecay", x)(x), x, rtol=1e-5, atol=1e-5)


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
    loaded = LinearMap.load(fitted.name, path, expect={"corpus": "fluent"})
    torch.testing.assert_close((loaded.mean, loaded.factor), (fitted.mean, fitted.factor), rtol=0, atol=0)
    with pytest.raises(InputError, match="with corpus 'other', but they were made with 'fluent'"):
        LinearMap.load(fitted.name, path, expect={"corpus": "other"})


def test_linear_map_load_refuses_another_pooling(tmp_path):
    path = tmp_path / "map.safetensors"
    fit("Whitening", vectors(50, 8, 8)).save(path, {})
    with pytest.raises(InputError) as error:
        LinearMap.load("AP|softdecay", path)
    assert str(error.value) == f"{path}: expected a file of AP|softdecay, but it is of AP|whitening."


def test_standardise_by_hand():
    """Means 1 and 5; deviations 2 and 0, so that the second dimension goes to 0."""
    fitted = fit("VQ-LP|standardise", torch.tensor([[3.0, 5.0], [-1.0, 5.0]]))
    torch.testing.assert_close(fitted.mean, torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(fitted.factor, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(fitted(torch.tensor([[2.0, 7.0]])), torch.tensor([[0.5, 0.0]]))


def test_standardise_takes_rounding_for_no_variation():
    constant = torch.tensor([[0.1, 1.0], [0.1 * (1 + 6e-8), 2.0], [0.1, 3.0]])
    assert fit("AP|standardise", constant).factor[0] == 0


def test_standardise_gives_each_dimension_mean_0_and_deviation_1():
    x = vectors(200, 8, 8)
    mapped = fit("AP+std|standardise", x)(x)
    torch.testing.assert_close(mapped.mean(dim=0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(mapped.square().mean(dim=0), torch.ones(8), rtol=1e-4, atol=0)


@pytest.mark.parametrize("count", [5, 50], ids=["fewer_vectors_than_dimensions", "more"])
def test_shrinkage_equals_the_inverse_root_of_sklearns_covariance(count):
    """scikit-learn's whole estimator, and an eigendecomposition of its covariance."""
    covariance = pytest.importorskip("sklearn.covariance")
    x = vectors(count, 8, 8).double()
    fitted = fit("AP|whitening", x, shrinkage="ledoit-wolf")
    known = torch.from_numpy(covariance.LedoitWolf().fit(x.numpy()).covariance_) * count
    values, right = torch.linalg.eigh(known)
    expected = right * values.rsqrt() @ right.T
    torch.testing.assert_close(fitted.factor.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(fitted.factor) == 8


def test_shrinkage_of_constant_vectors_is_zero():
    pytest.importorskip("sklearn.covariance")
    fitted = fit("AP|whitening", torch.full((5, 8), 0.1), shrinkage="ledoit-wolf")
    assert fitted.factor.isfinite().all()
    assert fitted(torch.full((1, 8), 0.1)).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["VQ-LP|standardise", "VQ-LP+std|standardise", "VQ-LP+std|whitening"])
def test_map_of_any_point_is_kept_on_disk_and_refused_by_others(name, tmp_path):
    fitted, path = fit(name, vectors(50, 8, 8)), tmp_path / "map.safetensors"
    fitted.save(path, {"upstream": "mine"})
    loaded = LinearMap.load(name, path, {"upstream": "mine"})
    torch.testing.assert_close((loaded.mean, loaded.factor), (fitted.mean, fitted.factor), rtol=0, atol=0)
    with pytest.raises(InputError, match=r"expected a file of VQ-BP\|standardise"):
        LinearMap.load("VQ-BP|standardise", path)
