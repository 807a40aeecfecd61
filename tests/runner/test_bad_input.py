"""Mistakes: one line on stderr, exit code 2, no traceback, nothing left behind. Each run is a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mistakes import DATARC, MODELRC, START, replaced

VAP = f"{MODELRC}.pooling=VAP,,{MODELRC}.pooling_options.hidden"
SIF = f"{MODELRC}.pooling=VQ-SIF,,{MODELRC}.pooling_options.a"
WHOLE = "expected a whole number from"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("-u", "mfcc_vqq", "Unknown upstream 'mfcc_vqq'. Did you mean mfcc_vq or mfcc"),
        ("-u", "wav2vec_vq", "Unknown upstream 'wav2vec_vq'. Did you mean "),
        ("-u", "FileLock", "Unknown upstream 'FileLock'."),
        ("-u", "", "-u UPSTREAM and -d DOWNSTREAM are needed to start, e.g. -u wav2vec2_vq -d vqpool_ks."),
        ("-u", "wav2vec2_vq_local", "This upstream needs a checkpoint: -k PATH or -k URL of "),
        ("-d", "vqpool_err", "Unknown downstream 'vqpool_err'. Did you mean vqpool_er"),
        ("-d", "speech_comands", "Unknown downstream 'speech_comands'. Did you mean speech_commands"),
        ("-d", "", "-u UPSTREAM and -d DOWNSTREAM are needed to start, e.g. -u wav2vec2_vq -d vqpool_ks."),
        ("-n", "", "-n NAME (result/downstream/NAME) or -p FOLDER is needed: where the experiment is saved."),
        ("-m", "evaluate", "-m evaluate needs a trained checkpoint: -e EXPDIR/dev-best.ckpt."),
        ("-m", "inference", "-t test: no such audio file or folder for -m inference to label."),
        ("-u", "mfcc", "Pooling VQ-LP needs code indices, and the upstream published none for this batch: choose "),
    ],
)  # fmt: skip
def test_names_and_missing_options(option: str, value: str, message: str, refused: Any, er: Any) -> None:
    assert refused(*replaced(START, option, value), *er()).startswith(message)


@pytest.mark.parametrize(
    ("variant", "entries", "message"),
    [
        ("fold9", (), "Unknown fold of vqpool_er: 'fold9'. Did you mean fold"),
        ("fold3", (f"{DATARC}.test_fold=fold1",), "-v fold3: the config says datarc.test_fold: fold1; leave one of "),
    ],
)  # fmt: skip
def test_a_fold_that_cannot_be_obeyed(
    variant: str, entries: tuple, message: str, refused: Any, er: Any
) -> None:
    """`-v fold3` trained fold 1, as the config said so."""
    assert refused(*START, "-v", variant, *er(*entries)).startswith(message)


def test_a_variant_where_there_are_no_folds(refused: Any, options: Any, synthetic: dict) -> None:
    given = options({"num_workers": 0, **synthetic["ic"]})
    message = "-v fold3: vqpool_ic has no folds; leave -v out."
    assert refused(*START[:-1], "vqpool_ic", "-v", "fold3", *given) == message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"{MODELRC}.pooling=VQ-PL", "Unknown pooling 'VQ-PL'. Did you mean VQ-LP"),
        (f"{MODELRC}.pooling=3", "Unknown pooling '3'. Known: mean, AP"),
        (f"{MODELRC}.poolling=mean", f"Unknown key in {MODELRC}: 'poolling'. Did you mean pooling"),
        (f"{MODELRC}.projector_dim=0", f"{MODELRC}.projector_dim: {WHOLE} 1 up, but got 0."),
        (f"{MODELRC}.pooling_options=1e-4", "pooling_options: expected a section with keys, but got 0.0001."),
        (f"{MODELRC}.pooling_options.a=1", "Unknown option of pooling VQ-LP: 'a'. Known: none"),
        (f"{VAP}=1.5", f"pooling_options.hidden: {WHOLE} 1 up, but got 1.5."),
        (f"{VAP}=0", f"pooling_options.hidden: {WHOLE} 1 up, but got 0."),
        (f"{SIF}=0", "pooling_options.a: expected a number above 0, but got 0."),
        (f"{DATARC}.rooot=1", f"Unknown key in {DATARC}: 'rooot'. Did you mean root"),
        (f"{DATARC}.test_fold=fold6", "Unknown fold of vqpool_er: 'fold6'. Did you mean fold"),
        (f"{DATARC}.valid_ratio=most", "IEMOCAP: Expected valid_ratio between 0 and 1, but got 'most'."),
        (f"{DATARC}.train_batch_size=0", f"{DATARC}.train_batch_size: {WHOLE} 1 up, but got 0."),
        (f"{DATARC}.num_workers=-1", f"{DATARC}.num_workers: {WHOLE} 0 up, but got -1."),
        ("config.runner.total_steps=many", f"config.runner.total_steps: {WHOLE} 1 up, but got 'many'."),
        ("config.runner.eval_step=0", f"config.runner.eval_step: {WHOLE} 1 up, but got 0."),
        ("config.runner.gradient_clipping=abc", "config.runner.gradient_clipping: expected a number above 0, but "),
        ("config.runner.total_steps.x=3", "-o 'config.runner.total_steps.x=3': total_steps is not a section of "),
        ("config.runner.eval_dataloaders=['tset']", "Unknown split in config.runner.eval_dataloaders: 'tset'."),
        ("config.optimizer.name=Foo", "config.optimizer {'name': 'Foo', "),
        ("config.optimizer.lr=-1", "config.optimizer {'name': 'TorchOptim', "),
        ("config.runner=3", "config.runner: expected a section with keys, but got 3."),
        ("config.runner.total_steps", "-o 'config.runner.total_steps': expected config."),
        ("config.runer.total_steps=3", "Unknown key in config: 'runer'. Did you mean runner"),
        ("config.runner.totl_steps=3", "Unknown key in config.runner: 'totl_steps'. Did you mean total_steps"),
        ("config.runner.total_steps=99999999999999", f"config.runner.total_steps: {WHOLE} 1 to"),
        (f"{MODELRC}.projector_dim=99999999999999", f"{MODELRC}.projector_dim: {WHOLE} 1 to 65536"),
        (f"{DATARC}.train_batch_size=99999999999999999999", f"{DATARC}.train_batch_size: {WHOLE} 1 to"),
        ("config.runner.eval_dataloaders=dev", "config.runner.eval_dataloaders: expected a list of splits, but got 'd"),
        ("config.runner.eval_dataloaders=[[]]", "config.runner.eval_dataloaders: expected a list of splits, but got "),
        ("config.optimizer.name=a-b", "config.optimizer.name: expected S3PRL's name of one, but got 'a-b'."),
        ("config.scheduler=3", "config.scheduler: expected a section with keys, but got 3."),
        ("config.scheduler.name=a()", "config.scheduler.name: expected S3PRL's name of one, but got 'a()'."),
        (f"{DATARC}.root=[]", f"{DATARC}.root: expected a path, but got []"),
        ("config.a=b=c", "-o 'config.a=b=c': expected "),
        ("confg.runner.total_steps=3", "-o 'confg.runner.total_steps=3': expected "),
        ("args.expdir.name=3", "-o 'args.expdir.name=3': expected "),
        ("", "-o '': expected config.SECTION.KEY=VALUE"),
    ],
)  # fmt: skip
def test_values_of_the_config(entry: str, message: str, refused: Any, er: Any) -> None:
    assert refused(*START, *er(entry)).startswith(message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("-l", "99"), "-l 99: the upstream wav2vec2_vq_local has no such layer."),
        (("-s", "vq_lp+std"), "-s vq_lp+std: scaled frames can give a head a weighted mean only, without +std "),
        (("-s", "VQ-LP|whitening"), "-s VQ-LP|whitening: scaled frames can give a head a weighted mean only"),
        (("-s", "SP"), "-s SP: scaled frames can give a head a weighted mean only"),
        (("-s", "vq_lp"), "-s vq_lp -d vqpool_er: the frames would be pooled twice; leave -s out, and give -o config."),
        (("--device", "abacus"), "--device abacus: torch knows no such device."),
        (("--hub", "huggingface"), "--hub huggingface: S3PRL signs in through HfApi.login, which this "),
        (("-c", "nowhere.yaml"), "nowhere.yaml: cannot read this config (No such file or directory)."),
    ],
)  # fmt: skip
def test_values_of_options(argv: tuple, message: str, refused: Any, er: Any, checkpoints: dict) -> None:
    upstream = ("-k", checkpoints["base"]) if "-l" in argv else ()
    start = replaced(START, "-u", "wav2vec2_vq_local") if upstream else START
    assert refused(*start, *upstream, *argv, *er()).startswith(message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none(refused: Any, er: Any) -> None:
    message = "--device cuda:0: this torch sees no CUDA device; leave it out to use the CPU."
    assert refused(*START, "--device", "cuda:0", *er()) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("runner: [1, 2\nb: {", "not YAML (while parsing a flow sequence"),
        (b"\xff\xfe\x00", "not YAML ("),
        ("", "not a config for this runner: it has no runner, optimizer, downstream_expert."),
        (
            "- runner\n- optimizer\n",
            "not a config for this runner: it has no runner, optimizer, downstream_expert.",
        ),
        ("runner: {}\noptimizer: {}\n", "not a config for this runner: it has no downstream_expert."),
    ],
)
def test_config_files(content: str | bytes, message: str, refused: Any, er: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(*START, "-c", path, *er()).startswith(f"{path}: {message}")


def test_a_config_without_an_entry_names_it(refused: Any, tmp_path: Path) -> None:
    """KS's config given to SID."""
    from s3prl_vqpool.runner import plugin

    path = shutil.copy(plugin.default_config("vqpool_ks"), tmp_path / "ks.yaml")
    message = "Unknown key in config.downstream_expert.datarc: 'speech_commands_root'."
    assert refused(*START[:-1], "vqpool_sid", "-c", path).startswith(message)
    text = plugin.default_config("vqpool_sid").read_text()
    Path(path).write_text(
        text.replace("file_path: null", "file_path: /data").replace("    meta_data:", "    #")
    )
    message = f"{DATARC}.meta_data: vqpool_sid needs this path: give -o {DATARC}.meta_data=PATH, or"
    assert refused(*START[:-1], "vqpool_sid", "-c", path).startswith(message)
