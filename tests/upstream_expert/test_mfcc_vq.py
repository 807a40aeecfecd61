"""`mfcc_vq` against S3PRL's own mfcc and the centroids of the shipped file, by brute force."""

from __future__ import annotations

import sys
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import safetensors.torch
import torch
from s3prl import hub
from s3prl.upstream.interfaces import Featurizer
from tiny import waves
from torch import Tensor

from s3prl_vqpool import codes


def brute_force_codes(frames: Tensor) -> Tensor:
    """int64 [T, 2]: nearest centroid of the shipped file for frames [T, 39], by all distances in float64."""
    module = sys.modules["s3prl.upstream.kmeans_vq.hubconf"]
    centroids = safetensors.torch.load_file(Path(module.__file__).with_name("mfcc.safetensors"))
    columns = ((0, 13), (13, 39))  # statics; deltas and delta-deltas
    nearest = [
        torch.cdist(
            frames[:, start:stop].double(),
            centroids[f"codebook.{g}"].double(),
            compute_mode="donot_use_mm_for_euclid_dist",
        ).argmin(dim=1)
        for g, (start, stop) in enumerate(columns)
    ]
    return torch.stack(nearest, dim=1)


def test_mfcc_vq_hidden_states_equal_s3prls_and_codes_are_the_nearest_centroids() -> None:
    plain, ours = hub.mfcc().eval(), hub.mfcc_vq(ckpt=None, model_config=None, refresh=False).eval()
    lengths = (16000, 5600, 560, 12345)
    wavs = waves(*lengths)
    expected, found = plain(wavs), ours(wavs)
    assert set(found) == {*expected, "codes", "code_lengths"}
    assert torch.equal(found["last_hidden_state"], expected["last_hidden_state"])
    assert torch.equal(found["hidden_states"][0], expected["hidden_states"][0])
    real = [(n - 400) // 160 + 1 for n in lengths]
    assert real == [len(plain.extracter(wav)) for wav in wavs]
    nearest = [brute_force_codes(frames) for frames in expected["hidden_states"][0]]
    assert found["code_lengths"].tolist() == real
    for got, want, length in zip(found["codes"], nearest, real):
        assert torch.equal(got[:length], want[:length])
        assert (got[length:] == -1).all()
    assert ours.codebook_sizes == (64, 64)
    assert min(len(found["codes"][..., g].unique()) for g in range(2)) > 10


def test_mfcc_vq_codes_do_not_depend_on_the_batch() -> None:
    ours = hub.mfcc_vq().eval()
    wavs = waves(16000, 5600, 560, 12345)
    batch = ours(wavs)
    for i, wav in enumerate(wavs):
        alone = ours([wav])
        assert torch.equal(batch["codes"][i, : batch["code_lengths"][i]], alone["codes"][0])


def test_mfcc_vq_codes_are_the_nearest_centroids_under_autocast_too() -> None:
    plain, ours, wavs = hub.mfcc().eval(), hub.mfcc_vq().eval(), waves(16000, 16000)
    with torch.autocast("cpu", torch.bfloat16):  # S3PRL's features themselves are rounded here
        found, expected = ours(wavs), plain(wavs)
    assert torch.equal(found["hidden_states"][0], expected["hidden_states"][0])
    nearest = [brute_force_codes(frames) for frames in expected["hidden_states"][0]]
    assert torch.equal(found["codes"], torch.stack(nearest))


def test_mfcc_vq_frames_fit_s3prls_featurizer() -> None:
    lengths = (16000, 5600, 560, 12345)
    ours, wavs = hub.mfcc_vq().eval(), waves(*lengths)
    featurizer = Featurizer(ours, upstream_device="cpu")
    kept = [len(frames) for frames in featurizer(wavs, ours(wavs))]
    taken = codes.take(kept)
    assert taken is not None
    assert taken.lengths.tolist() == [(n - 400) // 160 + 1 for n in lengths]
