"""Speaker identification on VoxCeleb1, with pooling by codes; S3PRL's downstream/voxceleb1 otherwise."""

from __future__ import annotations

from s3prl_vqpool import corpora
from s3prl_vqpool.runner.expert import UtteranceExpert


class DownstreamExpert(UtteranceExpert):
    """As many classes as the list has speakers; training utterances are cut to a random ``max_timestep``."""

    log_name = "voxceleb1"

    def load_corpus(self) -> corpora.Corpus:
        return corpora.voxceleb1(self.datarc["file_path"], self.datarc["meta_data"])

    def max_samples(self, split: str) -> int | None:
        return self.datarc.whole("max_timestep") if split == "train" else None
