"""`vqpool kmeans import`: codes of k-means models that others fitted, against scikit-learn's own `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import joblib
import numpy as np
import pytest
import torch
import yaml
from s3prl import hub
from sklearn.cluster import KMeans, MiniBatchKMeans
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool import cli
from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.errors import InputError

LENGTHS = (16000, 7600, 12345)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pt", LARGE)


def states(checkpoint: Path, layer: int) -> list[np.ndarray]:
    """Of each utterance of `waves(*LENGTHS)` float32 [T, D], alone."""
    plain = hub.wav2vec2_local(ckpt=str(checkpoint)).eval()
    with torch.no_grad():
        return [plain([wav])["hidden_states"][layer][0].numpy() for wav in waves(*LENGTHS)]


def published(
    folder: Path, checkpoint: Path, kind: Any = MiniBatchKMeans, layer: int = 2
) -> tuple[Any, Path]:
    fitted = kind(23, n_init=1, random_state=0).fit(np.concatenate(states(checkpoint, layer)))
    joblib.dump(fitted, folder / "km23.bin", compress=3)
    return fitted, folder / "km23.bin"


def imported(file: Path, output: Path, checkpoint: Path, *more: str, layer: int = 2) -> int:
    options = ["--output", str(output), "-u", "wav2vec2_local", "-k", str(checkpoint), "-l", str(layer)]
    return cli.main(["kmeans", "import", str(file), *options, *more])


@pytest.mark.parametrize(("kind", "layer"), [(MiniBatchKMeans, 2), (KMeans, 3), (KMeans, 0)])
def test_codes_are_those_that_scikit_learn_predicts(
    kind: Any, layer: int, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted, file = published(tmp_path, checkpoint, kind, layer)
    output = tmp_path / "codebook.yaml"
    assert imported(file, output, checkpoint, layer=layer) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"layer {layer}: 23 entries of 48 columns",
        f"wrote {output} and {output.with_suffix('.safetensors')}; use them with -u kmeans_vq -g {output}",
    ]
    ours = hub.kmeans_vq(model_config=str(output)).eval()
    for wav, frames in zip(waves(*LENGTHS), states(checkpoint, layer)):
        with torch.no_grad():
            found = ours([wav])["codes"][0, :, 0]
        assert found.tolist() == fitted.predict(frames).tolist()
        assert len(set(found.tolist())) > 5
    content = yaml.safe_load(output.read_text())
    assert (content["window"], content["hop"], content["upstream"]) == (400, 320, "wav2vec2_local")
    books = KMeansCodebooks.load(output.with_suffix(".safetensors"))
    assert books.layers == (layer,)
    assert books.identity["imported"] == "km23.bin"


def test_ties_go_to_the_entry_that_scikit_learn_takes() -> None:
    """Whole numbers, so that distances are exact: frames halfway between entries, and an entry that stands twice."""
    entries = np.array([[4, 0], [0, 0], [0, 4], [4, 4], [0, 0], [8, 0]], np.float32)
    grid = (
        np.stack(np.meshgrid(np.arange(-2, 11), np.arange(-2, 7)), axis=-1).reshape(-1, 2).astype(np.float32)
    )
    model = KMeans(len(entries), n_init=1, max_iter=1).fit(entries + np.arange(6, dtype=np.float32)[:, None])
    model.cluster_centers_ = entries
    books = KMeansCodebooks((torch.from_numpy(entries),), ((0, 2),), {})
    distances = ((grid[:, None] - entries[None]) ** 2).sum(axis=-1)
    assert ((distances == distances.min(axis=1, keepdims=True)).sum(axis=1) > 1).sum() > 30
    assert books.quantize(torch.from_numpy(grid))[:, 0].tolist() == model.predict(grid).tolist()


def test_what_does_not_fit_the_upstream_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "wide.npy", np.ones((5, 49), np.float32))
    np.save(tmp_path / "km.npy", np.ones((5, 48), np.float32))
    output = tmp_path / "out.yaml"
    for name, layer, said in (
        (
            "wide.npy",
            2,
            f"{tmp_path}/wide.npy: its entries have 49 columns, but layer 2 of the upstream has 48",
        ),
        ("km.npy", 9, "-l 9: this upstream has the layers 0 to 3"),
        ("km.npy", -1, "-l -1: layers are at least 0"),
        ("absent.npy", 1, f"{tmp_path}/absent.npy: no such file"),
    ):
        assert imported(tmp_path / name, output, checkpoint, layer=layer) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {said}")
    assert imported(tmp_path / "km.npy", tmp_path / "out.json", checkpoint) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"wide.npy", "km.npy"}


def test_other_weights_are_refused_later(tmp_path: Path, checkpoint: Path) -> None:
    np.save(tmp_path / "km.npy", np.ones((5, 48), np.float32))
    assert imported(tmp_path / "km.npy", tmp_path / "out.yaml", checkpoint) == 0
    other = converted_checkpoint(tmp_path / "other.pt", LARGE, seed=1)
    with pytest.raises(InputError, match="was fitted on other weights"):
        hub.kmeans_vq(ckpt=str(other), model_config=str(tmp_path / "out.yaml"))
