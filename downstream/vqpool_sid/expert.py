"""Speaker identification on VoxCeleb1, with pooling by codes; otherwise like S3PRL's downstream/voxceleb1."""

from __future__ import annotations

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """As many classes as the list has speakers; training utterances are cut to a random ``max_timestep``."""

    task = tasks.by_name("sid")

    def max_samples(self, split: str) -> int | None:
        return self.datarc.whole("max_timestep") if split == "train" else None
