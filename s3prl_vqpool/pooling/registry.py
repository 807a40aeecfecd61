"""The poolings by name: weights x moments x map, names of some points of that product, and learned poolings.

The grammar of a name is ``WEIGHTS[+std][|MAP]``: which frames count how much, whether the standard deviation is
taken beside the mean, and what is done to the vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import Tensor

from ..errors import InputError, unknown_name
from .options import Option, defaults, read

FAMILIES = ("moments", "linear map", "partition", "probability", "attention")
"""In the order of the paper's tables; within a family, poolings come in the order of their registration."""
RESERVED = ("codes", "counts", "dim", "fold", "lengths", "name", "sizes", "statistics", "std")
"""Names that an option cannot have: arguments of the functions of this room, and keys of a store's manifest."""

_T = TypeVar("_T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Weights:
    """Which frames count how much.

    ``implementation``: ``(batch, **options) -> [B, T]``; with ``needs_counts`` it is given ``counts`` too.
    ``all_frames``: whether all frames that S3PRL's Featurizer keeps count, not only those of the codes.
    """

    implementation: Callable[..., Tensor]
    needs_codes: bool
    needs_counts: bool
    options: tuple[Option, ...]
    all_frames: bool


@dataclass(frozen=True)
class Map:
    """What is done to the vector. ``fit``: ``(vectors float64 [N, E], **options) -> mean, factor``."""

    name: str
    source: str
    doc: str
    fit: Callable[..., tuple[Tensor, Tensor]]
    options: tuple[Option, ...]


Moments = Callable[[Tensor, Tensor], Tensor]
"""``(frames [B, T, D], weights [B, T]) -> [B, 2 D]``: mean and standard deviation."""


@dataclass(frozen=True)
class Method:
    """A pooling, and what is known of it without running it.

    Attributes:
        name: what it is called.
        spec: how the grammar writes it; another name than ``name`` where the paper has one, such as SP for AP+std.
        weights: which frames count; None for a learned pooling.
        moments: gives mean and standard deviation; None where the mean alone is taken, or for a learned pooling.
        map: what is done to the vector, if anything.
        learned: class of the module of a learned pooling.
        multiple: of the size of a frame, that of the pooled vector.
    """

    name: str
    spec: str
    family: str
    source: str
    doc: str
    weights: Weights | None = None
    moments: Moments | None = None
    map: Map | None = None
    learned: Callable[..., Any] | None = None
    learned_options: tuple[Option, ...] = ()
    multiple: int = 1

    @property
    def needs_codes(self) -> bool:
        return self.weights is not None and self.weights.needs_codes

    @property
    def needs_counts(self) -> bool:
        """Whether counts of the training split's codes are needed."""
        return self.weights is not None and self.weights.needs_counts

    @property
    def needs_statistics(self) -> bool:
        """Whether counts or a fitted map are needed."""
        return self.needs_counts or self.map is not None

    @property
    def all_frames(self) -> bool:
        return self.weights is not None and self.weights.all_frames

    @property
    def weights_alone(self) -> bool:
        """Whether the pooled vector is a weighted mean of the frames, and nothing else."""
        return self.weights is not None and self.moments is None and self.map is None

    @property
    def options(self) -> tuple[Option, ...]:
        """Keyword arguments of `build`: those of the weights, then those of the map."""
        own = self.weights.options if self.weights else self.learned_options
        return (*own, *(self.map.options if self.map else ()))

    @property
    def weights_name(self) -> str:
        """The pooling that is the weights of this one alone."""
        return self.spec.partition("|")[0].partition("+")[0]

    @property
    def unmapped(self) -> Method:
        """The pooling whose vectors the map is fitted on; itself where there is no map."""
        return self if self.map is None else method(self.spec.partition("|")[0])

    def output_dim(self, dim: int) -> int:
        """Size of the pooled vector for frames of size ``dim``."""
        return self.multiple * dim

    def read(self, given: Mapping[str, Any], place: str = "") -> dict[str, Any]:
        """``given`` options, read; InputError as from `options.read`."""
        return read(self.options, given, self.name, place)

    def with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A value for every option: the ``given`` one, read, or the default."""
        return {**defaults(self.options), **self.read(given)}

    def own(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of ``values`` that are options of this pooling."""
        return {option.name: values[option.name] for option in self.options if option.name in values}


_methods: dict[str, Method] = {}
_maps: dict[str, Map] = {}
_moments: dict[str, Moments] = {}


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _checked(name: str, family: str, options: Iterable[Option]) -> None:
    if family not in FAMILIES:
        raise unknown_name("pooling family", family, FAMILIES)
    if _folded(name) in _methods:
        raise InputError(f"Pooling {name!r} is registered already, as {_methods[_folded(name)].name!r}.")
    for sign in "+|":
        if sign in name:
            raise InputError(f"{name}: a name cannot have {sign!r} in it; choose another name.")
    for option in options:
        if option.name in RESERVED:
            raise InputError(f"{name}: an option cannot be called {option.name!r}; choose another name.")


def _doc(implementation: Callable[..., Any]) -> str:
    first, _, _ = (implementation.__doc__ or "").strip().partition("\n")
    return first.replace("``", "")


def register_weights(
    name: str,
    *,
    family: str = "probability",
    source: str = "",
    needs_codes: bool = False,
    needs_counts: bool = False,
    options: tuple[Option, ...] = (),
    all_frames: bool = False,
    alias: str = "",
) -> Callable[[_T], _T]:
    """Decorator that offers a function ``(batch, **options) -> weights [B, T]`` as the pooling ``name``.

    With it come all its points: ``name+std``, ``name|standardise``, and so on. ``alias`` is a second name.

    Raises:
        InputError: the name is taken (names are compared without case, ``-`` and ``_``), the family is not one
            of `FAMILIES`, or an option has one of the names in `RESERVED`.
    """
    _checked(name, family, options)

    def add(implementation: _T) -> _T:
        weights = Weights(implementation, needs_codes, needs_counts, options, all_frames)
        known = Method(name, name, family, source, _doc(implementation), weights)
        _methods.update({_folded(each): known for each in (name, alias) if each})
        return implementation

    return add


def register_learned(
    name: str, *, source: str = "", multiple: int = 1, options: tuple[Option, ...] = ()
) -> Callable[[_T], _T]:
    """Decorator that offers an ``nn.Module`` class, made as ``(dim, **options)``, as the pooling ``name``.

    Raises:
        InputError: as from `register_weights`.
    """
    _checked(name, "attention", options)

    def add(module: _T) -> _T:
        _methods[_folded(name)] = Method(
            name,
            name,
            "attention",
            source,
            _doc(module),
            learned=module,
            learned_options=options,
            multiple=multiple,
        )
        return module

    return add


def register_map(name: str, *, source: str = "", options: tuple[Option, ...] = ()) -> Callable[[_T], _T]:
    """Decorator that offers a function ``(vectors float64 [N, E], **options) -> mean [E], factor`` as a map.

    ``factor`` [E] or [E, E]: the map is ``(x - mean) * factor`` or ``(x - mean) @ factor``.
    """
    _checked(name, "linear map", options)

    def add(fit: _T) -> _T:
        _maps[_folded(name)] = Map(name, source, _doc(fit), fit, options)
        return fit

    return add


def register_moments(name: str) -> Callable[[_T], _T]:
    """Decorator that offers a function as the moments ``+name``; see `Moments`."""

    def add(moments: _T) -> _T:
        _moments[name] = moments
        return moments

    return add


def register_name(
    name: str, spec: str, *, family: str, source: str, doc: str, moments: Moments | None = None
) -> None:
    """Offers the point ``spec`` of the product under the paper's ``name``, with the published ``moments``."""
    _checked(name, family, ())
    point = method(spec)
    moments = moments or point.moments
    _methods[_folded(name)] = replace(
        point, name=name, family=family, source=source, doc=doc, moments=moments
    )


def methods() -> tuple[str, ...]:
    """The names that poolings have of their own, in the order of the paper's tables (arXiv 2304.03940)."""
    known = sorted(dict.fromkeys(_methods.values()), key=lambda m: FAMILIES.index(m.family))
    return tuple(each.name for each in known)


def points() -> tuple[str, ...]:
    """Every point of the product, as the grammar writes it."""
    weights = [name for name in methods() if method(name).weights_alone]
    moments, maps = ["", *(f"+{name}" for name in _moments)], ["", *(f"|{m.name}" for m in _maps.values())]
    return tuple(f"{name}{each}{map}" for name in weights for each in moments for map in maps)


def maps() -> tuple[Map, ...]:
    """What may be done to a pooled vector."""
    return tuple(_maps.values())


def method(name: str) -> Method:
    """The pooling ``name``: ``WEIGHTS[+std][|MAP]``, or a name of `methods`; case, ``-``, ``_`` do not matter.

    Raises:
        InputError: no such pooling, moments or map; the message lists close matches and all names.

    Examples:
        >>> method("vq_lp").name, method("vq_lp").needs_codes
        ('VQ-LP', True)
    """
    if _folded(name) in _methods:
        return _methods[_folded(name)]
    head, bar, map_name = name.partition("|")
    head, plus, moments = head.partition("+")
    if not (bar or plus) or _folded(head) not in _methods:
        raise unknown_name("pooling", head if bar or plus else name, methods())
    base = _methods[_folded(head)]
    if not base.weights_alone:
        what = "is learned with the head" if base.learned else f"stands for {base.spec}: start from that"
        raise InputError(f"{name}: {base.name} {what}. Expected WEIGHTS[+std][|MAP], such as VQ-LP+std.")
    if plus and moments.lower() not in _moments:
        raise unknown_name(f"moments in {name}:", f"+{moments}", [f"+{each}" for each in _moments])
    if bar and _folded(map_name) not in _maps:
        raise unknown_name(f"map in {name}:", map_name, [each.name for each in maps()])
    found = _maps[_folded(map_name)] if bar else None
    spec = f"{base.name}{plus and f'+{moments.lower()}'}{f'|{found.name}' if found else ''}"
    made = replace(base, name=spec, spec=spec, map=found)
    return replace(made, moments=_moments[moments.lower()], multiple=2) if plus else made


def given_options(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each pooling those of the options ``given`` on a command line (`--option`) that it takes, read.

    Raises:
        InputError: an option that none of ``names`` takes, or a value that it does not take.
    """
    known = [method(name) for name in names]
    for option in given:
        if not any(option == each.name for one in known for each in one.options):
            raise InputError(
                f"--option {option}={given[option]}: none of {', '.join(names)} takes it; leave it out."
            )
    return {each.name: each.read(each.own(given), "--option ") for each in known}


def select(patterns: Sequence[str], offered: Sequence[str]) -> list[str]:
    """Names of poolings, each once: a pattern with ``*`` or ``?`` stands for those of ``offered`` that it matches.

    A name without ``*`` and ``?`` need not be among ``offered``.

    Raises:
        InputError: an unknown name, or a pattern that matches nothing.
    """
    found: list[str] = []
    for pattern in patterns:
        if not set("*?") & set(pattern):
            found.append(method(pattern).name)
            continue
        matches = [name for name in offered if fnmatchcase(_folded(name), _folded(pattern))]
        if not matches:
            raise InputError(f"{pattern}: matches no pooling. Expected a pattern such as 'VQ-*+std|*'.")
        found += matches
    return list(dict.fromkeys(found))
