"""Intent classification on Fluent Speech Commands, with pooling by codes; else S3PRL's downstream/fluent_commands."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_vqpool import corpora
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """Three slots (``labels: slots``), or whole intents as single classes (``labels: intents31``)."""

    log_name = "fluent_commands"
    loss_name = "intent_loss"
    predicted_splits = ("train", "dev", "test")
    prediction_suffix = "csv"

    def load_corpus(self) -> corpora.Corpus:
        return corpora.fluent_commands(self.datarc["file_path"], self.datarc.get("labels", "slots"))

    def prediction_line(self, utterance: str, names: Sequence[str]) -> str:
        return ",".join([utterance, *(slot for name in names for slot in name.split("|"))])
