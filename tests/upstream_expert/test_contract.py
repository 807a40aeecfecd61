"""The contract of an upstream with codes, over every name that `-u` takes and that can be built here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import golden
import pytest
import torch
from s3prl import hub
from test_apc import apc_checkpoint, npc_checkpoint
from test_discrete_bert import bert_checkpoints, plain_bert
from test_hf import KINDS, SMALL, s3prls
from test_vq_wav2vec import checkpoint as vq_wav2vec
from tiny import BASE, LARGE, converted_checkpoint, waves
from transformers import Wav2Vec2FeatureExtractor

from s3prl_vqpool import codes
from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.codes import precision
from s3prl_vqpool.codes.codebook import Codebook
from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.codes.upstream import WithCodes, best_entries, check_finite
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin

#: Those of the same classes whose checkpoints are on the network.
PUBLISHED = {
    *(
        "wav2vec2_vq",
        "wav2vec2_base_960_vq",
        "wav2vec2_large_960_vq",
        "wav2vec2_large_ll60k_vq",
        "xlsr_53_vq",
    ),
    *("xls_r_300m_vq", "xls_r_1b_vq", "xls_r_2b_vq", "vq_wav2vec_vq", "vq_wav2vec_kmeans_vq"),
    *("hubert_vq", "wavlm_vq", "data2vec_vq"),  # shorthands of kmeans_vq
    *("vq_apc_vq", "vq_apc_360hr_vq", "vq_apc_960hr_vq", "npc_vq", "npc_360hr_vq", "npc_960hr_vq"),
    *("vq_wav2vec_kmeans_roberta_vq", "discretebert_vq"),
}
#: 7600 and 16000 samples are where S3PRL's Featurizer keeps a frame more than there is at 20 ms.
LENGTHS = (7600, 16000, 1000, 12345)


def hugging_face(folder: Path, kind: str) -> Path:
    family, config, options = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        family(config(**{**SMALL, **options})).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def codebook(folder: Path) -> tuple[str, str]:
    """A codebook.yaml on layers 1 and 3 of a tiny wav2vec 2.0, its centroids at random; and the checkpoint."""
    checkpoint = str(converted_checkpoint(folder / "wrapped.pt", LARGE))
    generator = torch.Generator().manual_seed(0)
    centroids = tuple(torch.randn(count, 24, generator=generator) for count in (17, 9))
    stored = folder / "codebook.safetensors"
    KMeansCodebooks(centroids, ((0, 24), (24, 48)), {}, (1, 3)).save(stored)
    Codebook("wav2vec2_local", str(stored), 400, 320, checkpoint).save(folder / "codebook.yaml")
    return str(folder / "codebook.yaml"), checkpoint


Pair = tuple[Any, Any]
#: Per case the name of the upstream, and what makes S3PRL's plain one and ours from the same checkpoint.
CASES: dict[str, tuple[str, Callable[[str, Path], Pair]]] = {}


def case(title: str, name: str) -> Callable[[Callable[[str, Path], Pair]], Callable[[str, Path], Pair]]:
    def register(make: Callable[[str, Path], Pair]) -> Callable[[str, Path], Pair]:
        CASES[title] = (name, make)
        return make

    return register


for _name in ("wav2vec2_vq_custom", "wav2vec2_vq_local", "wav2vec2_vq_url"):
    for _kind, _settings in (("base", BASE), ("large", LARGE)):

        @case(f"{_name} {_kind}", _name)
        def wav2vec2(name: str, folder: Path, settings: dict[str, Any] = _settings) -> Pair:
            path = str(converted_checkpoint(folder / "tiny.pt", settings))
            return hub.wav2vec2_local(ckpt=path), getattr(hub, name)(ckpt=path)


for _kind in ("gumbel", "kmeans"):

    @case(f"vq_wav2vec_vq_custom {_kind}", "vq_wav2vec_vq_custom")
    def vq(name: str, folder: Path, kind: str = _kind) -> Pair:
        path = vq_wav2vec(folder / "tiny.pt", kind)
        return hub.vq_wav2vec_custom(path), getattr(hub, name)(ckpt=path)


for _kind in ("base", "unispeech", "unispeech sat", "unispeech sat large"):

    @case(f"hf_wav2vec2_vq_custom {_kind}", "hf_wav2vec2_vq_custom")
    def hf(name: str, folder: Path, kind: str = _kind) -> Pair:
        path = hugging_face(folder, kind)
        return s3prls(path, kind), getattr(hub, name)(ckpt=str(path))


@case("vq_apc_vq_custom", "vq_apc_vq_custom")
def vq_apc(name: str, folder: Path) -> Pair:
    path = apc_checkpoint(folder / "tiny.ckpt")
    return hub.apc_local(path), getattr(hub, name)(ckpt=path)


@case("npc_vq_custom", "npc_vq_custom")
def npc(name: str, folder: Path) -> Pair:
    path = npc_checkpoint(folder / "tiny.ckpt")
    return hub.npc_local(path), getattr(hub, name)(ckpt=path)


@case("vq_wav2vec_kmeans_roberta_vq_custom", "vq_wav2vec_kmeans_roberta_vq_custom")
def discrete_bert(name: str, folder: Path) -> Pair:
    return plain_bert(bert_checkpoints(folder)), getattr(hub, name)(ckpt=str(folder))


@case("kmeans_vq", "kmeans_vq")
def kmeans(name: str, folder: Path) -> Pair:
    path, checkpoint = codebook(folder)
    return hub.wav2vec2_local(ckpt=checkpoint), getattr(hub, name)(model_config=path)


@case("wav2vec2_vq_tiny", "wav2vec2_vq_tiny")
def tiny(name: str, folder: Path) -> Pair:
    source = plugin.folder("upstream_expert") / "wav2vec2_vq" / "tiny.safetensors"
    fairseq.save(fairseq.load(source), folder / "converted.pt")
    return hub.wav2vec2_local(ckpt=str(folder / "converted.pt")), getattr(hub, name)()


for _name in ("mfcc_vq", "fbank_vq"):

    @case(_name, _name)
    def baseline(name: str, folder: Path) -> Pair:
        return getattr(hub, name.removesuffix("_vq"))(), getattr(hub, name)()


if golden.CHECKPOINTS.is_dir():
    for _kind in ("fairseq_wav2vec2_base", "fairseq_xlsr", "fairseq_wav2vec2_large"):

        @case(f"golden {_kind}", "wav2vec2_vq_custom")
        def of_fairseq(name: str, folder: Path, file: str = f"{_kind}.pt") -> Pair:
            source = golden.CHECKPOINTS / file
            fairseq.save(fairseq.load(source), folder / "converted.pt")
            return hub.wav2vec2_local(ckpt=str(folder / "converted.pt")), getattr(hub, name)(ckpt=str(source))


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """S3PRL's plain upstream and ours, in evaluation."""
    name, make = CASES[request.param]
    plain, ours = make(name, tmp_path_factory.mktemp("contract"))
    return plain.eval(), ours.eval()


def test_every_registered_upstream_is_a_case() -> None:
    assert {name for name, _ in CASES.values()} | PUBLISHED == set(plugin.upstreams())


@torch.no_grad()
def check(plain: Any, ours: Any, wavs: list[torch.Tensor]) -> dict[str, Any]:
    """Run both; the result of ours, after everything that must hold for any batch."""
    samples = [len(wav) for wav in wavs]
    expected, found = plain(wavs), ours(wavs)
    for mine, theirs in zip(found["hidden_states"], expected["hidden_states"], strict=True):
        assert torch.equal(mine, theirs)
    frames = found["hidden_states"][0].size(1)
    lengths = found["code_lengths"]
    assert lengths.dtype == found["codes"].dtype == torch.int64
    assert found["codes"].shape == (len(wavs), frames, len(ours.codebook_sizes))
    assert lengths.tolist() == ours.code_lengths(samples)
    assert lengths.max() == frames
    for row, length in zip(found["codes"], lengths.tolist()):
        assert (row[:length] >= 0).all()
        assert (row[:length] < torch.tensor(ours.codebook_sizes)).all()
        assert (row[length:] == -1).all()
    rate = ours.get_downsample_rates("hidden_states")
    for n, length in zip(samples, lengths.tolist()):
        assert abs(n / rate - length) < 3
    published = codes.take([min(round(n / rate), frames) for n in samples])
    assert published is not None
    assert torch.equal(published.indices, found["codes"])
    assert published.sizes == ours.codebook_sizes
    return found


def test_contract_holds_for_unequal_lengths(pair: Pair) -> None:
    check(*pair, waves(*LENGTHS))


@pytest.mark.parametrize("seconds", [1, 30])
def test_contract_holds_for_one_utterance_of(pair: Pair, seconds: int) -> None:
    check(*pair, waves(seconds * 16000))


def test_lengths_are_the_frames_that_each_utterance_has_alone(pair: Pair) -> None:
    plain, ours = pair
    lengths = ours.code_lengths(LENGTHS)
    with torch.no_grad():
        assert lengths == [plain([wav])["hidden_states"][0].size(1) for wav in waves(*LENGTHS)]


def test_contract_holds_under_autocast(pair: Pair) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        check(*pair, waves(*LENGTHS))


@torch.no_grad()
def test_codes_do_not_change_with_the_precision_of_the_transformer(pair: Pair) -> None:
    _, ours = pair
    wavs, device = waves(*LENGTHS), torch.device("cpu")
    if ours.transformer is None:
        with pytest.raises(InputError, match="precision bf16: it has no transformer behind its codes"):
            precision.require("bf16", ours, "it", device)
        return
    precision.require("bf16", ours, "it", device)
    expected, dtypes = ours(wavs), []
    linear = next(module for module in ours.transformer.modules() if isinstance(module, torch.nn.Linear))
    handle = linear.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    with precision.transformer_in("bf16", ours):
        found = ours(wavs)
    handle.remove()
    assert torch.equal(found["codes"], expected["codes"])
    assert set(dtypes) <= {
        torch.bfloat16
    }  # of attention, torch takes the weights without a call of the module
    last, states = expected["hidden_states"][-1], found["hidden_states"][-1].float()
    assert 0 < (states - last).norm() < 0.05 * last.norm()
    assert torch.equal(ours(wavs)["hidden_states"][-1], last)


@torch.no_grad()
def test_onednn_changes_the_transformer_by_rounding_and_no_code(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = pair
    wavs, calls = waves(*LENGTHS), []
    expected = ours(wavs)
    product = precision.product
    monkeypatch.setattr(precision, "product", lambda *args: calls.append(1) or product(*args))
    with precision.transformer_in("float32", ours):
        found = ours(wavs)
    assert bool(calls) == (ours.transformer is not None)
    assert torch.equal(found["codes"], expected["codes"])
    for state, wanted in zip(found["hidden_states"], expected["hidden_states"]):
        assert (state - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    calls.clear()
    assert torch.equal(ours(wavs)["hidden_states"][-1], expected["hidden_states"][-1])
    assert calls == []


@torch.no_grad()
def test_codes_of_a_batch_are_those_of_a_call_without_the_transformer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = pair
    wavs, calls = waves(*LENGTHS), []
    expected = ours(wavs)
    if ours.transformer is not None:
        forward = ours.transformer.forward
        monkeypatch.setitem(
            vars(ours.transformer), "forward", lambda *args, **more: calls.append(1) or forward(*args, **more)
        )
    found, lengths = ours.codes_of(wavs)
    assert calls == []
    assert torch.equal(found, expected["codes"])
    assert torch.equal(lengths, expected["code_lengths"])
    assert codes.take([0]) is None
    assert torch.equal(ours(wavs)["hidden_states"][-1], expected["hidden_states"][-1])
    assert bool(calls) == (ours.transformer is not None)
    wavs[1][100] = float("nan")
    with pytest.raises(InputError, match=r"Utterance 1 of the batch .* NaN"):
        ours.codes_of(wavs)


def test_results_are_the_same_every_time(pair: Pair) -> None:
    _, ours = pair
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        first = ours(wavs)
        torch.randn(7)
        second = ours(wavs)
    assert torch.equal(first["codes"], second["codes"])
    assert torch.equal(first["hidden_states"][-1], second["hidden_states"][-1])
    assert ours.fingerprint() == ours.fingerprint()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_codes_of_the_cpu(pair: Pair) -> None:
    _, ours = pair
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        expected = ours(wavs)
        try:
            found = ours.cuda()([wav.cuda() for wav in wavs])
        finally:
            ours.cpu()
    assert found["codes"].is_cuda
    assert (found["codes"].cpu() == expected["codes"]).float().mean() > 0.99
    torch.testing.assert_close(
        found["hidden_states"][-1].cpu(), expected["hidden_states"][-1], rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_audio_that_is_not_finite_gives_no_codes(pair: Pair, bad: float) -> None:
    _, ours = pair
    wavs = waves(16000, 12345)
    wavs[1][6000] = bad
    with pytest.raises(InputError, match=r"Utterance 1 of the batch .* its audio holds NaN") as refusal:
        ours(wavs)
    assert len(str(refusal.value).splitlines()) == 1
    assert codes.take([50, 38]) is None
    with pytest.raises(InputError, match="audio holds NaN"):
        ours.codes_alone(wavs[1])


def test_hidden_states_that_are_not_finite_give_no_codes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = pair
    parents = type(ours).__mro__
    behind = parents[parents.index(WithCodes) + 1]

    def damaged(self: Any, wavs: list[torch.Tensor], **options: Any) -> dict[str, Any]:
        result = call(self, wavs, **options)
        states = [state.detach().clone() for state in result["hidden_states"]]
        states[place[0]][1, 5, 3] = float("nan")
        return {**result, "hidden_states": states}

    call, place = behind.__call__, [0]
    monkeypatch.setattr(behind, "__call__", damaged)
    for place[0] in (0, -1):
        with pytest.raises(InputError, match=r"Utterance 1 of the batch .* hidden states are not"):
            ours(waves(16000, 12345))


def test_padding_that_is_not_finite_is_no_ones_fault() -> None:
    states = [torch.zeros(2, 9, 4)]
    states[0][1, 5:] = float("nan")
    check_finite(waves(160, 90), states, [9, 5])
    with pytest.raises(InputError):
        check_finite(waves(160, 90), states, [9, 6])


def test_logits_that_are_not_finite_give_no_codes() -> None:
    logits = torch.zeros(1, 2, 6)
    logits[0, 1, 4] = 1
    assert best_entries(logits, 2).tolist() == [[[0, 0], [0, 1]]]
    for bad in (float("nan"), float("inf")):
        logits[0, 0, 5] = bad
        with pytest.raises(InputError, match="logits of the codes are not finite"):
            best_entries(logits, 2)


def test_entries_that_cannot_be_chosen_are_no_fault() -> None:
    """A logit of minus infinity is an entry of probability 0, as where a codebook is masked."""
    never = float("-inf")
    assert best_entries(torch.tensor([[never, 1.0, never, 2.0]]), 2).tolist() == [[1, 1]]
