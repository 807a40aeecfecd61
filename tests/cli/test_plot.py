"""`vqpool plot`: what it reads, and its refusals. What the figures hold is in tests/report."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml

from s3prl_vqpool import cli, pooling
from s3prl_vqpool.cli.plot import KINDS
from s3prl_vqpool.report import sources
from s3prl_vqpool.store import Store


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert cli.main(["plot", *map(str, argv)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


@pytest.fixture(scope="module")
def store(extracted: Any) -> Path:
    return extracted("mfcc", "ks")[1]


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    from tiny import waves

    soundfile.write(tmp_path / "one.wav", waves(8000)[0].numpy(), 16000)
    return tmp_path / "one.wav"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    row = {"source": "u", "pooling": "AP", "accuracy": {"KS": 50.0}, "average": None, "deviation": {}}
    rows = [{**row, "layer": None}, *({**row, "layer": k, "accuracy": {"KS": 40.0 + k}} for k in (0, 1))]
    path = tmp_path / "nearest.json"
    path.write_text(json.dumps({"rows": rows}))
    return path


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    folder = tmp_path / "exp" / "VQ-LP" / "lr=1e-2"
    folder.mkdir(parents=True)
    config = {"downstream_expert": {"modelrc": {"pooling": "VQ-LP"}}, "optimizer": {"lr": 0.01}}
    (folder / "config_1.yaml").write_text(yaml.dump(config))
    (folder / "log.log").write_text(
        "train at step 5: 0.25\ndev at step 10: 0.5\nNew best on dev at step 10: 0.5\ntest at step 0: 0.4\n"
    )
    state = {"Featurizer": {"weights": torch.tensor([0.0, 1.0, 2.0])}, "Config": config}
    torch.save(state, folder / "dev-best.ckpt")
    return folder


def test_every_kind_has_an_example_that_parses() -> None:
    import importlib
    import shlex

    parser = argparse.ArgumentParser()
    cli.module_of("plot").add_arguments(parser)
    for kind in KINDS:
        words = shlex.split(importlib.import_module(f"s3prl_vqpool.cli.plot.{kind}").EXAMPLE)
        assert words[:3] == ["vqpool", "plot", kind]
        assert parser.parse_args(words[2:]).output.suffix in (".svg", ".pdf", ".png")


# -------------------------------------------------------------------------------------------------- drawn
def test_kinds_write_the_same_bytes_twice(
    store: Path, wav: Path, table: Path, experiment: Path, tmp_path: Path
) -> None:
    commands = {
        "embedding": ["--store", store, "--classes", 4, "--perplexity", 5],
        "utterance": [wav, "-u", "mfcc_vq"],
        "layers": [table],
        "accuracy": [table],
        "weights": ["-e", experiment / "dev-best.ckpt"],
        "curves": [tmp_path / "exp"],
        "codebook": ["--store", store],
    }
    for kind, options in commands.items():
        written = []
        for name in ("a", "b"):
            path = tmp_path / f"{kind}-{name}.svg"
            assert cli.main(["plot", kind, *map(str, options), "--output", str(path)]) == 0
            written.append(path.read_bytes())
        assert written[0] == written[1], kind
        assert written[0].startswith(b"<?xml")


def test_confusion_draws_the_predictions_of_a_table(store: Path, tmp_path: Path) -> None:
    command = ["benchmark", "nearest", "--store", store, "--poolings", "AP", "VQ-LP", "--output", tmp_path]
    assert cli.main([*map(str, command)]) == 0
    path = tmp_path / "nearest.predictions.csv"
    labels, predicted = sources.answers(path, None, ["VQ-LP"])["VQ-LP"]
    right = sum(a == b for a, b in zip(labels, predicted)) / len(labels)
    (row,) = (
        row
        for row in json.loads((tmp_path / "nearest.json").read_text())["rows"]
        if row["pooling"] == "VQ-LP"
    )
    assert 100 * right == pytest.approx(row["accuracy"]["KS"])
    assert (
        cli.main(
            [
                "plot",
                "confusion",
                str(path),
                "--poolings",
                "AP",
                "VQ-LP",
                "--output",
                str(tmp_path / "c.pdf"),
            ]
        )
        == 0
    )
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


# ------------------------------------------------------------------------------------------------- sources
def test_entries_are_counted_over_all_utterances(store: Path) -> None:
    opened = Store.open(store)
    expected = [Counter(), Counter()]
    for row in range(len(opened.utterances)):
        for frame in opened.codes(row).tolist():
            for counter, code in zip(expected, frame):
                counter[code] += 1
    for counts, counter in zip(sources.entries_of_store(store), expected, strict=True):
        assert counts.tolist() == [counter[k] for k in range(64)]


def test_entries_of_statistics_are_those_counted(tmp_path: Path) -> None:
    codes = torch.tensor([[[0, 2], [0, 1], [3, 1]]])
    pooling.counts(codes, torch.tensor([3]), (4, 3)).save(tmp_path / "counts.safetensors", {})
    found = sources.entries_of_statistics(tmp_path / "counts.safetensors")
    assert [each.tolist() for each in found] == [[2, 0, 0, 1], [0, 2, 1]]


def test_vectors_are_of_the_most_frequent_classes_of_the_split(store: Path) -> None:
    found = sources.utterance_vectors(store, ["AP"], "test", 3, {})
    assert len(set(found.labels)) == 3
    opened = Store.open(store)
    assert len({opened.utterances[row].label for row in found.rows}) == 3
    expected = opened.vectors("AP", found.rows).float().mean(dim=1)
    torch.testing.assert_close(found.by_pooling["AP"], expected, atol=1e-5, rtol=1e-4)
    assert len(set(zip(found.labels, (opened.utterances[row].label for row in found.rows)))) == 3


def test_log_gives_evaluations_and_not_what_evaluate_appends(experiment: Path) -> None:
    found = sources.log([experiment.parents[1]])
    rows = found[["pooling", "rate", "split", "step", "accuracy"]].to_numpy().tolist()
    assert rows == [["VQ-LP", 0.01, "train", 5, 25.0], ["VQ-LP", 0.01, "dev", 10, 50.0]]


def test_layer_weights_are_the_softmax(experiment: Path) -> None:
    from scipy.special import softmax

    ((name, weights),) = sources.layer_weights([experiment / "dev-best.ckpt"]).items()
    assert name == "VQ-LP, lr=1e-2"
    assert weights.tolist() == pytest.approx(softmax([0.0, 1.0, 2.0]).tolist())


def test_a_table_gives_the_intervals_of_its_json(table: Path) -> None:
    content = json.loads(table.read_text())
    content["rows"][0]["interval"] = {"KS": [45.5, 55.0]}
    table.write_text(json.dumps(content))
    found = sources.table(table)
    assert found[["layer", "accuracy", "low", "high"]].iloc[0].tolist() == ["mean", 50.0, 45.5, 55.0]
    assert found["low"].isna().tolist() == [False, True, True]


# ------------------------------------------------------------------------------------------------ refusals
def test_what_is_there_stays(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    assert cli.main(["plot", "accuracy", str(table), "--output", str(path)]) == 0
    before = path.read_bytes()
    assert "--overwrite" in refused(capsys, "accuracy", table, "--output", path)
    assert path.read_bytes() == before
    assert cli.main(["plot", "accuracy", str(table), "--output", str(path), "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("codebook --store {store} --output a.jpg", "name a .svg, .pdf or .png"),
        ("utterance {wav} -u mfcc_vq --poolings VQ-BP", "--statistics"),
        ("utterance {wav} -u mfcc_vq --poolings AP --statistics x", "leave it out"),
        ("utterance {wav} -u mfcc_vq --poolings SP", "no weight for each frame"),
        ("utterance {wav} -u mfcc_vq --poolings AP --option a=1", "none of AP takes it"),
        ("utterance missing.wav -u mfcc_vq", "missing.wav: no such file"),
        ("embedding --store {store} --classes 1", "--classes 1"),
        ("embedding --store {store} --perplexity 0", "--perplexity"),
        ("embedding --store {store} --poolings VAP", "learned"),
        ("layers {wav}", "one.wav: not a text file"),
        ("layers {wrong}", "wrong.json: not a table"),
        ("layers {flat}", "flat.json: no accuracy of single layers"),
        ("accuracy missing.json", "missing.json"),
        ("curves {empty}", "no log.log"),
        ("weights -e {wav}", "one.wav"),
        ("confusion {wrong}", "wrong.json"),
    ],
)
def test_mistakes_are_one_line(
    command: str,
    said: str,
    store: Path,
    wav: Path,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text('{"rows": [{"layer": []}]}')
    content = json.loads(table.read_text())
    (tmp_path / "flat.json").write_text(json.dumps({"rows": content["rows"][:1]}))
    places = {name: tmp_path / f"{name}.json" for name in ("wrong", "flat")}
    words = command.format(store=store, wav=wav, empty=tmp_path / "empty", **places).split()
    if "--output" not in words:
        words += ["--output", str(tmp_path / "out.svg")]
    assert said in refused(capsys, *words)
    assert not (tmp_path / "out.svg").exists()


def test_a_single_layer_has_no_weights(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"Featurizer": {}, "Config": {}}, tmp_path / "one.ckpt")
    assert "one.ckpt: has no weights of layers" in refused(
        capsys, "weights", "-e", tmp_path / "one.ckpt", "--output", tmp_path / "a.svg"
    )


def test_statistics_of_another_upstream_are_refused(
    wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "counts.safetensors"
    pooling.counts(torch.zeros(1, 1, 2, dtype=torch.int64), torch.tensor([1]), (64, 64)).save(
        path, {"upstream": "x"}
    )
    command = ["utterance", wav, "-u", "mfcc_vq", "--poolings", "VQ-GP", "--statistics", path]
    assert str(path) in refused(capsys, *command, "--output", tmp_path / "a.svg")


def test_without_matplotlib_one_line_says_what_to_install(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from s3prl_vqpool.report import style

    monkeypatch.setattr(style.importlib.util, "find_spec", lambda name: None)
    line = refused(capsys, "accuracy", table, "--output", tmp_path / "a.svg")
    assert "pip install 's3prl-vqpool[report]'" in line
