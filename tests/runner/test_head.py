"""The heads behind the hand-over: the published numbers, which frames count, and that every method trains."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)
from s3prl_vqpool import codes, pooling
from s3prl_vqpool.codes.handover import Codes
from s3prl_vqpool.corpora import Corpus, Utterance
from s3prl_vqpool.corpora.tasks import Task
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner.expert import UtteranceExpert
from s3prl_vqpool.runner.head import Pooled, SuperbHead

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "pooling.safetensors"
DIM, CLASSES = 16, 16
WITHOUT_STATISTICS = [name for name in pooling.methods() if not pooling.method(name).needs_statistics]


class Sixteen(UtteranceExpert):
    """16 frames' columns to 16 classes, on no audio at all."""

    task = Task("sixteen", "nothing", "vqpool_ks", f"{__name__}:no_audio", places=())


def no_audio(*_: object) -> Corpus:
    classes = tuple(f"class{index}" for index in range(CLASSES))
    splits = {
        split: [Utterance(Path(f"{split}.wav"), (index,), f"utterance{index}") for index in range(CLASSES)]
        for split in ("train", "dev", "test")
    }
    return Corpus("sixteen", splits, (classes,))


def sixteen(tmp_path: Path, name: str, identity: bool = False) -> Sixteen:
    section = {"datarc": {}, "modelrc": {"projector_dim": DIM, "pooling": name}}
    torch.manual_seed(0)
    expert = Sixteen(DIM, section, str(tmp_path))
    if identity:
        for linear in (expert.projector, expert.model.post_net["linear"]):
            torch.nn.init.eye_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
    return expert


def logits_of(expert: UtteranceExpert, features: list[torch.Tensor], batch: Codes | None) -> torch.Tensor:
    """Logits through the expert's own forward, with the codes handed over as the upstream does."""
    kept: list[torch.Tensor] = []
    handle = expert.model.register_forward_hook(lambda module, args, output: kept.append(output))
    codes.publish(batch)
    labels = [(index % CLASSES,) for index in range(len(features))]
    names = [str(index) for index in range(len(features))]
    expert("dev", features, labels, names, [1.0] * len(names), records=defaultdict(list))
    handle.remove()
    return kept[0]


def handed_over(indices: list[torch.Tensor], extra: int = 0) -> Codes:
    """Codes of a batch whose features have ``extra`` frames more than the audio."""
    lengths = torch.tensor([len(index) for index in indices])
    padded = torch.nn.utils.rnn.pad_sequence(indices, batch_first=True)
    sizes = (320,) * padded.size(2)
    return Codes(codes.mask_padding(padded, lengths), lengths, sizes, tuple((lengths + extra).tolist()))


def batch(seed: int = 0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Frames [T_i, 16] and codes [T_i, 2] of five utterances, one of a single frame."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (23, 1, 7, 40, 12)
    return (
        [torch.randn(length, DIM, generator=generator) for length in lengths],
        [torch.randint(4, (length, 2), generator=generator) for length in lengths],
    )


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no golden files: {GOLDEN} is absent")
@pytest.mark.parametrize("name", ["VQ-LP", "AP", "VQ-Squash-AND", "VQ-AllSquash-AND"])
@pytest.mark.parametrize("extra", [0, 1])
def test_expert_gives_the_published_vectors_through_the_handover(
    tmp_path: Path, name: str, extra: int
) -> None:
    golden = load_file(GOLDEN)
    features = [golden[f"{i}.features"].float() for i in range(8)]
    indices = [golden[f"{i}.codes"].long() for i in range(8)]
    expected = torch.stack([golden[f"{i}.{name}"].float() for i in range(8)])
    beyond = [torch.cat([feature, torch.full((extra, DIM), 1e6)]) for feature in features]
    expert = sixteen(tmp_path, name, identity=True)
    assert_close(logits_of(expert, beyond, handed_over(indices, extra)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["AP", "VQ-LP"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_padding_and_the_featurizers_extra_frame_get_no_weight(
    tmp_path: Path, name: str, value: float
) -> None:
    features, indices = batch()
    expert = sixteen(tmp_path, name)
    alone = [logits_of(expert, [frames], handed_over([index])) for frames, index in zip(features, indices)]
    beyond = [torch.cat([frames, torch.full((1, DIM), value)]) for frames in features]
    assert_close(
        logits_of(expert, beyond, handed_over(indices, extra=1)), torch.cat(alone), atol=1e-6, rtol=1e-5
    )

    lengths = torch.tensor([len(frames) for frames in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=value)
    given = handed_over(indices)
    padding_of_codes = Codes(given.indices.where(given.indices >= 0, 3), lengths, given.sizes, given.frames)
    for each in (given, padding_of_codes):
        assert_close(expert.logits(padded, lengths, each), torch.cat(alone), atol=1e-6, rtol=1e-5)


def test_mean_takes_the_extra_frame_that_s3prl_takes_and_ap_does_not(
    checkpoints: dict, tmp_path: Path
) -> None:
    """12,180 samples are 38 frames to S3PRL's Featurizer, 37 in wav2vec 2.0 (s3prl#394)."""
    from s3prl import hub
    from s3prl.downstream.model import UtteranceLevel
    from s3prl.upstream.interfaces import Featurizer

    upstream = hub.wav2vec2_vq_local(ckpt=str(checkpoints["base"])).eval()
    featurizer = Featurizer(upstream, upstream_device="cpu")
    generator = torch.Generator().manual_seed(1)
    wavs = [torch.randn(length, generator=generator) for length in (19000, 12180, 12300)]
    with torch.no_grad():
        result = upstream(wavs)
        features = featurizer(wavs, result)
    assert result["code_lengths"].tolist() == [59, 37, 38]
    assert [len(frames) for frames in features] == [59, 38, 38]

    torch.manual_seed(0)
    theirs = torch.nn.Linear(48, 16), UtteranceLevel(16, CLASSES)
    heads = {name: SuperbHead(48, 16, CLASSES, name) for name in ("mean", "AP")}
    lengths = torch.tensor([len(frames) for frames in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    expected, _ = theirs[1](theirs[0](padded), lengths)
    published = codes.take(lengths.tolist())
    found = {}
    for name, head in heads.items():
        head.projector.load_state_dict(theirs[0].state_dict())
        head.model.load_state_dict(theirs[1].state_dict())
        found[name] = head.logits(padded, lengths, published)
    assert_close(found["mean"], expected, atol=1e-6, rtol=1e-6)
    pooled = torch.stack([frames[:n].mean(dim=0) for frames, n in zip(features, (59, 37, 38))])
    assert_close(found["AP"], theirs[1].post_net.linear(theirs[0](pooled)), atol=1e-6, rtol=1e-5)
    assert (found["AP"] - found["mean"]).abs().amax(dim=1).gt(1e-4).tolist() == [False, True, False]


@pytest.mark.parametrize("name", WITHOUT_STATISTICS)
def test_every_pooling_without_statistics_learns(tmp_path: Path, name: str) -> None:
    """A few steps of Adam on one batch: finite gradients everywhere, and the loss of that batch halves."""
    expert = sixteen(tmp_path, name)
    features, indices = batch()
    optimizer = torch.optim.Adam(expert.parameters(), lr=0.03)
    losses = []
    for _ in range(25):
        codes.publish(handed_over(indices))
        records: dict[str, list] = defaultdict(list)
        labels = [(index,) for index in range(len(features))]
        loss = expert("train", features, labels, ["a"] * 5, [1.0] * 5, records=records)
        optimizer.zero_grad()
        loss.backward()
        for parameter_name, parameter in expert.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", [name for name in pooling.methods() if pooling.method(name).needs_codes])
def test_missing_codes_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    features, _ = batch()
    with pytest.raises(
        InputError, match=rf"^Pooling {name} needs code indices.*\(vqpool list upstreams\).*=mean\.$"
    ):
        logits_of(sixteen(tmp_path, name), features, None)


@pytest.mark.parametrize("name", ["VQ-LP", "mean", "AP"])
def test_codes_of_another_batch_are_refused(tmp_path: Path, name: str) -> None:
    features, indices = batch()
    expert = sixteen(tmp_path, name)
    with pytest.raises(
        InputError, match=r"another batch: 4 utterances of 23, 1, 7, 40 frames, but .* have 5 of 23"
    ):
        logits_of(expert, features, handed_over(indices[:4]))
    with pytest.raises(InputError, match=r"another batch: 5 utterances of 24, 2, 8, 41, \.\.\. frames"):
        logits_of(expert, features, handed_over(indices, extra=1))


def test_codes_are_taken_once(tmp_path: Path) -> None:
    features, indices = batch()
    logits_of(sixteen(tmp_path, "VQ-LP"), features, handed_over(indices))
    assert codes.take([len(frames) for frames in features]) is None


@pytest.mark.parametrize("name", ["mean", "MEAN", "MeanPooling", "vq_lp", "VQ-LP", "vqlp", "vq-squash-and"])
def test_names_are_found_whatever_their_case_and_hyphens(name: str) -> None:
    folded = name.lower().replace("-", "").replace("_", "")
    expected = {"mean": "mean", "meanpooling": "mean", "vqlp": "VQ-LP", "vqsquashand": "VQ-Squash-AND"}[
        folded
    ]
    assert Pooled(DIM, CLASSES, name).method.name == expected


def test_unknown_pooling_is_refused_with_close_matches_and_the_list() -> None:
    with pytest.raises(InputError) as caught:
        Pooled(DIM, CLASSES, "VQ-LPP")
    message: Any = str(caught.value)
    assert message.startswith("Unknown pooling 'VQ-LPP'. Did you mean VQ-LP")
    assert message.endswith(f"Known: {', '.join(pooling.methods())}.")
