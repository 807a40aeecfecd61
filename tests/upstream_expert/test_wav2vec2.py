"""Upstreams with codes against S3PRL's own classes in the same process, on the same audio."""

import argparse
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from s3prl import hub
from s3prl.nn import S3PRLUpstream
from s3prl.upstream.interfaces import Featurizer
from tiny import BASE, LARGE, converted_checkpoint, waves
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from s3prl_vqpool import codes
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden" / "checkpoints"
KINDS = {"base": BASE, "large": LARGE}
#: 16000 and 7600 are where S3PRL's Featurizer keeps a frame more than there is; 401 samples are one frame.
LENGTHS = (7600, 16000, 401, 12345)
CONVOLUTIONS = [(10, 5)] + [(3, 2)] * 4 + [(2, 2)] * 2  # kernel, stride

Make = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(kind, **changes)`: S3PRL's upstream and ours, fresh, of the same checkpoint."""
    folder = tmp_path_factory.mktemp("converted")
    made: dict[str, Path] = {}

    def make(kind: str, **changes: Any) -> tuple[Any, Any]:
        key = f"{kind}{sorted(changes.items())}"
        if key not in made:
            made[key] = converted_checkpoint(folder / f"{len(made)}.pt", KINDS[kind], **changes)
        path = str(made[key])
        return hub.wav2vec2_local(ckpt=path).eval(), hub.wav2vec2_vq_local(ckpt=path).eval()

    return make


def frames_by_loop(samples: int) -> int:
    for kernel, stride in CONVOLUTIONS:
        samples = (samples - kernel) // stride + 1
    return samples


def latents(plain: Any, wavs: list[Tensor]) -> Tensor:
    """What the quantizer sees in S3PRL's `Wav2Vec2Model.quantize`, of the batch as S3PRL's expert pads it."""
    if plain.wav_normalize:
        wavs = [F.layer_norm(wav, wav.shape) for wav in wavs]
    features = plain.model.feature_extractor(pad_sequence(wavs, batch_first=True))
    return plain.model.layer_norm(features.transpose(1, 2))


@torch.no_grad()
def s3prl_codes(plain: Any, wavs: list[Tensor]) -> Tensor:
    """int64 [B, T, G] by S3PRL's GumbelVectorQuantizer, padded frames included."""
    return plain.model.quantizer.forward_idx(latents(plain, wavs))[1]


def assert_same_hidden_states(found: dict, expected: dict) -> None:
    assert set(found) == {*expected, "codes", "code_lengths"}
    assert found["_hidden_states_info"] == expected["_hidden_states_info"]
    assert len(found["hidden_states"]) == len(expected["hidden_states"])
    for ours, theirs in zip(found["hidden_states"], expected["hidden_states"]):
        assert torch.equal(ours, theirs)
    assert torch.equal(found["last_hidden_state"], expected["last_hidden_state"])


def assert_codes(found: dict, expected: Tensor, lengths: list[int]) -> None:
    """Codes equal ``expected`` [B, >= T, G] up to ``lengths`` and are -1 from there on."""
    assert found["codes"].dtype == found["code_lengths"].dtype == torch.int64
    assert found["code_lengths"].tolist() == lengths
    assert found["codes"].shape == (len(lengths), found["hidden_states"][0].size(1), expected.size(-1))
    for ours, theirs, length in zip(found["codes"], expected, lengths):
        assert torch.equal(ours[:length], theirs[:length])
        assert (ours[length:] == -1).all()


# -------------------------------------------------------------------------------------------- wav2vec 2.0
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [LENGTHS, (16000,), (401,), (8000, 8000)], ids=str)
def test_upstream_hidden_states_and_codes_equal_s3prls(
    make: Make, kind: str, lengths: tuple[int, ...]
) -> None:
    plain, ours = make(kind)
    wavs = waves(*lengths)
    with torch.no_grad():
        found = ours(wavs)
        assert_same_hidden_states(found, plain(wavs))
    assert_codes(found, s3prl_codes(plain, wavs), [frames_by_loop(n) for n in lengths])
    assert ours.codebook_sizes == (20, 20)
    assert {ours.get_downsample_rates(key) for key in found} == {320}


@pytest.mark.parametrize("kind", KINDS)
def test_upstream_in_training_equals_s3prls_with_dropout_from_equal_seeds(make: Make, kind: str) -> None:
    plain, ours = make(kind)
    wavs = waves(*LENGTHS)
    expected_codes = s3prl_codes(plain, wavs)
    results, states = [], []
    for upstream in (plain.train(), ours.train()):
        torch.manual_seed(3)
        results.append(upstream(wavs))
        states.append(torch.get_rng_state())
    assert_same_hidden_states(results[1], results[0])
    assert torch.equal(*states)
    assert not torch.equal(results[0]["last_hidden_state"], ours.eval()(wavs)["last_hidden_state"])
    assert_codes(results[1], expected_codes, [frames_by_loop(n) for n in LENGTHS])  # no Gumbel noise


@pytest.mark.parametrize("kind", KINDS)
def test_upstream_in_training_without_dropout_equals_s3prls_from_any_seed(make: Make, kind: str) -> None:
    plain, ours = make(kind, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    wavs = waves(*LENGTHS)
    assert_same_hidden_states(ours.train()(wavs), plain.train()(wavs))


@pytest.mark.parametrize("kind", KINDS)
def test_fine_tuning_gives_s3prls_gradients_and_none_to_the_codes(make: Make, kind: str) -> None:
    plain, ours = make(kind, dropout=0.0, attention_dropout=0.0)
    wavs = waves(*LENGTHS)
    for upstream in (plain.train(), ours.train()):
        sum(state.square().mean() for state in upstream(wavs)["hidden_states"]).backward()
    expected = {name: parameter.grad for name, parameter in plain.named_parameters()}
    assert sum(gradient is not None for gradient in expected.values()) > 30
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (expected[name] is None), name
        assert parameter.grad is None or torch.equal(parameter.grad, expected[name]), name
        assert not name.startswith("model.quantizer") or parameter.grad is None
    result = ours(wavs)
    assert result["last_hidden_state"].requires_grad
    assert not result["codes"].requires_grad


@pytest.fixture(scope="module")
def large(make: Make) -> Any:
    return make("large")[1]


@settings(max_examples=200, deadline=None)
@given(samples=st.lists(st.integers(1, 400_000), min_size=1, max_size=4))
def test_code_lengths_follow_the_convolutions(large: Any, samples: list[int]) -> None:
    for length, n in zip(large.code_lengths(samples), samples):
        expected = frames_by_loop(n)
        assert length == expected if expected > 0 else length < 1
        assert (length >= 1) == (n >= 400)
        if n >= 400:
            assert length == (n - 400) // 320 + 1


def test_code_lengths_are_what_the_convolutions_really_give(make: Make) -> None:
    plain, ours = make("large")
    for samples in (400, 719, 720, 721, 5000, 16000):
        real = plain.model.feature_extractor(torch.zeros(1, samples)).size(-1)
        assert ours.code_lengths([samples]) == [real]


def test_large_codes_do_not_depend_on_the_batch(make: Make) -> None:
    _, ours = make("large")
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        batch = ours(wavs)
        for i, wav in enumerate(wavs):
            alone = ours([wav])
            assert torch.equal(batch["codes"][i, : batch["code_lengths"][i]], alone["codes"][0])
            assert batch["code_lengths"][i] == alone["code_lengths"][0]


def test_base_codes_depend_on_the_batch_exactly_as_s3prls(make: Make) -> None:
    plain, ours = make("base")
    wavs = waves(*LENGTHS)
    changed = 0
    with torch.no_grad():
        batch = ours(wavs)
        assert_codes(batch, s3prl_codes(plain, wavs), [frames_by_loop(n) for n in LENGTHS])
        for i, wav in enumerate(wavs):
            alone = ours([wav])
            assert_codes(alone, s3prl_codes(plain, [wav]), [frames_by_loop(len(wav))])
            changed += int((batch["codes"][i, : len(alone["codes"][0])] != alone["codes"][0]).sum())
    assert changed > 0  # GroupNorm over time: the README says so


@pytest.mark.parametrize("kind", KINDS)
def test_upstream_passes_the_convolutions_once_and_quantizes_what_they_gave(make: Make, kind: str) -> None:
    _, ours = make(kind)
    modules = {
        "feature_extractor": ours.model.feature_extractor,
        "first convolution": ours.model.feature_extractor.conv_layers[0],
        "layer_norm": ours.model.layer_norm,
        "encoder": ours.model.encoder,
        "weight_proj": ours.model.quantizer.weight_proj,
    }
    calls = dict.fromkeys(modules, 0)

    def count(name: str) -> Callable[..., None]:
        def counted(*_: Any) -> None:
            calls[name] += 1

        return counted

    handles = [module.register_forward_hook(count(name)) for name, module in modules.items()]
    with torch.no_grad():
        ours(waves(*LENGTHS))
    for handle in handles:
        handle.remove()
    assert calls == dict.fromkeys(modules, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_upstream_works_under_autocast(make: Make, kind: str) -> None:
    plain, ours = make(kind)
    wavs = waves(*LENGTHS)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = ours(wavs)
        assert_same_hidden_states(found, plain(wavs))
        seen = latents(plain, wavs)
    with torch.no_grad():  # the quantizer itself computes in the precision of its weights
        expected = plain.model.quantizer.forward_idx(seen.float())[1]
    assert_codes(found, expected, [frames_by_loop(n) for n in LENGTHS])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [(16000, 7600, 401), (16320, 16000)], ids=["odd frames", "even frames"])
def test_codes_are_cut_as_the_hidden_states(make: Make, kind: str, lengths: tuple[int, ...]) -> None:
    plain, ours = make(kind, crop_seq_to_multiple=2)
    wavs = waves(*lengths)
    real = [frames_by_loop(n) for n in lengths]
    kept = max(real) - max(real) % 2
    with torch.no_grad():
        found = ours(wavs)
        assert_same_hidden_states(found, plain(wavs))
    assert found["hidden_states"][0].size(1) == kept
    assert_codes(found, s3prl_codes(plain, wavs), [min(n, kept) for n in real])


@pytest.mark.parametrize("depth", [2, 3])
def test_codes_of_a_deep_quantizer_equal_s3prls(make: Make, depth: int) -> None:
    plain, ours = make("large", quantizer_depth=depth, quantizer_factor=2)
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        found = ours(wavs)
        assert_same_hidden_states(found, plain(wavs))
    assert_codes(found, s3prl_codes(plain, wavs), [frames_by_loop(n) for n in LENGTHS])


@pytest.mark.parametrize("groups", [1, 3])
def test_codes_have_as_many_columns_as_the_quantizer_has_groups(make: Make, groups: int) -> None:
    plain, ours = make("large", latent_groups=groups, latent_vars=11, latent_dim=6 * groups)
    wavs = waves(*LENGTHS)
    assert_codes(ours(wavs), s3prl_codes(plain, wavs), [frames_by_loop(n) for n in LENGTHS])
    assert ours.codebook_sizes == (11,) * groups


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": True},
        {"layer_selection": 0},
        {"layer_selection": 2},
        {"feature_selection": "last_hidden_state"},
        {"feature_selection": "hidden_state_1"},
        {"feature_selection": "last_hidden_state", "normalize": True},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()) or "default",
)
def test_featurizer_gives_the_same_and_its_frames_fit_the_codes(make: Make, options: dict[str, Any]) -> None:
    wavs = waves(*LENGTHS)
    lists = []
    for upstream in make("large"):
        featurizer = Featurizer(upstream, upstream_device="cpu", **options)
        if hasattr(featurizer, "weights"):
            featurizer.weights.data = torch.linspace(-1, 1, featurizer.layer_num)
        with torch.no_grad():
            lists.append(featurizer(wavs, upstream(wavs)))
    taken = codes.take([len(frames) for frames in lists[1]])
    assert len(lists[0]) == len(lists[1]) == len(wavs)
    for theirs, ours in zip(*lists):
        assert torch.equal(ours, theirs)
    assert taken is not None
    assert taken.lengths.tolist() == [frames_by_loop(n) for n in LENGTHS]


@pytest.mark.parametrize("selection", ["fairseq_layers", "fairseq_layers_before_residual"])
def test_s3prls_feature_selection_of_the_upstream_still_works(tmp_path: Path, selection: str) -> None:
    path = str(converted_checkpoint(tmp_path / "tiny.pt", LARGE))
    plain = hub.wav2vec2_local(ckpt=path, feature_selection=selection).eval()
    ours = hub.wav2vec2_vq_local(ckpt=path, feature_selection=selection).eval()
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        expected, found = plain(wavs), ours(wavs)
    for theirs, mine in zip(expected["hidden_states"], found["hidden_states"]):
        assert torch.equal(mine, theirs)
    assert_codes(found, s3prl_codes(plain, wavs), [frames_by_loop(n) for n in LENGTHS])


def test_s3prls_nn_upstream_gives_the_same(tmp_path: Path) -> None:
    path = str(converted_checkpoint(tmp_path / "tiny.pt", LARGE))
    theirs = S3PRLUpstream("wav2vec2_local", path_or_url=path).eval()
    ours = S3PRLUpstream("wav2vec2_vq_local", path_or_url=path).eval()
    assert (ours.num_layers, ours.hidden_sizes) == (theirs.num_layers, theirs.hidden_sizes)
    assert ours.downsample_rates == theirs.downsample_rates
    lengths = torch.tensor(LENGTHS)
    padded = pad_sequence(waves(*LENGTHS), batch_first=True)
    with torch.no_grad():
        expected, found = theirs(padded, lengths), ours(padded, lengths)
    for part in range(2):
        for mine, plain in zip(found[part], expected[part], strict=True):
            assert torch.equal(mine, plain)


def test_torch_hub_finds_the_upstreams(make: Make, tmp_path: Path) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    loaded = torch.hub.load(str(ROOT), "wav2vec2_vq_local", source="local", ckpt=str(path)).eval()
    _, ours = make("large")
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        found, expected = loaded(wavs), ours(wavs)
    assert torch.equal(found["codes"], expected["codes"])
    assert torch.equal(found["last_hidden_state"], expected["last_hidden_state"])
    hubconf = runpy.run_path(str(ROOT / "hubconf.py"))
    for name in plugin.upstreams():
        assert hubconf[name] is getattr(hub, name)


# -------------------------------------------------------------------------------------------------- errors
def test_checkpoint_without_quantizer_is_refused_by_name(tmp_path: Path) -> None:
    path = converted_checkpoint(tmp_path / "tuned.pt", LARGE, quantizer=False)
    hub.wav2vec2_local(ckpt=str(path))
    with pytest.raises(InputError, match="has no quantizer") as refusal:
        hub.wav2vec2_vq_local(ckpt=str(path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_checkpoint_that_is_no_converted_one_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": {}, "args": argparse.Namespace()}, path)
    with pytest.raises(InputError, match="it has no 'task_cfg', 'model_cfg', 'model_weight'"):
        hub.wav2vec2_vq_local(ckpt=str(path))


@pytest.mark.parametrize("name", ["wav2vec2_vq_local", "wav2vec2_vq_url", "wav2vec2_vq_custom"])
def test_missing_checkpoint_option_is_named(name: str) -> None:
    with pytest.raises(InputError, match="-k PATH or -k URL"):
        getattr(hub, name)(ckpt=None, model_config=None, refresh=False)


def test_too_short_utterance_is_refused_by_its_index(make: Make) -> None:
    _, ours = make("large")
    ours(waves(16000))
    with pytest.raises(InputError, match="Utterance 1 of the batch has 399 samples"):
        ours(waves(16000, 399, 800))
    assert codes.take([50]) is None  # nothing of the batch before can be mistaken for this one's
    with pytest.raises(InputError, match="Utterance 2 of the batch has 0 samples"):
        ours(waves(16000, 400, 0))
    mfcc = hub.mfcc_vq()
    mfcc(waves(560))
    with pytest.raises(InputError, match="Utterance 0 of the batch has 559 samples"):
        mfcc(waves(559))
