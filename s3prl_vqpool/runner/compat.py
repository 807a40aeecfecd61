"""S3PRL 0.4.18 on current releases: one small shim per breakage, applied only where it is needed.

This is the only file that changes other packages. A stack on which S3PRL works by itself (torch 2.5,
torchaudio 2.5, huggingface_hub 0.25, say) comes out as it went in. `vqpool doctor` prints what was applied.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from ..errors import InputError
from ..files import whole


@dataclass(frozen=True)
class Shim:
    """One repair: what it mends, since which release, the test whether this machine needs it, the repair."""

    name: str
    since: str
    reason: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


SHIMS: list[Shim] = []
applied: list[Shim] = []


def shim(name: str, since: str, reason: str, needed: Callable[[], bool]) -> Callable:
    def register(apply: Callable[[], None]) -> Callable[[], None]:
        SHIMS.append(Shim(name, since, reason, needed, apply))
        return apply

    return register


def apply() -> list[Shim]:
    """Apply every shim that this machine needs, in order, once; return those applied so far."""
    for entry in SHIMS:
        if entry not in applied and entry.needed():
            entry.apply()
            applied.append(entry)
    return applied


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _module(name: str, **members: Any) -> types.ModuleType:
    """A module made here and put into sys.modules and, where there is one, on its parent."""
    module = types.ModuleType(name, f"Stand-in made by {__name__}")
    vars(module).update(members)
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module


# ---------------------------------------------------------------------------------------------- torchaudio
def _torchaudio_extension_fails() -> bool:
    if not _installed("torchaudio"):
        raise InputError("S3PRL needs torchaudio: pip install torchaudio (2.11.0 goes with torch 2.13.0).")
    try:
        import torchaudio  # noqa: F401
    except (OSError, RuntimeError):
        return True
    return False


@shim(
    "torchaudio._extension",
    "torchaudio wheels beside a CPU build of torch",
    "the compiled part needs CUDA libraries; the pure Python part is all that S3PRL uses",
    _torchaudio_extension_fails,
)
def _without_torchaudio_extension() -> None:
    def unavailable(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("torchaudio's compiled extension does not load beside this build of torch")

    _module(
        "torchaudio._extension",
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _load_lib=lambda lib: False,
        fail_if_no_align=lambda function: unavailable,
    )
    import torchaudio

    torchaudio._extension = sys.modules["torchaudio._extension"]


def _torchaudio_lacks(attribute: str) -> bool:
    import torchaudio

    return not hasattr(torchaudio, attribute)


@shim(
    "torchaudio.set_audio_backend",
    "torchaudio 2.9",
    "called on import by s3prl.hub (byol_s) and by run_downstream (s3prl#575)",
    lambda: _torchaudio_lacks("set_audio_backend"),
)
def _set_audio_backend() -> None:
    import torchaudio

    torchaudio.set_audio_backend = lambda backend: None


@shim(
    "torchaudio.load",
    "torchaudio 2.9",
    "needs torchcodec, which is not installed: read with soundfile",
    lambda: _installed("torchaudio._torchcodec") and not _installed("torchcodec"),
)
def _torchaudio_load() -> None:
    import torchaudio

    torchaudio.load = load


def load(
    uri: Any,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
    **_: Any,
) -> tuple[torch.Tensor, int]:
    """`torchaudio.load` by soundfile: float32 [channels, samples] (or transposed) and the sample rate."""
    import soundfile

    samples, rate = soundfile.read(
        uri, start=frame_offset, frames=num_frames, dtype="float32", always_2d=True
    )
    return torch.from_numpy(samples.T.copy() if channels_first else samples), rate


@shim(
    "torchaudio.sox_effects",
    "torchaudio 2.9",
    "imported by s3prl.hub (mos_prediction) and speech_commands: the effects that these use, by soundfile and soxr",
    lambda: not _installed("torchaudio.sox_effects"),
)
def _sox_effects() -> None:
    _module(
        "torchaudio.sox_effects",
        apply_effects_file=apply_effects_file,
        apply_effects_tensor=apply_effects_tensor,
    )


def apply_effects_tensor(
    tensor: torch.Tensor, sample_rate: int, effects: Sequence[Sequence[str]], channels_first: bool = True
) -> tuple[torch.Tensor, int]:
    """sox's `channels 1`, `rate R` and `gain dB` on float32 [channels, samples]; other effects are refused.

    sox computes with integers, so what goes beyond full scale is clipped after each effect.
    """
    import soxr

    samples = tensor if channels_first else tensor.T
    for name, *values in effects:
        if name == "channels" and values == ["1"]:
            samples = samples.mean(dim=0, keepdim=True)
        elif name == "rate" and len(values) == 1 and values[0].isdecimal():
            resampled = soxr.resample(samples.T.numpy(), sample_rate, int(values[0]), quality="HQ")
            samples, sample_rate = torch.from_numpy(resampled.T.copy()), int(values[0])
        elif name == "gain" and len(values) == 1 and _is_number(values[0]):
            samples = samples * 10 ** (float(values[0]) / 20)
        else:
            raise InputError(f"sox effect {' '.join([name, *values])!r} needs torchaudio < 2.9 and libsox.")
        samples = samples.clip(-1, 1)
    return samples if channels_first else samples.T, sample_rate


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def apply_effects_file(
    path: Any, effects: Sequence[Sequence[str]], normalize: bool = True, channels_first: bool = True, **_: Any
) -> tuple[torch.Tensor, int]:
    """`apply_effects_tensor` on an audio file."""
    tensor, rate = load(path)
    samples, rate = apply_effects_tensor(tensor, rate, effects)
    return samples if channels_first else samples.T, rate


# ------------------------------------------------------------------------------- huggingface_hub, catalyst
def _huggingface_hub_lacks(name: str) -> bool:
    import huggingface_hub

    return not hasattr(huggingface_hub, name)


@shim(
    "huggingface_hub.HfFolder, Repository",
    "huggingface_hub 1.0",
    "imported by s3prl.run_downstream and s3prl.downstream.runner; used by --push_to_hf_hub alone",
    lambda: _huggingface_hub_lacks("HfFolder") or _huggingface_hub_lacks("Repository"),
)
def _huggingface_hub_names() -> None:
    import huggingface_hub

    class Gone:
        """A class that huggingface_hub 1.0 removed."""

        def __init__(self, *_: Any, **__: Any) -> None:
            raise InputError(
                "S3PRL's --push_to_hf_hub and --hub huggingface need huggingface_hub < 1.0: "
                "upload the experiment folder with `hf upload` instead."
            )

        get_token = save_token = classmethod(lambda cls, *_: cls())

    for name in ("HfFolder", "Repository"):
        if _huggingface_hub_lacks(name):
            setattr(huggingface_hub, name, type(name, (Gone,), {}))


@shim(
    "catalyst.data.sampler",
    "catalyst is unmaintained since 2022",
    "S3PRL's speech_commands imports DistributedSamplerWrapper unconditionally",
    lambda: not _installed("catalyst"),
)
def _catalyst_sampler() -> None:
    from ..corpora.sampling import DistributedSamplerWrapper

    for name in ("catalyst", "catalyst.data"):
        _module(name, __path__=[])
    _module("catalyst.data.sampler", DistributedSamplerWrapper=DistributedSamplerWrapper)


# -------------------------------------------------------------------------------------------- checkpoints
@shim(
    "torch.load allowlist",
    "torch 2.6",
    "S3PRL's checkpoints hold an argparse.Namespace, which weights_only=True refuses unless it is listed",
    lambda: torch.__version__ >= "2.6",
)
def _checkpoint_allowlist() -> None:
    from ..checkpoints.experiment import SAFE_GLOBALS

    torch.serialization.add_safe_globals(SAFE_GLOBALS)


@shim(
    "torch.cuda.amp.autocast",
    "torch 2.4",
    "S3PRL's runner calls the deprecated name at every step, which warns",
    lambda: torch.__version__ >= "2.6",
)
def _quiet_autocast() -> None:
    import warnings

    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\.autocast.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*CUDA is not available.*", category=UserWarning)


# ------------------------------------------------------------------------------------------ S3PRL's runner
class _Overlay(types.ModuleType):
    """A module seen through a few replaced names."""

    def __init__(self, module: types.ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__)
        vars(self).update(replaced, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_module"], name)


def mend_runner() -> None:
    """S3PRL's runner renames checkpoints where it would write in place (a kill leaves half a file), and enters no
    CUDA device where `--device cpu` is given beside one.
    """
    from s3prl.downstream import runner

    def save(states: Any, path: str) -> None:
        with whole(path) as temporary:
            torch.save(states, temporary)

    def device(name: str) -> AbstractContextManager:
        return torch.cuda.device(name) if torch.device(name).type == "cuda" else nullcontext()

    runner.torch = _Overlay(torch, save=save, cuda=_Overlay(torch.cuda, device=device))
