"""S3PRL's `-g` in the manifest: recorded, compared by content, given to the upstream that runs again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from stores import overrides, tree

from s3prl_vqpool import cli, pooling
from s3prl_vqpool.codes.codebook import Codebook
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import Counts
from s3prl_vqpool.runner import plugin
from s3prl_vqpool.store import Store, manifest

SHIPPED = plugin.folder("upstream_expert") / "kmeans_vq" / "mfcc.safetensors"


@pytest.fixture
def codebook(tmp_path: Path) -> Path:
    path = tmp_path / "codebook.yaml"
    Codebook("mfcc", str(SHIPPED), window=400, hop=160).save(path)
    return path


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """Training counts for `-u mfcc_vq -g`."""
    table = Counts(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, dtype=torch.long), (64, 64))
    table.save(tmp_path / "counts.safetensors", hub.mfcc_vq().identity())
    return tmp_path / "counts.safetensors"


def extract(upstream: str, datarc: dict[str, Any], folder: Path, given: str | Path | None) -> int:
    options = ["-g", str(given)] if given else []
    command = ["extract", "-u", upstream, *options, "-d", "vqpool_ic", *overrides(datarc)]
    return cli.main([*command, "--poolings", "VQ-LP", "--store", str(folder)])


def test_file_is_recorded_and_compared_by_content(
    datarc: dict[str, Any], counts: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    folder = tmp_path / "store"
    monkeypatch.chdir(tmp_path)
    assert extract("mfcc_vq", datarc, folder, counts.name) == 0
    manifest, digest = Store.open(folder).manifest, hashlib.sha256(counts.read_bytes()).hexdigest()
    assert (manifest["upstream_model_config"], manifest["upstream_model_config_sha256"]) == (
        str(counts),
        digest,
    )
    before = tree(folder)
    moved = counts.rename(tmp_path / "moved.safetensors")
    assert extract("mfcc_vq", datarc, folder, moved) == 0
    Counts(torch.ones(1, 2, dtype=torch.long), torch.ones(1, dtype=torch.long), (64, 64)).save(
        moved, hub.mfcc_vq().identity()
    )
    for given in (moved, None):
        capsys.readouterr()
        assert extract("mfcc_vq", datarc, folder, given) == 2
        said = f"{folder}: was begun with upstream_model_config_sha256 {digest!r}, but now it is"
        assert said in capsys.readouterr().err
    assert tree(folder) == before


def test_upstream_that_runs_again_is_given_it(datarc: dict[str, Any], codebook: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    assert extract("kmeans_vq", datarc, folder, codebook) == 0
    assert cli.main(["store", "add-pooling", str(folder), "VQ-Squash-AND"]) == 0
    store, upstream = Store.open(folder), hub.kmeans_vq(model_config=str(codebook)).eval()
    for row, utterance in enumerate(store.utterances):
        with torch.no_grad():
            result = upstream([torch.from_numpy(audio.read(utterance.path))])
        module = pooling.build("VQ-Squash-AND", 39)
        expected = module(result["hidden_states"][0], result["code_lengths"], result["codes"])
        torch.testing.assert_close(store.vectors("VQ-Squash-AND", [row])[0], expected, atol=1e-5, rtol=1e-5)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"abc")
    assert manifest._hash(str(tmp_path / "a.yaml")) == hashlib.sha256(b"abc").hexdigest()
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match=rf"^-g {path}: cannot be read \("):
            manifest._hash(str(path))
