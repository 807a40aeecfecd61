"""Discrete BERT: hidden states as S3PRL's own upstream, codes as the words that went into it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from s3prl.upstream.roberta import roberta_model
from s3prl.upstream.roberta.dictionary import Dictionary
from s3prl.upstream.roberta.expert import UpstreamExpert as Roberta
from s3prl.upstream.roberta.hubconf import _vq_wav2vec_codeids_wrapper
from s3prl.upstream.roberta.roberta_model import RobertaEncoder, RobertaModel
from test_vq_wav2vec import checkpoint as vq_wav2vec
from tiny import waves

from s3prl_vqpool import codes
from s3prl_vqpool.errors import InputError

LENGTHS = (7600, 16000, 1000, 12345)
BERT, FRONTEND = "vq_wav2vec_kmeans_roberta.pt", "vq-wav2vec_kmeans.pt"
SMALL: dict[str, Any] = {
    **{
        "encoder_layers": 2,
        "encoder_embed_dim": 24,
        "encoder_ffn_embed_dim": 48,
        "encoder_attention_heads": 4,
    },
    **{"max_positions": 512, "arch": "roberta_base"},
}
#: RoBERTa base (s3prl/upstream/roberta/roberta_model.py, base_architecture), 2048 positions.
REAL: dict[str, Any] = {"max_positions": 2048, "arch": "roberta_base"}
#: Of vq-wav2vec (s3prl/upstream/wav2vec/wav2vec_model.py, Wav2VecConfig).
REAL_FRONTEND: dict[str, Any] = {
    "conv_feature_layers": "[(512, 10, 5), (512, 8, 4), (512, 4, 2), (512, 4, 2), (512, 4, 2), (512, 1, 1)]",
    "conv_aggregator_layers": "[(512, 2, 1), (512, 3, 1)]",
    **{"vq_vars": 320, "vq_groups": 2, "vq_dim": 512, "combine_groups": True},
}


def bert_checkpoints(
    folder: Path, config: dict[str, Any] = SMALL, frontend: dict[str, Any] | None = None, entries: int = 20
) -> Path:
    """A folder with both checkpoints in S3PRL's converted format; a third of the pairs is in the dictionary."""
    vq_wav2vec(folder / FRONTEND, "kmeans", **(frontend or {}))
    pairs = [f"{a}-{b} 7" for a in range(entries) for b in range(entries) if (a + b) % 3 == 0]
    dictionary = Dictionary()
    for line in pairs:
        dictionary.add_symbol(line.split()[0])
    dictionary.add_symbol("<mask>")
    args = argparse.Namespace(**config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RobertaModel(args, RobertaEncoder(args, dictionary))
    state = {
        "task_cfg": {"data": "/data", "seed": 0},
        "model_cfg": argparse.Namespace(**config),
        "model_weight": model.state_dict(),
        "text_dictionary": "".join(f"{line}\n" for line in pairs),
    }
    torch.save(state, folder / BERT)
    return folder


def plain_bert(folder: Path) -> Any:
    """What S3PRL's `vq_wav2vec_kmeans_roberta` makes of the same files."""
    frontend = hub.vq_wav2vec_custom(str(folder / FRONTEND))
    return Roberta(str(folder / BERT), _vq_wav2vec_codeids_wrapper(frontend))


@torch.no_grad()
def check(folder: Path, entries: int, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Hidden states and codes of a batch, and of each utterance alone, against S3PRL's."""
    theirs = plain_bert(folder).eval()
    ours = hub.vq_wav2vec_kmeans_roberta_vq_custom(ckpt=str(folder)).eval()
    wavs = waves(*lengths)
    for batch in (wavs, wavs[-1:]):
        expected, found = theirs(batch), ours(batch)
        for mine, one in zip(found["hidden_states"], expected["hidden_states"], strict=True):
            assert torch.equal(mine, one)
        frames = [(len(wav) - 465) // 160 + 1 for wav in batch]
        assert found["code_lengths"].tolist() == [count + 2 for count in frames]
        words = [line.split() for line in theirs.frontend_model(batch)]
        for b, count in enumerate(frames):
            chosen = found["codes"][b, : count + 2].tolist()
            assert chosen[0] == [entries, entries]
            assert words[b][0] == "<s>"
            spoken = ["-".join(map(str, pair)) for pair in chosen[1 : count + 1]]
            assert spoken == words[b][1 : count + 1]
            if len(batch) == 1:
                assert chosen[-1] == [entries + 1] * 2
                assert words[b][-1] == "</s>"
                assert len(words[b]) == count + 2
                assert torch.equal(ours.codes_alone(batch[0]), found["codes"][0])
    assert ours.codebook_sizes == (entries + 2,) * 2
    assert len(found["codes"].unique()) > 4


def test_hidden_states_equal_s3prls_and_codes_are_the_words(tmp_path: Path) -> None:
    check(bert_checkpoints(tmp_path), 20)


def test_real_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        roberta_model, "init_bert_params", lambda module: None
    )  # of 85 million weights, six times
    check(bert_checkpoints(tmp_path, REAL, REAL_FRONTEND, entries=320), 320, (1000, 4000))


def test_making_one_publishes_no_codes(tmp_path: Path) -> None:
    hub.vq_wav2vec_kmeans_roberta_vq_custom(ckpt=str(bert_checkpoints(tmp_path)))
    assert codes.take([16000 // 160]) is None


def test_another_dictionary_is_another_upstream(tmp_path: Path) -> None:
    first = hub.vq_wav2vec_kmeans_roberta_vq_custom(ckpt=str(bert_checkpoints(tmp_path))).fingerprint()
    state = torch.load(tmp_path / BERT, weights_only=False)
    lines = state["text_dictionary"].splitlines()
    torch.save({**state, "text_dictionary": "\n".join(lines[::-1])}, tmp_path / BERT)
    assert hub.vq_wav2vec_kmeans_roberta_vq_custom(ckpt=str(tmp_path)).fingerprint() != first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("text_dictionary"), "it has no text_dictionary"),
        (lambda state: state.update(text_dictionary=3), "its text_dictionary is no text"),
        (lambda state: state.update(text_dictionary="0-0 x"), "make no RobertaModel"),
        (lambda state: vars(state["model_cfg"]).update(encoder_embed_dim=2**20), "a far larger model"),
        (lambda state: vars(state["model_cfg"]).update(hook=print), "refused: it asks to import"),
        (lambda state: state["model_weight"].popitem(), "make no RobertaModel"),
    ],
)
def test_damaged_checkpoints_are_one_line(change: Callable[[Any], object], said: str, tmp_path: Path) -> None:
    path = bert_checkpoints(tmp_path) / BERT
    state = torch.load(path, weights_only=False)
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=said) as refusal:
        hub.vq_wav2vec_kmeans_roberta_vq_custom(ckpt=str(tmp_path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_a_folder_with_both_files_is_asked_for(tmp_path: Path) -> None:
    for given in (None, str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(InputError, match=r"vq_wav2vec_kmeans_roberta\.pt"):
            hub.vq_wav2vec_kmeans_roberta_vq_custom(ckpt=given)
