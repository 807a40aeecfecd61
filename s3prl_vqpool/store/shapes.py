"""What the JSON files of a store must look like, before anything is taken from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .layout import NUMBER_BYTES

Test = Callable[[Any], bool]

_MOST_SHARDS = 10**6
"""19 years of speech."""


def _whole(least: int, most: int = 2**62) -> Test:
    return lambda value: type(value) is int and least <= value <= most


def _is(*kinds: type) -> Test:
    return lambda value: type(value) in kinds


def _list(each: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(each, value))


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _shaped(required: Mapping[str, Test], optional: Mapping[str, Test] | None = None) -> Test:
    """Whether a value is a dict with all of ``required``, whose values, and those of ``optional``, are as they say."""
    known = {**required, **(optional or {})}
    return lambda value: (
        isinstance(value, dict)
        and all(key in value for key in required)
        and all(known[key](each) for key, each in value.items() if key in known)
    )


_positive: Test = lambda value: type(value) in (int, float) and 0 < value < 2**62  # noqa: E731


def _made(value: Any) -> bool:
    """What an added pooling was made with: statistics, and options, whose own readers check them further."""
    statistics = {"counts": _text, "fold": _or_none(_text)}
    return _shaped({}, statistics)(value) and all(
        type(each) in (int, float, str) for key, each in value.items() if key not in statistics
    )


_about = {"file": _text, "sha256": _text, "bytes": _whole(0), "utterances": _whole(1)}

manifest = _shaped(
    {
        "upstream": _text,
        "downstream": _text,
        "datarc": _is(dict),
        "root": _text,
        "dtype": lambda value: value in tuple(NUMBER_BYTES),
        "device": _text,
        "fingerprint": _text,
        "frames": _is(bool),
        "poolings": _list(_text),
        "codebook_sizes": lambda value: bool(value) and _list(_whole(1))(value),
        "shards": _whole(1, _MOST_SHARDS),
        "utterances": _whole(1),
        "samples": _whole(1),
        "layers": _whole(1),
        "dim": _whole(1),
        "downsample_rate": _whole(1),
        "threads": _whole(1, 2**20),
        "batch_seconds": _positive,
        "gain_db": _is(int, float),
    },
    {
        "ckpt": _or_none(_text),
        "upstream_model_config": _or_none(_text),
        "added": lambda value: isinstance(value, dict) and all(map(_made, value.values())),
    },
)
about_shard = _shaped(_about, {"index_sha256": _text})
about_part = _shaped({**_about, "made": _made})
done = _shaped(
    {"shards": _list(about_shard)},
    {"rows": _shaped({"file": _text, "sha256": _text, "bytes": _whole(0)})},
)
row = _shaped(
    {
        "row": _whole(0),
        "id": _text,
        "path": _text,
        "start": _or_none(_whole(0)),
        "frames": _or_none(_whole(1)),
        "samples": _whole(1),
        "length": _whole(1),
        "label": _list(_whole(0)),
        "sha256": _text,
    },
    {"bytes": _or_none(_whole(0)), "modified": _or_none(_is(int))},
)
