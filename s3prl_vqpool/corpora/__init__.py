"""Corpora: the utterances of each split, how they are read, and the tasks that use them (`tasks`).

The loader of a corpus is in the module of its name: `from s3prl_vqpool.corpora.iemocap import iemocap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Corpus, Utterance, UtteranceDataset, collate, describe

__all__ = ["Corpus", "Utterance", "UtteranceDataset", "collate", "describe"]


def __getattr__(name: str) -> Any:
    """Import a name of `base` when it is first used. `base` imports torch; `tasks` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import base

    return getattr(base, name)
