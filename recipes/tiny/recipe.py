"""The config of a pre-training, checked before anything is read or clustered."""

from __future__ import annotations

from pathlib import Path

import yaml

from s3prl_vqpool.errors import InputError, unknown_name
from s3prl_vqpool.runner.config import Section

# isort: split
from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config  # after s3prl_vqpool, as above

#: Lowest and highest value of each number. A number with whole limits must be whole.
LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "crops": (1, 10**6),
    "crop_seconds": (0.2, 60.0),
    "speed": (0.0, 1.0),
    "noisy_crops": (0.0, 1.0),
    "mask_prob": (0.01, 1.0),
    "mask_length": (1, 1000),
    "quantizer_weight": (0.0, 1e6),
    "seen_weight": (0.0, 1e6),
    "transformer_from": (0, 10**9),
    "steps": (1, 10**9),
    "learning_rate": (1e-9, 10.0),
    "warmup_steps": (1, 10**9),
    "decay": (0.001, 1.0),
    "clip": (1e-9, 1e9),
    "log_steps": (1, 10**9),
    "save_steps": (1, 10**9),
}
KEYS = ("model", "snr_db", "loss_layers", *LIMITS)


def read(path: Path, changes: list[str]) -> Section:
    """The config in ``path``, with ``changes`` (KEY=VALUE) of its top level.

    Raises:
        InputError: no such file, not YAML, a key or value that training cannot use.
    """
    try:
        values = yaml.safe_load(path.read_text())
        cfg = Section(str(path), values, KEYS)
        for change in changes:
            key, _, value = change.partition("=")
            if key not in KEYS:
                raise unknown_name(f"key in {path}:", key, KEYS)
            cfg[key] = yaml.safe_load(value)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} {' '.join(changes)}: {' '.join(str(error).split())}.") from error
    for key in KEYS:
        if key not in cfg:
            raise InputError(f"{path} has no {key!r}: add it, as in recipes/tiny/tiny.yaml.")
    for key, limits in LIMITS.items():
        cfg[key] = _number(f"{path}: {key}", cfg[key], *limits)
    _check_model(path, cfg)
    return cfg


def _number(name: str, value: object, least: float, most: float) -> float:
    """``value`` as a number within its limits. (PyYAML reads 1e-3 as a string.)"""
    whole = isinstance(least, int)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not least <= number <= most or (whole and number % 1):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{name}: expected {kind} from {least} to {most}, but got {value!r}.")
    return int(number) if whole else number


def _check_model(path: Path, cfg: Section) -> None:
    if not isinstance(cfg["snr_db"], list) or len(cfg["snr_db"]) != 2:
        raise InputError(f"{path}: snr_db: expected two numbers in dB, but got {cfg['snr_db']!r}.")
    cfg["snr_db"] = [_number(f"{path}: snr_db", each, -100.0, 100.0) for each in cfg["snr_db"]]
    try:
        layers = Wav2Vec2Config(**Section(f"{path}: model", cfg["model"])).encoder_layers
    except TypeError as error:
        raise InputError(f"{path}: model: {error}: give fields of S3PRL's Wav2Vec2Config.") from error
    given = cfg["loss_layers"]
    if not isinstance(given, list) or not given or not set(given) <= set(range(1, layers + 1)):
        raise InputError(
            f"{path}: loss_layers: expected some of the layers 1 to {layers}, but got {given!r}."
        )
