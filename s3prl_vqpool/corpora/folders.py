"""Corpus folders: whether a folder is the expected corpus, and which files it has."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import walk


@dataclass(frozen=True)
class Layout:
    """How a corpus folder is recognised.

    Attributes:
        corpus: its name in messages.
        key: the ``datarc`` entry that it belongs to, and the expert.
        expected: what has to be in it.
        matches: whether a folder looks like it.
    """

    corpus: str
    key: str
    expected: str
    matches: Callable[[Path], bool]


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda root: all((root / name).exists() for name in names)


def _has_any(pattern: str) -> Callable[[Path], bool]:
    return lambda root: any(not hidden(found.relative_to(root).parts[0]) for found in root.glob(pattern))


SPEECH_COMMANDS = Layout(
    "Speech Commands v0.01",
    "speech_commands_root (vqpool_ks)",
    "<word>/*.wav and _background_noise_/*.wav",
    _has("_background_noise_"),
)
SPEECH_COMMANDS_V2 = Layout(
    "Speech Commands v0.02",
    "speech_commands_root (vqpool_ks, classes: all35)",
    "35 <word>/*.wav folders, validation_list.txt and testing_list.txt",
    _has("validation_list.txt", "testing_list.txt"),
)
SPEECH_COMMANDS_TEST = Layout(
    "the Speech Commands test set",
    "speech_commands_test_root (vqpool_ks)",
    "<class>/*.wav with the classes _silence_ and _unknown_ among them",
    _has("_silence_", "_unknown_"),
)
VOXCELEB1 = Layout(
    "VoxCeleb1",
    "file_path (vqpool_sid)",
    "<dev or test>/wav/<speaker>/<session>/<utterance>.wav",
    _has_any("*/wav"),
)
FLUENT_COMMANDS = Layout(
    "Fluent Speech Commands",
    "file_path (vqpool_ic)",
    "data/{train,valid,test}_data.csv and wavs/",
    _has("data/train_data.csv"),
)
IEMOCAP = Layout(
    "IEMOCAP",
    "root (vqpool_er)",
    "Session1 .. Session5 with sentences/wav in each",
    _has_any("Session*/sentences/wav"),
)
LAYOUTS = (SPEECH_COMMANDS_TEST, SPEECH_COMMANDS, SPEECH_COMMANDS_V2, VOXCELEB1, FLUENT_COMMANDS, IEMOCAP)


def corpus_root(root: str | Path, layout: Layout) -> Path:
    """Return ``root`` as a Path if it looks like the corpus.

    Raises:
        InputError: missing, not a folder, empty, or something else; names the corpus that it looks like
            and that corpus's config key, or a folder nearby that fits.
    """
    root = Path(root)
    wanted = f"Expected {layout.corpus} for {layout.key}: {layout.expected}."
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}. {wanted}")
    if layout.matches(root):
        return root
    if not any(root.iterdir()):
        raise InputError(f"{root}: the folder is empty. {wanted}")
    raise InputError(f"{root}: not {layout.corpus}. {wanted}{_hint(root, layout)}")


def _hint(root: Path, layout: Layout) -> str:
    for other in LAYOUTS:
        if other is not layout and other.matches(root):
            return f" This looks like {other.corpus}, which belongs to {other.key}."
    nearby = [*subfolders(root), root.resolve().parent]
    fitting = next((folder for folder in nearby if layout.matches(folder)), None)
    return f" Did you mean {fitting}?" if fitting else ""


def hidden(name: str) -> bool:
    """Whether a file or folder with this name is not part of any corpus.

    Examples are ``._x.wav`` and ``__MACOSX``, which macOS leaves behind, and ``.ipynb_checkpoints``.
    """
    return name.startswith(".") or name == "__MACOSX"


def subfolders(root: Path) -> list[Path]:
    """The folders in ``root`` that are not `hidden`, sorted by name."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not hidden(entry.name))


def wav_files(folder: Path) -> list[Path]:
    """The ``*.wav`` files of a folder (``*.WAV`` too) that are not `hidden`, sorted by name."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(entry for entry in entries if entry.suffix.lower() == ".wav" and not hidden(entry.name))


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files in ``folder`` and its folders whose name ends so (in small letters), sorted; nothing `hidden`."""
    found: list[Path] = []
    for parent, folders, names in walk(folder):
        folders[:] = [name for name in folders if not hidden(name)]
        paths = (Path(parent, name) for name in names if not hidden(name))
        found += [path for path in paths if path.suffix.lower() in suffixes]
    return sorted(found)


def read_list(path: str | Path, purpose: str) -> str:
    """Text of a list, CSV or JSON file.

    Raises:
        InputError: missing, not readable, or not UTF-8 text.
    """
    try:
        return Path(path).read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file. Expected {purpose}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Expected {purpose}."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Expected {purpose}.") from error


class Listing:
    """Answers ``path in listing``. It lists each folder once, which is fast for 150,000 files, also over a network."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def __contains__(self, path: str | Path) -> bool:
        folder, name = os.path.split(path)
        folder = folder or "."
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        return name in self._names[folder]


def missing_files(list_file: str | Path, missing: list[tuple[str, Path]], total: int) -> InputError:
    """Error for files that a list names and that are not there; ``missing`` = (where in the list, file)."""
    where, first = missing[0]
    return InputError(
        f"{list_file}, {where}: {first} does not exist ({len(missing)} of {total} files are missing)."
        " Check the corpus folder, or fetch the corpus again."
    )
