"""`vqpool doctor`: whether the main job can run here, and why not."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata

from ..errors import InputError, one_line
from ..runner import compat, plugin

HELP = "Say what is installed, what was repaired, what is registered, and whether corpora are complete."
EXAMPLE = "vqpool doctor --ks speech_commands_v0.01 speech_commands_test_set_v0.01 --sid VoxCeleb1 split.txt"

NEEDED = (
    "s3prl", "torch", "torchaudio", "numpy", "soundfile", "soxr", "safetensors", "tensorboardX",
    "huggingface_hub", "transformers",
)  # fmt: skip
OPTIONAL = {
    "espeakng-loader": "synthesised corpora (make demo)",
    "pandas": "S3PRL's own fluent_commands",
    "librosa": "S3PRL's own voxceleb1",
    "fairseq": "parity tests against fairseq",
}
#: Per task the function of `corpora` that loads its corpus, and what it takes.
CORPORA = {
    "ks": ("speech_commands", ("ROOT", "TEST_ROOT")),
    "sid": ("voxceleb1", ("ROOT", "LIST")),
    "ic": ("fluent_commands", ("ROOT",)),
    "er": ("iemocap", ("ROOT", "META_DATA")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for task, (_, folders) in CORPORA.items():
        parser.add_argument(
            f"--{task}", nargs=len(folders), metavar=folders, help=f"check vqpool_{task}'s corpus"
        )


def run(args: argparse.Namespace) -> int:
    """Print one line per finding; 1 where the main job, or a corpus that was asked about, would fail."""
    failed = False
    for ok, line in findings(args):
        failed |= not ok
        print(f"{'ok ' if ok else 'NO '} {line}")
    print(
        "the main job can run" if not failed else "not everything is well: see the lines that begin with NO"
    )
    return int(failed)


def findings(args: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    """(fine, line) for each thing that was looked at."""
    yield True, f"python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield from map(_needed, NEEDED)
    for name, what_for in OPTIONAL.items():
        version = _version(name)
        yield True, f"{name} {version}" if version else f"{name} not installed; only needed for {what_for}"
    yield _device()
    yield from _registration()
    for task, (loader, _) in CORPORA.items():
        if getattr(args, task) is not None:
            yield _corpus(task, loader, getattr(args, task))


def _needed(name: str) -> tuple[bool, str]:
    version = _version(name)
    if version is None:
        return False, f"{name} is not installed: pip install {name}"
    if name == "s3prl" and version != "0.4.18":
        return True, f"s3prl {version}; made for and tested with 0.4.18"
    return True, f"{name} {version}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device() -> tuple[bool, str]:
    if importlib.util.find_spec("torch") is None:
        return False, "no device: torch is not installed"
    import torch

    if torch.cuda.is_available():
        return True, f"device cuda: {torch.cuda.get_device_name()}, {torch.cuda.device_count()} in all"
    return True, f"device cpu, {torch.get_num_threads()} threads (this torch sees no CUDA)"


def _registration() -> Iterator[tuple[bool, str]]:
    try:
        plugin.register()
        import s3prl.run_downstream  # noqa: F401
    except (InputError, ImportError, OSError) as error:
        yield False, f"S3PRL cannot be imported: {' '.join(str(error).split())}"
        return
    for shim in compat.applied:
        yield True, f"compat repaired {shim.name} ({shim.since}): {shim.reason}"
    if not compat.applied:
        yield True, "compat had nothing to repair: S3PRL works here as it is"
    yield True, f"upstreams with codes: {', '.join(plugin.upstreams())}"
    yield True, f"downstreams: {', '.join(plugin.downstreams())}"


def _corpus(task: str, loader: str, folders: list[str]) -> tuple[bool, str]:
    try:
        from .. import corpora

        return True, f"{task}: {corpora.describe(getattr(corpora, loader)(*folders))}"
    except ImportError as error:
        return False, f"{task}: cannot be looked at ({error})"
    except InputError as error:
        return False, f"{task}: {one_line(error)}"
