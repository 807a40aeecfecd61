"""What a step of the recipe is made of, and its mistakes: counted, by hand, and as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import numpy as np
import pytest
import torch
import yaml
from torch.testing import assert_close

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner.config import Section
from s3prl_vqpool.tables.features import Features

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "tiny"
sys.path.insert(0, str(RECIPE))
import evaluate  # noqa: E402
import export  # noqa: E402
import pretrain  # noqa: E402
import recipe  # noqa: E402
import speech as speech_module  # noqa: E402

CLIPS = 40


def config(**changed: object) -> Section:
    return Section("tiny.yaml", {**yaml.safe_load((RECIPE / "tiny.yaml").read_text()), **changed})


@pytest.fixture(scope="module")
def speech() -> speech_module.Speech:
    """Clips of a tone each, and at the end two of noise, which is known by its even samples being 0."""
    rng, clips = np.random.default_rng(0), []
    for k in range(CLIPS):
        tone = np.sin(2 * np.pi * (200 + 40 * k) * np.arange(32000) / 16000)
        clips.append((8000 * tone).astype(np.int16))
    for _ in range(2):
        noise = rng.normal(0, 3000, 64000).astype(np.int16)
        noise[::2] = 0
        clips.append(noise)
    starts = np.cumsum([0, *map(len, clips)])
    return speech_module.Speech(np.concatenate(clips), starts, np.array([CLIPS, CLIPS + 1]), "")


def test_batch_masks_whole_spans_that_begin_as_often_as_said(speech: speech_module.Speech) -> None:
    """A frame is open if none of the ``mask_length`` frames up to it begins a span: p / l each."""
    cfg = config(crops=400, noisy_crops=0.0)
    _, frames, masked = speech_module.batch(speech, cfg, np.random.default_rng(1))
    assert masked.shape == frames.shape == (400, 80)
    begins = cfg["mask_prob"] / cfg["mask_length"]
    expected = [1 - (1 - begins) ** min(t + 1, cfg["mask_length"]) for t in range(80)]
    assert_close(masked.double().mean(dim=0).numpy(), np.array(expected), atol=0.1, rtol=0)
    assert abs(float(masked.double().mean()) - np.mean(expected)) < 0.01
    for row in masked.tolist():
        runs = "".join("x" if each else " " for each in row).split()
        inner = runs[: -1 if row[-1] else None]
        assert all(len(run) >= cfg["mask_length"] for run in inner)


def test_batch_adds_noise_to_some_crops_at_the_level_that_is_said(speech: speech_module.Speech) -> None:
    """With and without, from the same generator: what differs is the noise, between 5 and 25 dB below."""
    pairs = [
        speech_module.batch(speech, config(crops=200, speed=0.0, noisy_crops=share), np.random.default_rng(2))
        for share in (0.0, 0.3)
    ]
    (clean, frames, masked), (noisy, *others) = pairs
    assert torch.equal(frames, others[0])
    assert torch.equal(masked, others[1])
    levels = []
    for before, after in zip(clean.double(), noisy.double()):
        part = float(torch.corrcoef(torch.stack([before, after]))[0, 1])
        levels.append(10 * np.log10(part**2 / (1 - part**2)) if part < 1 - 1e-9 else np.inf)
    added = [level for level in levels if level < 100]
    assert 40 < len(added) < 80
    assert 4 < min(added) < 8
    assert 22 < max(added) < 26
    assert_close(clean.mean(dim=1), torch.zeros(200), atol=1e-4, rtol=0)
    assert_close(noisy.std(dim=1), torch.ones(200), atol=5e-3, rtol=0)


def test_rate_warms_up_twice_and_decays_to_nothing() -> None:
    cfg = config(steps=1000, transformer_from=300, warmup_steps=100, decay=0.5, learning_rate=2.0)
    by_hand = {0: 0.02, 49: 1.0, 99: 2.0, 299: 2.0, 300: 0.02, 349: 1.0, 500: 2.0, 750: 1.0, 999: 0.004}
    for step, rate in by_hand.items():
        assert pretrain.rate_at(step, cfg) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["warmup_steps=0"], "warmup_steps: expected a whole number from 1"),
        (["decay=0"], "decay: expected a number from 0.001"),
        (["steps=2.5"], "steps: expected a whole number"),
        (["crops=abc"], "crops: expected a whole number"),
        (["snr_db=5"], "snr_db: expected two numbers"),
        (["loss_layers=[6]"], "loss_layers: expected some of the layers 1 to 5"),
        (["model={encoder_layer: 3}"], "give fields of S3PRL's Wav2Vec2Config"),
        (["crop=3"], "Did you mean crops"),
        (["steps=[1"], "tiny.yaml steps=[1"),
    ],
)
def test_a_config_of_no_use_is_one_line(changes: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe.read(RECIPE / "tiny.yaml", changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_without_a_key_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config().items() if key != "snr_db"}))
    with pytest.raises(InputError, match=r"short\.yaml has no 'snr_db'"):
        recipe.read(path, [])


def test_the_shipped_config_is_read_as_it_is() -> None:
    assert dict(recipe.read(RECIPE / "tiny.yaml", ["learning_rate=1e-4"])) == dict(config(learning_rate=1e-4))


@pytest.mark.parametrize("output", ["nowhere/tiny.safetensors", "tiny.pt"])
def test_export_refuses_an_output_before_it_reads_speech(output: str, tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPE / "export.py"), str(tmp_path), "--speech", str(tmp_path)]
    done = subprocess.run([*command, "--output", output], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert f"--output {output}: expected a .safetensors file in a folder that exists" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_refuses_other_speech(
    speech: speech_module.Speech,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pretrain.Trainer(config(), speech, tmp_path, "cpu").begin()
    other = speech_module.Speech(speech.samples, speech.starts, speech.noise, "another list")
    monkeypatch.setattr(speech_module.Speech, "read", lambda root: other)
    path = tmp_path / "tiny.safetensors"
    options = ["export.py", str(tmp_path), "--speech", "elsewhere", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", options)
    assert export.main() == 2
    assert "elsewhere: not the speech that" in capsys.readouterr().err
    assert not path.exists()


def test_evaluation_counts_codes_and_silence() -> None:
    """Two clips: 8 frames of sound with codes of their own, and 4 of silence, of two tuples; 3 runs and 9."""
    loud, quiet = torch.ones(320 * 8), torch.full((320 * 4 + 80,), 1e-4)
    first = torch.tensor([[k, 0] for k in range(8)] + [[8, 1], [8, 1], [8, 1], [9, 1]])
    second = torch.tensor([[0, 0]] * 4)
    wavs = [torch.cat([loud, quiet]), torch.ones(320 * 4 + 80)]
    lengths = torch.tensor([12, 4])
    found = Features(
        lengths, (10, 2), [first, second].__getitem__, lambda row: None, lambda name: None, kept=lengths
    )
    lines = evaluate.of_codes(found, wavs, torch.tensor([0, 1]))
    shares = np.array([5, 1, 1, 1, 1, 1, 1, 1, 3, 1]) / 16
    assert (
        lines[0] == f"codebook 1: perplexity {np.exp(-(shares * np.log(shares)).sum()):.1f}, 10 entries used"
    )
    assert lines[1].startswith(
        f"codebook 2: perplexity {np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))):.1f}"
    )
    assert lines[2] == "silence: 4 of 16 frames, 2 tuples, the 10 commonest cover 100.0 %"
    assert lines[3] == "5.5 runs of equal tuples in 8.0 frames"  # (10 + 1) / 2
    none = evaluate.of_codes(found, wavs, torch.tensor([1]))
    assert none[2] == "silence: 0 of 4 frames, 0 tuples, the 10 commonest cover 0.0 %"
