"""Corpora: utterances per split, how they are read, and the tasks that they serve (`tasks`).

The loader of a corpus is in the module of its name: `from s3prl_vqpool.corpora.iemocap import iemocap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Corpus, Utterance, UtteranceDataset, collate, describe

__all__ = ["Corpus", "Utterance", "UtteranceDataset", "collate", "describe"]


def __getattr__(name: str) -> Any:
    """A name of `base`, which imports torch, when it is first used: `tasks` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import base

    return getattr(base, name)
