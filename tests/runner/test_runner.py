"""End to end: S3PRL's own runner through run_downstream.py, each run a process of its own in another folder.

Runs on both stacks (`make test`, `make test-legacy`). The corpora are synthetic, the models tiny.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)
from s3prl_vqpool import checkpoints as files
from s3prl_vqpool.corpora.synthetic import TASKS

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "ks": {"batch_size": 16},
    "sid": {"train_batch_size": 8, "eval_batch_size": 4},
    "ic": {"train_batch_size": 16, "eval_batch_size": 16},
    "er": {"train_batch_size": 8, "eval_batch_size": 8, "pre_load": False},
}


@pytest.fixture
def train(run: Any, options: Any, synthetic: dict, tmp_path: Path) -> Callable[..., Path]:
    """`train(task, upstream, ..., total_steps=4)`: trains quickly in an own folder; the experiment's folder."""

    def train(
        task: str,
        *argv: object,
        name: str = "exp",
        pooling: str | None = None,
        datarc: dict[str, object] | None = None,
        **runner: object,
    ) -> Path:
        expdir = tmp_path / name
        steps = {
            "total_steps": 4,
            "eval_step": 2,
            "save_step": 2,
            "log_step": 1,
            "max_keep": 1,
            "gradient_accumulate_steps": 1,
        }
        each = {"num_workers": 0, **synthetic[task], **SMALL.get(task, {}), **(datarc or {})}
        modelrc = {"pooling": pooling} if pooling else {}
        given = options(each, modelrc=modelrc, **{**steps, **runner})
        upstream = [] if "-u" in argv else ["-u", "mfcc_vq"]
        run("-m", "train", "-p", expdir, "-d", f"vqpool_{task}", *upstream, *argv, *given).ok()
        return expdir

    return train


def logged(expdir: Path, split: str) -> dict[int, float]:
    """Accuracy at each step, by log.log."""
    lines = re.findall(rf"^{split} at step (\d+): (\S+)$", (expdir / "log.log").read_text(), re.M)
    return {int(step): float(accuracy) for step, accuracy in lines}


def stem_of(task: str, split: str) -> str:
    return f"{split}_fold1" if task == "er" else split


def outcomes(expdir: Path, task: str, split: str) -> dict[str, list[bool]]:
    """Of each class whether its utterances were predicted right, by the prediction files."""
    suffix = "csv" if task == "ic" else "txt"
    stem = stem_of(task, split)
    predicted = (expdir / f"{stem}_predict.{suffix}").read_text().splitlines()
    truth = (expdir / f"{stem}_truth.{suffix}").read_text().splitlines()
    separator = "," if task == "ic" else " "
    right = defaultdict(list)
    for line, true in zip(predicted, truth, strict=True):
        name, label = line.split(separator, 1)
        assert true.split(separator, 1)[0] == name
        right[true.split(separator, 1)[1]].append(label == true.split(separator, 1)[1])
    return right


def accuracy_of(right: dict[str, list[bool]], balanced: bool = False) -> float:
    if balanced:
        return sum(sum(each) / len(each) for each in right.values()) / len(right)
    return sum(sum(each) for each in right.values()) / sum(len(each) for each in right.values())


def parameters(path: Path) -> dict[str, torch.Tensor]:
    state = files.load(path)
    parts = {part: state[part] for part in ("Featurizer", "Downstream", "Upstream") if part in state}
    return {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("task", "upstream"),
    [*((task, "mfcc") for task in TASKS), ("ks", "base"), ("sid", "large"), ("ic", "base"), ("er", "large")],
)
def test_training_evaluates_logs_and_saves_what_a_later_evaluation_finds_again(
    task: str, upstream: str, train: Any, run: Any, checkpoints: dict, tmp_path: Path
) -> None:
    given = (
        ["-u", "mfcc_vq"] if upstream == "mfcc" else ["-u", "wav2vec2_vq_local", "-k", checkpoints[upstream]]
    )
    expdir = train(task, *given)
    assert set(logged(expdir, "train")) == {1, 2, 3, 4}
    assert set(logged(expdir, "dev")) == set(logged(expdir, "test")) == {2, 4}
    for split in ("dev", "test"):
        found = accuracy_of(outcomes(expdir, task, split), balanced=task == "ks" and split == "dev")
        assert logged(expdir, split)[4] == pytest.approx(found, abs=1e-9)
    scores = logged(expdir, "dev")
    best = expdir / "dev-best.ckpt"
    assert best.exists() == (max(scores.values()) > 0)
    names = {re.sub(r"[_.].*", "", path.name) for path in expdir.iterdir()} - {"dev-best"}
    written = {"train", "dev", "test"} if task in ("ks", "ic") else {"dev", "test"}
    assert names == {"args", "config", "log", "events", "states-4", *written}
    kept = best if best.exists() else expdir / "states-4.ckpt"
    state = files.load(kept, required=("Optimizer", "Step", "Epoch", "Args", "Config"))
    if best.exists():
        assert state["Step"] == (4 if scores[4] > scores[2] else 2)
    assert state["Downstream"]["best_score"].item() == pytest.approx(max(scores.values()), abs=1e-6)
    for split in ("test", "dev"):
        again = run("-m", "evaluate", "-e", kept, "-t", split, cwd=tmp_path / "elsewhere").ok()
        printed = float(re.search(rf"^{split} acc: (\S+)$", again.out, re.M)[1])
        assert printed == logged(expdir, split)[state["Step"]]
        found = accuracy_of(outcomes(expdir, task, split), balanced=task == "ks" and split == "dev")
        assert printed == pytest.approx(found, abs=1e-9)


def test_the_fold_is_the_one_that_v_names(train: Any, run: Any, synthetic: dict) -> None:
    """It was the config's, fold1, whatever `-v` said; a resumed run has the one that it had."""
    expdir = train("er", "-v", "fold3", total_steps=2)
    lists = json.loads(Path(synthetic["er"]["meta_data"], "Session3", "test_meta_data.json").read_text())
    written = (expdir / "test_fold3_truth.txt").read_text().split()[::2]
    assert sorted(written) == sorted(Path(row["path"]).stem for row in lists["meta_data"])
    kept = expdir / "states-2.ckpt"
    again = run("-m", "evaluate", "-e", kept).ok()
    assert "vqpool_er: fold3 is held out for test" in again.out
    error = run("-m", "evaluate", "-e", kept, "-v", "fold4").error
    assert error.startswith(f"-v fold4: {kept} was trained with -v fold3; leave -v out")


def test_a_checkpoint_given_with_i_evaluates_as_with_e(
    train: Any, run: Any, options: Any, synthetic: dict, tmp_path: Path
) -> None:
    expdir = train("er", total_steps=2)
    given = options({"num_workers": 0, **synthetic["er"]})
    other = ("-u", "mfcc_vq", "-d", "vqpool_er", "-p", tmp_path / "other")
    run("-m", "evaluate", "-i", expdir / "states-2.ckpt", *other, *given).ok()
    assert logged(tmp_path / "other", "test")[0] == logged(expdir, "test")[2]


@pytest.mark.parametrize("pooling", ["mean", "VQ-GP", "SAP"])
def test_other_poolings_train_and_evaluate(pooling: str, train: Any, run: Any) -> None:
    expdir = train("er", pooling=pooling, total_steps=2)
    run("-m", "evaluate", "-e", expdir / "states-2.ckpt").ok()
    assert logged(expdir, "test")[0] == logged(expdir, "test")[2]
    assert (
        files.load(expdir / "states-2.ckpt")["Config"]["downstream_expert"]["modelrc"]["pooling"] == pooling
    )


@pytest.mark.parametrize("pooling", ["VQ-LP+std|standardise", "VQ-BP+std|whitening"])
def test_a_point_of_the_product_trains_evaluates_and_resumes(
    pooling: str, train: Any, run: Any, options: Any
) -> None:
    """Its statistics are in every checkpoint, and the resumed run neither makes nor changes them."""
    expdir = train("ic", pooling=pooling, max_keep=9)
    found = parameters(expdir / "states-4.ckpt")
    statistics = {key: value for key, value in found.items() if key.startswith("Downstream.model.pooling.")}
    names = {key.rpartition(".")[2] for key in statistics}
    assert names == {"mean", "factor", *(["tuples", "occurrences", "sizes"] if "BP" in pooling else [])}
    assert statistics["Downstream.model.pooling.mean"].abs().max() > 0
    assert found["Downstream.projector.weight"].shape[1] == 2 * 39  # mean and deviation of mfcc's numbers
    run("-m", "evaluate", "-e", expdir / "states-4.ckpt").ok()
    assert logged(expdir, "test")[0] == logged(expdir, "test")[4]
    (expdir / "pooling_statistics.safetensors").unlink()
    run("-m", "train", "-e", expdir, *options(total_steps=6)).ok()
    resumed = parameters(expdir / "states-6.ckpt")
    assert not (expdir / "pooling_statistics.safetensors").exists()
    assert equal(statistics, {key: resumed[key] for key in statistics})
    assert not torch.equal(resumed["Downstream.projector.weight"], found["Downstream.projector.weight"])


def test_runner_options_mean_to_our_upstreams_what_they_mean_to_s3prls(train: Any, checkpoints: dict) -> None:
    """Mean pooling over `wav2vec2_local` and over its VQ twin: the same parameters, bit for bit, per option."""
    found = {}
    for flags in (
        (),
        ("-l", "1"),
        ("--upstream_feature_normalize",),
        ("-s", "last_hidden_state"),
        ("--seed", "3"),
    ):
        pair = []
        for upstream in ("wav2vec2_local", "wav2vec2_vq_local"):
            name = "".join([upstream, *flags])
            argv = ("-u", upstream, "-k", checkpoints["large"], *flags)
            expdir = train("er", *argv, name=name, pooling="mean", total_steps=2, eval_step=9)
            pair.append(parameters(expdir / "states-2.ckpt"))
        assert equal(*pair), flags
        assert not any(equal(pair[0], other) for other in found.values()), flags
        found[flags] = pair[0]
    layers = [state.get("Featurizer.weights", torch.empty(0)).numel() for state in found.values()]
    assert layers == [4, 0, 4, 0, 4]


def test_fine_tuning_moves_the_upstream_and_its_checkpoint_evaluates(
    train: Any, run: Any, checkpoints: dict
) -> None:
    argv = ("-u", "wav2vec2_vq_local", "-k", checkpoints["large"], "-f", "-s", "last_hidden_state")
    expdir = train("er", *argv, total_steps=2, datarc={"train_batch_size": 4})
    start = files.load(checkpoints["large"])["model_weight"]
    moved = {
        key.removeprefix("Upstream.model."): value
        for key, value in parameters(expdir / "states-2.ckpt").items()
    }
    assert not torch.equal(moved["encoder.layers.2.fc1.weight"], start["encoder.layers.2.fc1.weight"])
    assert torch.equal(moved["quantizer.weight_proj.weight"], start["quantizer.weight_proj.weight"])
    run("-m", "evaluate", "-e", expdir / "states-2.ckpt").ok()
    assert logged(expdir, "test")[0] == logged(expdir, "test")[2]


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    start: Any, run: Any, options: Any, synthetic: dict, tmp_path: Path
) -> None:
    expdir = tmp_path / "exp"
    steps = {"total_steps": 100_000, "eval_step": 100_000, "save_step": 1, "log_step": 1}
    given = options({"num_workers": 0, **synthetic["ks"], "batch_size": 8}, **steps)
    name = ("-p", expdir, "-u", "mfcc_vq", "-d", "vqpool_ks")
    process = start("-m", "train", *name, *given, cwd=tmp_path / "cwd")
    end = time.monotonic() + 120
    while len(re.findall("^train", log_of(expdir), re.M)) < 12:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    last = max(int(path.stem.split("-")[1]) for path in expdir.glob("states-*.ckpt"))
    assert last >= 11
    for how, total in ((("-e", expdir), last + 3), ((*name, "-a"), last + 5)):
        before = log_of(expdir)
        run("-m", "train", *how, *options(total_steps=total)).ok()
        done = [
            int(step) for step in re.findall(r"^train at step (\d+):", log_of(expdir)[len(before) :], re.M)
        ]
        assert done == list(range(last + 1 if how[0] == "-e" else last + 4, total + 1))
        state = files.load(expdir / f"states-{total}.ckpt")
        assert state["Step"] == total
        assert {entry["step"].item() for entry in state["Optimizer"]["state"].values()} == {total}
    refused = run("-m", "train", *name, *given)
    assert (
        refused.error
        == f"{expdir} holds an experiment already: continue it with -a, or choose another -n or -p."
    )
    assert log_of(expdir).endswith(f"{done[-1]}: {log_of(expdir).split()[-1]}\n")


def log_of(expdir: Path) -> str:
    path = expdir / "log.log"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("task", TASKS)
def test_inference_prints_the_label_that_evaluation_predicts(
    task: str, train: Any, run: Any, synthetic: dict
) -> None:
    expdir = train(task, total_steps=2)
    suffix, separator = ("csv", ",") if task == "ic" else ("txt", " ")
    lines = (expdir / f"{stem_of(task, 'test')}_predict.{suffix}").read_text().splitlines()
    for line in (lines[0], lines[-1]):
        name, label = line.split(separator, 1)
        path = audio_of(task, name, synthetic[task])
        said = run("-m", "inference", "-e", expdir / "states-2.ckpt", "-t", path).ok().out.splitlines()
        assert f"{path.stem}{separator}{label}" in said


def audio_of(task: str, name: str, datarc: dict[str, str]) -> Path:
    """The test file that a prediction line names."""
    root = Path(datarc[{"ks": "speech_commands_test_root", "er": "root"}.get(task, "file_path")])
    pattern = {"ks": name.replace("-", "/", 1), "sid": name.replace("-", "/") + ".wav"}.get(
        task, f"{name}.wav"
    )
    (path,) = root.rglob(pattern)
    return path


def test_inference_needs_no_corpus_and_converts_the_audio(
    train: Any, run: Any, synthetic: dict, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(synthetic["er"]["root"], tmp_path / "IEMOCAP"))
    expdir = train("er", total_steps=2, datarc={"root": corpus, "meta_data": corpus / "meta_data"})
    one = shutil.copy(next(corpus.rglob("Ses01*.wav")), tmp_path / "one.wav")
    with_corpus = run("-m", "inference", "-e", expdir / "states-2.ckpt", "-t", one).ok()
    shutil.rmtree(corpus)
    without = run("-m", "inference", "-e", expdir / "states-2.ckpt", "-t", one).ok()
    assert re.search(r"^one (neu|hap|ang|sad)$", without.out, re.M)
    assert without.out.splitlines()[-1] == with_corpus.out.splitlines()[-1]
    assert str(corpus) in run("-m", "evaluate", "-e", expdir / "states-2.ckpt").error
    assert run("-m", "inference", "-e", expdir / "states-2.ckpt", "-t", "two.wav").error.startswith(
        "-t two.wav: no such"
    )


#: S3PRL's downstream of a task, and what its config needs beside the corpus.
THEIRS = {
    "ks": ("speech_commands", {"batch_size": 16}, "UtteranceLevel"),
    "ic": ("fluent_commands", {"train_batch_size": 16, "eval_batch_size": 16}, "UtteranceLevel"),
    "er": ("emotion", {"train_batch_size": 8, "eval_batch_size": 8, "pre_load": False, "valid_ratio": 0.2,
                       "test_fold": "fold1"}, "UtteranceLevel"),
}  # fmt: skip


@pytest.mark.parametrize("task", THEIRS)
def test_s3prls_own_downstream_runs_on_our_upstream(
    task: str, run: Any, train: Any, synthetic: dict, tmp_path: Path
) -> None:
    """S3PRL's own expert over mfcc_vq; then our mean head starts from its checkpoint."""
    name, datarc, select = THEIRS[task]
    config = {
        "runner": {"total_steps": 2, "gradient_clipping": 1, "gradient_accumulate_steps": 1, "log_step": 1,
                   "eval_step": 2, "save_step": 2, "max_keep": 1, "eval_dataloaders": ["dev", "test"]},
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1.0e-4},
        "downstream_expert": {
            "datarc": {**synthetic[task], "num_workers": 0, **datarc},
            "modelrc": {"projector_dim": 256, "select": select, select: {"pooling": "MeanPooling"}},
        },
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    expdir = tmp_path / "theirs"
    argv = ("-u", "mfcc_vq", "-d", name, "-c", tmp_path / "config.yaml", "-p", expdir)
    run("-m", "train", *argv).ok()
    run("-m", "evaluate", "-e", expdir / "states-2.ckpt").ok()
    assert logged(expdir, "test")[0] == logged(expdir, "test")[2]
    ours = train(
        task, "-i", expdir / "states-2.ckpt", pooling="mean", total_steps=3, eval_step=9, save_step=1
    )
    assert set(logged(ours, "train")) == {3}
    run("-m", "evaluate", "-u", "mfcc_vq", "-d", f"vqpool_{task}", "-p", tmp_path / "evaluated", "-i",
        expdir / "states-2.ckpt", "-c", config_for(ours, tmp_path)).ok()  # fmt: skip
    assert logged(tmp_path / "evaluated", "test")[0] == pytest.approx(logged(expdir, "test")[2], abs=1e-9)


def config_for(expdir: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump(files.load(next(expdir.glob("states-*.ckpt")))["Config"]))
    return path


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA, torchrun is what S3PRL's DDP is for")
def test_torchrun_without_cuda_is_one_line(run: Any, tmp_path: Path) -> None:
    argv = ("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", "vqpool_er")
    message = "S3PRL's distributed training needs CUDA, which this torch does not see: run one process."
    assert run(*argv, env={"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}).error == message
    assert run(*argv, "--local-rank", "1").error == message
    assert run(*argv, "--local_rank=1").error == message
    assert not (tmp_path / "cwd" / "result").exists()
