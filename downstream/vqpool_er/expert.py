"""Emotion recognition on IEMOCAP, with pooling by codes; otherwise like S3PRL's downstream/emotion."""

from __future__ import annotations

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """Four classes, five folds."""

    task = tasks.by_name("er")

    def preload(self) -> bool:
        return self.datarc["pre_load"]

    def get_downstream_name(self) -> str:
        """The task's name for S3PRL's bookkeeping: emotion1 .. emotion5."""
        return self.fold.replace("fold", "emotion")
