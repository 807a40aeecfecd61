"""Utterance classification of a corpus of the user's own, with pooling by codes."""

from __future__ import annotations

from typing import Any

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.corpora.table.corpus import gain_db
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """The classes, splits and folds are those of the table; a column weight says how often an utterance is drawn."""

    task = tasks.by_name("table")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain_db = gain_db(self.datarc)

    def max_samples(self, split: str) -> int | None:
        cut = split == "train" and self.datarc["max_timestep"] is not None
        return self.datarc.whole("max_timestep") if cut else None

    def preload(self) -> bool:
        return self.datarc["pre_load"]

    def training_weights(self) -> list[float] | None:
        weights = [utterance.weight for utterance in self.dataset("train").utterances]
        return weights if set(weights) != {1.0} else None
