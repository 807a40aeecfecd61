"""How large a file of weights is, without reading it; and the limit that this sets to a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model

from s3prl_vqpool.checkpoints import sizes

WEIGHTS = {"a": torch.zeros(3, 4), "b": torch.zeros(1000), "c": torch.zeros(2)}
BYTES = 4 * (12 + 1000 + 2)


def test_size_of_a_file_is_its_bytes_and_its_tensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    torch.save(WEIGHTS, tmp_path / "a.pt")
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, least in (("a.safetensors", 3), ("a.pt", 3), ("old.pt", 3)):
        found, tensors = sizes.of_file(tmp_path / name)
        assert BYTES <= found == (tmp_path / name).stat().st_size
        assert least <= tensors
    assert sizes.of_file(tmp_path / "a.safetensors")[1] == 3


@pytest.mark.parametrize("shards", [1, 3])
def test_size_of_a_folder_is_that_of_all_its_weights(tmp_path: Path, shards: int) -> None:
    config = Wav2Vec2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, conv_dim=(32,) * 7)
    model = Wav2Vec2Model(config)
    whole = sum(weight.numel() * 4 for weight in model.state_dict().values())
    model.save_pretrained(tmp_path, max_shard_size=whole if shards == 1 else whole // 2)
    assert len(list(tmp_path.glob("*.safetensors"))) >= min(shards, 2)
    found, tensors = sizes.of_hugging_face(str(tmp_path))
    assert whole <= found < whole * 1.1
    assert tensors == len(model.state_dict())


def test_folder_without_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        sizes.of_hugging_face(str(tmp_path))


def test_model_is_limited_in_bytes_and_in_steps() -> None:
    with sizes.not_larger(2**30, 10):
        torch.nn.Linear(1000, 1000)
    with pytest.raises(ValueError, match="far larger model than the weights"), sizes.not_larger(4000, 2):
        torch.nn.Linear(10**5, 10**5)
    with pytest.raises(ValueError, match="far larger model than the weights"), sizes.not_larger(4000, 2):
        [torch.nn.Linear(1, 1) for _ in range(10**5)]
