"""What `vqpool submit` refuses, and the line that it says so in."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)

# isort: split
import pytest
from experiment_folders import Experiment, Refused

from s3prl_vqpool import cli
from s3prl_vqpool.runner import provenance, submission


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
    exp.json.write_text(provenance.describe(start, 0, "test", exp.datarc, exp.file))
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
        ("--ks", all35.folder): "SUPERB's KS needs datarc.classes=v1, but this experiment has classes=all35.",
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
                submit("--ks", exp.folder, "--overwrite")
        assert str(refused.value) == f"{archive}: cannot be written (No space left on device)."
        assert [path.name for path in archive.parent.iterdir()] == ["predict.zip"]
        assert archive.read_bytes() == before
    shutil.rmtree(archive.parent)
    archive.parent.write_text("a file")
    with pytest.raises(Refused, match=r"/out: cannot be made a folder \(File exists\): name another\.$"):
        submit("--ks", exp.folder)


def test_the_output_folder_must_be_given(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["submit", "--ks", str(experiment("ks").folder)])
    assert stopped.value.code == 2
    assert "the following arguments are required: --output" in capsys.readouterr().err


def test_an_expert_outside_the_runner_claims_nothing(build: Any, synthetic: dict) -> None:
    assert build("ks", synthetic["ks"]).origin is None
    assert build("ks", synthetic["ks"], upstream="mfcc_vq", downstream="vqpool_ks").origin["mode"] == "train"
