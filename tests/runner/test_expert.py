"""What our experts do beyond S3PRL's: best score, order, classes, files, KS with 35 words, IC with whole intents."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)
from s3prl_vqpool import codes
from s3prl_vqpool.corpora.synthetic import TASKS
from s3prl_vqpool.errors import InputError

SIZES = {
    "ks": {"batch_size": 16},
    "sid": {"max_timestep": 128000, "train_batch_size": 4, "eval_batch_size": 1},
    "ic": {"train_batch_size": 16, "eval_batch_size": 16},
    "er": {
        "test_fold": "fold1",
        "pre_load": True,
        "valid_ratio": 0.2,
        "train_batch_size": 4,
        "eval_batch_size": 4,
    },
}


class NoLogger:
    def add_scalar(self, *args: object, **kwargs: object) -> None:
        pass


@pytest.fixture
def make(build: Any, synthetic: dict) -> Any:
    """`make(task, **arguments)`: an expert on the synthetic corpus."""

    def make(task: str, pooling: str = "mean", datarc: dict | None = None, **arguments: Any) -> Any:
        codes.publish(None)
        return build(task, {**synthetic[task], **SIZES.get(task, {}), **(datarc or {})}, pooling, **arguments)

    return make


def names_of(expert: Any, split: str = "train", epoch: int = 0, limit: int | None = None) -> list[str]:
    """Ids in the order in which the loader gives them."""
    batches = [
        ids for _, (_, _, ids, _) in zip(range(limit or 10**6), expert.get_dataloader(split, epoch=epoch))
    ]
    return [name for ids in batches for name in ids]


def log(expert: Any, split: str, accuracy: float, step: int) -> list[str]:
    """Log ten utterances of which ``accuracy`` are right."""
    right = round(10 * accuracy)
    names = [tuple(names[0] for names in expert.classes)] * 10
    records = {
        expert.loss_name: [1.0],
        "acc": [1.0] * right + [0.0] * (10 - right),
        "weight": [1.0] * 10,
        "filename": [f"file{index}" for index in range(10)],
        "predict": names,
        "truth": names,
    }
    return expert.log_records(split, records=records, logger=NoLogger(), global_step=step)


def test_best_score_is_updated_in_place_by_better_dev_scores_only(make: Any, tmp_path: Path) -> None:
    expert = make("er")
    tensor = expert.best_score
    scores = [("dev", 0.3), ("dev", 0.2), ("test", 0.9), ("train", 0.9), ("dev", 0.3), ("dev", 0.4)]
    saved = [log(expert, split, accuracy, step) for step, (split, accuracy) in enumerate(scores)]
    assert saved == [["dev-best.ckpt"], [], [], [], [], ["dev-best.ckpt"]]
    assert expert.best_score is tensor
    assert expert.state_dict()["best_score"].data_ptr() == tensor.data_ptr()
    assert_close(tensor, torch.tensor([0.4]))
    assert (tmp_path / "log.log").read_text() == (
        "dev at step 0: 0.3\nNew best on dev at step 0: 0.3\ndev at step 1: 0.2\ntest at step 2: 0.9\n"
        "train at step 3: 0.9\ndev at step 4: 0.3\ndev at step 5: 0.4\nNew best on dev at step 5: 0.4\n"
    )


def test_best_score_of_a_resumed_run_is_not_beaten_by_the_same_score(make: Any) -> None:
    first, resumed = make("er"), make("er")
    log(first, "dev", 0.7, 1)
    resumed.load_state_dict(first.state_dict())
    assert log(resumed, "dev", 0.7, 2) == []
    assert log(resumed, "dev", 0.8, 3) == ["dev-best.ckpt"]


@pytest.mark.parametrize("task", TASKS)
def test_state_dict_restores_the_logits(make: Any, task: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained, fresh = make(task), make(task)
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    features = [torch.randn(length, 12) for length in (5, 9, 2)]
    heads = []
    for expert in (trained, fresh):
        expert.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        lengths = torch.tensor([len(frames) for frames in features])
        heads.append(
            expert.logits(torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths, None)
        )
    assert torch.equal(*heads)
    assert sorted(trained.state_dict()) == [
        "best_score",
        "model.post_net.linear.bias",
        "model.post_net.linear.weight",
        "projector.bias",
        "projector.weight",
    ]


def test_unknown_names_are_refused_in_one_line(make: Any, synthetic: dict) -> None:
    with pytest.raises(
        InputError, match=r"^Unknown split 'tset'\. Did you mean test\? Known: train, dev, test\.$"
    ):
        make("ks").get_dataloader("tset")
    with pytest.raises(InputError, match=r"^Unknown pooling 'VQ-PL'\. Did you mean VQ-LP"):
        make("ks", "VQ-PL")
    with pytest.raises(InputError, match=r"modelrc: 'poolling'\. Did you mean pooling"):
        make("ks", modelrc={"poolling": "mean"})
    with pytest.raises(InputError, match=r"datarc: 'batchsize'\. Did you mean batch_size"):
        make("ks", datarc={"batchsize": 3})
    with pytest.raises(InputError, match=r"^Unknown fold of vqpool_er: 'fold6'\. Did you mean fold"):
        make("er", datarc={"test_fold": "fold6"})
    with pytest.raises(InputError, match=r"^Unknown Speech Commands class set 'all36'\. Did you mean all35"):
        make("ks", datarc={"classes": "all36"})


def test_training_batches_larger_than_the_corpus_are_refused_where_the_last_is_dropped(make: Any) -> None:
    expert = make("ks", datarc={"batch_size": 1000})
    with pytest.raises(
        InputError, match=r"^The training set has \d+ utterances, not one batch of 1000 .*batch_size\.$"
    ):
        expert.get_dataloader("train")
    assert len(names_of(expert, "dev")) == len(expert.corpus.splits["dev"])


@pytest.mark.parametrize("task", TASKS)
def test_training_order_is_a_function_of_seed_and_epoch(make: Any, task: str) -> None:
    torch.manual_seed(1)
    orders = [names_of(make(task), epoch=epoch) for epoch in (0, 1)]
    torch.manual_seed(2)
    random.seed(2)
    again = make(task)
    assert [names_of(again, epoch=1), names_of(again, epoch=0)] == [orders[1], orders[0]]
    assert orders[0] != orders[1]
    assert names_of(make(task, seed=7)) != orders[0]
    if task != "ks":  # KS draws with replacement
        assert Counter(orders[0]) == Counter(orders[1])
        assert Counter(orders[0]) == Counter(utterance.id for utterance in make(task).corpus.splits["train"])


def test_balanced_sampling_draws_each_class_as_often(make: Any) -> None:
    """40 epochs of KS: every class has its twelfth of the draws (3 sigma: 0.017)."""
    expert = make("ks")
    label = {utterance.id: utterance.label[0] for utterance in expert.corpus.splits["train"]}
    ids = [utterance.id for utterance in expert.corpus.splits["train"]]
    drawn: Counter[int] = Counter()
    for epoch in range(40):
        drawn.update(label[ids[index]] for index in expert.get_dataloader("train", epoch=epoch).sampler)
    shares = np.array([drawn[k] for k in range(12)]) / drawn.total()
    np.testing.assert_allclose(shares, 1 / 12, atol=0.017)
    assert len(set(Counter(label.values()).values())) > 1


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_in_the_middle_of_an_epoch_changes_nothing_in_it(make: Any, task: str) -> None:
    """S3PRL's runner reseeds every generator when it evaluates between two training batches."""
    expert = make(task)
    expected = names_of(expert)
    found = []
    for number, (_, _, ids, _) in enumerate(expert.get_dataloader("train", epoch=0)):
        if number == 1:
            random.seed(1337), np.random.seed(1337), torch.manual_seed(1337)
            evaluated = names_of(expert, "dev")
        found += ids
    assert found == expected
    assert evaluated == [utterance.id for utterance in expert.corpus.splits["dev"]]


def test_speaker_training_crops_and_evaluation_does_not(make: Any) -> None:
    expert = make("sid", datarc={"max_timestep": 8000})
    whole = {
        u.id: soundfile.read(u.path, dtype="float32")[0] for s in expert.corpus.splits.values() for u in s
    }
    starts = set()
    for wavs, _, ids, _ in expert.get_dataloader("train"):
        for wav, name in zip(wavs, ids):
            assert len(wav) == 8000
            windows = np.lib.stride_tricks.sliding_window_view(whole[name], 8000)
            places = np.flatnonzero((windows[:, :50] == wav[:50]).all(axis=1))
            assert any(np.array_equal(windows[place], wav) for place in places)
            starts.update(places.tolist())
    assert len(starts) > 3
    for wavs, _, ids, _ in expert.get_dataloader("test"):
        np.testing.assert_array_equal(wavs[0], whole[ids[0]])


def test_classes_are_recorded_and_another_corpus_is_refused(
    make: Any, synthetic: dict, tmp_path: Path
) -> None:
    config = {
        "datarc": {**synthetic["sid"], **SIZES["sid"], "num_workers": 0},
        "modelrc": {"projector_dim": 8, "pooling": "mean"},
    }
    from s3prl.downstream.vqpool_sid.expert import DownstreamExpert

    DownstreamExpert(12, config, str(tmp_path))
    assert config["classes"] == [[f"id{10001 + number}" for number in range(8)]]
    DownstreamExpert(12, config, str(tmp_path), mode="evaluate")
    fewer = tmp_path / "fewer.txt"
    lines = Path(synthetic["sid"]["meta_data"]).read_text().splitlines()
    fewer.write_text("\n".join(line for line in lines if "id10001" not in line))
    config["datarc"]["meta_data"] = str(fewer)
    with pytest.raises(InputError) as caught:
        DownstreamExpert(12, config, str(tmp_path), mode="evaluate")
    assert str(caught.value) == (
        "The checkpoint was trained on other classes (8: id10001, id10002, id10003, ...) than this corpus has "
        "(7: id10002, id10003, id10004, ...): evaluate it on the corpus it was trained on."
    )


@pytest.mark.parametrize("task", TASKS)
def test_inference_needs_no_corpus_and_prints_what_forward_predicts(
    task: str, make: Any, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    expert = make(task)
    nowhere = {
        key: str(tmp_path / "nowhere") for key in expert.datarc if key in ("file_path", "root", "meta_data")
    }
    nowhere |= {key: str(tmp_path / "nowhere") for key in expert.datarc if key.startswith("speech_commands")}
    with pytest.raises(InputError, match="no such f"):
        make(task, datarc=nowhere, mode="evaluate")
    alone = restored(make, task, expert, nowhere)
    features = [torch.randn(length, 12) for length in (8, 30)]
    codes.publish(None)
    records: dict[str, list] = defaultdict(list)
    labels = [tuple(0 for _ in expert.classes)] * 2
    expert("dev", features, labels, ("a", "b"), (1.0, 1.0), records=records)
    capsys.readouterr()
    alone.inference(features, ["a", "b"])
    separator = "," if task == "ic" else " "
    lines = [separator.join((name, *predicted)) for name, predicted in zip("ab", records["predict"])]
    assert capsys.readouterr().out.splitlines() == lines
    path = expert.corpus.splits["test"][0].path
    np.testing.assert_array_equal(alone.load_audio(path).numpy(), expert.dataset("test")[0][0])


def restored(make: Any, task: str, expert: Any, datarc: dict) -> Any:
    """The expert as `-m inference` builds it: classes from the checkpoint's config, no corpus."""
    from s3prl_vqpool.runner import plugin

    module = __import__(f"s3prl.downstream.vqpool_{task}.expert", fromlist=["DownstreamExpert"])
    assert f"vqpool_{task}" in plugin.downstreams()
    section = {
        "datarc": {**dict(expert.datarc), **datarc},
        "modelrc": {"projector_dim": 8, "pooling": "mean"},
        "classes": [list(names) for names in expert.classes],
    }
    alone = module.DownstreamExpert(12, section, str(expert.expdir), mode="inference")
    alone.load_state_dict(expert.state_dict())
    return alone


def test_prediction_files_appear_whole_or_not_at_all(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = make("er")
    log(expert, "dev", 0.5, 1)
    before = (tmp_path / "dev_fold1_predict.txt").read_text()
    assert before.splitlines() == [f"file{index} neu" for index in range(10)]

    def full_disk(self: Path, text: str, **_: object) -> int:
        with open(self, "w") as file:
            file.write(text[:7])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        log(expert, "dev", 0.6, 2)
    monkeypatch.undo()
    assert (tmp_path / "dev_fold1_predict.txt").read_text() == before
    log(expert, "dev", 0.6, 3)
    assert sorted(path.name for path in tmp_path.glob("*fold1*")) == [
        "dev_fold1_predict.txt",
        "dev_fold1_truth.txt",
    ]


@pytest.fixture
def all_words(tmp_path: Path) -> tuple[Path, list[str]]:
    """Speech Commands v2 in small: 35 words by two training speakers, one of dev, one of test."""
    words = sorted(["yes", "no", *(f"word{number:02d}" for number in range(33))])
    root, generator = tmp_path / "v2", np.random.default_rng(0)
    for word in words:
        (root / word).mkdir(parents=True)
        for speaker in ("train1", "train2", "dev", "test"):
            soundfile.write(
                root / word / f"{speaker}_nohash_0.wav", generator.uniform(-0.5, 0.5, 1600), 16000
            )
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "hum.wav", np.zeros(16000), 16000)
    for name, speaker in (("validation", "dev"), ("testing", "test")):
        (root / f"{name}_list.txt").write_text("".join(f"{word}/{speaker}_nohash_0.wav\n" for word in words))
    return root, words


def test_all35_has_the_words_of_the_official_lists_without_resampling(
    build: Any, all_words: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, words = all_words
    expert = build("ks", {"speech_commands_root": str(root), "classes": "all35", "batch_size": 7}, "mean")
    assert expert.classes == (tuple(words),)
    assert sorted(names_of(expert, "test")) == sorted(f"{word}-test_nohash_0.wav" for word in words)
    assert sorted(names_of(expert, "dev")) == sorted(f"{word}-dev_nohash_0.wav" for word in words)
    wav = expert.dataset("test")[0][0]
    path = expert.corpus.splits["test"][0].path
    np.testing.assert_allclose(wav, soundfile.read(path)[0] * 10 ** (-3 / 20), atol=1e-6)
    first, second = names_of(expert, epoch=0), names_of(expert, epoch=1)
    assert (
        sorted(first) == sorted(second) == sorted(f"{w}-train{k}_nohash_0.wav" for w in words for k in (1, 2))
    )
    labels = {
        name: label
        for _, labels, names, _ in expert.get_dataloader("dev")
        for label, name in zip(labels, names)
    }
    assert {words[label[0]] for label in labels.values()} == set(words)
    assert all(name.startswith(words[label[0]]) for name, label in labels.items())


def test_intents31_are_the_combinations_and_print_as_three_slots(
    build: Any, synthetic: dict, tmp_path: Path
) -> None:
    root = Path(synthetic["ic"]["file_path"])
    expert = build("ic", {**synthetic["ic"], **SIZES["ic"], "labels": "intents31"}, "mean")
    rows = {}
    for split in ("train", "valid", "test"):
        with open(root / "data" / f"{split}_data.csv", newline="") as file:
            rows[split] = [
                (r["path"], (r["action"], r["object"], r["location"])) for r in csv.DictReader(file)
            ]
    combinations = list(dict.fromkeys(combination for _, combination in rows["train"]))
    assert len(combinations) == 31
    assert expert.classes == (tuple("|".join(combination) for combination in combinations),)
    truth = {Path(path).stem: combination for path, combination in rows["test"]}
    records: dict[str, list] = defaultdict(list)
    codes.publish(None)
    for wavs, labels, names, weights in expert.get_dataloader("test"):
        features = [torch.randn(3, 12) for _ in wavs]
        logits = expert.logits(torch.stack(features), torch.tensor([3] * len(wavs)), None)
        loss = expert("test", features, labels, names, weights, records=records)
        expected = torch.nn.functional.cross_entropy(
            logits, torch.tensor([combinations.index(truth[name]) for name in names])
        )
        assert_close(loss, expected)
    expert.log_records("test", records=records, logger=NoLogger(), global_step=1)
    written = [line.split(",") for line in (tmp_path / "test_truth.csv").read_text().splitlines()]
    assert {stem: tuple(values) for stem, *values in written} == truth
    predicted = [line.split(",") for line in (tmp_path / "test_predict.csv").read_text().splitlines()]
    assert all(tuple(values) in combinations for _, *values in predicted)
