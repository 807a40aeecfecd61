"""`vqpool submit`: the leaderboard gets what the best checkpoint's evaluation wrote, or nothing."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)

# isort: split
import pytest
import yaml
from experiment_folders import Refused, members, truth_of

from s3prl_vqpool.corpora.synthetic import TASKS

RUNNER = {
    "total_steps": 6,
    "eval_step": 3,
    "save_step": 3,
    "log_step": 3,
    "max_keep": 1,
    "gradient_clipping": 1,
    "gradient_accumulate_steps": 1,
}


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
        f"KS        mfcc_vq           24   {100 * accuracy[ks]:5.2f} %  predict/ks_public/predict.txt",
        f"ER fold3  mfcc_vq           16   {100 * accuracy[er]:5.2f} %  predict/er_fold3_public/predict.txt",
        "",
        "will be scored: KS",
        "ER will not be scored: it needs 5 folds, fold1, fold2, fold4, fold5 missing",
        "not given: SID, IC",
        "KS: another corpus than the leaderboard's, 24 test utterances instead of 3081",
        "ER fold3: another corpus than the leaderboard's, 16 test utterances instead of 1151",
        f"wrote {tmp_path}/out/predict.zip",
    ]
    packed = members(tmp_path / "out" / "predict.zip")
    assert packed == {
        "predict/ks_public/predict.txt": files["--ks"][1].read_bytes(),
        "predict/er_fold3_public/predict.txt": files["--er"][1].read_bytes(),
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
    assert members(tmp_path / "out" / "predict.zip") == {"predict/er_fold2_public/predict.txt": theirs}


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
    assert printed[6].split() == f"ER mean of 5 folds 80 {100 * share:.2f} %".split()
    assert printed[8] == "will be scored: ER"
    assert set(members(tmp_path / "out" / "predict.zip")) == {exp.member for exp in folds}
    assert submit("--er", *(exp.folder for exp in folds[:4]), "--overwrite")[6:8] == [
        "will be scored: nothing",
        "ER will not be scored: it needs 5 folds, fold3 missing",
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


def test_iemocap_without_meta_data_is_found_by_its_root_alone(experiment: Any, submit: Any) -> None:
    exp = experiment("er", fold="fold2")
    exp.datarc["meta_data"] = None
    exp.checkpoint("dev-best.ckpt")
    exp.evaluated()
    assert "100.00 %" in submit("--er", exp.folder)[1]
    exp.datarc["root"] = None
    exp.checkpoint("dev-best.ckpt")
    exp.evaluated()
    with pytest.raises(Refused, match=r"test_fold2_provenance\.json: no datarc\.root, the corpus cannot be"):
        submit("--er", exp.folder)


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


@pytest.mark.parametrize("task", ["ks", "ic"])
def test_a_corpus_that_was_moved_is_found_by_corpora_yaml(
    task: str, experiment: Any, submit: Any, synthetic: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {key: str(tmp_path / "gone" / key) for key in synthetic[task]}
    exp = experiment(task)
    exp.datarc |= gone
    exp.checkpoint("dev-best.ckpt")
    exp.evaluated()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=re.escape(next(iter(gone.values())))):
        submit(f"--{task}", exp.folder)
    named = tmp_path / "named.yaml"
    named.write_text(yaml.safe_dump({task: synthetic[task]}))
    assert "100.00 %" in submit(f"--{task}", exp.folder, "--corpora", named)[1]
    other = "sid" if task == "ks" else "ks"
    named.write_text(yaml.safe_dump({other: synthetic[other]}))
    with pytest.raises(Refused, match=re.escape(next(iter(gone.values())))):
        submit(f"--{task}", exp.folder, "--corpora", named)


def test_a_corpus_that_is_where_it_was_counts_before_corpora_yaml(
    experiment: Any, submit: Any, synthetic: dict, tmp_path: Path
) -> None:
    """The file names a folder that is no such corpus."""
    named = tmp_path / "named.yaml"
    named.write_text(yaml.safe_dump({"ic": {"root": str(tmp_path)}}))
    assert "100.00 %" in submit("--ic", experiment("ic").folder, "--corpora", named)[1]


def test_the_zip_depends_on_the_predictions_alone(experiment: Any, submit: Any, tmp_path: Path) -> None:
    ks, ic = experiment("ks", "a"), experiment("ic", "b")
    archive = tmp_path / "out" / "predict.zip"
    submit("--ks", ks.folder, "--ic", ic.folder)
    first = archive.read_bytes()
    os.utime(ks.file, (10**9, 10**9))
    with pytest.raises(Refused, match=r"predict.zip: is there already: name another, or give --overwrite"):
        submit("--ic", ic.folder)
    assert archive.read_bytes() == first
    submit("--ic", ic.folder, "--ks", ks.folder, "--overwrite")
    assert archive.read_bytes() == first
    assert [path.name for path in archive.parent.iterdir()] == ["predict.zip"]
