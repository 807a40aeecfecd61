"""Clusters as Kaldi's utt2spk and spk2utt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError
from .scores import partition


def names(clusters: np.ndarray) -> list[str]:
    """The cluster of each utterance by name: `cluster-01`; `noise-07`, one of its own, for each below 0.

    All numbers have as many digits, so that no name begins another, and their order is that of `LC_ALL=C sort`.
    """
    last = int(clusters.max(initial=-1))
    noise = int((clusters < 0).sum())
    width = len(str(max(last + 1, noise)))
    return [
        f"cluster-{k + 1:0{width}}" if k <= last else f"noise-{k - last:0{width}}"
        for k in partition(clusters).tolist()
    ]


def require_words(ids: Iterable[str], origin: str) -> None:
    """InputError, which names the first, for ids that Kaldi's files cannot hold, or that come twice."""
    seen = set()
    for name in ids:
        if not name or any(ord(letter) <= 32 for letter in name) or name.split() != [name]:
            raise InputError(f"{origin}: the id {name!r} is no word, as Kaldi's files need it: rename it.")
        if name in seen:
            raise InputError(f"{origin}: the id {name!r} comes twice: rename one of them.")
        seen.add(name)


def beside(output: Path) -> Path:
    """The spk2utt of an utt2spk; InputError for a file that is not named like one."""
    if "utt2spk" not in output.name:
        raise InputError(f"{output}: name a file such as utt2spk; spk2utt is written beside it.")
    return output.with_name(output.name.replace("utt2spk", "spk2utt"))


def files(ids: Sequence[str], clusters: Sequence[str], prefix: bool) -> tuple[str, str]:
    """The texts of utt2spk and spk2utt, sorted as Kaldi sorts them, by the bytes of the ids.

    Args:
        ids: of utterances.
        clusters: the name of each one's cluster.
        prefix: whether the cluster's name is put before the id, so that both files are in the order of the clusters.
    """
    pairs = zip(ids, clusters)
    lines = sorted(
        ((f"{name}-{utterance}" if prefix else utterance, name) for utterance, name in pairs),
        key=lambda line: line[0].encode(),
    )
    members: dict[str, list[str]] = {}
    for utterance, name in lines:
        members.setdefault(name, []).append(utterance)
    speakers = (f"{name} {' '.join(members[name])}\n" for name in sorted(members))
    return "".join(f"{utterance} {name}\n" for utterance, name in lines), "".join(speakers)
