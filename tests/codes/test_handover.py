"""The hand-over of codes from the upstream to the downstream of the same batch."""

from collections.abc import Iterator

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from s3prl import hub
from s3prl.upstream.interfaces import Featurizer, UpstreamBase
from tiny import waves
from torch import Tensor

from s3prl_vqpool import codes, pooling
from s3prl_vqpool.codes.handover import Codes
from s3prl_vqpool.codes.upstream import WithCodes
from s3prl_vqpool.errors import InputError


@pytest.fixture(autouse=True)
def nothing_published() -> Iterator[None]:
    codes.publish(None)
    yield
    codes.publish(None)


def batch(*frames: int, fill: int = 0) -> Codes:
    lengths = torch.tensor(frames)
    indices = codes.mask_padding(torch.full((len(frames), max(frames), 2), fill), lengths)
    return Codes(indices, lengths, (20, 20), frames)


def test_codes_are_taken_once() -> None:
    published = batch(5, 3)
    codes.publish(published)
    assert codes.take([5, 3]) is published
    assert codes.take([5, 3]) is None


def test_later_batch_replaces_the_codes_of_an_earlier_one() -> None:
    codes.publish(batch(5, 3, fill=1))
    later = batch(5, 3, fill=2)
    codes.publish(later)
    assert codes.take([5, 3]) is later


def test_withdrawn_codes_are_gone() -> None:
    codes.publish(batch(5, 3))
    codes.publish(None)
    assert codes.take([5, 3]) is None


@pytest.mark.parametrize(
    ("frames", "details"),
    [
        ([5, 4], "2 utterances of 5, 3 frames, but the features have 2 of 5, 4."),
        ([3, 5], "2 utterances of 5, 3 frames, but the features have 2 of 3, 5."),
        ([5], "2 utterances of 5, 3 frames, but the features have 1 of 5."),
        ([5, 3, 3, 3, 3], "2 utterances of 5, 3 frames, but the features have 5 of 5, 3, 3, 3, ...."),
    ],
    ids=["length", "order", "fewer", "more"],
)
def test_codes_of_another_batch_are_an_error_with_both_counts(frames: list[int], details: str) -> None:
    codes.publish(batch(5, 3))
    with pytest.raises(InputError) as refusal:
        codes.take(frames)
    assert str(refusal.value) == f"The published codes are those of another batch: {details}"
    assert codes.take([5, 3]) is None  # and they do not stay for later


def test_required_codes_that_are_not_there_name_the_way_out() -> None:
    with pytest.raises(InputError) as refusal:
        codes.require([5, 3], "VQ-LP")
    message = str(refusal.value)
    assert message.startswith(
        "Pooling VQ-LP needs code indices, and the upstream published none for this batch:"
    )
    assert message.endswith("or modelrc.pooling=mean.")
    assert len(message.splitlines()) == 1
    assert "vqpool list upstreams" in message
    codes.publish(batch(5, 3))
    assert codes.require([5, 3], "VQ-LP").frames == (5, 3)
    with pytest.raises(InputError, match="published none for this batch"):
        codes.require([5, 3], "VQ-LP")


def test_recounted_codes_fit_the_new_frames_and_no_others() -> None:
    published = batch(5, 3)
    codes.publish(published)
    codes.recount([6, 2])
    taken = codes.take([6, 2])
    assert taken.lengths.tolist() == [min(int(published.lengths[0]), 6), 2]
    assert torch.equal(taken.indices[0], published.indices[0])
    assert torch.equal(taken.indices[1, :2], published.indices[1, :2])
    assert (taken.indices[1, 2:] == -1).all()
    codes.publish(published)
    with pytest.raises(InputError, match="of another batch: 2 utterances"):
        codes.recount([5])
    codes.recount([5])  # nothing is published any more
    assert codes.take([5]) is None


def test_mask_padding_matches_a_loop() -> None:
    indices = torch.randint(0, 9, (4, 6, 2), generator=torch.Generator().manual_seed(0))
    lengths = [6, 1, 0, 4]
    masked = codes.mask_padding(indices, torch.tensor(lengths))
    for b in range(4):
        for t in range(6):
            for g in range(2):
                assert masked[b, t, g] == (indices[b, t, g] if t < lengths[b] else -1)
    assert (indices >= 0).all()


class Frames(UpstreamBase):
    """A plain upstream of one hidden state: zeros, as many frames as the longest utterance gives."""

    def forward(self, wavs: list[Tensor]) -> dict:
        steps = max((len(wav) - 400) // 320 + 1 for wav in wavs)
        return {"hidden_states": [torch.zeros(len(wavs), steps, 3)]}

    def get_downsample_rates(self, key: str) -> int:
        return 320


class FramesWithCodes(WithCodes, Frames):
    codebook_sizes = (9, 9)

    def code_lengths(self, samples: list[int]) -> list[int]:
        return [(n - 400) // 320 + 1 for n in samples]

    def quantize(self, result: dict, wavs: list) -> Tensor:
        states = result["hidden_states"][0]
        return torch.zeros(*states.shape[:2], 2, dtype=torch.long)


FEATURIZER = Featurizer(FramesWithCodes(), upstream_device="cpu")


@settings(max_examples=300, deadline=None)
@given(samples=st.lists(st.integers(400, 60_000), min_size=1, max_size=5))
def test_published_frames_are_what_s3prls_featurizer_keeps(samples: list[int]) -> None:
    wavs = [torch.zeros(n) for n in samples]
    kept = FEATURIZER(wavs, FramesWithCodes()(wavs))
    taken = codes.take([len(frames) for frames in kept])
    assert taken is not None
    for frames, length, n in zip(kept, taken.lengths.tolist(), samples):
        assert length == (n - 400) // 320 + 1
        assert abs(len(frames) - length) <= 1  # s3prl#394


def test_too_short_utterance_withdraws_the_codes_of_the_batch_before() -> None:
    upstream = FramesWithCodes()
    upstream([torch.zeros(16000)])
    with pytest.raises(InputError, match="Utterance 1 of the batch has 399 samples"):
        upstream([torch.zeros(16000), torch.zeros(399)])
    assert codes.take([49]) is None


def test_upstream_that_fails_withdraws_the_codes_of_the_batch_before() -> None:
    class Fails(FramesWithCodes):
        def forward(self, wavs: list[Tensor]) -> dict:
            raise RuntimeError("out of memory")

    FramesWithCodes()([torch.zeros(16000)])
    with pytest.raises(RuntimeError, match="out of memory"):
        Fails()([torch.zeros(16000)])
    assert codes.take([49]) is None


def test_handover_survives_evaluation_in_the_middle_of_training() -> None:
    """As S3PRL's runner: train batches, an evaluation over other batches, train batches again."""
    upstream = hub.mfcc_vq().eval()
    featurizer = Featurizer(upstream, upstream_device="cpu")  # runs the upstream once, on noise

    def pooled(wavs: list[Tensor]) -> Tensor:
        features = featurizer(wavs, upstream(wavs))
        frames = [len(each) for each in features]
        taken = codes.require(frames, "VQ-LP")
        steps = int(taken.lengths.max())
        padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)[:, :steps]
        return pooling.pool(padded, pooling.weights("VQ-LP", taken.indices[:, :steps], taken.lengths))

    training = [waves(16000, 8000, seed=1), waves(9000, 12000, seed=2)]
    evaluation = [waves(16000, 8000, seed=3), waves(5000, seed=4)]
    alone = {id(wavs): pooled(wavs) for wavs in training + evaluation}
    for wavs in (training[0], *evaluation, training[1], *evaluation, training[0]):
        assert torch.equal(pooled(wavs), alone[id(wavs)])


def test_other_upstreams_leave_no_codes() -> None:
    wavs = [torch.zeros(16000)]
    features = Featurizer(Frames(), upstream_device="cpu")(wavs, Frames()(wavs))
    with pytest.raises(InputError, match="the upstream published none"):
        codes.require([len(each) for each in features], "VQ-LP")


@pytest.mark.parametrize(("more", "fits"), [(-5, False), (-4, True), (4, True), (5, False)])
def test_codes_are_made_at_the_rate_of_the_hidden_states(more: int, fits: bool) -> None:
    """S3PRL lets features and waveforms differ by fewer than 5 frames (its Featurizer's TOLERABLE_SEQLEN_DIFF)."""

    class Longer(FramesWithCodes):
        def quantize(self, result: dict, wavs: list) -> Tensor:
            return torch.zeros(1, result["hidden_states"][0].size(1) + more, 2, dtype=torch.long)

    if fits:
        assert Longer()([torch.zeros(16000)])["codes"].size(1) == 49 + min(more, 0)
    else:
        with pytest.raises(InputError, match=f"codes of {49 + more} frames, but hidden states of 49"):
            Longer()([torch.zeros(16000)])


def test_an_upstream_must_say_how_it_quantizes() -> None:
    with pytest.raises(NotImplementedError):
        WithCodes().quantize({}, [])
    assert WithCodes().quantized_alone(torch.zeros(16000)) is None
    assert WithCodes().without_padding() is None
