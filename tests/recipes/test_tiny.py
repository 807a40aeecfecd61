"""The recipe of `wav2vec2_vq_tiny` against S3PRL's own model, and loops from the definitions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import numpy as np
import pytest
import torch
import yaml
from s3prl import hub
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from s3prl_vqpool import checkpoints
from s3prl_vqpool.corpora.fluent_commands import fluent_commands
from s3prl_vqpool.corpora.speech_commands import speech_commands
from s3prl_vqpool.corpora.voxceleb1 import voxceleb1
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.files import sha256
from s3prl_vqpool.runner.config import Section

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "tiny"
sys.path.insert(0, str(RECIPE))
import export  # noqa: E402
import pretrain  # noqa: E402
import speech as speech_module  # noqa: E402

SMALL = {
    "conv_feature_layers": "[(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] * 2",
    "encoder_layers": 2,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 2,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "latent_vars": 12,
    "latent_dim": 16,
}


def config(**changed: object) -> Section:
    """The recipe's, of a network of a few thousand weights that trains for some steps."""
    values = yaml.safe_load((RECIPE / "tiny.yaml").read_text())
    values["model"].update(SMALL)
    values.update(loss_layers=[1, 2], crops=8, crop_seconds=0.4, save_steps=5, log_steps=5)
    values.update({"steps": 24, "transformer_from": 8, **changed})
    return Section("tiny.yaml", values)


def network(seed: int = 0) -> pretrain.Pretraining:
    """Random, norms and biases too, so that nothing is where it does not matter."""
    torch.manual_seed(seed)
    net = pretrain.Pretraining(config())
    for name, parameter in net.named_parameters():
        if "norm" in name or "bias" in name or name.endswith("2.1.weight"):
            nn.init.normal_(parameter, mean=float("weight" in name), std=0.3)
    return net.eval()


@pytest.fixture(scope="module")
def speech_root(synthetic: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded corpora as the recipe wants them; as unlabelled speech, that of ER."""
    root = tmp_path_factory.mktemp("tiny")
    source = Path(synthetic["ic"]["file_path"]).parent
    for name in (
        "speech_commands_v0.01",
        "speech_commands_test_set_v0.01",
        "VoxCeleb1",
        "fluent_speech_commands_dataset",
    ):
        (root / name).symlink_to(source / name)
    (root / "unlabelled").mkdir()
    for path in sorted((source / "IEMOCAP").rglob("*.wav"))[:20]:
        (root / "unlabelled" / path.name).symlink_to(path)
    return root


@pytest.fixture(scope="module")
def speech(speech_root: Path) -> speech_module.Speech:
    return speech_module.Speech.read(speech_root)


@pytest.mark.parametrize("samples", [16000, 16320, 400 + 320 * 7])
def test_latents_and_hidden_states_are_those_of_s3prls_model(samples: int) -> None:
    net = network()
    waves = torch.randn(3, samples, generator=torch.Generator().manual_seed(samples))
    theirs = net.model(waves, mask=False, features_only=True)
    frames = pretrain.latents(net.model, waves)
    states = pretrain.hidden_states(net.model, frames)
    assert_close(frames, theirs["features"], atol=1e-5, rtol=1e-5)
    assert len(states) == 1 + len(theirs["layer_results"])
    for ours, (state, *_) in zip(states[1:], theirs["layer_results"]):
        assert_close(ours, state.transpose(0, 1), atol=2e-5, rtol=1e-5)


def test_masked_hidden_states_are_those_of_s3prls_model() -> None:
    net = network()
    waves = torch.randn(2, 16000, generator=torch.Generator().manual_seed(1))
    masked = torch.rand(2, 49, generator=torch.Generator().manual_seed(2)) < 0.4
    masked[1] = masked[0].roll(5)
    theirs = net.model(waves, mask=True, features_only=True, mask_indices=masked)
    ours = pretrain.hidden_states(net.model, pretrain.latents(net.model, waves), masked)
    assert_close(ours[-1], theirs["x"], atol=2e-5, rtol=1e-5)


def test_crops_are_the_recording_at_another_speed_and_frames_the_nearest() -> None:
    samples = np.arange(32000).astype(np.int16)  # each sample says where it is
    speech = speech_module.Speech(samples, np.array([0, 32000]), np.array([]), "")
    begin, rates = np.array([0.0, 1234.4, 20000.0, 16000.3]), np.array([1.0, 1.15, 0.83, 1.2])
    crops, index = speech.crops(begin, rates, 400 + 320 * 10)
    assert index.shape == (4, 11)
    for crop, found, start, rate in zip(crops.double() * 32768, index.tolist(), begin, rates):
        assert_close(crop.numpy(), start + rate * np.arange(3600), atol=5e-3, rtol=0)
        for t, frame in enumerate(found):
            centre = start + rate * (320 * t + 200)
            distances = [abs(320 * k + 200 - centre) for k in range(100)]
            assert distances[frame] <= min(distances) + 0.01


def test_clips_are_trimmed_to_a_tenth_of_a_second_around_the_sound() -> None:
    clip = np.zeros(32000, dtype=np.int16)
    clip[:] = np.resize([3, -3], 32000)  # 60 dB below
    clip[8000:12000] = np.resize([3000, -3000], 4000)
    found = speech_module.trimmed(clip)
    assert_close(found, clip[(8000 // 320 - 5) * 320 : (11999 // 320 + 6) * 320])
    everything = np.resize(np.array([3000, -3000], dtype=np.int16), 3333)
    assert_close(speech_module.trimmed(everything), everything[:3200])


def test_mfcc_is_the_cosine_transform_of_floored_mel_energies_whatever_the_level() -> None:
    import torchaudio

    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    wave[2000:] *= 1e-4
    found = speech_module.mfcc(wave)
    filters = torchaudio.functional.melscale_fbanks(257, 20.0, 8000.0, 40, 16000).double().numpy()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    mel = []
    for start in range(0, 4000 - 399, 320):
        spectrum = np.fft.rfft(wave[start : start + 400].double().numpy() * hann, 512)
        mel.append(10 * np.log10(np.abs(spectrum) ** 2 @ filters + 1e-10))
    mel = np.array(mel) - np.max(mel)
    expected = dct(np.maximum(mel, -speech_module.FLOOR_DB), norm="ortho")[:, :13]
    assert_close(found.double().numpy(), expected, atol=2e-3, rtol=1e-4)
    assert_close(speech_module.mfcc(wave / 8), found, atol=2e-3, rtol=1e-4)
    assert_close(found[-3:], found[-1:].expand(3, -1), atol=1e-4, rtol=0)  # silence is one point


def test_silence_is_one_cluster() -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    rows[::2] = 5 + 1e-6 * rows[::2]  # equal up to rounding
    units = speech_module.cluster(rows, 20, seed=0)
    assert len(set(units[::2])) == 1
    assert len(set(units[1::2])) > 15


def test_clusters_are_where_frames_are_loudest_too() -> None:
    """Nearly on a line: ten intervals of about equal width, if no part of it was left out of the fit."""
    rng = np.random.default_rng(1)
    rows = np.stack([rng.uniform(-3, 3, 400_000), rng.normal(0, 0.05, 400_000)], axis=1).astype(np.float32)
    units = speech_module.cluster(rows, 10, seed=0)
    widths = [float(np.ptp(rows[units == unit, 0])) for unit in range(10)]
    assert max(widths) < 1.7 * 6 / 10


def test_training_files_hold_nothing_of_a_dev_or_test_part(speech_root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "speech"
    copied.mkdir()
    for path in speech_root.iterdir():
        (copied / path.name).symlink_to(path.resolve())
    (copied / "unlabelled").unlink()
    (copied / "unlabelled").mkdir()
    sid = voxceleb1(copied / "VoxCeleb1", copied / "VoxCeleb1" / "split.txt")
    for name, utterance in (("new.wav", sid.splits["train"][0]), ("shared.wav", sid.splits["test"][0])):
        (copied / "unlabelled" / name).write_bytes(utterance.path.read_bytes())
    files = speech_module.training_files(copied)
    assert copied / "unlabelled" / "new.wav" in files
    assert copied / "unlabelled" / "shared.wav" not in files
    ks = speech_commands(copied / "speech_commands_v0.01", copied / "speech_commands_test_set_v0.01")
    ic = fluent_commands(copied / "fluent_speech_commands_dataset")
    train = {sha256(path) for path in files}
    for corpus in (ks, ic, sid):
        for split in ("dev", "test"):
            assert train.isdisjoint(sha256(u.path) for u in corpus.splits[split] if u.start is None)
    assert {u.path for u in ic.splits["train"]} <= set(files)


def test_export_takes_the_means_off_the_hidden_states(speech: pretrain.Speech, tmp_path: Path) -> None:
    net, speech = network(3), _first(speech, 30)
    wave = speech.clip(0)
    before = _s3prl_states(net, wave)
    means, _ = export.measure(net.model, speech)
    export.export(net, speech, tmp_path / "tiny.safetensors")
    found = _exported(tmp_path, wave)
    for state, mean, old in zip(found["hidden_states"], means, before):
        assert_close(state[0] + mean, old, atol=2e-2, rtol=0)  # float16
        assert float(mean.abs().mean()) > 0.1


def test_export_takes_its_part_of_the_log_prior_off_the_logits_and_sets_entries_to_means(
    speech: pretrain.Speech, tmp_path: Path
) -> None:
    net, speech = network(3), _first(speech, 30)
    logits = [_logits(net, speech.clip(index)) for index in range(30)]
    shares = [row.exp() / row.exp().sum() for each in logits[::4] for frame in each for row in frame]
    prior = torch.stack(shares).view(-1, 2, 12).mean(dim=0)
    balanced = [(each - 0.7 * prior.log()).argmax(dim=2) for each in logits]
    share = export.export(net, speech, tmp_path / "tiny.safetensors")
    assert share == 1
    for index in (0, 7):
        assert torch.equal(_exported(tmp_path, speech.clip(index))["codes"][0], balanced[index])
    assert not torch.equal(torch.cat(balanced), torch.cat(logits).argmax(dim=2))
    sums: dict[tuple[int, int], list[Tensor]] = {}
    for index, codes in enumerate(balanced):
        for frame, row in zip(_latents(network(3), speech.clip(index)), codes.tolist()):
            for group, entry in enumerate(row):
                sums.setdefault((group, entry), []).append(frame)
    entries = net.model.quantizer.vars.view(2, 12, 8)
    for (group, entry), frames in sums.items():
        assert_close(entries[group, entry], torch.stack(frames).mean(dim=0), atol=1e-4, rtol=1e-4)


def _exported(folder: Path, wave: Tensor) -> dict:
    upstream = hub.wav2vec2_vq_local(ckpt=str(folder / "tiny.safetensors")).eval()
    with torch.no_grad():
        return upstream([wave])


@torch.no_grad()
def _latents(net: pretrain.Pretraining, wave: Tensor) -> Tensor:
    """[T, C] by S3PRL's own forward."""
    return net.model(F.layer_norm(wave, wave.shape)[None], mask=False, features_only=True)["features"][0]


@torch.no_grad()
def _logits(net: pretrain.Pretraining, wave: Tensor) -> Tensor:
    """[T, 2, 12]"""
    return net.model.quantizer.weight_proj(_latents(net, wave)).view(-1, 2, 12)


def _s3prl_states(net: pretrain.Pretraining, wave: Tensor) -> list[Tensor]:
    """Hidden states [T, D] that S3PRL's model gives, the one before the first layer by a hook."""
    first: list[Tensor] = []
    hook = net.model.encoder.layers[0].register_forward_pre_hook(lambda _, args: first.append(args[0]))
    with torch.no_grad():
        result = net.model(F.layer_norm(wave, wave.shape)[None], mask=False, features_only=True)
    hook.remove()
    states = [*first, *(state for state, *_ in result["layer_results"])]
    return [state[: result["x"].size(1), 0] for state in states]


def _first(speech: speech_module.Speech, clips: int) -> speech_module.Speech:
    return speech_module.Speech(
        speech.samples[: speech.starts[clips]], speech.starts[: clips + 1], np.array([]), ""
    )


def test_pretraining_learns_its_units(speech: speech_module.Speech, tmp_path: Path) -> None:
    cfg = config(steps=120, transformer_from=60, learning_rate=3e-3, log_steps=20)
    trainer = pretrain.Trainer(cfg, speech, tmp_path, "cpu")
    trainer.run()
    curves = trainer.curves
    assert ["loss" in row for row in curves] == [False] * 3 + [True] * 3
    assert curves[-1]["loss"] < curves[3]["loss"] - 0.1
    assert curves[-1]["quantizer_loss"] < curves[0]["quantizer_loss"] - 0.2


def test_a_killed_run_continues_to_the_same_weights(
    speech: speech_module.Speech, speech_root: Path, tmp_path: Path
) -> None:
    trainer = pretrain.Trainer(config(), speech, _made(tmp_path / "whole"), "cpu")
    trainer.run()
    path, out = tmp_path / "tiny.yaml", tmp_path / "killed"
    path.write_text(yaml.safe_dump(dict(config())))
    command = [
        sys.executable,
        str(RECIPE / "pretrain.py"),
        str(path),
        "--speech",
        str(speech_root),
        "--output",
        str(out),
    ]
    with subprocess.Popen(
        [*command, "--device", "cpu"], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    ) as process:
        while not _rows(out / "curves.json") and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    killed = checkpoints.load(out / "state.pt")
    assert 0 < killed["step"] < 24, "ended before it could be killed"
    resumed = pretrain.Trainer(config(), speech, out, "cpu")
    resumed.begin()
    resumed.run()
    for name, value in trainer.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], value), name
    drop = "hours_per_hour"
    kept = [[{k: v for k, v in row.items() if k != drop} for row in run.curves] for run in (trainer, resumed)]
    assert kept[0] == kept[1]


def test_another_config_in_the_same_folder_is_refused(speech: speech_module.Speech, tmp_path: Path) -> None:
    """Also before the first step: the units are already those of that config."""
    pretrain.Trainer(config(), speech, tmp_path, "cpu").begin()
    with pytest.raises(InputError, match="another config"):
        pretrain.Trainer(config(seed=1), speech, tmp_path, "cpu").begin()


def test_units_that_no_state_answers_for_are_found_anew(speech: speech_module.Speech, tmp_path: Path) -> None:
    (tmp_path / speech_module.UNITS).write_bytes(b"of another config")
    trainer = pretrain.Trainer(config(), speech, tmp_path, "cpu")
    trainer.begin()
    units = speech_module.units_of(speech, config(), tmp_path)
    rows = speech_module.described(speech)
    for column, each in zip(units.T, rows):
        assert_close(column.numpy(), speech_module.cluster(each, 12, seed=0))


def _rows(path: Path) -> list[dict]:
    return json.loads(path.read_text())["curves"] if path.exists() else []


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
