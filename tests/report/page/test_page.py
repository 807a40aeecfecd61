"""What is written into the page, against the store, brute force and decoders of others; what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from s3prl_vqpool import cli, pooling
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.report.page import corpus, document, found, media
from s3prl_vqpool.store import Store
from s3prl_vqpool.tables import stores


@pytest.fixture(scope="module")
def data(page: Path) -> Any:
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1]
    )


@pytest.fixture(scope="module")
def store(results: Path) -> Store:
    return Store.open(results / "stores" / "ic")


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_audio_is_what_was_given_and_the_same_each_time() -> None:
    time = np.arange(24000) / 16000
    samples = (0.3 * np.sin(2 * np.pi * 440 * time) * np.hanning(24000)).astype(np.float32)
    uri = media.audio(samples)
    assert uri == media.audio(samples)
    heard, rate = soundfile.read(io.BytesIO(decoded(uri)), dtype="float32")
    assert rate in (16000, 48000)
    heard = heard[:: rate // 16000][:24000]
    assert len(heard) >= 23900
    assert np.corrcoef(samples[: len(heard)], heard)[0, 1] > 0.98
    assert len(uri) < 12000


@pytest.mark.parametrize("hertz", [500, 2000, 6000])
def test_spectrogram_has_a_tone_in_its_band(hertz: int) -> None:
    from PIL import Image

    samples = (0.5 * np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)).astype(np.float32)
    image = np.array(Image.open(io.BytesIO(decoded(media.spectrogram(samples)))))
    assert image.shape == (80, 100)
    mel = 80 * np.log10(1 + hertz / 700) / np.log10(1 + 8000 / 700)
    assert abs((79 - image[:, 50].argmax()) - mel) <= 1.5


def test_bands_are_those_of_torchaudio() -> None:
    import s3prl.hub  # noqa: F401 (repairs torchaudio)
    from torchaudio.functional import melscale_fbanks

    torch.testing.assert_close(
        media.bands().T, melscale_fbanks(201, 0.0, 8000.0, 80, 16000), atol=1e-4, rtol=1e-4
    )


def test_prediction_is_the_label_of_the_nearest_training_utterance(data: Any, store: Store) -> None:
    fold = stores.task(store.folder, store).folds[0]
    vectors = store.vectors("VQ-LP").float().mean(dim=1).double()
    vectors /= vectors.norm(dim=1, keepdim=True)
    names = {store.utterances[row].id: row for row in fold.test.tolist()}
    labels = {}
    for each in data["sets"][0]["utterances"]:
        labels[store.utterances[names[each["id"]]].label] = each["label"]
    for each in data["sets"][0]["utterances"]:
        cosines = vectors[fold.train] @ vectors[names[each["id"]]]
        assert each["predicted"] == labels[store.utterances[fold.train[cosines.argmax()]].label]


def test_codes_and_weights_are_the_stores(data: Any, store: Store) -> None:
    rows = {row.id: number for number, row in enumerate(store.utterances)}
    for each in data["sets"][0]["utterances"]:
        if "codes" not in each:
            continue
        codes = store.codes(rows[each["id"]])
        assert each["codes"] == codes[: len(each["codes"])].tolist()
        expected = pooling.weights("VQ-LP", codes[None], torch.tensor([len(codes)]))[0] * len(codes)
        assert np.allclose(each["weights"]["VQ-LP"], expected[: len(each["codes"])], atol=6e-4)
        assert set(each["weights"]["AP"]) == {1}
        samples = audio.read(each["path"])[: 20 * 16000]
        assert each["seconds"] == pytest.approx(len(samples) / 16000, abs=1e-3)


def test_shown_are_half_wrong_where_there_are_enough() -> None:
    labels, predicted = list("aaaabbbb"), list("aaaaaaab")
    assert corpus._half_wrong(labels, predicted, 4) == [4, 5, 0, 1]
    assert corpus._half_wrong(labels, predicted, 8) == [4, 5, 6, 0, 1, 2, 3, 7]
    assert corpus._half_wrong(labels, labels, 3) == [0, 1, 2]


def test_same_folders_give_the_same_bytes(page: Path, results: Path, tmp_path: Path) -> None:
    document.write([results], tmp_path / "again.html", 8)
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    document.write([results], tmp_path / "other.html", 8, seed=1)
    assert (tmp_path / "other.html").read_bytes() != page.read_bytes()


def test_too_much_is_trimmed_with_a_line(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    assert page.stat().st_size < document.LIMIT
    monkeypatch.setattr(document, "LIMIT", page.stat().st_size - 150_000)
    lines = document.write([results], tmp_path / "small.html", 8)
    assert (tmp_path / "small.html").stat().st_size <= document.LIMIT
    assert any(re.match(r"\d+ points of t-SNE have no audio", line) for line in lines)


def test_experiment_has_its_best_step(results: Path) -> None:
    grid = found.experiments([results / "experiments" / "first"])
    assert grid is not None
    assert grid.rows[0][3:] == [(75.0, "step 100"), (62.5, "")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--output", "a.html"], "none: no such folder"),
        ([".", "--output", "a.html"], "no store, table or experiment below"),
        ([".", "--output", "a.pdf"], "a.pdf: name a .html file"),
        ([".", "--output", "a.html", "--utterances", "0"], "--utterances 0"),
        ([".", "--output", "a.html", "--seed", "-1"], "--seed -1"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize("content", ["[]", '{"rows": 3, "title": "", "notes": []}', "{", '{"rows": [{}]}'])
def test_damaged_table_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json"):
        found.table(tmp_path / "a.json")


def test_output_is_not_replaced(page: Path, results: Path, capsys: Any) -> None:
    assert cli.main(["report", str(results), "--output", str(page)]) == 2
    assert "--overwrite" in capsys.readouterr().err
