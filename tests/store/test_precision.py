"""The transformer in bfloat16: the codes of float32, vectors close to its own, and no mixture of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from stores import tree

from s3prl_vqpool import Embedder, cli
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import Store

Stores = Callable[[str], Store]
OPTIONS = ("--frames", "--poolings", "VQ-LP", "mean")


def error(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module", params=["base", "large"])
def shorter(
    request: pytest.FixtureRequest, extract: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A kind of upstream, and its store in bfloat16."""
    folder = tmp_path_factory.mktemp("store") / request.param
    assert extract(request.param, folder, "--precision", "bf16", *OPTIONS) == 0
    return request.param, folder


def test_codes_are_those_of_float32_and_vectors_are_close(shorter: tuple[str, Path], stores: Stores) -> None:
    kind, folder = shorter
    found, expected = Store.open(folder), stores(kind)
    assert found.manifest["precision"] == "bf16"
    assert expected.manifest["precision"] == "float32"
    for row in range(len(expected.utterances)):
        assert torch.equal(found.codes(row), expected.codes(row))
    for name in ("VQ-LP", "mean"):
        exact, near = expected.vectors(name), found.vectors(name)
        assert near.dtype == torch.float32
        off = (near - exact).norm(dim=-1) / exact.norm(dim=-1)  # [N, layers]
        assert 0 < off.max() < 0.05


def test_an_embedder_gives_the_stores_vectors(
    shorter: tuple[str, Path], stores: Stores, checkpoints: dict[str, Path]
) -> None:
    kind, folder = shorter
    store = Store.open(folder)
    embed = Embedder("wav2vec2_vq_local", ckpt=str(checkpoints[kind]), device="cpu", precision="bf16")
    vectors = embed([Path(row.path) for row in store.utterances], progress=False)
    expected = store.vectors("VQ-LP").mean(dim=1)
    # products in bfloat16 of another batch may round another way
    torch.testing.assert_close(vectors, expected, rtol=0, atol=0.01 * float(expected.abs().max()))
    exact = stores(kind).vectors("VQ-LP").mean(dim=1)
    assert not torch.allclose(vectors, exact, rtol=0, atol=1e-5)


def test_a_pooling_is_added_in_the_stores_precision(
    shorter: tuple[str, Path], stores: Stores, tmp_path: Path
) -> None:
    kind, folder = shorter
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert cli.main(["store", "add-pooling", str(copy), "AP", "VQ-BP"]) == 0
    store = Store.open(copy)
    torch.testing.assert_close(store.vectors("AP"), store.vectors("mean"), rtol=0, atol=0.02)
    assert not torch.allclose(store.vectors("AP"), stores(kind).vectors("AP"), rtol=0, atol=1e-5)


def test_another_precision_is_refused(shorter: tuple[str, Path], extract: Any, capsys: Any) -> None:
    kind, folder = shorter
    before = tree(folder)
    assert extract(kind, folder, *OPTIONS) == 2
    assert "was begun with precision 'bf16', but now it is 'float32'" in error(capsys)
    assert tree(folder) == before


def test_a_store_of_an_earlier_version_is_in_float32(extract: Any, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "store"
    assert extract("large", folder, *OPTIONS) == 0
    content = json.loads((folder / "manifest.json").read_text())
    del content["precision"]
    (folder / "manifest.json").write_text(json.dumps(content))
    assert extract("large", folder, *OPTIONS) == 0
    assert extract("large", folder, *OPTIONS, "--precision", "bf16") == 2
    assert "was begun with precision 'float32', but now it is 'bf16'" in error(capsys)


@pytest.mark.parametrize(
    ("kind", "precision", "said"),
    [
        ("mfcc", "bf16", "error: precision bf16: mfcc_vq has no transformer behind its codes"),
        ("base", "fp16", "error: precision fp16: torch's products in float16 are slower on a CPU"),
    ],
)
def test_what_would_not_be_shorter_is_one_line(
    kind: str, precision: str, said: str, extract: Any, tmp_path: Path, capsys: Any
) -> None:
    assert extract(kind, tmp_path / "store", "--precision", precision) == 2
    assert error(capsys).startswith(said)
    assert not (tmp_path / "store").exists()


def test_an_unknown_precision_is_one_line() -> None:
    with pytest.raises(InputError, match="precision 'half': expected one of float32, bf16, fp16"):
        Embedder("wav2vec2_vq_tiny", device="cpu", precision="half")


def test_parts_of_embed_are_not_mixed(
    tmp_path: Path, stores: Stores, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3prl_vqpool.store import embed

    given = [
        "embed",
        str(stores("base").utterances[0].path),
        "-u",
        "wav2vec2_vq_tiny",
        "--output",
        str(tmp_path / "v.npz"),
    ]
    monkeypatch.setattr(embed, "remove_parts", lambda folder: None)
    assert cli.main([*given, "--device", "cpu", "--precision", "bf16"]) == 0
    assert cli.main([*given, "--device", "cpu", "--overwrite"]) == 2
    assert "was begun with another precision" in error(capsys)
