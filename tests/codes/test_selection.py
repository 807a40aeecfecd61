"""`-s vq_lp`: VQ pooling for any mean-pooling head of S3PRL, against our own head with the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from s3prl.downstream.model import UtteranceLevel
from s3prl.upstream.interfaces import Featurizer
from tiny import BASE, LARGE, converted_checkpoint
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from s3prl_vqpool import codes, pooling
from s3prl_vqpool.codes.upstream import selected_pooling
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner.head import SuperbHead

WITH_WEIGHTS = [name for name in pooling.methods() if pooling.method(name).weights_alone]


def selection(name: str) -> str:
    return name.lower().replace("-", "_")


def waves(*samples: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, generator=generator) for n in samples]


@pytest.fixture(scope="module")
def with_counts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Upstreams by kind, each with the training counts that its codes need; every one is made once."""
    folder = tmp_path_factory.mktemp("selection")

    @cache
    def make(kind: str) -> Any:
        counts = counted(upstream(kind, folder), folder / f"{kind}.safetensors")
        return upstream(kind, folder, counts).eval()

    return make


def upstream(name: str, tmp_path: Path, counts: Path | None = None) -> Any:
    if name == "mfcc_vq":
        return hub.mfcc_vq(model_config=counts)
    kind = {"base": BASE, "large": LARGE}[name]
    checkpoint = converted_checkpoint(tmp_path / f"{name}.pt", kind)
    return hub.wav2vec2_vq_local(ckpt=str(checkpoint), model_config=counts)


def counted(model: Any, path: Path) -> Path:
    result = model.eval()(waves(20000, 31000))
    table = pooling.counts(result["codes"], result["code_lengths"], model.codebook_sizes)
    table.save(path, model.identity())
    return path


@pytest.mark.parametrize("kind", ["mfcc_vq", "base", "large"])
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_selection_with_s3prls_mean_head_equals_our_vq_head(
    kind: str, name: str, with_counts: Callable[[str], Any]
) -> None:
    model = with_counts(kind)
    wavs = waves(16000, 7777, 12345, 16000)  # 16,000: the Featurizer keeps a 50th frame of 49
    torch.manual_seed(0)
    with torch.no_grad():
        scaled, plain = Featurizer(model, selection(name), "cpu"), Featurizer(model, "hidden_states", "cpu")
        if hasattr(plain, "weights"):
            plain.weights.copy_(torch.randn(plain.layer_num))
            scaled.weights.copy_(plain.weights)
        theirs = scaled(wavs, model(wavs))
        ours = plain(wavs, model(wavs))
        lengths = torch.tensor([len(frames) for frames in ours])
        batch = codes.take(lengths.tolist())

        head = SuperbHead(plain.output_dim, 32, 5, name)
        if head.lacks_statistics:
            head.set_statistics(model.counts)
        s3prl = UtteranceLevel(32, 5)
        s3prl.load_state_dict({"post_net.linear.weight": head.model.post_net["linear"].weight,
                               "post_net.linear.bias": head.model.post_net["linear"].bias})  # fmt: skip
        assert [len(frames) for frames in theirs] == lengths.tolist()
        got, _ = s3prl(head.projector(pad_sequence(theirs, batch_first=True)), lengths)
        assert_close(
            got, head.logits(pad_sequence(ours, batch_first=True), lengths, batch), atol=1e-5, rtol=0
        )


def test_selection_is_computed_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = upstream("large", tmp_path).eval()
    asked: list[str] = []
    weights = pooling.weights
    monkeypatch.setattr(
        pooling, "weights", lambda name, *args, **kwargs: asked.append(name) or weights(name, *args, **kwargs)
    )
    with torch.no_grad():
        result = model(waves(16000))
    assert asked == []
    assert "vq_lp" in result
    assert asked == []
    result["vq_lp"]
    assert asked == ["VQ-LP"]


def test_selection_leaves_other_keys_as_a_dict_has_them(tmp_path: Path) -> None:
    with torch.no_grad():
        result = upstream("large", tmp_path).eval()(waves(16000))
    assert "vq_nonsense" not in result
    assert result.get("vq_nonsense", "absent") == "absent"
    assert result.get("hidden_states") is result["hidden_states"]
    with pytest.raises(KeyError):
        result["vq_nonsense"]


def test_selection_without_statistics_says_where_they_come_from(tmp_path: Path) -> None:
    with torch.no_grad():
        result = upstream("large", tmp_path).eval()(waves(16000))
    with pytest.raises(InputError, match=r"-s VQ-BP needs training statistics: give them with -g"):
        result["vq_bp"]


def test_selection_refuses_statistics_of_another_checkpoint(tmp_path: Path) -> None:
    counts = counted(upstream("large", tmp_path), tmp_path / "counts.safetensors")
    other = converted_checkpoint(tmp_path / "other.pt", LARGE, seed=1)
    with pytest.raises(InputError, match="counts with weights"):
        hub.wav2vec2_vq_local(ckpt=str(other), model_config=counts)
    with pytest.raises(InputError, match="counts with upstream 'kmeans_vq'"):
        hub.mfcc_vq(model_config=counts)


@pytest.mark.parametrize("name", pooling.methods())
def test_selected_pooling_knows_what_has_weights(name: str) -> None:
    expected = pooling.method(name) if name in WITH_WEIGHTS else None
    assert selected_pooling(selection(name)) is expected
