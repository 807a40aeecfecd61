"""Options of S3PRL's runner that it would take and drop are refused before anything runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
from mistakes import START

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import command_line, config

NEW = ("-m", "train", "-u", "mfcc_vq", "-d", "vqpool_ic", "-n", "x")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            (*NEW, "-k", "my.pt"),
            "-k my.pt: mfcc_vq has weights of its own, and would not use it: leave -k out.",
        ),
        ((*NEW, "-r"), "-r (refresh): mfcc_vq does not use it"),
        ((*NEW, "-t", "dev"), "-t dev: would not be used: -m train reads config.runner.eval_dataloaders"),
        ((*NEW, "--upstream_revision", "abc"), "--upstream_revision abc: would not be used"),
        ((*NEW, "--hf_hub_org", "abc"), "--hf_hub_org abc: would not be used"),
        ((*NEW, "--verbose"), "--verbose True: would not be used"),
        (
            ("-m", "train", "-u", "hubert", "-k", "my.pt", "-d", "vqpool_ic", "-n", "x"),
            "use -u hubert_local.",
        ),
        (("-m", "evaluate", "-a", "-n", "x"), "-a True: would not be used: only -m train resumes"),
    ],
)
def test_an_option_that_would_be_dropped_is_refused(
    argv: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        command_line.prepare(list(argv))
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_options_given_are_those_on_the_command_line() -> None:
    given = command_line.given(command_line.s3prl_parser(), [*NEW, "-s", "hidden_states"])
    assert given == {
        "mode": "train", "upstream": "mfcc_vq", "downstream": "vqpool_ic", "expname": "x",
        "upstream_feature_selection": "hidden_states",
    }  # fmt: skip


def test_an_option_that_a_resumed_run_would_replace_is_refused(tmp_path: Path) -> None:
    saved = argparse.Namespace(
        upstream_ckpt=None,
        seed=1337,
        expdir=str(tmp_path / "exp"),
        expname=None,
        mode="train",
        config="a.yaml",
    )
    path = tmp_path / "states-2.ckpt"
    kept = {
        "seed": 1337,
        "expdir": f"{tmp_path}/./exp",
        "mode": "evaluate",
        "device": "cpu",
        "config": "./a.yaml",
    }
    command_line._check_kept(kept, saved, path)
    for name, value, way_out in (
        ("seed", 3, "give -o args.seed=3."),
        ("upstream_ckpt", "my.pt", "give -o args.upstream_ckpt=my.pt."),
        ("expdir", "other", "give -o args.expdir=other."),
        ("expname", "other", "give -o args.expdir=result/downstream/other."),
        ("config", "b.yaml", "change values with -o config.SECTION.KEY=VALUE."),
    ):
        with pytest.raises(InputError) as refused:
            command_line._check_kept({**kept, name: value}, saved, path)
        assert str(refused.value).startswith(f"--{name} {value}: {path} was trained with ")
        assert str(refused.value).endswith(way_out)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-s", "hidden_stats"), "-s hidden_stats: mfcc_vq gives no such features; leave -s out."),
        (
            ("--upstream_feature_normalize",),
            "--upstream_feature_normalize: S3PRL normalises only where it sums",
        ),
        (("-l", "0"), "-l 0: mfcc_vq gives hidden_states of one layer; leave -l out."),
        (("-f",), "-f: mfcc_vq has no weights to fine-tune; leave -f out."),
    ],
)
def test_what_s3prls_featurizer_would_drop_is_refused(
    more: tuple[str, ...], message: str, run: Any, options: Any, synthetic: dict, tmp_path: Path
) -> None:
    given = options({"num_workers": 0, **synthetic["ic"]}, total_steps=1)
    ran = run("-m", "train", "-p", tmp_path / "exp", "-u", "mfcc_vq", "-d", "vqpool_ic", *more, *given)
    assert ran.error.startswith(message)
    assert not (tmp_path / "exp").exists()


def test_half_precision_on_the_cpu_is_refused(refused: Any, er: Any) -> None:
    """torch only warned, and trained in float32."""
    given = er("config.runner.fp16=True")
    message = (
        "config.runner.fp16: S3PRL's half precision needs CUDA, and here is --device cpu: give -o config."
    )
    assert refused(*START, "--device", "cpu", *given).startswith(message)


def test_workers_are_the_cores_of_this_process_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    section = config.Section("config.downstream_expert.datarc", {"num_workers": None})
    for cores, workers in ((3, 3), (64, 8)):
        monkeypatch.setattr(config.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert config.workers(section) == workers
    for number in (0, 12):
        assert config.workers(config.Section("datarc", {"num_workers": number})) == number
    with pytest.raises(InputError, match="whole number from 0 up"):
        config.workers(config.Section("datarc", {"num_workers": -1}))
    with pytest.raises(
        InputError, match="num_workers: expected a whole number from 0 to 256, but got 1000000000"
    ):
        config.workers(config.Section("datarc", {"num_workers": 1e9}))
