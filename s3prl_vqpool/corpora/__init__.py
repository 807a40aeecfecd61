"""The four corpora of SUPERB's utterance-level tasks: lists of utterances per split, by S3PRL's rules."""

from .base import Corpus, Utterance, UtteranceDataset, collate, describe
from .fluent_commands import fluent_commands
from .iemocap import iemocap
from .speech_commands import speech_commands
from .voxceleb1 import voxceleb1

__all__ = [
    "Corpus",
    "Utterance",
    "UtteranceDataset",
    "collate",
    "describe",
    "fluent_commands",
    "iemocap",
    "speech_commands",
    "voxceleb1",
]
