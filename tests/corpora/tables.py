"""A table by hand, of short files, and small helpers of the tests beside this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus_folders import tone, wav

from s3prl_vqpool.corpora import Corpus
from s3prl_vqpool.corpora.tasks import by_name
from s3prl_vqpool.runner.config import datarc_of, default_datarc

#: path, label, split, speaker, fold
ROWS = (
    ("a/1.wav", "yes", "train", "ann", "1"),
    ("a/2.wav", "no", "train", "ann", "2"),
    ("b/1.wav", "yes", "dev", "bob", "3"),
    ("b/2.wav", "no", "dev", "bob", "1"),
    ("c/1.wav", "yes", "test", "cid", "2"),
    ("c/2.wav", "no", "test", "cid", "3"),
)
HEADER = ("path", "label", "split", "speaker", "fold")


def audio(folder: Path, seconds: float = 0.1) -> Path:
    """The files of `ROWS`."""
    for name, *_ in ROWS:
        wav(folder / name, tone(seconds))
    return folder


def text(
    columns: Sequence[str] = HEADER[:3], rows: Sequence[Sequence[str]] = ROWS, separator: str = ","
) -> str:
    """The header and the first cells of ``rows``."""
    lines = [columns, *(row[: len(columns)] for row in rows)]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


def write(folder: Path, content: str | bytes, name: str = "own.csv") -> Path:
    """A table beside the audio."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def load(table: Path, fold: str | None = None, **datarc: Any) -> Corpus:
    """As the commands load it, with the defaults of the config."""
    return by_name("table").load(datarc_for(table, **datarc), fold)


def datarc_for(table: Path, **datarc: Any) -> Any:
    return datarc_of("vqpool_table", {**default_datarc("vqpool_table"), "table": str(table), **datarc})


def labels(corpus: Corpus) -> dict[str, dict[str, tuple[str, ...]]]:
    """For each split, the class names of each id."""
    return {
        split: {u.id: tuple(names[k] for names, k in zip(corpus.classes, u.label)) for u in utterances}
        for split, utterances in corpus.splits.items()
    }


BY_HAND: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "train": {"a/1": ("yes",), "a/2": ("no",)},
    "dev": {"b/1": ("yes",), "b/2": ("no",)},
    "test": {"c/1": ("yes",), "c/2": ("no",)},
}
"""What the table says."""
