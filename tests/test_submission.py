"""`vqpool submit`: the leaderboard gets what the best checkpoint's evaluation wrote, or nothing."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)

# isort: split
import pytest
import torch
import yaml

from s3prl_vqpool import cli, provenance, submission

TASKS = ("ks", "sid", "ic", "er")
RUNNER = {
    "total_steps": 6,
    "eval_step": 3,
    "save_step": 3,
    "log_step": 3,
    "max_keep": 1,
    "gradient_clipping": 1,
    "gradient_accumulate_steps": 1,
}


class Refused(Exception):
    """The one line that a mistake gives."""


@pytest.fixture
def submit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """`submit(*argv)`: the lines that `vqpool submit` into `out/` prints; `Refused` where it ends with 2."""

    def submit(*argv: object) -> list[str]:
        code = cli.main(["submit", *map(str, argv), "--output", str(tmp_path / "out")])
        printed = capsys.readouterr()
        if code:
            assert (code, printed.out) == (2, "")
            (line,) = printed.err.splitlines()
            raise Refused(line.removeprefix("error: "))
        assert printed.err == ""
        return printed.out.splitlines()

    return submit


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def truth_of(task: str, datarc: dict[str, str], fold: str = "fold1") -> list[str]:
    """A prediction file without a mistake, read off the corpus's own lists."""
    if task == "ks":
        paths = sorted(Path(datarc["speech_commands_test_root"]).glob("*/*.wav"))
        return [f"{path.parent.name}-{path.name} {path.parent.name}" for path in paths]
    if task == "sid":
        names = re.findall(r"^3 (.+)\.wav$", Path(datarc["meta_data"]).read_text(), re.M)
        return [f"{name.replace('/', '-')} {name.split('/')[0]}" for name in names]
    if task == "ic":
        with open(Path(datarc["file_path"], "data", "test_data.csv")) as file:
            return [
                ",".join([Path(row["path"]).stem, row["action"], row["object"], row["location"]])
                for row in csv.DictReader(file)
            ]
    listed = Path(datarc["meta_data"], fold.replace("fold", "Session"), "test_meta_data.json")
    rows = json.loads(listed.read_text())["meta_data"]
    return [f"{Path(row['path']).stem} {row['label']}" for row in rows]


class Experiment:
    """A folder as the runner leaves it after `-m evaluate -e FOLDER/dev-best.ckpt`, with chosen predictions."""

    def __init__(self, folder: Path, task: str, datarc: dict[str, str], fold: str = "", **args: Any) -> None:
        folder.mkdir(parents=True)
        self.task, self.folder, self.fold = task, folder, fold
        self.datarc = {**datarc, **({"test_fold": fold} if fold else {})}
        stem, suffix = f"test_{fold}" if fold else "test", "csv" if task == "ic" else "txt"
        self.file, self.truth = (folder / f"{stem}_{what}.{suffix}" for what in ("predict", "truth"))
        self.json = folder / f"{stem}_provenance.json"
        self.member = f"{task}_{fold}_public/predict.txt" if fold else f"{task}_public/predict.{suffix}"
        self.args = {"upstream": "mfcc_vq", "downstream": f"vqpool_{task}", "expdir": str(folder), **args}
        self.best = self.checkpoint("dev-best.ckpt")
        self.lines = truth_of(task, datarc, fold or "fold1")
        self.truth.write_text("\n".join(self.lines) + "\n")
        self.evaluated()

    def checkpoint(self, name: str, number: int = 0) -> Path:
        config = {"downstream_expert": {"datarc": self.datarc}}
        state = {"Args": argparse.Namespace(**self.args), "Config": config, "Step": number}
        torch.save(state, self.folder / name)
        return self.folder / name

    def evaluated(self, lines: list[str] | None = None, mode: str = "evaluate", **given: Any) -> Experiment:
        """The predictions (``lines``) and their record, as the expert writes them."""
        self.file.write_text("\n".join(self.lines if lines is None else lines) + "\n")
        args = {"init_ckpt": str(self.best), **self.args, "downstream": f"vqpool_{self.task}", **given}
        start = provenance.origin(mode, args)
        self.json.write_text(provenance.describe(start, "test", self.datarc, self.file))
        return self

    @property
    def command(self) -> str:
        return f"run_downstream.py -m evaluate -e {self.folder}/dev-best.ckpt"


@pytest.fixture
def experiment(tmp_path: Path, synthetic: dict) -> Callable[..., Experiment]:
    def experiment(task: str, name: str = "exp", datarc: dict | None = None, **rest: Any) -> Experiment:
        rest = {"fold": "fold1", **rest} if task == "er" else rest
        return Experiment(tmp_path / name, task, {**synthetic[task], **(datarc or {})}, **rest)

    return experiment


# ------------------------------------------------------------------------------------------------- end to end
@pytest.fixture
def train(run: Any, options: Any, synthetic: dict, tmp_path: Path) -> Callable[..., Path]:
    def train(task: str, downstream: str, *argv: object, **datarc: object) -> Path:
        sizes = {"batch_size": 16} if task == "ks" else {"train_batch_size": 8, "eval_batch_size": 8}
        given = options({"num_workers": 0, **sizes, **synthetic[task], **datarc}, **RUNNER)
        given[-1] += ",,config.optimizer.lr=1e-2"
        expdir = tmp_path / downstream
        run("-m", "train", "-p", expdir, "-u", "mfcc_vq", "-d", downstream, *argv, *given).ok()
        return expdir

    return train


def test_a_session_from_training_to_predict_zip(
    train: Any, run: Any, submit: Any, synthetic: dict, tmp_path: Path
) -> None:
    ks, er = train("ks", "vqpool_ks"), train("er", "vqpool_er", test_fold="fold3")
    files = {"--ks": (ks, ks / "test_predict.txt"), "--er": (er, er / "test_fold3_predict.txt")}
    for option, (expdir, file) in files.items():
        command = f"run_downstream.py -m evaluate -e {expdir}/dev-best.ckpt"
        with pytest.raises(Refused) as refused:
            submit(option, expdir)
        assert str(refused.value) == (
            f"{file}: written by -m train; only -m evaluate counts. Make it again: {command}"
        )
        run(*shlex.split(command)[1:]).ok()
    accuracy = {
        expdir: float(re.findall(r"^test at step 0: (\S+)$", (expdir / "log.log").read_text(), re.M)[0])
        for expdir in (ks, er)
    }
    printed = submit("--ks", ks, "--er", er)
    assert printed == [
        "task      upstream  utterances  accuracy  in predict.zip",
        f"KS        mfcc_vq           24   {100 * accuracy[ks]:5.2f} %  ks_public/predict.txt",
        f"ER fold3  mfcc_vq           16   {100 * accuracy[er]:5.2f} %  er_fold3_public/predict.txt",
        "",
        "will be scored: KS",
        "ER will not be scored: it needs five folds, fold1, fold2, fold4, fold5 missing",
        "not given: SID, IC",
        "KS: another corpus than the leaderboard's, 24 test utterances instead of 3081",
        "ER fold3: another corpus than the leaderboard's, 16 test utterances instead of 1151",
        f"wrote {tmp_path}/out/predict.zip",
    ]
    packed = members(tmp_path / "out" / "predict.zip")
    assert packed == {
        "ks_public/predict.txt": files["--ks"][1].read_bytes(),
        "er_fold3_public/predict.txt": files["--er"][1].read_bytes(),
    }
    for (member, content), truth in zip(
        packed.items(), (truth_of("er", synthetic["er"], "fold3"), truth_of("ks", synthetic["ks"]))
    ):
        names = [line.split()[0] for line in content.decode().splitlines()]
        assert sorted(names) == sorted(line.split()[0] for line in truth), member


def test_s3prls_own_experts_are_refused_with_a_command_that_makes_up_for_it(
    train: Any, run: Any, submit: Any, tmp_path: Path
) -> None:
    modelrc = {
        "projector_dim": 256,
        "select": "UtteranceLevel",
        "UtteranceLevel": {"pooling": "MeanPooling"},
    }
    config = {
        "runner": {"eval_dataloaders": ["dev", "test"]},
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam"},
        "downstream_expert": {"datarc": {"pre_load": False, "valid_ratio": 0.2}, "modelrc": modelrc},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    expdir = train("er", "emotion", "-c", tmp_path / "config.yaml", test_fold="fold2")
    run("-m", "evaluate", "-e", expdir / "dev-best.ckpt").ok()
    file = expdir / "test_fold2_predict.txt"
    theirs = file.read_bytes()
    with pytest.raises(Refused) as refused:
        submit("--er", expdir)
    reason, command = str(refused.value).split(" Make it again: run_downstream.py ")
    assert reason == (
        f"{file}: no test_fold2_provenance.json beside it tells which checkpoint made it; "
        "-d vqpool_er writes that."
    )
    file.unlink()
    run(*shlex.split(command)).ok()
    submit("--er", expdir)
    assert members(tmp_path / "out" / "predict.zip") == {"er_fold2_public/predict.txt": theirs}


# --------------------------------------------------------------------------------------------- what is accepted
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_packed_as_it_is_and_its_accuracy_counted(
    task: str, experiment: Any, submit: Any, tmp_path: Path
) -> None:
    exp = experiment(task)
    separator = "," if task == "ic" else " "
    labels = [line.split(separator, 1)[1] for line in exp.lines]
    wrong = next(label for label in labels if label != labels[0])
    name = exp.lines[0].split(separator)[0]
    exp.evaluated([*exp.lines[:0:-1], f"{name}{separator}{wrong}"])
    row = submit(f"--{task}", exp.folder)[1]
    expected = f"{100 * (len(labels) - 1) / len(labels):.2f} %"
    assert row.split("mfcc_vq")[1].split() == [str(len(labels)), *expected.split(), exp.member]
    assert members(tmp_path / "out" / "predict.zip") == {exp.member: exp.file.read_bytes()}


def test_whole_intents_as_classes_are_the_same_file(experiment: Any, submit: Any) -> None:
    exp = experiment("ic", datarc={"labels": "intents31"})
    assert "100.00 %" in submit("--ic", exp.folder)[1]


def test_five_folds_are_scored_and_averaged(experiment: Any, submit: Any, tmp_path: Path) -> None:
    folds = [experiment("er", f"exp{k}", fold=f"fold{k}") for k in (4, 2, 5, 1, 3)]
    for wrong, exp in enumerate(folds):
        names, labels = zip(*(line.split() for line in exp.lines))
        others = ["sad" if label != "sad" else "ang" for label in labels]
        exp.evaluated(
            [f"{n} {o if k < wrong else t}" for k, (n, t, o) in enumerate(zip(names, labels, others))]
        )
    printed = submit("--er", *(exp.folder for exp in folds))
    assert [line.split()[1] for line in printed[1:6]] == [f"fold{k}" for k in range(1, 6)]
    share = sum(1 - wrong / 16 for wrong in range(5)) / 5
    assert printed[6].split() == f"ER mean of five folds 80 {100 * share:.2f} %".split()
    assert printed[8] == "will be scored: ER"
    assert set(members(tmp_path / "out" / "predict.zip")) == {exp.member for exp in folds}
    assert submit("--er", *(exp.folder for exp in folds[:4]))[6:8] == [
        "will be scored: nothing",
        "ER will not be scored: it needs five folds, fold3 missing",
    ]


def test_the_fold_is_the_one_held_out_in_training(experiment: Any, submit: Any, synthetic: dict) -> None:
    """S3PRL's `-v` sets it where the config does not; an evaluation of another fold, trained on, is not taken."""
    exp = experiment("er", fold="fold2")
    exp.datarc.pop("test_fold")
    exp.args["downstream_variant"] = "fold2"
    exp.checkpoint("dev-best.ckpt")
    exp.evaluated()
    assert "ER fold2" in submit("--er", exp.folder)[1]
    exp.args["downstream_variant"] = "fold4"
    exp.checkpoint("dev-best.ckpt")
    exp.evaluated()
    with pytest.raises(Refused, match=r"test_fold4_predict\.txt: cannot be read \(No such file"):
        submit("--er", exp.folder)


def test_the_corpus_is_the_evaluations_not_the_checkpoints(
    experiment: Any, submit: Any, synthetic: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-o` gave other folders, relative to where the evaluation ran."""
    exp = experiment("ic")
    exp.datarc["file_path"] = "/nowhere/fluent"
    exp.checkpoint("dev-best.ckpt")
    (tmp_path / "there").symlink_to(Path(synthetic["ic"]["file_path"]).parent)
    monkeypatch.chdir(tmp_path / "there")
    exp.datarc["file_path"] = Path(synthetic["ic"]["file_path"]).name
    exp.evaluated()
    monkeypatch.chdir(tmp_path)
    assert "100.00 %" in submit("--ic", exp.folder)[1]


def test_an_experiment_may_be_moved_after_its_evaluation(
    experiment: Any, submit: Any, tmp_path: Path
) -> None:
    exp = experiment("ks")
    moved = exp.folder.rename(tmp_path / "mo ved")
    assert "100.00 %" in submit("--ks", moved)[1]
    (moved / "test_provenance.json").unlink()
    with pytest.raises(Refused) as refused:
        submit("--ks", moved)
    argv = shlex.split(str(refused.value).split("Make it again: ")[1])
    assert argv[3:] == ["-e", f"{moved}/dev-best.ckpt", "-o", f"args.expdir={moved}"]


def test_the_zip_depends_on_the_predictions_alone(experiment: Any, submit: Any, tmp_path: Path) -> None:
    ks, ic = experiment("ks", "a"), experiment("ic", "b")
    archive = tmp_path / "out" / "predict.zip"
    submit("--ks", ks.folder, "--ic", ic.folder)
    first = archive.read_bytes()
    os.utime(ks.file, (10**9, 10**9))
    submit("--ic", ic.folder, "--ks", ks.folder)
    assert archive.read_bytes() == first
    assert [path.name for path in archive.parent.iterdir()] == ["predict.zip"]


# ---------------------------------------------------------------------------------------------- what is refused
def _training(exp: Experiment) -> str:
    exp.evaluated(mode="train", init_ckpt=None)
    return f"{exp.file}: written by -m train; only -m evaluate counts."


def _other_checkpoint(exp: Experiment) -> str:
    exp.evaluated(init_ckpt=str(exp.checkpoint("states-4.ckpt")))
    return f"{exp.file}: made with states-4.ckpt; only dev-best.ckpt counts."


def _newer_checkpoint(exp: Experiment) -> str:
    exp.checkpoint("dev-best.ckpt", number=1)
    return f"{exp.file}: made with another dev-best.ckpt than the one beside it."


def _edited(exp: Experiment) -> str:
    exp.file.write_text(exp.file.read_text().replace(" no\n", " go\n"))
    return f"{exp.file}: changed since -m evaluate wrote it."


def _damaged(exp: Experiment) -> str:
    exp.json.write_bytes(exp.json.read_bytes()[:-20])
    return f"{exp.json}: damaged."


def _not_a_record(exp: Experiment) -> str:
    exp.json.write_text('{"mode": ["evaluate"]}')
    return f"{exp.json}: damaged."


def _no_record(exp: Experiment) -> str:
    exp.json.unlink()
    return (
        f"{exp.file}: no test_provenance.json beside it tells which checkpoint made it; "
        "-d vqpool_ks writes that."
    )


@pytest.mark.parametrize(
    "spoil",
    [_training, _other_checkpoint, _newer_checkpoint, _edited, _damaged, _not_a_record, _no_record],
)
def test_predictions_of_doubtful_origin_are_refused(
    spoil: Callable[[Experiment], str], experiment: Any, submit: Any, tmp_path: Path
) -> None:
    exp = experiment("ks")
    message = f"{spoil(exp)} Make it again: {exp.command}"
    with pytest.raises(Refused) as refused:
        submit("--ks", exp.folder)
    assert str(refused.value) == message
    assert not (tmp_path / "out").exists()


KNOWN = "Did you mean yes? Known: yes, no, up, down, left, right, on, off, stop, go, _unknown_, _silence_."
MISSING = "1 of the corpus's 24 test utterances are missing, the first is '{2}'."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:2], *lines[3:]], f": {MISSING}"),
        (lambda lines: [*lines[:5], lines[1], *lines[5:]], ", line 6: '{1}' has a line already, 2."),
        (lambda lines: ["yes-my.wav yes", *lines], ", line 1: 'yes-my.wav' is not in the corpus's test split."),
        (lambda lines: ["\ufeff" + lines[0]], ", line 1: '\\ufeff{0}' is not in the corpus's test split."),
        (lambda lines: [f"{lines[0].split()[0]} yess"], f", line 1: Unknown label 'yess'. {KNOWN}"),
        (lambda lines: [f"{lines[0].split()[0]} yes\r"], f", line 1: Unknown label 'yes\\r'. {KNOWN}"),
        (lambda lines: [lines[0], lines[1] + " no"], ", line 2: Expected 'ID LABEL', but got '{line} no'."),
        (lambda lines: [lines[0], "", *lines[1:]], ", line 2: Expected 'ID LABEL', but got ''."),
        (lambda lines: [], ", line 1: Expected 'ID LABEL', but got ''."),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_the_corpus_is_refused(
    change: Callable[[list[str]], list[str]], message: str, experiment: Any, submit: Any, tmp_path: Path
) -> None:
    exp = experiment("ks")
    names = [line.split()[0] for line in exp.lines]
    exp.evaluated(change(exp.lines))
    with pytest.raises(Refused) as refused:
        submit("--ks", exp.folder)
    assert str(refused.value) == str(exp.file) + message.format(*names, line=exp.lines[1])
    assert not (tmp_path / "out").exists()


def test_labels_of_intents_are_checked_slot_by_slot(experiment: Any, submit: Any) -> None:
    for name, labels in (("slots", "slots"), ("intents", "intents31")):
        exp = experiment("ic", name, datarc={"labels": labels})
        stem, _, *rest = exp.lines[6].split(",")
        exp.evaluated([*exp.lines[:6], ",".join([stem, "heat", *rest]), *exp.lines[7:]])
        with pytest.raises(Refused, match=r"test_predict\.csv, line 7: Unknown label 'heat'\. .*Known: "):
            submit("--ic", exp.folder)


def test_bytes_that_are_no_text_are_refused(experiment: Any, submit: Any) -> None:
    exp = experiment("sid")
    exp.file.write_bytes(exp.file.read_bytes().replace(b"id1", b"\xffd1", 1))
    start = provenance.origin("evaluate", {"init_ckpt": str(exp.best), **exp.args})
    exp.json.write_text(provenance.describe(start, "test", exp.datarc, exp.file))
    with pytest.raises(
        Refused, match=r"test_predict\.txt, line 1: '\ufffdd1\S+ is not in the corpus's test split\.$"
    ):
        submit("--sid", exp.folder)


def test_a_truth_file_that_the_corpus_contradicts_is_refused(experiment: Any, submit: Any) -> None:
    exp = experiment("er")
    name, label = exp.lines[3].split()
    other = "sad" if label != "sad" else "ang"
    exp.truth.write_text("\n".join([*exp.lines[:3], f"{name} {other}", *exp.lines[4:], ""]))
    with pytest.raises(Refused) as refused:
        submit("--er", exp.folder)
    assert str(refused.value) == f"{exp.truth}: {name!r} is {other!r} there, {label!r} in the corpus."
    exp.truth.unlink()
    with pytest.raises(
        Refused, match=rf"^{exp.truth}: cannot be read \(No such file or directory\)\. Make it: run_"
    ):
        submit("--er", exp.folder)


def test_experiments_of_something_else_are_refused(experiment: Any, submit: Any, tmp_path: Path) -> None:
    er, all35 = experiment("er", "er"), experiment("ks", "ks", datarc={"classes": "all35"})
    twin = experiment("er", "twin")
    bare = experiment("ks", "bare")
    bare.best.unlink()
    bare.file.unlink()
    for argv, message in {
        (
            "--ks",
            er.folder,
        ): f"--ks {er.folder}: an experiment of -d vqpool_er. Expected one of -d vqpool_ks.",
        ("--ks", all35.folder): "SUPERB's KS has 12 classes, this experiment has datarc.classes=all35.",
        ("--ks", bare.folder): f"{bare.best}: no such checkpoint.",
        ("--sid", tmp_path / "no"): f"--sid {tmp_path}/no: no such folder. Expected an experiment's "
        "(run_downstream.py -p).",
        ("--er", er.folder, twin.folder): f"--er {er.folder} {twin.folder}: both are fold1. "
        "Expected one experiment per fold.",
        (): "Give at least one experiment: --ks, --sid, --ic, --er.",
    }.items():
        with pytest.raises(Refused) as refused:
            submit(*argv)
        assert str(refused.value) == message
    bare.checkpoint("dev-best.ckpt")
    with pytest.raises(Refused) as refused:
        submit("--ks", bare.folder)
    assert str(refused.value) == (
        f"{bare.file}: cannot be read (No such file or directory). Make it: {bare.command}"
    )
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_the_old_zip_and_nothing_else(
    experiment: Any, submit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = experiment("ks")
    submit("--ks", exp.folder)
    archive = tmp_path / "out" / "predict.zip"
    before = archive.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for target in ((zipfile.ZipFile, "writestr"), (submission.os, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(*target, full)
            with pytest.raises(Refused) as refused:
                submit("--ks", exp.folder)
        assert str(refused.value) == f"{archive}: cannot be written (No space left on device)."
        assert [path.name for path in archive.parent.iterdir()] == ["predict.zip"]
        assert archive.read_bytes() == before
    shutil.rmtree(archive.parent)
    archive.parent.write_text("a file")
    with pytest.raises(Refused, match=r"/out/predict\.zip: cannot be written \(File exists\)\.$"):
        submit("--ks", exp.folder)


def test_the_output_folder_must_be_given(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["submit", "--ks", str(experiment("ks").folder)])
    assert stopped.value.code == 2
    assert "the following arguments are required: --output" in capsys.readouterr().err


def test_an_expert_outside_the_runner_claims_nothing(build: Any, synthetic: dict) -> None:
    assert build("ks", synthetic["ks"]).origin is None
    assert build("ks", synthetic["ks"], upstream="mfcc_vq", downstream="vqpool_ks").origin["mode"] == "train"
