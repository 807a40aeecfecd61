"""The input of pretrain.py: speech, crops of it, and the units of its frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from s3prl_vqpool.corpora import audio
from s3prl_vqpool.corpora.fluent_commands import fluent_commands
from s3prl_vqpool.corpora.speech_commands import speech_commands
from s3prl_vqpool.corpora.voxceleb1 import voxceleb1
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.files import sha256, whole
from s3prl_vqpool.runner.config import Section

# isort: split
import s3prl.hub  # noqa: F401 (with s3prl_vqpool before it, torchaudio imports on every stack)

# isort: split
import torchaudio

WINDOW, HOP = 400, 320  # samples of a frame, as wav2vec 2.0's convolutions see it
FLOOR_DB = 50.0  # mel energies this far below a clip's highest count as silence
SILENT_DB = 40.0  # frames this far below a clip's loudest count as silence
MFCCS, MELS = 13, 40
UNITS = "units.safetensors"


def training_files(root: Path) -> dict[Path, str]:
    """Files and their SHA-256: unlabelled speech, and the training parts of KS and IC that tests/real_speech.py makes.

    A file with the same bytes as a dev or test utterance of KS, SID or IC is left out. (SID shares its clips with KS.)
    """
    ks = speech_commands(root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01")
    sid = voxceleb1(root / "VoxCeleb1", root / "VoxCeleb1" / "split.txt")
    ic = fluent_commands(root / "fluent_speech_commands_dataset")
    unlabelled = sorted((root / "unlabelled").rglob("*.wav"))
    if not unlabelled:
        raise InputError(f"{root / 'unlabelled'}: no .wav files: unpack the unlabelled speech as well.")
    held_out = {
        sha256(utterance.path)
        for corpus in (ks, sid, ic)
        for split in ("dev", "test")
        for utterance in corpus.splits[split]
        if utterance.start is None  # the dev silence of KS consists of windows of the training noise
    }
    labelled = {utterance.path for corpus in (ks, ic) for utterance in corpus.splits["train"]}
    hashes = {path: sha256(path) for path in [*unlabelled, *sorted(labelled)]}
    return {path: digest for path, digest in hashes.items() if digest not in held_out}


@dataclass(frozen=True)
class Speech:
    """All clips in one array: samples int16 [S]; first sample of each clip int64 [N + 1], multiples of `HOP`."""

    samples: np.ndarray
    starts: np.ndarray
    noise: np.ndarray  # clips without speech, int64
    list_hash: str

    @classmethod
    def read(cls, root: Path) -> Speech:
        files, clips = training_files(root), []
        noise = [k for k, path in enumerate(files) if path.parent.name.startswith("_")]
        for k, path in enumerate(tqdm(files, desc="reading", unit="file", disable=None)):
            clip = (audio.read(path).clip(-1, 1) * 32767).astype(np.int16)
            clips.append(clip[: len(clip) // HOP * HOP] if k in noise else trimmed(clip))
        names = "\n".join(f"{path.relative_to(root)} {digest}" for path, digest in files.items())
        return cls(
            np.concatenate(clips),
            np.cumsum([0, *map(len, clips)]),
            np.array(noise, dtype=int),
            hashlib.sha256(names.encode()).hexdigest(),
        )

    @property
    def hours(self) -> float:
        return len(self.samples) / audio.SAMPLE_RATE / 3600

    def clip(self, index: int) -> Tensor:
        """float32 [samples]"""
        start, stop = self.starts[index : index + 2]
        return torch.from_numpy(self.samples[start:stop].astype(np.float32) / 32768)

    def crops(self, begin: np.ndarray, rates: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
        """Pieces that start at samples ``begin`` [B], played ``rates`` [B] times as fast: float32 [B, size].

        Also returns the frames that they consist of, counted over all clips: int64 [B, T].
        """
        where = begin[:, None] + np.arange(size) * rates[:, None]
        left = where.astype(int)
        between = (where - left).astype(np.float32)
        pieces = (1 - between) * self.samples[left] + between * self.samples[left + 1]
        centres = begin[:, None] + (np.arange((size - WINDOW) // HOP + 1) * HOP + WINDOW / 2) * rates[:, None]
        frames = np.rint((centres - WINDOW / 2) / HOP).astype(int)
        return torch.from_numpy(pieces / 32768), torch.from_numpy(frames)


def trimmed(clip: np.ndarray) -> np.ndarray:
    """From 0.1 s before the first sound to 0.1 s after the last. Between words there is enough silence."""
    level = np.square(clip[: len(clip) // HOP * HOP].reshape(-1, HOP).astype(np.float64)).mean(axis=1)
    loud = np.flatnonzero(level >= level.max() * 10 ** (-SILENT_DB / 10))
    return clip[max(0, loud[0] - 5) * HOP : min(len(level), loud[-1] + 6) * HOP]


def batch(speech: Speech, cfg: Section, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Crops float32 [B, samples], normalised; their frames int64 [B, T]; which of these are masked, bool [B, T]."""
    size = int(cfg["crop_seconds"] * 50) * HOP + WINDOW - HOP
    count, fastest = cfg["crops"], 1 + cfg["speed"]
    room = np.ceil(size * fastest) + 1
    begin = rng.uniform(0, len(speech.samples) - room, count)
    crops, frames = speech.crops(begin, fastest ** rng.uniform(-1, 1, count), size)
    begin = rng.uniform(0, len(speech.samples) - room, count)
    if len(speech.noise):
        first, last = speech.starts[speech.noise[0]], speech.starts[speech.noise[-1] + 1] - room
        begin = np.where(rng.random(count) < 0.5, rng.uniform(first, max(first, last), count), begin)
    added, _ = speech.crops(begin, np.ones(count), size)
    levels = 10 ** (-torch.from_numpy(rng.uniform(*cfg["snr_db"], count)).float() / 20)
    levels = levels * torch.from_numpy(rng.random(count) < cfg["noisy_crops"])
    crops = crops + added * (levels * crops.std(dim=1) / (added.std(dim=1) + 1e-5))[:, None]
    begun = torch.from_numpy(rng.random(frames.shape) < cfg["mask_prob"] / cfg["mask_length"])
    masked = F.max_pool1d(F.pad(begun.float(), (cfg["mask_length"] - 1, 0)), cfg["mask_length"], 1) > 0
    return F.layer_norm(crops, crops.shape[1:]), frames, masked


def mfcc(wave: Tensor) -> Tensor:
    """MFCCs [T, 13] of samples [S]. They do not depend on the level of the clip, and are constant in silence."""
    window = torch.hann_window(WINDOW)
    power = torch.fft.rfft(wave.unfold(0, WINDOW, HOP) * window, 512).abs().square()
    filters = torchaudio.functional.melscale_fbanks(257, 20.0, 8000.0, MELS, audio.SAMPLE_RATE)
    mel = 10 * torch.log10(power @ filters + 1e-10)
    mel = mel.clamp(min=float(mel.max()) - FLOOR_DB) - mel.max()
    return mel @ torchaudio.functional.create_dct(MFCCS, MELS, "ortho")


def described(speech: Speech) -> list[np.ndarray]:
    """Features that are clustered for each codebook, float32 [frames, 13] of unit variance: MFCCs, and their deltas."""
    statics, deltas = [], []
    for index in tqdm(range(len(speech.starts) - 1), desc="MFCC", unit="clip", disable=None):
        static = mfcc(F.pad(speech.clip(index), (0, WINDOW - HOP)))
        statics.append(static)
        deltas.append(torchaudio.functional.compute_deltas(static.T[None], 5)[0].T)
    both = [torch.cat(each) for each in (statics, deltas)]
    return [((rows - rows.mean(dim=0)) / rows.std(dim=0)).numpy() for rows in both]


def cluster(rows: np.ndarray, entries: int, seed: int) -> np.ndarray:
    """The cluster of each row, int64 [frames], by k-means on the distinct rows.

    Rows of silence are equal up to rounding. Without this step, several centroids would differ only by rounding.
    """
    rows = np.round(rows, 3)
    kmeans = MiniBatchKMeans(entries, batch_size=8192, n_init=3, random_state=seed)
    fitted = kmeans.fit(np.unique(rows, axis=0))
    return fitted.predict(rows).astype(np.int64)


def units_of(speech: Speech, cfg: Section, out: Path) -> Tensor:
    """Units int64 [frames, G], computed once and then kept in ``out``."""
    path = out / UNITS
    if not path.exists():
        entries, seed = cfg["model"]["latent_vars"], cfg["seed"]
        columns = [cluster(rows, entries, seed) for rows in described(speech)]
        with whole(path) as temporary:
            save_file({"units": torch.from_numpy(np.stack(columns, axis=1))}, temporary)
    return load_file(path)["units"]
