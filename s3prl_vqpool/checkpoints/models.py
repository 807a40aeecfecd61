"""S3PRL's models, built from a checkpoint in memory instead of a file that S3PRL unpickles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from ..errors import InputError, shortened
from .fairseq import Converted
from .sizes import not_larger
from .unpickler import Name, refused


def build(
    checkpoint: Converted, path: str, model: type[nn.Module], config: type, task: type
) -> tuple[nn.Module, Any]:
    """What S3PRL's `load_converted_model` gives: the model with its weights, and the task's config.

    Fields that S3PRL's config classes do not know are left out, as S3PRL does (`merge_with_parent`).

    Raises:
        InputError: config and weights do not fit, the config describes a far larger model than the weights, or a
            field of it is an object of a class.
    """
    with untrusted(path, checkpoint.model_weight, model.__name__):
        built = model(_fields(config, checkpoint.model_cfg))
        built.load_state_dict(checkpoint.model_weight)
        return built, _fields(task, checkpoint.task_cfg)


@contextmanager
def untrusted(path: str, weights: Mapping[str, Tensor], kind: str) -> Iterator[None]:
    """Inside this context a model called ``kind`` is built from the config and the ``weights`` of the file ``path``.

    Raises:
        InputError: it fails, or the config describes a far larger model than the weights.
    """
    stored = sum(weight.numel() * weight.element_size() for weight in weights.values())
    try:
        with not_larger(stored, len(weights)):
            yield
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except Exception as error:  # S3PRL's models raise many kinds of errors for impossible configs
        reason = shortened(f"{type(error).__name__} {error}")
        raise InputError(f"{path}: its config and its weights make no {kind} ({reason}).") from error


def from_memory(constructor: FunctionType, **names: Any) -> Callable:
    """An S3PRL expert's ``__init__`` that sees ``names`` in place of its module's; S3PRL's own stays as it is."""
    seen = {**constructor.__globals__, **names}
    copy = FunctionType(
        constructor.__code__, seen, constructor.__name__, constructor.__defaults__, constructor.__closure__
    )
    copy.__kwdefaults__ = constructor.__kwdefaults__
    return copy


def _fields(kind: type, values: dict[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)} & values.keys()
    for name in sorted(known):
        if isinstance(values[name], Name):
            raise refused(values[name])
    return kind(**{name: values[name] for name in values if name in known})
