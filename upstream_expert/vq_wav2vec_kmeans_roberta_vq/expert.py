"""Discrete BERT with its codes: S3PRL's own upstream expert, plus the codes of vq-wav2vec that went into it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from s3prl.upstream.interfaces import UpstreamBase
from s3prl.upstream.roberta.dictionary import Dictionary
from s3prl.upstream.roberta.expert import UpstreamExpert as _Roberta
from s3prl.upstream.roberta.hubconf import _vq_wav2vec_codeids_wrapper
from s3prl.upstream.roberta.roberta_model import RobertaEncoder, RobertaModel
from s3prl.upstream.vq_wav2vec_vq.expert import UpstreamExpert as VqWav2Vec
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3prl_vqpool.checkpoints import sections
from s3prl_vqpool.checkpoints.models import from_memory, untrusted
from s3prl_vqpool.codes.handover import publish
from s3prl_vqpool.codes.upstream import WithCodes, check_finite
from s3prl_vqpool.errors import InputError


class _Frontend(_vq_wav2vec_codeids_wrapper):
    """S3PRL's, which writes codes as words for BERT's dictionary; it keeps the codes of the last call."""

    def forward(self, wavs: list[Tensor]) -> list[str]:
        result = UpstreamBase.__call__(self.vq_wav2vec, wavs)  # publishes nothing
        # a word has no trace of numbers that are not finite
        check_finite(wavs, [result["z"]], self.vq_wav2vec.code_lengths([len(wav) for wav in wavs]))
        self.codes = self.featurizer(wavs, result)
        return [self._indices_to_string(each) for each in self.codes]


class UpstreamExpert(WithCodes, _Roberta):
    """S3PRL's vq_wav2vec_kmeans_roberta (arXiv 1911.03912) whose result also holds ``codes`` and ``code_lengths``.

    BERT reads ``<s>``, a word for each frame (every 10 ms), and ``</s>``, and gives a hidden state for each of them.
    The codes of a frame are the entries that vq-wav2vec has chosen, of which its word is made. The first and the last
    hidden state have entries of their own, the last two of each codebook. The convolutions of vq-wav2vec are
    normalised over time, so features and codes of an utterance depend on the padding of its batch, as in S3PRL.

    Args:
        bert: path of BERT as S3PRL converted it.
        frontend: path of vq-wav2vec, as `vq_wav2vec_vq_custom` takes it.
        model_config: file of training counts (S3PRL's `-g`), for selections such as `-s vq_bp`.

    Raises:
        InputError: a checkpoint is damaged or another model's.
    """

    def __init__(self, bert: str, frontend: str, model_config: str | None = None) -> None:
        model, text = _bert(bert)
        coder = VqWav2Vec(frontend)
        load = {"load_converted_model": lambda _: (model, None)}
        from_memory(_Roberta.__init__, **load)(self, bert, _Frontend(coder))
        publish(None)  # S3PRL's wrapper has tried the coder
        self.entries = coder.codebook_sizes[0]
        self.codebook_sizes = tuple(size + 2 for size in coder.codebook_sizes)
        # the two hidden states that stand for no frame
        self.window, self.hop, self.min_frames = coder.window - 2 * coder.hop, coder.hop, 3
        self._text = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        self.use_statistics(model_config)

    @property
    def transformer(self) -> nn.Module:
        return self.roberta

    @torch.no_grad()
    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        rows = [self._framed(codes) for codes in self.frontend_model.codes]
        return pad_sequence(rows, batch_first=True, padding_value=-1)

    def quantized_alone(self, wav: Tensor) -> Iterator[Tensor]:
        parts = self.frontend_model.vq_wav2vec.quantized_alone(wav)
        yield self._framed(torch.cat([part[0] for part in parts]))[None]

    def _framed(self, codes: Tensor) -> Tensor:
        """Codes [T, G] with those of ``<s>`` before and of ``</s>`` behind, [T + 2, G]."""
        first = codes.new_full((1, codes.size(1)), self.entries)
        return torch.cat([first, codes, first + 1])

    def fingerprinted(self) -> dict[str, Tensor]:
        return {**self.state_dict(), "dictionary": self._text}


def load(path: str | Path) -> dict[str, Any]:
    """BERT as S3PRL converted it (s3prl/upstream/roberta/convert.py), as `sections.load` gives it."""
    return sections.load(path, ("model_cfg", "text_dictionary"), "model_weight")


def _bert(path: str) -> tuple[RobertaModel, str]:
    """What S3PRL's `load_converted_model` makes of the file, and its dictionary's text."""
    content = load(path)
    weights, text, config = content["model_weight"], content["text_dictionary"], content["model_cfg"]
    if not isinstance(text, str) or not isinstance(config, dict):
        raise InputError(f"{path}: its text_dictionary is no text, or its model_cfg has no fields.")
    with untrusted(path, weights, "RobertaModel"):
        dictionary = Dictionary()
        dictionary.add_from_file(io.StringIO(text))
        dictionary.add_symbol("<mask>")
        args = argparse.Namespace(**config)
        model = RobertaModel(args, RobertaEncoder(args, dictionary))
        model.load_state_dict(weights)
    return model, text
