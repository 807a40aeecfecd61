"""Our experts beside S3PRL's own, in one process: utterances, audio, logits, losses, files."""

from __future__ import annotations

import importlib
import importlib.util
import random
import re
import shlex
import sys
import types
import wave
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)
from s3prl_vqpool import cli, codes
from s3prl_vqpool.corpora.tasks import by_name
from s3prl_vqpool.runner import config

THEIRS = {"ks": "speech_commands", "sid": "voxceleb1", "ic": "fluent_commands", "er": "emotion"}
TASKS = tuple(THEIRS)
CORPORA = ("synthetic", "real")
MODELRC = {"projector_dim": 8, "select": "UtteranceLevel", "UtteranceLevel": {"pooling": "MeanPooling"}}
DIM = 12


@pytest.fixture(params=CORPORA)
def datarc(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Datarc entries by task, with the numbers of S3PRL's configs."""
    rest = {
        "ks": {"batch_size": 32},
        "sid": {"max_timestep": 128000, "train_batch_size": 8, "eval_batch_size": 1},
        "ic": {"train_batch_size": 32, "eval_batch_size": 32},
        "er": {
            "test_fold": "fold2",
            "pre_load": True,
            "valid_ratio": 0.2,
            "train_batch_size": 4,
            "eval_batch_size": 4,
        },
    }
    paths = request.getfixturevalue(request.param)
    return {task: {**paths[task], **rest[task]} for task in TASKS}


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`theirs(task, datarc, speakers)`: S3PRL's own expert, with a list cache of its own."""
    if importlib.util.find_spec("librosa") is None:  # voxceleb1 imports this name and does not use it
        monkeypatch.setitem(sys.modules, "librosa", types.ModuleType("librosa"))
        util = types.ModuleType("librosa.util")
        util.find_files = None
        monkeypatch.setitem(sys.modules, "librosa.util", util)
    dataset = importlib.import_module("s3prl.downstream.voxceleb1.dataset")
    monkeypatch.setattr(dataset, "CACHE_PATH", f"{tmp_path}/cache/")

    def build(task: str, datarc: dict[str, Any], speakers: int | None = None) -> Any:
        module = importlib.import_module(f"s3prl.downstream.{THEIRS[task]}.expert")
        if task == "sid" and speakers:

            class AnyNumber(dataset.SpeakerClassifiDataset):
                def __init__(self, *args: Any) -> None:
                    super().__init__(*args)
                    self.speaker_num = speakers

            monkeypatch.setattr(module, "SpeakerClassifiDataset", AnyNumber)
        section = {"datarc": {"num_workers": 0, **datarc}, "modelrc": MODELRC}
        expdir = tmp_path / "theirs"
        expdir.mkdir(exist_ok=True)
        return module.DownstreamExpert(DIM, section, str(expdir))

    return build


@pytest.fixture
def pair(build: Any, theirs: Any, tmp_path: Path) -> Any:
    """`pair(task, datarc)`: (ours with pooling: mean, S3PRL's), with the parameters that S3PRL's was given."""

    def pair(task: str, datarc: dict[str, Any]) -> tuple[Any, Any]:
        torch.manual_seed(5)
        expdir = tmp_path / "ours"
        expdir.mkdir(exist_ok=True)
        ours = build(task, datarc, "mean", DIM, expdir=str(expdir))
        other = theirs(task, datarc, len(ours.classes[0]))
        ours.load_state_dict(other.state_dict())
        codes.publish(None)
        return ours, other

    return pair


def samples_of(path: str | Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def listed(task: str, dataset: Any) -> dict[str, tuple[Any, str]]:
    """path -> (label, id) of one of S3PRL's datasets, in its order, without reading audio."""
    if isinstance(dataset, torch.utils.data.Subset):
        whole = listed(task, dataset.dataset)
        paths = list(whole)
        return {paths[index]: whole[paths[index]] for index in dataset.indices}
    if task == "ks":
        return {str(p): (dataset.class2index[c], "-".join(p.parts[-2:])) for c, p in dataset.data}
    if task == "sid":
        return {
            path: (label, Path("-".join(Path(path).parts[-3:])).stem)
            for path, label in zip(dataset.dataset, dataset.label)
        }
    if task == "ic":
        return {
            f"{dataset.base_path}/{row.path}": (
                tuple(dataset.Sy_intent[slot][row[slot]] for slot in ("action", "object", "location")),
                Path(row.path).stem,
            )
            for _, row in dataset.df.iterrows()
        }
    return {
        f"{dataset.data_dir}/{row['path']}": (dataset.class_dict[row["label"]], Path(row["path"]).stem)
        for row in dataset.meta_data
    }


@pytest.mark.parametrize("task", TASKS)
def test_utterances_labels_and_names_equal_s3prls(task: str, datarc: dict, build: Any, theirs: Any) -> None:
    ours, other = build(task, datarc[task]), theirs(task, datarc[task])
    for split in ("train", "dev", "test"):
        expected = listed(task, getattr(other, f"{split}_dataset"))
        found = {}
        for utterance in ours.corpus.splits[split]:
            label = utterance.label if len(utterance.label) > 1 else utterance.label[0]
            found[str(utterance.path)] = (
                label,
                utterance.id.split("#")[0],
            )  # "#3": the 4th second of a noise
        assert found == expected
        if task != "ks":  # where S3PRL's order is the folder's, which is any
            assert list(found) == list(expected)
        assert len(expected) > 5


def test_balancing_weights_equal_s3prls_for_words_and_in_sum_for_noise(
    datarc: dict, build: Any, theirs: Any
) -> None:
    ours, other = build("ks", datarc["ks"]), theirs("ks", datarc["ks"])
    for split in ("train", "dev"):
        dataset = getattr(other, f"{split}_dataset")
        expected, found = defaultdict(float), defaultdict(float)
        for (name, path), weight in zip(dataset.data, dataset.sample_weights):
            expected["noise" if name == "_silence_" else str(path)] += weight
        for utterance in ours.corpus.splits[split]:
            found["noise" if utterance.label == (11,) else str(utterance.path)] += utterance.weight
        assert found.keys() == expected.keys()
        for key, weight in expected.items():
            assert found[key] == pytest.approx(weight, rel=1e-12)


def class_names(task: str, dataset: Any, label: Any) -> tuple[str, ...]:
    """What S3PRL calls a label of one of its datasets."""
    dataset = (
        getattr(dataset, "dataset", dataset) if isinstance(dataset, torch.utils.data.Subset) else dataset
    )
    if task == "ks":
        return (next(name for name, index in dataset.class2index.items() if index == label),)
    if task == "sid":
        return tuple(dataset.label2speaker([label]))
    if task == "ic":
        return tuple(dataset.Sy_intent[slot][k] for slot, k in zip(("action", "object", "location"), label))
    return (dataset.idx2emotion[label],)


@pytest.mark.parametrize("task", TASKS)
def test_exported_tables_have_s3prls_files_labels_names_and_splits(
    task: str, datarc: dict, theirs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`vqpool corpora export`, read again by the words that it prints. Of KS's noise a table has each second."""
    table = tmp_path / "exported.csv"
    places = (f"config.downstream_expert.datarc.{p.key}={datarc[task][p.key]}" for p in by_name(task).places)
    assert cli.main(["corpora", "export", task, "-o", ",,".join(places), "--output", str(table)]) == 0
    _, downstream, _, override = shlex.split(capsys.readouterr().out)
    ours = config.read(downstream, None, override)["downstream_expert"]["datarc"]
    divisions = dict(by_name("table").divisions(config.datarc_of(downstream, ours)))
    assert list(divisions) == list(by_name(task).folds or [""])
    for fold, corpus in divisions.items():
        other = theirs(task, {**datarc[task], **({"test_fold": fold, "pre_load": False} if fold else {})})
        for split in ("train", "dev", "test"):
            dataset = getattr(other, f"{split}_dataset")
            expected = {
                path: (class_names(task, dataset, label), name)
                for path, (label, name) in listed(task, dataset).items()
            }
            found = {
                str(u.path): (tuple(c[k] for c, k in zip(corpus.classes, u.label)), re.split("[#~]", u.id)[0])
                for u in corpus.splits[split]
            }
            assert found == expected
            if task != "ks":
                assert len(corpus.splits[split]) == len(dataset), "each file once"


@pytest.mark.parametrize("task", TASKS)
def test_audio_equals_s3prls_and_the_samples_in_the_file(
    task: str, datarc: dict, build: Any, theirs: Any
) -> None:
    ours, other = build(task, datarc[task]), theirs(task, datarc[task])
    gain = 10 ** (-3 / 20) if task == "ks" else 1.0
    for split in ("train", "dev", "test"):
        dataset = getattr(other, f"{split}_dataset")
        position = {path: index for index, path in enumerate(listed(task, dataset))}
        chosen = [i for i, u in enumerate(ours.corpus.splits[split]) if u.frames is None]
        for index in random.Random(0).sample(chosen, min(25, len(chosen))):
            wav, _, name, _ = ours.dataset(split)[index]
            path = str(ours.corpus.splits[split][index].path)
            assert wav.dtype == np.float32
            np.testing.assert_allclose(wav, gain * samples_of(path), atol=1e-6)
            np.testing.assert_allclose(wav, dataset[position[path]][0], atol=1e-6)
            assert name == dataset[position[path]][2]


def test_emotion_split_leaves_the_random_state_alone_where_s3prl_reseeds(
    datarc: dict, build: Any, theirs: Any
) -> None:
    torch.manual_seed(99)
    torch.nn.Linear(DIM, 8), torch.nn.Linear(8, 4)
    expected = torch.rand(1)
    torch.manual_seed(99)
    build("er", datarc["er"])
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(99)
    theirs("er", datarc["er"])
    assert not torch.equal(torch.rand(1), expected)


def batch_of(
    expert: Any, split: str, count: int, seed: int
) -> tuple[list[torch.Tensor], tuple, tuple, tuple]:
    """Random features of different lengths for utterances of a split: features, labels, ids, weights."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(expert.corpus.splits[split]), generator=generator)[:count]
    utterances = [expert.corpus.splits[split][index] for index in chosen]
    lengths = torch.randint(1, 90, (len(utterances),), generator=generator)
    features = [torch.randn(length, DIM, generator=generator) for length in lengths]
    return (
        features,
        tuple(u.label for u in utterances),
        tuple(u.id for u in utterances),
        tuple(u.weight for u in utterances),
    )


def for_theirs(labels: tuple) -> list:
    """Labels as S3PRL's datasets give them: an array per utterance for three slots, else a number."""
    return [np.array(label) if len(label) > 1 else label[0] for label in labels]


@pytest.mark.parametrize("task", TASKS)
def test_mean_head_gives_s3prls_logits_and_loss(task: str, datarc: dict, pair: Any) -> None:
    ours, other = pair(task, datarc[task])
    for seed in range(3):
        features, labels, ids, weights = batch_of(ours, "train", 9, seed)
        logits = []
        other.model.register_forward_hook(lambda module, args, output, kept=logits: kept.append(output[0]))
        ours.model.register_forward_hook(lambda module, args, output, kept=logits: kept.append(output))
        expected = other("train", features, for_theirs(labels), ids, records=defaultdict(list))
        loss = ours("train", features, labels, ids, weights, records=defaultdict(list))
        assert_close(logits[1], logits[0], atol=1e-6, rtol=1e-6)
        assert_close(loss, expected, atol=1e-6, rtol=1e-6)
        for expert in (ours, other):
            expert.zero_grad()
        loss.backward(), expected.backward()
        for (name, mine), (_, parameter) in zip(ours.named_parameters(), other.named_parameters()):
            assert_close(mine.grad, parameter.grad, atol=1e-6, rtol=1e-5, msg=name)


class Logger:
    """What is logged to TensorBoard: {(tag, step): value}."""

    def __init__(self) -> None:
        self.scalars: dict[tuple[str, int], float] = {}

    def add_scalar(self, tag: str, value: float, global_step: int) -> None:
        self.scalars[tag, global_step] = value


@pytest.mark.parametrize("task", TASKS)
def test_files_logs_and_best_checkpoints_equal_s3prls(task: str, datarc: dict, pair: Any) -> None:
    """Equal weights here: KS's dev accuracy differs on purpose, see the test of its average below."""
    ours, other = pair(task, datarc[task])
    loggers, saved = (Logger(), Logger()), ([], [])
    for step, split in enumerate(("train", "dev", "test", "dev", "dev", "dev", "dev"), start=1):
        features, labels, ids, weights = batch_of(ours, split, 40, seed=step)
        weights = (1.0,) * len(ids)
        mine, theirs = defaultdict(list), defaultdict(list)
        other(split, features, for_theirs(labels), ids, records=theirs)
        ours(split, features, labels, ids, weights, records=mine)
        assert mine["acc"] == theirs["acc"]
        if step > 3:  # none, 7 of 10, again 7 of 10, all are right
            right = {4: 0.0, 5: 0.7, 6: 0.7, 7: 1.0}[step]
            theirs["acc"] = mine["acc"] = [float(k < right * len(ids)) for k in range(len(ids))]
        for expert, records, logger, names in zip((ours, other), (mine, theirs), loggers, saved):
            names.append(expert.log_records(split, records=records, logger=logger, global_step=step))
    assert saved[0] == saved[1]
    assert saved[0][3:] == [[], ["dev-best.ckpt"], [], ["dev-best.ckpt"]]
    assert loggers[0].scalars == pytest.approx(loggers[1].scalars, abs=1e-6)
    assert_close(ours.best_score, other.best_score)
    written = [{path.name: path for path in Path(expert.expdir).iterdir()} for expert in (ours, other)]
    assert written[0].keys() == written[1].keys()
    for name in written[0].keys() - {"log.log"}:
        assert written[0][name].read_text() == written[1][name].read_text()
        assert written[0][name].read_text().count("\n") >= 5
    lines = [written[k]["log.log"].read_text().splitlines() for k in (0, 1)]
    number = re.compile(r"[\d.e-]+$")
    assert [number.sub("", line) for line in lines[0]] == [number.sub("", line) for line in lines[1]]
    numbers = [[float(number.search(line)[0]) for line in each] for each in lines]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-6)


def test_balanced_dev_accuracy_is_what_s3prls_resampling_gives_on_average(
    datarc: dict, build: Any, theirs: Any, tmp_path: Path
) -> None:
    """S3PRL draws entry i of its list with probability w_i / sum(w), and of a noise file any second."""
    root = tmp_path / "words_and_noise_of_1_3_and_7_seconds"
    (root / "_background_noise_").mkdir(parents=True)
    for word in Path(datarc["ks"]["speech_commands_root"]).iterdir():
        if word.name[0] != "_" and word.is_dir():
            (root / word.name).symlink_to(word)
    for seconds in (1, 3, 7):
        noise = np.random.default_rng(seconds).uniform(-0.1, 0.1, seconds * 16000)
        soundfile.write(root / "_background_noise_" / f"{seconds}.wav", noise, 16000)
    ks = {**datarc["ks"], "speech_commands_root": str(root)}
    ours, other = build("ks", ks), theirs("ks", ks)
    generator = random.Random(3)
    right = {utterance.id: float(generator.random() < 0.6) for utterance in ours.corpus.splits["dev"]}
    dataset = other.dev_dataset
    expected = 0.0
    for (_, path), weight in zip(dataset.data, dataset.sample_weights):
        name = "-".join(path.parts[-2:])
        outcomes = [value for key, value in right.items() if key.split("#")[0] == name]
        expected += weight / sum(dataset.sample_weights) * sum(outcomes) / len(outcomes)
    records: dict[str, list] = {"loss": [0.0], "acc": list(right.values())}
    records["weight"] = [utterance.weight for utterance in ours.corpus.splits["dev"]]
    records.update(filename=list(right), predict=[("yes",)] * len(right), truth=[("yes",)] * len(right))
    logger = Logger()
    ours.log_records("dev", records=records, logger=logger, global_step=1)
    assert logger.scalars["speech_commands/dev-acc", 1] == pytest.approx(expected, abs=1e-12)
