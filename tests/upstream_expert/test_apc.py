"""VQ-APC and NPC: codes as their own VQ layers choose them, hidden states as S3PRL's own experts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from s3prl.upstream.apc.apc import APC
from s3prl.upstream.npc.npc import NPC
from tiny import waves

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store.encode import Encoder

LENGTHS = (7600, 16000, 1000, 12345)
AUDIO = {"feat_type": "fbank", "feat_dim": 80, "frame_length": 25, "frame_shift": 10, "cmvn": True}
#: github.com/Alexander-H-Liu/NPC, config/self_supervised: vqapc_example.yml and npc_example.yml.
VQ_APC: dict[str, Any] = {
    **{"num_layers": 3, "hidden_size": 512, "dropout": 0.1, "residual": True},
    "vq": {"codebook_size": [512], "code_dim": [512], "gumbel_temperature": 0.5},
}
REAL_NPC: dict[str, Any] = {
    **{
        "kernel_size": 15,
        "mask_size": 5,
        "n_blocks": 4,
        "hidden_size": 512,
        "dropout": 0.1,
        "residual": True,
    },
    **{"batch_norm": True, "activate": "relu", "disable_cross_layer": False},
    "vq": {"codebook_size": [64] * 4, "code_dim": [128] * 4, "gumbel_temperature": 1.0},
}
SMALL_VQ = {"codebook_size": [20, 9], "code_dim": [16, 8], "gumbel_temperature": 1.0}


def checkpoint(path: Path, model: Any, settings: dict[str, Any], **changes: Any) -> str:
    settings = {**settings, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = model(AUDIO["feat_dim"], **settings)
        for name, buffer in built.named_buffers():
            if name.endswith("running_mean"):
                torch.nn.init.normal_(buffer)
    torch.save(
        {
            "model": built.state_dict(),
            "optimizer": {"state": {}},
            "global_step": 7,
            "config": {"data": {"audio": dict(AUDIO)}, "model": {"paras": settings}},
        },
        path,
    )
    return str(path)


def apc_checkpoint(path: Path, **changes: Any) -> str:
    return checkpoint(path, APC, {**VQ_APC, "hidden_size": 24, "vq": SMALL_VQ}, **changes)


def npc_checkpoint(path: Path, **changes: Any) -> str:
    return checkpoint(path, NPC, {**REAL_NPC, "hidden_size": 24, "vq": SMALL_VQ}, **changes)


def quantizers_codes(plain: Any, features: torch.Tensor) -> torch.Tensor:
    """int64 [B, T, G]: which code vectors the VQ layers give, found among them, of S3PRL's last features [B, T, D]."""
    found, start = [], 0
    for layer, width in zip(plain.model.vq_layers, plain.model.vq_code_dims):
        _, vectors = layer(features[..., start : start + width], testing=True)
        found.append(torch.cdist(vectors, layer.codebook_CxE.weight.T[None]).argmin(dim=-1))
        start += width
    return torch.stack(found, dim=-1)


CASES = pytest.mark.parametrize(
    ("name", "plain", "model", "settings", "sizes"),
    [
        ("vq_apc_vq_custom", "apc_local", APC, VQ_APC, (512,)),
        ("npc_vq_custom", "npc_local", NPC, REAL_NPC, (64,) * 4),
        ("vq_apc_vq_custom", "apc_local", APC, {**VQ_APC, "hidden_size": 24, "vq": SMALL_VQ}, (20, 9)),
    ],
    ids=["VQ-APC", "NPC", "two codebooks of different sizes"],
)


@CASES
@torch.no_grad()
def test_real_configuration_equals_s3prls_expert_and_the_vq_layers(
    name: str, plain: str, model: Any, settings: dict[str, Any], sizes: tuple[int, ...], tmp_path: Path
) -> None:
    path, wavs = checkpoint(tmp_path / "real.ckpt", model, settings), waves(*LENGTHS)
    theirs, ours = getattr(hub, plain)(path).eval(), getattr(hub, name)(ckpt=path).eval()
    expected, found = theirs(wavs), ours(wavs)
    for mine, one in zip(found["hidden_states"], expected["hidden_states"], strict=True):
        assert torch.equal(mine, one)
    codes = quantizers_codes(theirs, expected["hidden_states"][-1])
    assert ours.codebook_sizes == sizes
    assert found["code_lengths"].tolist() == [(n - 400) // 160 + 1 for n in LENGTHS]
    for b, length in enumerate(found["code_lengths"].tolist()):
        assert torch.equal(found["codes"][b, :length], codes[b, :length])
        assert torch.equal(ours.codes_alone(wavs[b]), ours([wavs[b]])["codes"][0])
    assert len(found["codes"].unique()) > 8


def test_codes_in_training_have_no_gumbel_noise(tmp_path: Path) -> None:
    ours = hub.vq_apc_vq_custom(ckpt=apc_checkpoint(tmp_path / "a.ckpt", dropout=0.0)).train()
    wavs = waves(16000, 12345)
    assert torch.equal(ours(wavs)["codes"], ours.eval()(wavs)["codes"])


@torch.no_grad()
def test_store_gives_an_utterance_the_numbers_that_it_has_alone(tmp_path: Path) -> None:
    wavs = sorted(waves(*LENGTHS), key=len, reverse=True)
    for ours in (
        hub.vq_apc_vq_custom(ckpt=apc_checkpoint(tmp_path / "a.ckpt")).eval(),
        hub.npc_vq_custom(ckpt=npc_checkpoint(tmp_path / "b.ckpt")).eval(),
    ):
        for wav, one in zip(wavs, Encoder(ours, {"VQ-LP": {}}, frames=True, dtype=torch.float32)(wavs)):
            alone = ours([wav])
            assert torch.equal(one["codes"], alone["codes"][0])
            states = torch.cat(alone["hidden_states"]).mean(dim=0)
            torch.testing.assert_close(one["frames"], states, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (lambda path: apc_checkpoint(path, vq=None), "vq_apc_vq_custom", "this APC has no VQ layers"),
        (lambda path: npc_checkpoint(path, vq=None), "npc_vq_custom", "this NPC has no VQ layers"),
        (npc_checkpoint, "vq_apc_vq_custom", "make no APC"),
        (apc_checkpoint, "npc_vq_custom", "make no NPC"),
    ],
)
def test_other_models_are_refused(make: Callable[[Path], str], name: str, said: str, tmp_path: Path) -> None:
    make(tmp_path / "other.ckpt")
    refused(name, tmp_path / "other.ckpt", said)


def refused(name: str, path: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        getattr(hub, name)(ckpt=str(path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("config"), "it has no config"),
        (lambda state: state["config"].pop("data"), "make no APC"),
        (lambda state: state["config"]["data"]["audio"].update(frame_shift=0), "make no APC"),
        (lambda state: state["config"]["data"]["audio"].update(snip_edges=False), "frames where its"),
        (lambda state: state["config"]["data"]["audio"].update(mystery=1), "make no APC"),
        (lambda state: state["config"]["model"]["paras"].update(hidden_size=2**20), "a far larger model"),
        (lambda state: state["model"].popitem(), "make no APC"),
        (lambda state: state["model"]["postnet.bias"].fill_(float("nan")), "not finite"),
        (lambda state: state["config"].update(extra=Path("x")), "refused: it asks to import"),
    ],
)
def test_damaged_checkpoints_are_one_line(change: Callable[[Any], object], said: str, tmp_path: Path) -> None:
    state = torch.load(apc_checkpoint(tmp_path / "a.ckpt"), weights_only=True)
    change(state)
    torch.save(state, tmp_path / "a.ckpt")
    refused("vq_apc_vq_custom", tmp_path / "a.ckpt", said)


def test_a_checkpoint_has_to_be_named() -> None:
    for name in ("vq_apc_vq_custom", "npc_vq_custom"):
        with pytest.raises(InputError, match="needs a checkpoint"):
            getattr(hub, name)()
