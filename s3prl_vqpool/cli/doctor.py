"""`vqpool doctor`: whether the main job can run here, and why not."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata

from ..corpora.tasks import Task, registered
from ..errors import InputError, one_line
from ..runner import compat, plugin
from .options import add_corpora

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for task in registered():
        required, optional = _places(task)
        parser.add_argument(
            f"--{task.name}",
            nargs="+" if optional else len(required),
            metavar=(" ".join(required), *optional) if optional else tuple(required),
            help=f"check the corpus of {task.downstream} ({task.title})",
        )
    add_corpora(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line per finding; 1 where the main job, or a corpus that was asked about, would fail."""
    failed = False
    for ok, line in findings(args):
        failed |= not ok
        print(f"{'ok ' if ok else 'NO '} {line}")
    print(
        "the main job can run"
        if not failed
        else "something is missing or wrong: see the lines that begin with NO"
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
    for task in registered():
        if getattr(args, task.name) is not None:
            yield from _given(task, getattr(args, task.name))
    yield from _named(args)


def _needed(name: str) -> tuple[bool, str]:
    version = _version(name)
    if version is None:
        return False, f"{name} is not installed: pip install {name}"
    if name == "s3prl" and version != "0.4.18":
        return True, f"s3prl {version}; made for and tested with 0.4.18"
    if name == "transformers":  # S3PRL's hub is imported without it, so nothing else shows whether it can be
        try:
            importlib.import_module(name)
        except ImportError as error:
            return False, f"{name} {version} cannot be imported ({error}): install it again"
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


def _given(task: Task, paths: list[str]) -> Iterator[tuple[bool, str]]:
    """A line for each fold of the corpus at ``paths``."""
    required, optional = _places(task)
    if not len(required) <= len(paths) <= len(task.places):
        wanted = " ".join([*required, *(f"[{name}]" for name in optional)])
        raise InputError(
            f"--{task.name} {' '.join(paths)}: expected --{task.name} {wanted}, or corpora.yaml."
        )
    try:
        from ..runner import named
        from ..runner.config import default_datarc
    except ImportError as error:
        yield False, f"{task.name}: cannot be looked at ({error})"
        return
    datarc = {**default_datarc(task.downstream), **dict.fromkeys(place.key for place in task.places)}
    yield from named.checked(task, {**datarc, **dict(zip((place.key for place in task.places), paths))})


def _named(args: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    """A line for each fold of the corpora that corpora.yaml names; those given as options come before it."""
    try:
        from ..runner import named

        corpora = named.read(args.corpora)
        if corpora is None:
            yield (
                True,
                f"no {named.FILE} here; {named.VARIABLE} and --corpora name one: vqpool corpora --help",
            )
            return
        yield True, f"corpora are named in {corpora.file}"
    except ImportError as error:
        yield False, f"corpora.yaml: cannot be looked at ({error})"
        return
    except InputError as error:
        yield False, one_line(error)
        return
    for task in registered():
        if getattr(args, task.name) is None and task.name in corpora.datarc:
            yield from corpora.checked(task)


def _places(task: Task) -> tuple[list[str], list[str]]:
    """Names of the paths that the corpus needs, and of those that may be left out."""
    required = [place.metavar for place in task.places if not place.optional]
    return required, [place.metavar for place in task.places if place.optional]
