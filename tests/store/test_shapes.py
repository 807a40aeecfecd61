"""Bounds of what a store's JSON may say: each value at its bound is taken, and one beyond it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from s3prl_vqpool.store import shapes

MANIFEST: dict[str, Any] = {
    "upstream": "mfcc_vq", "downstream": "vqpool_ic", "datarc": {}, "root": "/corpus", "dtype": "float16",
    "device": "cpu", "fingerprint": "0", "frames": False, "poolings": [], "codebook_sizes": [1], "shards": 1,
    "utterances": 1, "samples": 1, "layers": 1, "dim": 1, "downsample_rate": 1, "threads": 1, "batch_seconds": 1e-9,
    "gain_db": -3,
}  # fmt: skip
ABOUT: dict[str, Any] = {"file": "a", "sha256": "0", "bytes": 0, "utterances": 1}
ROW: dict[str, Any] = {
    "row": 0, "id": "a", "path": "/a.wav", "start": 0, "frames": 1, "samples": 1, "length": 1, "label": [0],
    "sha256": "0", "bytes": 0, "modified": -1,
}  # fmt: skip
LARGE = 2**62
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]], dict[str, list[Any]]]] = {
    "manifest": (
        shapes.manifest,
        MANIFEST,
        {
            **{key: [LARGE] for key in ("utterances", "samples", "layers", "dim", "downsample_rate")},
            "shards": [10**6],
            "threads": [2**20],
            "batch_seconds": [2**62 - 1, 2.5],
            "gain_db": [0.5],
            "dtype": ["float32"],
            "poolings": [["AP"]],
            "codebook_sizes": [[LARGE, 1]],
            "ckpt": [None, "a.pt"],
            "upstream_model_config": [None, "a.yaml"],
            "added": [{}, {"VQ-SIF": {"a": 0.1, "counts": "0", "fold": None}}, {"VQ-GP": {"fold": "1"}}],
            "a key of a later version": [object()],
        },
        {
            **{key: [0, LARGE + 1, 1.0, True, "1", None] for key in ("utterances", "samples", "layers", "dim")},
            "downsample_rate": [0, LARGE + 1],
            "shards": [0, 10**6 + 1],
            "threads": [0, 2**20 + 1],
            "batch_seconds": [0, -1, 2**62, True, "1"],
            "gain_db": [True, "0", None],
            "dtype": ["int64", 2, ["float16"]],
            "frames": [0, None],
            "poolings": ["AP", [1], {"AP": 1}],
            "codebook_sizes": [[], [0], [1.0], 1],
            "datarc": [None, []],
            "root": [None, "a\0b"],
            "ckpt": [1, "a\0b"],
            "added": [None, [], {"A": 1}, {"A": {"a": [1]}}, {"A": {"counts": 1}}, {"A": {"fold": 1}}],
        },
    ),
    "about a shard": (
        shapes.about_shard,
        ABOUT,
        {"bytes": [LARGE], "utterances": [LARGE], "index_sha256": ["0"]},
        {"bytes": [-1], "utterances": [0], "file": [None], "sha256": [0], "index_sha256": [None]},
    ),
    "about a part": (
        shapes.about_part,
        {**ABOUT, "made": {}},
        {"made": [{"a": 1, "b": "x", "counts": "0", "fold": None}]},
        {"made": [None, [], {"a": None}, {"a": True}, {"counts": None}]},
    ),
    "done": (shapes.done, {"shards": []}, {"shards": [[ABOUT, ABOUT]]}, {"shards": [None, {}, [ABOUT, {}], [1]]}),
    "row": (
        shapes.row,
        ROW,
        {
            "row": [LARGE], "start": [None, LARGE], "frames": [None, LARGE], "samples": [LARGE], "length": [LARGE],
            "label": [[], [0, LARGE]], "bytes": [None], "modified": [None, 2**70],
        },
        {
            "row": [-1, None], "start": [-1, 0.0], "frames": [0], "samples": [0, None], "length": [0],
            "label": [[-1], 0], "bytes": [-1], "modified": ["0", 1.0],
            "id": [None], "path": [None, "a\0b"], "sha256": [0],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_at_their_bounds_are_taken_and_others_refused(name: str) -> None:
    shape, least, taken, refused = CASES[name]
    assert shape(least)
    for key in least:
        if key not in ("bytes", "modified") or name != "row":
            assert not shape({k: v for k, v in least.items() if k != key}), key
    for key, values in taken.items():
        for value in values:
            assert shape({**least, key: value}), (key, value)
    for key, values in refused.items():
        for value in values:
            assert not shape({**least, key: value}), (key, value)
    for value in (None, [], 1, "text", list(least)):
        assert not shape(value)
