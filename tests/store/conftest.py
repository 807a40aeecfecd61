"""Stores of a small corpus, one per kind of upstream."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3prl_vqpool import cli
from s3prl_vqpool.store import Store, layout

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "reference")]

Extract = Callable[..., int]


@pytest.fixture(scope="session")
def datarc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where twelve utterances in Fluent Speech Commands' layout are."""
    from stores import fluent_commands

    return fluent_commands(tmp_path_factory.mktemp("ic") / "corpus")


@pytest.fixture(scope="session")
def upstreams(checkpoints: dict[str, Path]) -> dict[str, list[str]]:
    """`-u` and `-k` of three upstreams: mfcc, LayerNorm, GroupNorm over time."""
    tiny = {kind: ["-u", "wav2vec2_vq_local", "-k", str(path)] for kind, path in checkpoints.items()}
    return {"mfcc": ["-u", "mfcc_vq"], **tiny}


@pytest.fixture(scope="session")
def extract(datarc: dict[str, Any], upstreams: dict[str, list[str]]) -> Extract:
    """`extract(kind, folder, *options)`: exit code of `vqpool extract`, shards of 2 s, batches of 3 s."""

    def extract(kind: str, folder: Path, *options: str, **changes: Any) -> int:
        from stores import overrides

        corpus = overrides({**datarc, **changes})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layout, "SHARD_SECONDS", 2)
            patch.setattr(layout, "BATCH_SECONDS", {"cpu": 3})
            command = ["extract", *upstreams[kind], "-d", "vqpool_ic", *corpus]
            return cli.main([*command, "--store", str(folder), "--device", "cpu", *options])

    return extract


@pytest.fixture(scope="session")
def stores(extract: Extract, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """`stores(kind)`: a store with frames and all poolings that a store can hold; made once."""
    made: dict[str, Store] = {}
    poolings = ("VQ-LP", "mean", "AP", "VQ-Squash-AND", "VQ-AllSquash-OR")

    def stores(kind: str) -> Store:
        if kind not in made:
            folder = tmp_path_factory.mktemp("stores") / kind
            assert extract(kind, folder, "--frames", "--poolings", *poolings) == 0
            made[kind] = Store.open(folder)
        return made[kind]

    return stores


@pytest.fixture
def forked() -> Callable[[Callable[[], int]], multiprocessing.process.BaseProcess]:
    """`forked(work)`: a process that runs ``work`` and exits with what it returns."""

    def forked(work: Callable[[], int]) -> multiprocessing.process.BaseProcess:
        process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(work()))
        process.start()
        return process

    return forked
