"""Makes S3PRL 0.4.18 run on current releases: one small shim for each incompatibility, applied only if it is needed.

A shim changes what S3PRL's modules get when they import something. Other code is not affected: S3PRL's modules run
with an ``__import__`` of their own (`prepare`), which hands out the replacements in `seen`. There is one exception: if
torchaudio cannot be imported at all, the whole process gets torchaudio without its compiled extension. If S3PRL works
by itself (for instance with torch 2.5, torchaudio 2.5 and huggingface_hub 0.25), nothing changes. `vqpool doctor`
prints what was applied.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

from ..errors import InputError
from ..files import whole
from . import late

RUNNER = "s3prl.downstream.runner"
LIBRARY = "s3prl.nn.upstream"
CORPUS = "s3prl.dataio.corpus.base"


@dataclass(frozen=True)
class Shim:
    """One repair: what it repairs, since which release, a test whether it is needed here, and the repair itself."""

    name: str
    since: str
    reason: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


SHIMS: list[Shim] = []
applied: list[Shim] = []
#: Replacements by name: the modules that only S3PRL's modules get.
seen: dict[str, ModuleType] = {}


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


# ---------------------------------------------------------------------------------- what S3PRL's modules see
class Overlay(ModuleType):
    """A module with a few names replaced."""

    def __init__(self, module: ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__)
        vars(self).update(replaced, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_module"], name)


def show(name: str, **members: Any) -> None:
    """Let S3PRL see the module ``name`` with ``members`` added to its own, if there is such a module."""
    if name not in seen:
        real = _installed(name)
        seen[name] = Overlay(importlib.import_module(name)) if real else ModuleType(name, "Stand-in")
    vars(seen[name]).update(members)
    parent, _, child = name.rpartition(".")
    if parent:
        show(parent, **{child: seen[name]})


def prepare(module: ModuleType) -> None:
    """Before a module of S3PRL runs: apply the shims, and let its imports find `seen`."""
    apply()
    logging.getLogger("s3prl.upstream.espnet_hubert.expert").setLevel(logging.ERROR)  # that ESPnet is missing
    if seen or module.__name__ in late.MODULES:
        imported = late.importer(_import) if module.__name__ in late.MODULES else _import
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": imported}


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """The `__import__` of S3PRL's modules."""
    if level == 0 and name in seen:
        wanted = name if fromlist else name.partition(".")[0]
        return seen[wanted]
    module = builtins.__import__(name, globals, locals, fromlist or (), level)
    return seen.get(module.__name__, module)


def mend(module: ModuleType) -> None:
    """Replace what a module of S3PRL has imported before the shims were applied."""
    instead = dict(_replaced())
    for name, value in list(vars(module).items()):
        if id(value) in instead:
            setattr(module, name, instead[id(value)])


def _replaced() -> Iterator[tuple[int, Any]]:
    """The id of each original (which lives as long as its module) and its replacement."""
    for overlay in seen.values():
        original = vars(overlay).get("_module")
        if original is not None:
            yield id(original), overlay
            for name in set(vars(overlay)) & set(vars(original)) - set(vars(ModuleType(""))):
                yield id(getattr(original, name)), getattr(overlay, name)


def _installed(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even its parent is
        return False


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
        raise RuntimeError("torchaudio's compiled extension does not load with this build of torch")

    name = "torchaudio._extension"
    stand_in = ModuleType(name, f"Stand-in made by {__name__}")
    stand_in.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    stand_in._load_lib = lambda lib: False  # type: ignore[attr-defined]
    stand_in.fail_if_no_align = lambda function: unavailable  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    import torchaudio

    torchaudio._extension = stand_in


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
    show("torchaudio", set_audio_backend=lambda backend: None)


@shim(
    "torchaudio.load",
    "torchaudio 2.9",
    "needs torchcodec, which is not installed: read with soundfile",
    lambda: _installed("torchaudio._torchcodec") and not _installed("torchcodec"),
)
def _torchaudio_load() -> None:
    from .sox import load

    show("torchaudio", load=load)


@shim(
    "torchaudio.info",
    "torchaudio 2.9",
    "removed; called by s3prl.problem (SuperbKS) and s3prl.util.audio_info: read the header with soundfile",
    lambda: _torchaudio_lacks("info"),
)
def _torchaudio_info() -> None:
    from .sox import info

    show("torchaudio", info=info)


def _sox_fails() -> bool:
    try:
        import torch
        from torchaudio.sox_effects import apply_effects_tensor

        apply_effects_tensor(torch.zeros(1, 16), 16000, [["gain", "-3.0"]])
    except (ImportError, OSError, RuntimeError, AttributeError):
        return True
    return False


@shim(
    "torchaudio.sox_effects",
    "torchaudio 2.9, or no libsox on this machine",
    "imported by s3prl.hub (mos_prediction) and speech_commands: the effects that these use, by soundfile and soxr",
    _sox_fails,
)
def _sox_effects() -> None:
    from .sox import apply_effects_file, apply_effects_tensor

    show(
        "torchaudio.sox_effects",
        apply_effects_file=apply_effects_file,
        apply_effects_tensor=apply_effects_tensor,
    )


# ------------------------------------------------------------------------------- huggingface_hub, catalyst
class Gone:
    """A class that huggingface_hub 1.0 removed."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise InputError(
            "S3PRL's --push_to_hf_hub and --hub huggingface need huggingface_hub < 1.0: "
            "upload the experiment folder with `hf upload` instead."
        )

    get_token = save_token = classmethod(lambda cls, *_: cls())


def _gone_from_huggingface_hub() -> dict[str, type]:
    import huggingface_hub

    names = [name for name in ("HfFolder", "Repository") if not hasattr(huggingface_hub, name)]
    return {name: type(name, (Gone,), {}) for name in names}


@shim(
    "huggingface_hub.HfFolder, Repository",
    "huggingface_hub 1.0",
    "imported by s3prl.run_downstream and s3prl.downstream.runner; used by --push_to_hf_hub alone",
    lambda: bool(_gone_from_huggingface_hub()),
)
def _huggingface_hub_names() -> None:
    show("huggingface_hub", **_gone_from_huggingface_hub())


@shim(
    "catalyst.data.sampler",
    "catalyst is unmaintained since 2022",
    "S3PRL's speech_commands imports DistributedSamplerWrapper unconditionally",
    lambda: not _installed("catalyst"),
)
def _catalyst_sampler() -> None:
    from ..corpora.sampling import DistributedSamplerWrapper

    show("catalyst.data.sampler", DistributedSamplerWrapper=DistributedSamplerWrapper)


@shim(
    "sed_eval, dcase_util",
    "setuptools 82",
    "imported by s3prl.problem for two tasks of HEAR alone; they need pkg_resources, which setuptools removed",
    lambda: not (_installed("sed_eval") and _installed("pkg_resources")),
)
def _sed_eval() -> None:
    class Missing:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise InputError("HEAR's sound event metrics need pip install sed_eval 'setuptools<82'.")

    classes = ("SoundEventMetrics", "SegmentBasedMetrics", "EventBasedMetrics")
    events = SimpleNamespace(**dict.fromkeys(classes, Missing))
    for name, members in (
        ("sed_eval", {"sound_event": events}),
        ("dcase_util.containers", {"MetaDataContainer": Missing}),
    ):
        seen[name] = ModuleType(name, f"Stand-in made by {__name__}")
        vars(seen[name]).update(members)


# ---------------------------------------------------------------------------------------------------- torch
def _refuses_namespaces() -> bool:
    import torch

    return tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)


@shim(
    "torch.load allowlist",
    "torch 2.6",
    "S3PRL's checkpoints hold an argparse.Namespace, which weights_only=True refuses unless it is listed",
    _refuses_namespaces,
)
def _checkpoint_allowlist() -> None:
    import torch

    from ..checkpoints.experiment import namespaces_allowed

    def load(*args: Any, **kwargs: Any) -> Any:
        with namespaces_allowed():
            return torch.load(*args, weights_only=True, **kwargs)

    show("torch", load=load)


def mend_runner(runner: ModuleType) -> None:
    """Repair what S3PRL's runner does with torch on every stack.

    Checkpoints are written under a temporary name and renamed (S3PRL writes in place, so a kill leaves half a file).
    With `--device cpu` no CUDA device is entered. Mixed precision uses the present names instead of deprecated ones.
    """
    import torch

    def save(states: Any, path: str) -> None:
        with whole(path) as temporary, open(temporary, "wb") as file:  # by name, torch would store that name
            torch.save(states, file)

    def device(name: str) -> AbstractContextManager:
        return torch.cuda.device(name) if torch.device(name).type == "cuda" else nullcontext()

    amp = Overlay(
        torch.cuda.amp,
        autocast=lambda enabled: torch.autocast("cuda", enabled=enabled),
        GradScaler=lambda: torch.amp.GradScaler("cuda"),
    )
    cuda = Overlay(torch.cuda, device=device, amp=amp)
    vars(runner)["torch"] = Overlay(seen.get("torch", torch), save=save, cuda=cuda)


def mend_library(library: ModuleType) -> None:
    """Let `s3prl.nn.S3PRLUpstream` refuse what an entry would drop, such as a checkpoint for `hubert`.

    Only that module sees the checked entries; `s3prl.hub` stays as it is.
    """
    vars(library)["hub"] = _Checked(library.hub)


def mend_corpus(module: ModuleType) -> None:
    """Where pandas has no `Series.iteritems` (since 2.0), let S3PRL's newer corpora read their tables with `items`."""
    if hasattr(module.pd.Series, "iteritems"):
        return

    def dataframe_to_datapoints(df: Any, unique_name_fn: Callable[[dict], str]) -> dict[str, dict]:
        rows = [dict(row.items()) for _, row in df.iterrows()]
        named = {unique_name_fn(row): row for row in rows}
        if len(named) != len(rows):
            raise InputError(f"A table of {len(rows)} utterances has only {len(named)} different names.")
        return named

    module.Corpus.dataframe_to_datapoints = staticmethod(dataframe_to_datapoints)


class _Checked(Overlay):
    """`s3prl.hub` whose entries check what they are given."""

    def __getattr__(self, name: str) -> Any:
        entry = super().__getattr__(name)
        return partial(_checked, entry) if getattr(entry, "__module__", "").endswith("hubconf") else entry


def _checked(entry: Callable[..., Any], **given: Any) -> Any:
    from ..codes.entries import check_given

    check_given(entry, **given)
    return entry(**given)
