"""wav2vec 2.0 in Hugging Face's format: hidden states as S3PRL's expert, codes as transformers' own quantizer."""

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import golden
import pytest
import torch
import transformers
from s3prl import hub
from s3prl.upstream.hf_wav2vec2.expert import UpstreamExpert as S3prlsExpert
from tiny import waves
from transformers import (
    HubertConfig,
    HubertModel,
    UniSpeechConfig,
    UniSpeechForPreTraining,
    UniSpeechModel,
    UniSpeechSatConfig,
    UniSpeechSatForPreTraining,
    UniSpeechSatModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2ConformerModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
)

from s3prl_vqpool import pooling
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store.encode import Encoder

LENGTHS = (7600, 16000, 401, 12345)
SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "conv_dim": (32,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 20,
    "codevector_dim": 32,
    "proj_codevector_dim": 32,
    "vocab_size": 30,
}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "base": (Wav2Vec2ForPreTraining, Wav2Vec2Config, {}),
    "large": (
        Wav2Vec2ForPreTraining,
        Wav2Vec2Config,
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "conformer": (Wav2Vec2ConformerForPreTraining, Wav2Vec2ConformerConfig, {"feat_extract_norm": "layer"}),
    "unispeech": (UniSpeechForPreTraining, UniSpeechConfig, {}),
    "unispeech large": (
        UniSpeechForPreTraining,
        UniSpeechConfig,
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    "unispeech sat": (UniSpeechSatForPreTraining, UniSpeechSatConfig, {"utterance_contrastive_layer": 2}),
    "unispeech sat large": (
        UniSpeechSatForPreTraining,
        UniSpeechSatConfig,
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_hidden_layers": 7},
    ),
    "three codebooks": (
        Wav2Vec2ForPreTraining,
        Wav2Vec2Config,
        {"feat_extract_norm": "layer", "num_codevector_groups": 3, "codevector_dim": 33},
    ),
}

#: What S3PRL's expert would have to load in place of a Wav2Vec2Model.
BODIES: dict[Any, Any] = {
    Wav2Vec2ConformerForPreTraining: Wav2Vec2ConformerModel,
    UniSpeechForPreTraining: UniSpeechModel,
    UniSpeechSatForPreTraining: UniSpeechSatModel,
}
Make = Callable[..., Path]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The models are tiny: more threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(kind, normalize)`: a folder in Hugging Face's format."""
    made: dict[tuple[str, bool], Path] = {}

    def make(kind: str, normalize: bool = True) -> Path:
        if (kind, normalize) not in made:
            path = tmp_path_factory.mktemp("hf")
            family, config, options = KINDS[kind]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = family(config(**{**SMALL, **options}))
                torch.nn.init.normal_(model.quantizer.weight_proj.weight)
                if hasattr(model, "layer_norm_for_extract"):
                    torch.nn.init.normal_(model.layer_norm_for_extract.weight)
            model.save_pretrained(path)
            Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(path)
            made[kind, normalize] = path
        return made[kind, normalize]

    return make


def frames(samples: int) -> int:
    for kernel, stride in [(10, 5)] + [(3, 2)] * 4 + [(2, 2)] * 2:
        samples = (samples - kernel) // stride + 1
    return samples


@golden.needed
@pytest.mark.parametrize("name", ["hf_wav2vec2_base", "hf_wav2vec2_large"])
def test_hidden_states_and_codes_equal_hugging_faces(name: str) -> None:
    expected = golden.expected("hf")
    upstream = hub.hf_wav2vec2_vq_custom(ckpt=str(golden.CHECKPOINTS / name)).eval()
    for i in range(3):
        with torch.no_grad():
            found = upstream([expected[f"wav.{i}"]])
        assert torch.equal(found["codes"][0], expected[f"{name}.{i}.codes"])
        assert len(found["hidden_states"]) == 4
        states = [state[0] for state in found["hidden_states"]]
        if transformers.__version__ < "5" and upstream.model.config.do_stable_layer_norm:
            # the golden files are transformers 5's, whose last hidden state lacks the encoder's layer norm
            expected[f"{name}.{i}.hidden.3"] = upstream.model.encoder.layer_norm(
                expected[f"{name}.{i}.hidden.3"]
            )
        for layer, state in enumerate(states):
            torch.testing.assert_close(state, expected[f"{name}.{i}.hidden.{layer}"], rtol=1e-5, atol=1e-5)


def s3prls(path: Path, kind: str) -> Any:
    """S3PRL's expert; it loads other models into a Wav2Vec2Model, that is, random weights: so not those."""
    body = BODIES.get(KINDS[kind][0])
    if body is None:
        return hub.hf_wav2vec2_custom(ckpt=str(path)).eval()
    plain = S3prlsExpert.__new__(S3prlsExpert)
    torch.nn.Module.__init__(plain)
    plain.extracter = Wav2Vec2FeatureExtractor.from_pretrained(path)
    plain.model = body.from_pretrained(path)
    return plain.eval()


@torch.no_grad()
def quantizers_codes(path: Path, kind: str, plain: Any, wavs: list[torch.Tensor]) -> torch.Tensor:
    """int64 [B, T, G]: which code vectors transformers' own quantizer takes of the batch as S3PRL's expert pads it."""
    model = KINDS[kind][0].from_pretrained(path).eval()
    inputs = plain.extracter(
        [wav.numpy() for wav in wavs],
        return_tensors="pt",
        padding=True,
        return_attention_mask=True,
        sampling_rate=16000,
    )
    body = getattr(model, model.base_model_prefix)
    features = body(**inputs).extract_features
    if kind.startswith("unispeech sat"):
        layer = 6 if kind.endswith("large") else 2
        caught: list[torch.Tensor] = []
        body.encoder.layers[layer - 1].register_forward_hook(lambda *given: caught.append(given[-1]))
        body(**inputs)
        features = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
        features = model.layer_norm_for_extract(features) if kind.endswith("large") else features
    vectors, _ = model.quantizer(features)  # [B, T, G * D]
    count, size = model.quantizer.num_groups, model.quantizer.num_vars
    entries = model.quantizer.codevectors.view(count, size, -1)
    parts = vectors.unflatten(-1, (count, -1))
    return torch.stack([torch.cdist(parts[:, :, g], entries[g]).argmin(dim=-1) for g in range(count)], dim=-1)


@pytest.mark.parametrize("normalize", [True, False], ids=["normalised", "as it is"])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_equals_s3prls_expert_and_the_quantizer(make: Make, kind: str, normalize: bool) -> None:
    path, wavs = make(kind, normalize), [wav + 0.3 for wav in waves(*LENGTHS)]
    plain = s3prls(path, kind)
    ours = hub.hf_wav2vec2_vq_custom(ckpt=str(path), refresh=False, model_config=None).eval()
    with torch.no_grad():
        expected, found = plain(wavs), ours(wavs)
    assert len(found["hidden_states"]) == len(expected["hidden_states"])
    for mine, theirs in zip(found["hidden_states"], expected["hidden_states"]):
        assert torch.equal(mine, theirs)
    codes = quantizers_codes(path, kind, plain, wavs)
    assert found["code_lengths"].tolist() == [frames(n) for n in LENGTHS]
    for b, length in enumerate(found["code_lengths"].tolist()):
        assert torch.equal(found["codes"][b, :length], codes[b, :length])
        assert (found["codes"][b, length:] == -1).all()
    assert len(found["codes"].unique()) > 4
    assert ours.codebook_sizes == (20,) * codes.size(-1)


@pytest.mark.parametrize("normalize", [True, False], ids=["normalised", "as it is"])
@pytest.mark.parametrize("kind", KINDS)
def test_store_gives_an_utterance_the_numbers_that_it_has_alone(
    make: Make, kind: str, normalize: bool
) -> None:
    path, wavs = make(kind, normalize), [wav + 0.3 for wav in waves(*LENGTHS, 16000, 15999)]
    plain, ours = s3prls(path, kind), hub.hf_wav2vec2_vq_custom(ckpt=str(path)).eval()
    batches: list[int] = []
    ours.model.encoder.register_forward_hook(lambda _, args, output: batches.append(len(output[0])))
    wavs.sort(key=len, reverse=True)
    found = Encoder(ours, {"VQ-LP": {}}, frames=True, dtype=torch.float32)(wavs)
    assert batches == ([2, 1, 1, 1, 1] if kind == "conformer" else [len(wavs)])
    for wav, one in zip(wavs, found):
        with torch.no_grad():
            states = plain([wav])["hidden_states"]
        codes = quantizers_codes(path, kind, plain, [wav])
        assert torch.equal(one["codes"], codes[0])
        torch.testing.assert_close(one["frames"], torch.cat(states).mean(dim=0), rtol=0, atol=1e-5)
        module, lengths = pooling.build("VQ-LP", 48), torch.tensor([codes.size(1)])
        expected = torch.cat([module(state, lengths, codes) for state in states])
        torch.testing.assert_close(one["vectors.VQ-LP"], expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        padded = ours(wavs)["codes"][-2, : len(found[-2]["codes"])]
    assert torch.equal(padded, found[-2]["codes"]) == (
        kind not in ("base", "unispeech", "unispeech sat")
    )  # the runner's hear padding there


def test_codes_in_training_have_no_gumbel_noise(make: Make) -> None:
    ours, wavs = hub.hf_wav2vec2_vq_custom(ckpt=str(make("large"))), waves(16000, 16000)
    ours.model.config.mask_time_prob = 0.0
    assert torch.equal(ours.train()(wavs)["codes"], ours.eval()(wavs)["codes"])


def test_normalisation_is_the_checkpoints(make: Make) -> None:
    wavs, results = [wav + 0.3 for wav in waves(8000)], []
    for normalize in (True, False):
        ours = hub.hf_wav2vec2_vq_custom(ckpt=str(make("large", normalize))).eval()
        with torch.no_grad():
            results.append(ours(wavs)["hidden_states"][0])
    assert not torch.allclose(*results, atol=1e-3)


def test_folder_without_preprocessor_normalises_without_the_network(make: Make, tmp_path: Path) -> None:
    path, wavs = shutil.copytree(make("large"), tmp_path / "bare"), [wav + 0.3 for wav in waves(8000)]
    (path / "preprocessor_config.json").unlink()
    results = []
    for folder in (make("large"), path):
        with torch.no_grad():
            results.append(hub.hf_wav2vec2_vq_custom(ckpt=str(folder)).eval()(wavs))
    assert torch.equal(results[0]["hidden_states"][-1], results[1]["hidden_states"][-1])


def test_safetensors_are_preferred_to_pickles(make: Make, tmp_path: Path) -> None:
    path = shutil.copytree(make("large"), tmp_path / "both")
    (path / "pytorch_model.bin").write_bytes(b"no pickle at all")
    hub.hf_wav2vec2_vq_custom(ckpt=str(path))


def refusal_of(path: object) -> str:
    with pytest.raises(InputError) as refusal:
        hub.hf_wav2vec2_vq_custom(ckpt=path and str(path))
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def test_checkpoint_without_quantizer_is_refused_with_a_hint(tmp_path: Path) -> None:
    Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL)).save_pretrained(tmp_path)
    assert "has no quantizer (fine-tuned ones drop it)" in refusal_of(tmp_path)


def test_other_architectures_are_refused_with_a_hint(tmp_path: Path) -> None:
    HubertModel(HubertConfig(**{key: SMALL[key] for key in list(SMALL)[:7]})).save_pretrained(tmp_path)
    assert (
        "is a hubert, but only wav2vec2, wav2vec2-conformer, unispeech, unispeech-sat have a quantizer"
        in refusal_of(tmp_path)
    )


def test_folder_that_names_code_of_its_own_is_not_believed(make: Make, tmp_path: Path) -> None:
    path = shutil.copytree(make("large"), tmp_path / "evil")
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Config: pass\n")
    assert "cannot be loaded" in refusal_of(path)
    assert not (tmp_path / "canary").exists()


class Exploit:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.canary}",)


def test_pickled_weights_that_run_code_are_refused_unrun(make: Make, tmp_path: Path) -> None:
    path = shutil.copytree(make("large"), tmp_path / "evil")
    (path / "model.safetensors").unlink()
    torch.save({"wav2vec2.masked_spec_embed": Exploit(tmp_path / "canary")}, path / "pytorch_model.bin")
    assert "cannot be loaded" in refusal_of(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "config.json").unlink(),
        lambda path: (path / "config.json").write_text("{"),
        lambda path: (path / "model.safetensors").unlink(),
        lambda path: (path / "model.safetensors").write_bytes(b"\0" * 100),
        lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-999]),
        lambda path: shutil.rmtree(path),
    ],
)  # fmt: skip
def test_damaged_folder_is_one_line(make: Make, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = shutil.copytree(make("large"), tmp_path / "damaged")
    damage(path)
    assert refusal_of(path).startswith(f"{path}: ")


def test_no_checkpoint_is_one_line() -> None:
    assert "needs a checkpoint: -k facebook/wav2vec2-base" in refusal_of(None)


# ------------------------------------------------------------------------------- half precision, damaged configs
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(make: Make, tmp_path: Path, stored: torch.dtype) -> None:
    half, whole = tmp_path / "half", tmp_path / "whole"
    model = Wav2Vec2ForPreTraining.from_pretrained(make("large")).to(stored)
    model.save_pretrained(half)
    model.float().save_pretrained(whole)
    for path in (half, whole):
        Wav2Vec2FeatureExtractor().save_pretrained(path)
    assert str(stored).removeprefix("torch.") in (half / "config.json").read_text()
    results = [hub.hf_wav2vec2_vq_custom(ckpt=str(path)).eval()(waves(8000)) for path in (half, whole)]
    assert results[0]["hidden_states"][-1].dtype == torch.float32
    assert torch.equal(results[0]["hidden_states"][-1], results[1]["hidden_states"][-1])
    assert torch.equal(results[0]["codes"], results[1]["codes"])


@pytest.mark.parametrize("damage", [
    {"sampling_rate": 8000}, {"sampling_rate": None}, {"feature_size": 2}, {"padding_value": None},
    {"padding_side": "left"}, {"do_normalize": "yes"}, {"return_attention_mask": []}, "{", "[1]",
], ids=str)  # fmt: skip
def test_damaged_preprocessor_is_one_line(make: Make, tmp_path: Path, damage: Any) -> None:
    path = shutil.copytree(make("large"), tmp_path / "damaged")
    file = path / "preprocessor_config.json"
    file.write_text(
        damage if isinstance(damage, str) else json.dumps({**json.loads(file.read_text()), **damage})
    )
    assert refusal_of(path).startswith(f"{path}: its preprocessor_config.json ")


@pytest.mark.parametrize("odd", [None, "x", -1, 0, [-1], {}], ids=str)
@pytest.mark.parametrize("key", ["num_attention_heads", "num_hidden_layers", "hidden_size", "conv_stride", "dtype",
                                 "num_codevector_groups", "hidden_dropout", "hidden_act"])  # fmt: skip
def test_damaged_config_is_one_line_or_no_damage(make: Make, tmp_path: Path, key: str, odd: Any) -> None:
    path = shutil.copytree(make("large"), tmp_path / "damaged")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, key: odd}))
    try:
        hub.hf_wav2vec2_vq_custom(ckpt=str(path)).eval()(waves(8000))
    except InputError:
        assert refusal_of(path).startswith(f"{path}: ")


@pytest.mark.parametrize(("key", "size"), [
    ("hidden_size", 10**6), ("num_hidden_layers", 10**5), ("conv_dim", [32] * 6 + [10**6]),
    ("num_codevectors_per_group", 10**9),
], ids=str)  # fmt: skip
def test_config_of_a_far_larger_model_is_refused_before_it_is_built(
    make: Make, tmp_path: Path, key: str, size: Any
) -> None:
    path = shutil.copytree(make("large"), tmp_path / "absurd")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, key: size}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "the config describes a far larger model than the weights" in refusal_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_pointer_of_git_lfs_is_called_so(make: Make, tmp_path: Path) -> None:
    path = shutil.copytree(make("large"), tmp_path / "pointer")
    (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 12345\n")
    assert "model.safetensors: it is a Git LFS pointer" in refusal_of(path)


def test_weights_that_are_not_finite_are_refused_by_name(make: Make, tmp_path: Path) -> None:
    model = Wav2Vec2ForPreTraining.from_pretrained(make("large"))
    with torch.no_grad():
        model.quantizer.weight_proj.bias[3] = float("nan")
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert "not finite: quantizer.weight_proj.bias holds NaN" in refusal_of(tmp_path)
