"""How large a file of weights is, without reading it; and the limit that this sets to a model."""

from __future__ import annotations

from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import s3prl.hub  # noqa: F401 (torchaudio, which transformers imports, works from here on)
import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model

from s3prl_vqpool.checkpoints import models, sizes
from s3prl_vqpool.errors import InputError

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


def test_limits_are_four_times_the_file_and_a_hundred_steps_a_tensor() -> None:
    most = (4 * 1000 + 2**26) // 4  # float32 numbers
    with sizes.not_larger(1000, 2):
        torch.empty(most, device="meta")
    with pytest.raises(ValueError, match="far larger"), sizes.not_larger(1000, 2):
        torch.empty(most + 1, device="meta")
    with pytest.raises(ValueError, match="far larger"), sizes.not_larger(1000, 2):
        torch.zeros(most // 2, device="meta"), torch.ones(most // 2 + 1, device="meta")
    with sizes.not_larger(1000, 2):
        torch.full((most,), 1.0, device="meta")
    with pytest.raises(ValueError, match="far larger"), sizes.not_larger(1000, 2):
        torch.full((most + 1,), 1.0, device="meta")
    one = torch.zeros(1)
    with sizes.not_larger(1000, 2):
        [one + one for _ in range(100 * 12)]
    with pytest.raises(ValueError, match="far larger"), sizes.not_larger(1000, 2):
        [one + one for _ in range(100 * 12 + 1)]


def test_weights_count_with_all_their_bytes() -> None:
    weights = {
        "a": torch.empty(2**24, device="meta"),
        "b": torch.empty(3, dtype=torch.float64, device="meta"),
    }
    most = (4 * (2**26 + 24) + 2**26) // 4
    with models.untrusted("x.pt", weights, "model"):
        torch.empty(most, device="meta")
    refusal = pytest.raises(
        InputError, match=r"^x\.pt: its config and its weights make no model \(ValueError"
    )
    with refusal, models.untrusted("x.pt", weights, "model"):
        torch.empty(most + 1, device="meta")
