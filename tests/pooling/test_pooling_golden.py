"""What the paper's published code gives, to 1e-5."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pooling_cases import PAPER
from safetensors.torch import load_file

from s3prl_vqpool.pooling import (
    Counts,
    LinearMap,
    build,
    fit,
    pool,
    weights,
)

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "pooling.safetensors"
PUBLISHED = [name for name in PAPER if name not in ("mean", "VQ-Squash-OR", "VQ-AllSquash-OR")]
STORED_AS = {"VQ-SIF": "VQ-SIF.a1e-3", "VQ-Squash-OR@code": "VQ-Squash-OR.code"}
CLOSE = {"rtol": 0, "atol": 1e-5}

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason=f"no golden file at {GOLDEN}")


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def golden_counts(golden):
    table = golden["global_counts"].long()
    return Counts(torch.cartesian_prod(*map(torch.arange, table.shape)), table.flatten(), tuple(table.shape))


@pytest.mark.parametrize("name", PUBLISHED)
def test_pool_golden(golden, golden_counts, name):
    for i in range(8):
        frames, codes = golden[f"{i}.features"], golden[f"{i}.codes"]
        w = weights(name, codes[None], torch.tensor([len(codes)]), counts=golden_counts)
        expected = golden[f"{i}.{STORED_AS.get(name, name)}"]
        torch.testing.assert_close(pool(frames[None], w)[0], expected, **CLOSE)


@pytest.mark.parametrize(("name", "options"), [("SAP", {}), ("ASP", {}), ("VAP", {"hidden": 8})])
def test_learned_golden(golden, name, options):
    prefix = f"batch.{name}.param."
    module = build(name, 16, **options)
    module.load_state_dict({k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)})
    pooled = module(golden["batch.features"], golden["batch.lengths"])
    torch.testing.assert_close(pooled, golden[f"batch.{name}"], **CLOSE)


def test_whitening_golden(golden):
    published = LinearMap("AP|whitening", golden["whitening.mean"], golden["whitening.factor"])
    pooled = build("Whitening", 16, statistics=published)(golden["batch.features"], golden["batch.lengths"])
    torch.testing.assert_close(pooled, golden["batch.Whitening"], **CLOSE)
    normalised = torch.nn.functional.normalize(pooled, dim=1)
    torch.testing.assert_close(normalised, golden["batch.Whitening.L2"], **CLOSE)


def test_whitening_fit_golden(golden):
    """Singular vectors are unique up to sign."""
    factor = fit("Whitening", golden["whitening.fit"]).factor
    torch.testing.assert_close(factor.abs(), golden["whitening.factor"].abs(), **CLOSE)


def test_soft_decay_golden(golden):
    """The published transform of a whole matrix is ours of its rows, once fitted on it."""
    frames, lengths = golden["batch.features"], golden["batch.lengths"]
    fitted = fit("SoftDecay", build("AP", 16)(frames, lengths))
    pooled = build("SoftDecay", 16, statistics=fitted)(frames, lengths)
    torch.testing.assert_close(pooled, golden["batch.SoftDecay"], **CLOSE)
