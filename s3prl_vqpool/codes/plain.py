"""Any upstream of S3PRL by its name. Its checkpoint is checked before S3PRL unpickles it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from .. import checkpoints
from ..checkpoints import fairseq, sizes
from ..checkpoints.weights import require_finite
from ..errors import InputError, shortened, unknown_name
from .entries import check_given

#: Steps of torch for each tensor of a checkpoint, while its model is made and run on a second of audio.
_STEPS = 1000


def plain_upstream(name: str, checkpoint: str | None = None, refresh: bool = False) -> Any:
    """An upstream of S3PRL, by its name on `s3prl.hub`.

    Raises:
        InputError: S3PRL has no such upstream, it fails to load, it would not use the checkpoint, or the checkpoint
            names code.
    """
    known = on_hub()
    if name not in known:
        raise unknown_name("upstream of S3PRL", name, known, full_list=False)
    check_given(known[name], ckpt=checkpoint, refresh=refresh)
    stored = checkpoint
    if checkpoint is not None and "://" not in checkpoint and Path(checkpoint).is_file():
        fairseq.check(checkpoint)
    elif checkpoint is not None and ":" in checkpoint:
        local = f"{name.removesuffix('_url')}_local"
        stored = str(checkpoints.fetch(checkpoint, refresh, local, fairseq.check))
        refresh = False  # S3PRL takes the copy that was checked
    given = "" if checkpoint is None else f" of {checkpoint}"
    try:
        with _not_larger(name, stored):
            upstream = known[name](refresh=refresh, **({} if checkpoint is None else {"ckpt": checkpoint}))
    except InputError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError,
            TypeError, ValueError) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {shortened(error)}"
        raise InputError(f"S3PRL's upstream {name}{given} cannot be loaded ({reason}).") from error
    require_finite(dict(upstream.named_parameters()), f"S3PRL's upstream {name}{given}")
    return upstream


def _not_larger(name: str, stored: str | None) -> AbstractContextManager[None]:
    """The limit for a model of the checkpoint ``stored``; S3PRL's experts also run once while they are made."""
    if stored is not None and name.startswith("hf_"):
        return sizes.not_larger(*sizes.of_hugging_face(stored), steps=_STEPS)
    if stored is not None and Path(stored).is_file():
        return sizes.not_larger(*sizes.of_file(stored), steps=_STEPS)
    return nullcontext()


def on_hub() -> dict[str, Callable[..., Any]]:
    """The upstreams on `s3prl.hub`, this project's too; without what S3PRL's hubconf.py files import (`Path`)."""
    from s3prl import hub

    return {
        name: entry
        for name, entry in vars(hub).items()
        if not name.startswith("_") and getattr(entry, "__module__", "").endswith("hubconf")
    }
