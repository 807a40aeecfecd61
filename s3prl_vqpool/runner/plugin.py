"""Puts this project's upstreams on `s3prl.hub` and its downstreams below `s3prl.downstream`."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import unknown_name
from ..pooling.registry import MEAN
from . import compat

_PACKAGE = Path(__file__).resolve().parents[1]
_upstreams: dict[str, Callable] = {}
_downstreams: list[str] = []


def folder(name: str) -> Path:
    """`downstream`, `upstream_expert` or `configs`: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def register() -> None:
    """Make S3PRL find the upstreams and downstreams of this project; further calls change nothing.

    `s3prl.upstream` and `s3prl.downstream` get our folders on their ``__path__``, so the experts there are
    ordinary modules of S3PRL's tree; every public function of a ``hubconf.py`` becomes a name of `s3prl.hub`.
    """
    if _upstreams:
        return
    compat.apply()
    # its warning that ESPnet is not installed would head everything that this package prints
    logging.getLogger("s3prl.upstream.espnet_hubert.expert").setLevel(logging.ERROR)
    import s3prl.downstream
    import s3prl.hub
    import s3prl.upstream

    for package, name in ((s3prl.upstream, "upstream_expert"), (s3prl.downstream, "downstream")):
        if str(folder(name)) not in package.__path__:
            package.__path__.append(str(folder(name)))
    found: dict[str, Callable] = {}
    for path in sorted(folder("upstream_expert").glob("*/hubconf.py")):
        found.update(entries(importlib.import_module(f"s3prl.upstream.{path.parent.name}.hubconf")))
    for name, entry in found.items():
        setattr(s3prl.hub, name, entry)
    _upstreams.update(found)
    _downstreams.extend(sorted(path.parent.name for path in folder("downstream").glob("*/expert.py")))


def entries(hubconf: ModuleType) -> dict[str, Callable]:
    """The upstream entries of a hubconf module: its own public functions."""
    return {
        name: value
        for name, value in vars(hubconf).items()
        if not name.startswith("_") and callable(value) and value.__module__ == hubconf.__name__
    }


def upstreams() -> dict[str, Callable]:
    """The upstreams that publish codes: names as for `-u`, and the functions that make them."""
    return dict(_upstreams)


def downstreams() -> list[str]:
    """Names of this project's downstreams, as for `-d`."""
    return list(_downstreams)


def default_config(downstream: str) -> Path:
    """The default `-c` of one of `downstreams()`."""
    return folder("downstream") / downstream / "config.yaml"


def expert_of(downstream: str) -> Callable[..., Any]:
    """The expert class of one of this project's downstreams."""
    return importlib.import_module(f"s3prl.downstream.{downstream}.expert").DownstreamExpert


def expert_on(downstream: str, datarc: Mapping[str, Any]) -> Any:
    """A downstream's expert for the sake of its corpus: its head is as small as can be."""
    section = {"datarc": datarc, "modelrc": {"projector_dim": 1, "pooling": MEAN}}
    return expert_of(downstream)(1, section, expdir=os.curdir)


def entry_of(manifest: Mapping[str, Any]) -> Callable[..., Any]:
    """What makes the upstream that a manifest names; InputError where there is none of that name."""
    register()
    if manifest["upstream"] not in upstreams():
        raise unknown_name("upstream with codes", manifest["upstream"], upstreams())
    return upstreams()[manifest["upstream"]]
