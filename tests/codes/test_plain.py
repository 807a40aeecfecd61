"""S3PRL's own upstreams of a user's checkpoint: the config is not believed before the bytes of the weights are."""

from __future__ import annotations

import json
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from tiny import converted_checkpoint
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from s3prl_vqpool.codes.plain import plain_upstream
from s3prl_vqpool.errors import InputError


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hf")
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    HubertModel(HubertConfig(**sizes, conv_dim=(32,) * 7, num_conv_pos_embedding_groups=4)).save_pretrained(
        path
    )
    Wav2Vec2FeatureExtractor().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(converted_checkpoint(tmp_path_factory.mktemp("converted") / "tiny.pt"))


def test_honest_checkpoints_load(hugging_face: Path, converted: Path) -> None:
    wav = torch.zeros(16000)
    assert len(plain_upstream("hf_hubert_custom", str(hugging_face)).eval()([wav])["hidden_states"]) == 3
    assert plain_upstream("wav2vec2_local", str(converted)).eval()([wav])["hidden_states"]


@pytest.mark.parametrize(("key", "size"), [("hidden_size", 10**6), ("num_hidden_layers", 10**5)])
def test_config_of_a_far_larger_hugging_face_model_is_refused(
    hugging_face: Path, key: str, size: int
) -> None:
    file = hugging_face / "config.json"
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), key: size}))
    try:
        with pytest.raises(InputError, match="far larger model than the weights"):
            plain_upstream("hf_hubert_custom", str(hugging_face))
    finally:
        file.write_text(before)


@pytest.mark.parametrize(("key", "size"), [("encoder_embed_dim", 10**6), ("encoder_layers", 10**5)])
def test_config_of_a_far_larger_fairseq_model_is_refused(
    converted: Path, tmp_path: Path, key: str, size: int
) -> None:
    content = torch.load(converted, weights_only=True)
    content["model_cfg"][key] = size
    torch.save(content, tmp_path / "absurd.pt")
    with pytest.raises(InputError, match="far larger model than the weights"):
        plain_upstream("wav2vec2_local", str(tmp_path / "absurd.pt"))
