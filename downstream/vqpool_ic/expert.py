"""Intent classification on Fluent Speech Commands, with pooling by codes; else like S3PRL's fluent_commands."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """Three slots (``labels: slots``), or whole intents as single classes (``labels: intents31``)."""

    task = tasks.by_name("ic")
    loss_name = "intent_loss"
    predicted_splits = ("train", "dev", "test")

    def prediction_line(self, utterance: str, names: Sequence[str]) -> str:
        return super().prediction_line(utterance, [slot for name in names for slot in name.split("|")])
