"""Keyword spotting on Speech Commands, with pooling by codes; otherwise like S3PRL's downstream/speech_commands."""

from __future__ import annotations

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.corpora.speech_commands import GAIN_DB
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """12 classes (``classes: v1``), or all 35 words of Speech Commands v2 (``classes: all35``)."""

    task = tasks.by_name("ks")
    predicted_splits = ("train", "dev", "test")
    drop_last = True
    gain_db = GAIN_DB

    def batch_size(self, split: str) -> int:
        return self.datarc.whole("batch_size")

    def training_weights(self) -> list[float] | None:
        if self.datarc.get("classes", "v1") == "all35":
            return None
        return [utterance.weight for utterance in self.dataset("train").utterances]
