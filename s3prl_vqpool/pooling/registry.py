"""The poolings by name: what each one is, what it needs, what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from s3prl_vqpool.errors import InputError, unknown_name

Kind = Literal["weights", "vector", "statistics", "learned"]

FAMILIES = ("moments", "linear map", "partition", "probability", "attention")
"""In the order of the paper's tables; within a family, methods come in the order of their registration."""

_T = TypeVar("_T", bound=Callable[..., Any])
_methods: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """What is known of a pooling without running it.

    ``kind``: "weights" (a weight per frame), "statistics" (moments of the frames), "vector" (a linear map,
    fitted on the training set, of the AP vector) or "learned" (trained with the head).
    ``options``: the keyword arguments of :func:`build` that this pooling takes.
    ``implementation``: for kind "weights" a function of the batch, otherwise an ``nn.Module`` class.
    """

    name: str
    family: str
    kind: Kind
    source: str
    implementation: Callable[..., Any]
    needs_codes: bool = False
    needs_statistics: bool = False
    output_multiple: int = 1
    options: tuple[str, ...] = ()

    def output_dim(self, dim: int) -> int:
        """Size of the pooled vector for frames of size ``dim``."""
        return self.output_multiple * dim


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def register(
    name: str,
    *,
    family: str,
    kind: Kind,
    source: str,
    needs_codes: bool = False,
    needs_statistics: bool = False,
    output_multiple: int = 1,
    options: tuple[str, ...] = (),
) -> Callable[[_T], _T]:
    """Decorator that offers a weights function or a module class as the pooling ``name``.

    Raises:
        InputError: the name is taken (names are compared without case, ``-`` and ``_``), or the family
            is not one of :data:`FAMILIES`.
    """
    if family not in FAMILIES:
        raise unknown_name("pooling family", family, FAMILIES)
    if _folded(name) in _methods:
        raise InputError(f"Pooling {name!r} is registered already, as {_methods[_folded(name)].name!r}.")

    def add(implementation: _T) -> _T:
        _methods[_folded(name)] = Method(
            name=name,
            family=family,
            kind=kind,
            source=source,
            implementation=implementation,
            needs_codes=needs_codes,
            needs_statistics=needs_statistics,
            output_multiple=output_multiple,
            options=options,
        )
        return implementation

    return add


def methods() -> tuple[str, ...]:
    """Names of all poolings, in the order of the paper's tables (arXiv 2304.03940)."""
    return tuple(m.name for m in sorted(_methods.values(), key=lambda m: FAMILIES.index(m.family)))


def method(name: str) -> Method:
    """What is known of the pooling ``name``; case, ``-`` and ``_`` do not matter.

    Raises:
        InputError: no such pooling; the message lists close matches and all names.
    """
    try:
        return _methods[_folded(name)]
    except KeyError:
        raise unknown_name("pooling", name, methods()) from None


#: S3PRL's MeanPooling: over all frames that its Featurizer keeps, the rounded-up last one included.
MEAN = "mean"


def poolings() -> tuple[str, ...]:
    """What `pooling:` of a head may be: `mean`, and every method of the registry."""
    return (MEAN, *methods())


def method_of(name: str) -> tuple[Method, bool]:
    """The registry's method of a head's `pooling:`, and whether it is S3PRL's `mean`.

    Raises:
        InputError: an unknown name, with close matches and the full list.
    """
    over_all_frames = name.lower() in (MEAN, "meanpooling")
    try:
        return method("AP" if over_all_frames else name), over_all_frames
    except InputError as error:
        raise unknown_name("pooling", name, poolings()) from error
