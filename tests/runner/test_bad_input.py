"""Mistakes: one line on stderr, exit code 2, no traceback, nothing left behind. Each run is a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import converted_checkpoint

DATARC, MODELRC = "config.downstream_expert.datarc", "config.downstream_expert.modelrc"
VAP = f"{MODELRC}.pooling=VAP,,{MODELRC}.pooling_options.hidden"
SIF = f"{MODELRC}.pooling=VQ-SIF,,{MODELRC}.pooling_options.a"
WHOLE = "expected a whole number from"
START = ("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", "vqpool_er")
SHORT = "config.runner.total_steps=20,,config.runner.gradient_accumulate_steps=1,,config.runner.eval_step=50"


@pytest.fixture
def refused(run: Any, tmp_path: Path) -> Callable[..., str]:
    """`refused(*argv)`: the one line that the run ends with; no folder of an experiment is left."""

    def refused(*argv: object, env: dict[str, str] | None = None) -> str:
        error = run(*argv, env=env).error
        assert list((tmp_path / "cwd").iterdir()) == []
        return error

    return refused


@pytest.fixture
def er(synthetic: dict) -> Callable[..., list[str]]:
    """`er(entry, ...)`: `-o` for the synthetic ER corpus, further entries last."""

    def er(*entries: str, **datarc: object) -> list[str]:
        each = {"num_workers": 0, "pre_load": False, "train_batch_size": 16, **synthetic["er"], **datarc}
        return [
            "-o",
            ",,".join([SHORT, *(f"{DATARC}.{key}={value}" for key, value in each.items()), *entries]),
        ]

    return er


def replaced(argv: tuple, option: str, value: str) -> tuple:
    """The command line with another value, or without the option where the value is empty."""
    at = argv.index(option)
    return (*argv[:at], *((option, value) if value else ()), *argv[at + 2 :])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("-u", "mfcc_vqq", "Unknown upstream 'mfcc_vqq'. Did you mean mfcc_vq or mfcc"),
        ("-u", "wav2vec_vq", "Unknown upstream 'wav2vec_vq'. Did you mean "),
        ("-u", "", "-u UPSTREAM and -d DOWNSTREAM are needed to start, e.g. -u wav2vec2_vq -d vqpool_ks."),
        ("-u", "wav2vec2_vq_local", "This upstream needs a checkpoint: -k PATH or -k URL of "),
        ("-d", "vqpool_err", "Unknown downstream 'vqpool_err'. Did you mean vqpool_er"),
        ("-d", "speech_comands", "Unknown downstream 'speech_comands'. Did you mean speech_commands"),
        ("-d", "", "-u UPSTREAM and -d DOWNSTREAM are needed to start, e.g. -u wav2vec2_vq -d vqpool_ks."),
        ("-n", "", "-n NAME (result/downstream/NAME) or -p FOLDER is needed: where the experiment is saved."),
        ("-m", "evaluate", "-m evaluate needs a trained checkpoint: -e EXPDIR/dev-best.ckpt."),
        ("-m", "inference", "-t test: no such audio file; -m inference labels one file."),
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
    Path(path).write_text(text.replace("    meta_data:", "    # meta_data:"))
    message = f"{DATARC}.meta_data: vqpool_sid needs this path, give -o {DATARC}.meta_data=PATH."
    assert refused(*START[:-1], "vqpool_sid", "-c", path) == message


ROOTS = {"ks": "speech_commands_root", "sid": "file_path", "ic": "file_path", "er": "root"}
ANOTHER = {"ks": "sid", "sid": "ic", "ic": "er", "er": "ks"}


@pytest.mark.parametrize("task", ROOTS)
def test_corpus_folders(task: str, refused: Any, options: Any, synthetic: dict, tmp_path: Path) -> None:
    def error(root: Path | str, key: str = ROOTS[task]) -> str:
        given = options({**synthetic[task], key: root})
        return refused("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", f"vqpool_{task}", *given)

    assert error(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'}: no such folder. Expected ")
    (tmp_path / "empty").mkdir()
    assert error(tmp_path / "empty").startswith(f"{tmp_path / 'empty'}: the folder is empty. Expected ")
    other = synthetic[ANOTHER[task]][ROOTS[ANOTHER[task]]]
    message = error(other)
    assert message.startswith(f"{other}: not ")
    assert f"{ROOTS[ANOTHER[task]]} (vqpool_{ANOTHER[task]})." in message
    if task == "ks":
        root = synthetic["ks"]["speech_commands_root"]
        message = error(root, "speech_commands_test_root")
        assert message.startswith(f"{root}: not the Speech Commands test set.")
    if task == "sid":
        assert error(tmp_path / "nowhere.txt", "meta_data").startswith(
            f"{tmp_path / 'nowhere.txt'}: no such file."
        )


def test_lists_that_name_a_missing_file(refused: Any, options: Any, synthetic: dict, tmp_path: Path) -> None:
    def error(task: str, **datarc: object) -> str:
        given = options({**synthetic[task], **datarc})
        return refused("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", f"vqpool_{task}", *given)

    listing = Path(shutil.copy(synthetic["sid"]["meta_data"], tmp_path / "list.txt"))
    count = len(listing.read_text().splitlines())
    with open(listing, "a") as file:
        file.write("1 id10001/gone/00001.wav\n2 id10001/gone/00002.wav\n")
    message = error("sid", meta_data=listing)
    assert message.startswith(f"{listing}, line {count + 1}: ")
    assert f"id10001/gone/00001.wav does not exist (2 of {count + 2} files are missing)." in message

    root = linked(synthetic["ic"]["file_path"], tmp_path / "ic")
    gone = next(iter(sorted(root.glob("wavs/speakers/*/*.wav"))))
    gone.unlink()
    message = error("ic", file_path=root)
    assert message.split(", line ")[0].endswith("_data.csv")
    assert f"{gone} does not exist (1 of " in message

    root = linked(synthetic["er"]["root"], tmp_path / "er")
    table = root / "meta_data" / "Session1" / "train_meta_data.json"
    gone = root / json.loads(table.read_text())["meta_data"][3]["path"]
    gone.unlink()
    message = error("er", root=root, meta_data=root / "meta_data")
    assert message.startswith(f"{table}, meta_data[3]: {gone} does not exist (1 of ")


def linked(corpus: str | Path, out: Path) -> Path:
    """A copy of a corpus whose files are links to the original."""
    return Path(shutil.copytree(corpus, out, copy_function=os.symlink))


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def text(path: Path) -> None:
    path.write_text("this is text")


def truncated(path: Path) -> None:
    whole = path.resolve().read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), 16000)


def with_nan(path: Path) -> None:
    soundfile.write(path, np.where(np.arange(8000) == 4000, np.nan, 0.1).astype(np.float32), 16000, "FLOAT")


def less_than_a_frame(path: Path) -> None:
    soundfile.write(path, np.full(300, 0.1, np.float32), 16000)


BROKEN = {
    text: "not audio that libsndfile can read",
    truncated: "truncated or damaged (the header promises ",
    no_samples: "zero samples. Fetch the file again, or take it out of the list.",
    with_nan: "the audio holds NaN or infinite samples. Convert the file again from its source.",
    less_than_a_frame: "300 samples at 16 kHz are less than one frame of 25 ms (400).",
}


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
@pytest.mark.parametrize(("workers", "preloaded"), [(0, False), (2, False), (0, True)])
def test_audio_in_training(
    breaking: Callable, workers: int, preloaded: bool, refused: Any, er: Any, synthetic: dict, tmp_path: Path
) -> None:
    """One file of the training list; where a DataLoader worker reads it, its error comes through as one line."""
    root = linked(synthetic["er"]["root"], tmp_path / "corpus")
    path = sorted(root.glob("Session3/sentences/wav/*/*.wav"))[5]
    if breaking is not truncated:
        path.unlink()
    breaking(path)
    given = er(
        root=root,
        meta_data=root / "meta_data",
        num_workers=workers,
        pre_load=preloaded,
        valid_ratio=0.01,
        allow_missing_classes=True,
    )
    assert refused(*START, *given).startswith(f"{path}: {BROKEN[breaking]}")


def test_audio_that_is_converted_trains(run: Any, er: Any, synthetic: dict, tmp_path: Path) -> None:
    """Two channels, 8 kHz, 48 kHz, FLAC under a wav's name."""
    root = linked(synthetic["er"]["root"], tmp_path / "corpus")
    paths = sorted(root.glob("Session3/sentences/wav/*/*.wav"))[:4]
    for path, (rate, channels, kind) in zip(
        paths, [(16000, 2, "WAV"), (8000, 1, "WAV"), (48000, 1, "WAV"), (44100, 2, "FLAC")]
    ):
        wav = np.repeat(samples(path)[: rate // 2, None], channels, axis=1)
        path.unlink()
        soundfile.write(path, wav, rate, format=kind)
    given = er(root=root, meta_data=root / "meta_data", valid_ratio=0.01, allow_missing_classes=True)
    run(*START, *given).ok()


def test_one_bad_file_for_inference(run: Any, er: Any, tmp_path: Path) -> None:
    run(*START, *er("config.runner.total_steps=1,,config.runner.save_step=1")).ok()
    checkpoint = tmp_path / "cwd" / "result" / "downstream" / "a" / "states-1.ckpt"
    for breaking in (text, no_samples, with_nan, less_than_a_frame):
        path = tmp_path / "one.wav"
        breaking(path)
        error = run("-m", "inference", "-e", checkpoint, "-t", path).error
        assert error.startswith(f"{path}: {BROKEN[breaking]}")
    assert run("-m", "inference", "-e", checkpoint, "-t", tmp_path).error.startswith(
        f"-t {tmp_path}: no such audio file"
    )
    error = run("-m", "evaluate", "-e", checkpoint, "-t", "tset").error
    assert error == "Unknown split 'tset'. Did you mean test? Known: train, dev, test."
    error = run("-m", "evaluate", "-e", checkpoint, "-u", "mfcc").error
    assert error == f"-u mfcc: {checkpoint} was trained with -u mfcc_vq; leave -u out, or use another -n."


class RunsCode:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_checkpoints(refused: Any, er: Any, checkpoints: dict, tmp_path: Path) -> None:
    """What `-k`, `-e` and `-i` are given: absent, cut, text, a pickle that would run code, another kind."""
    whole = checkpoints["base"].read_bytes()
    path, made = tmp_path / "model.pt", tmp_path / "made"
    upstream = ("-m", "train", "-n", "a", "-d", "vqpool_er", "-u", "wav2vec2_vq_local", "-k", path, *er())
    resume = ("-m", "train", "-e", path)
    initial = ("-m", "evaluate", "-n", "a", "-d", "vqpool_er", "-u", "mfcc_vq", "-i", path, *er())
    every = (upstream, resume, initial)
    for argv in every:
        assert refused(*argv) == f"{path}: no such checkpoint."
    path.write_bytes(whole[: len(whole) // 2])
    for argv in every:
        assert refused(*argv).startswith(f"{path}: damaged or truncated, ")
    for content in (b"", b"this is text", b"{}\n", bytes(range(256)) * 9):
        path.write_bytes(content)
        for argv in every:
            assert re.match(rf"{path}: (not a checkpoint|damaged or truncated)", refused(*argv))
    for save in (torch.save, lambda state, name: Path(name).write_bytes(pickle.dumps(state, 2))):
        save({"model_weight": RunsCode(made)}, path)
        for argv in every:
            error = refused(*argv)
            assert re.match(rf"{path}: refused: it asks to import \w+\.mkdir; ", error)
            assert not made.exists()
    path.write_bytes(whole)
    assert refused(*resume) == (
        f"{path}: not the checkpoint expected here: it has no 'Args', 'Config', 'Featurizer', 'Downstream'."
    )
    assert refused(*initial) == f"{path}: not the checkpoint expected here: it has no 'Downstream'."
    torch.save({"Args": 1}, path)
    assert refused(*upstream).startswith(f"{path}: not ")
    converted_checkpoint(path, quantizer=False)
    assert re.match(rf"{path}: [^.]*2\.0 has no quantizer", refused(*upstream))


def test_checkpoints_of_other_modules(run: Any, er: Any, checkpoints: dict, tmp_path: Path) -> None:
    run(*START, *er("config.runner.total_steps=1,,config.runner.save_step=1")).ok()
    checkpoint = tmp_path / "cwd" / "result" / "downstream" / "a" / "states-1.ckpt"
    begin = f"{checkpoint}: its Downstream does not fit what is asked for here ("
    for entry, mismatch in (
        ("pooling=SAP", 'Missing key(s) in state_dict: "model.pooling.attention", '),
        ("pooling=VQ-GP", 'Missing key(s) in state_dict: "model.pooling.tuples", '),
        ("projector_dim=8", "size mismatch for projector.weight: "),
    ):
        error = run("-m", "evaluate", "-e", checkpoint, "-o", f"{MODELRC}.{entry}").error
        assert error.startswith(begin + mismatch)
    other = replaced(replaced(START, "-n", "b"), "-u", "wav2vec2_vq_local")
    error = run(*other, "-k", checkpoints["base"], "-i", checkpoint, *er()).error
    assert error.startswith(f"{begin}size mismatch for projector.weight: ")
    assert not (tmp_path / "cwd" / "result" / "downstream" / "b").exists()


def test_experiment_folders(run: Any, refused: Any, er: Any, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("")
    message = (
        f"-e {folder}: this folder holds no states-*.ckpt; name a checkpoint file, or start anew with -n."
    )
    assert refused("-m", "train", "-e", folder) == message
    start = ("-m", "train", "-u", "mfcc_vq", "-d", "vqpool_er", "-p")
    message = f"{file} is a file: choose another -n or -p, for the experiment's folder."
    assert refused(*start, file, *er()) == message
    (folder / "notes.txt").write_text("mine")
    bad = er(f"{MODELRC}.pooling=VQ-PL")
    assert refused(*start, folder, *bad).startswith("Unknown pooling")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert refused(*start, tmp_path / "new" / "deep", *bad).startswith("Unknown pooling")
    assert not (tmp_path / "new").exists()
