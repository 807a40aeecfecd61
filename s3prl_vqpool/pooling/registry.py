"""The poolings by name: what each one is, what it needs, what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from s3prl_vqpool.errors import InputError, unknown_name
from s3prl_vqpool.pooling.options import Option, defaults, read

Kind = Literal["weights", "vector", "statistics", "learned"]

FAMILIES = ("moments", "linear map", "partition", "probability", "attention")
"""In the order of the paper's tables; within a family, methods come in the order of their registration."""

RESERVED = ("codes", "counts", "dim", "fold", "lengths", "name", "sizes", "statistics")
"""Names that an option cannot have: arguments of :func:`build` and :func:`weights`, and keys of a store's manifest."""

_T = TypeVar("_T", bound=Callable[..., Any])
_methods: dict[str, Method] = {}
_ALIASES = {"meanpooling": "mean"}  # S3PRL's configs say MeanPooling


@dataclass(frozen=True)
class Method:
    """What is known of a pooling without running it.

    ``kind``: "weights" (a weight per frame), "statistics" (moments of the frames), "vector" (a linear map,
    fitted on the training set, of the AP vector) or "learned" (trained with the head).
    ``options``: keyword arguments of :func:`build` and, for kind "weights", of :func:`weights`.
    ``implementation``: for kind "weights" a function of the batch, otherwise an ``nn.Module`` class.
    ``all_frames``: whether all frames that S3PRL's Featurizer keeps count, not only those of the codes.
    """

    name: str
    family: str
    kind: Kind
    source: str
    implementation: Callable[..., Any]
    needs_codes: bool = False
    needs_statistics: bool = False
    output_multiple: int = 1
    options: tuple[Option, ...] = ()
    all_frames: bool = False

    def output_dim(self, dim: int) -> int:
        """Size of the pooled vector for frames of size ``dim``."""
        return self.output_multiple * dim

    def read(self, given: Mapping[str, Any], place: str = "") -> dict[str, Any]:
        """``given`` options, read; InputError as from :func:`options.read`."""
        return read(self.options, given, self.name, place)

    def with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A value for every option: the ``given`` one, read, or the default."""
        return {**defaults(self.options), **self.read(given)}


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
    options: tuple[Option, ...] = (),
    all_frames: bool = False,
) -> Callable[[_T], _T]:
    """Decorator that offers a weights function or a module class as the pooling ``name``.

    Raises:
        InputError: the name is taken (names are compared without case, ``-`` and ``_``), the family is not one
            of :data:`FAMILIES`, or an option has one of the names in :data:`RESERVED`.
    """
    if family not in FAMILIES:
        raise unknown_name("pooling family", family, FAMILIES)
    if _folded(name) in _methods:
        raise InputError(f"Pooling {name!r} is registered already, as {_methods[_folded(name)].name!r}.")
    for option in options:
        if option.name in RESERVED:
            raise InputError(f"{name}: an option cannot be called {option.name!r}; choose another name.")

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
            all_frames=all_frames,
        )
        return implementation

    return add


def register_weights(
    name: str, *, family: str = "probability", source: str = "", **properties: Any
) -> Callable[[_T], _T]:
    """Decorator that offers a function ``(batch, **options) -> weights [B, T]`` as a pooling; see :func:`register`."""
    return register(name, family=family, kind="weights", source=source, **properties)


def methods() -> tuple[str, ...]:
    """Names of all poolings, in the order of the paper's tables (arXiv 2304.03940)."""
    return tuple(m.name for m in sorted(_methods.values(), key=lambda m: FAMILIES.index(m.family)))


def method(name: str) -> Method:
    """What is known of the pooling ``name``; case, ``-`` and ``_`` do not matter.

    Raises:
        InputError: no such pooling; the message lists close matches and all names.
    """
    try:
        return _methods[_ALIASES.get(_folded(name), _folded(name))]
    except KeyError:
        raise unknown_name("pooling", name, methods()) from None
