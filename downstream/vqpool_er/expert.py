"""Emotion recognition on IEMOCAP, with pooling by codes; S3PRL's downstream/emotion otherwise."""

from __future__ import annotations

from s3prl_vqpool import corpora
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """One fold of five, ``test_fold`` or S3PRL's ``-v``; four classes."""

    @property
    def fold(self) -> str:
        return self.datarc.get("test_fold") or self.variant or "fold1"

    @property
    def log_name(self) -> str:  # type: ignore[override]
        return f"emotion-{self.fold}"

    def load_corpus(self) -> corpora.Corpus:
        datarc = self.datarc
        return corpora.iemocap(datarc["root"], datarc["meta_data"], self.fold, datarc["valid_ratio"])

    def preload(self) -> bool:
        return self.datarc["pre_load"]

    def prediction_stem(self, split: str) -> str:
        return f"{split}_{self.fold}"

    def get_downstream_name(self) -> str:
        """The task's name for S3PRL's bookkeeping: emotion1 .. emotion5."""
        return self.fold.replace("fold", "emotion")
