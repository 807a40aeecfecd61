"""The steps that make the paper of upstreams and corpora."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...corpora.tasks import Task
from .. import joined
from ..table import files
from .steps import Step

PAGE = "report.html"
POOLINGS = ("VQ-LP", "mean", "AP")
"""What is stored of each layer; Table 1 shows every layer of these."""


@dataclass(frozen=True)
class Settings:
    """What the user chose; ``corpora``: the file that names the corpora."""

    output: Path
    corpora: Path
    dtype: str
    device: str | None
    superb: bool
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Store:
    """A store that is to be made: its folder, its manifest, bytes and samples in all and left to write."""

    task: Task
    upstream: str
    folder: Path
    manifest: Mapping[str, Any]
    bytes_left: int
    samples_left: int


def steps(stores: Sequence[Store], settings: Settings) -> list[Step]:
    """All steps in order: stores and tables of one upstream after the other, the tables over all, figures, the page."""
    upstreams = list(dict.fromkeys(each.upstream for each in stores))
    found: list[Step] = []
    for name in upstreams:
        own = [each for each in stores if each.upstream == name]
        found += [_extract(each, settings) for each in own]
        found += _tables(name, own, settings)
    stems = ["nearest", "supervised_paper", *(["supervised_superb"] if settings.superb else [])]
    found += [_joined(stem, upstreams, settings.output) for stem in stems]
    found += [_accuracy(stem, upstreams, settings.output) for stem in stems]
    for name in upstreams:
        found += _figures(name, [each for each in stores if each.upstream == name], settings.output)
    return [*found, _page(found, settings.output)]


def _extract(each: Store, settings: Settings) -> Step:
    argv = ["extract", "-u", each.upstream, "-d", each.task.downstream, "--corpora", str(settings.corpora)]
    argv += ["--store", str(each.folder), "--poolings", *POOLINGS, "--frames", "--dtype", settings.dtype]
    argv += ["--device", settings.device] if settings.device else []
    facts = {key: each.manifest[key] for key in ("list_sha256", "fingerprint")}
    outputs = (each.folder / "done.json", each.folder / "manifest.json")
    return Step(f"store of {each.task.column}, {each.upstream}", tuple(argv), outputs, (), facts)


def _tables(upstream: str, stores: Sequence[Store], settings: Settings) -> Iterator[Step]:
    folder = settings.output / "tables" / upstream
    inputs = tuple(each.folder / name for each in stores for name in ("done.json", "manifest.json"))
    common = ["--store", *(str(each.folder) for each in stores), "--reference", "paper"]
    common += ["--output", str(folder), "--overwrite"]
    table = ("benchmark", "nearest", "--layers", *common)
    yield Step(f"Table 1, {upstream}", table, tuple(files(folder, "nearest")), inputs)
    for protocol in ("paper", *(["superb"] if settings.superb else [])):
        outputs = tuple(files(folder, f"supervised_{protocol}"))
        seeds = ("--seeds", *map(str, settings.seeds))
        table = ("benchmark", "supervised", "--protocol", protocol, *seeds, *common)
        yield Step(f"Table 2, protocol {protocol}, {upstream}", table, outputs, inputs)


def _joined(stem: str, upstreams: Sequence[str], output: Path) -> Step:
    inputs = tuple(output / "tables" / name / f"{stem}.json" for name in upstreams)
    argv = ("benchmark", "join", *map(str, inputs), "--output", str(output / "tables"), "--overwrite")
    return Step(f"{stem} of all upstreams", argv, tuple(joined.files(output / "tables", stem)), inputs)


def _accuracy(stem: str, upstreams: Sequence[str], output: Path) -> Step:
    tables = tuple(output / "tables" / name / f"{stem}.json" for name in upstreams)
    return _plot(
        f"accuracy of {stem}", ["accuracy", *map(str, tables)], output / "figures" / f"{stem}.svg", tables
    )


def _figures(upstream: str, stores: Sequence[Store], output: Path) -> Iterator[Step]:
    tables, folder = output / "tables" / upstream, output / "figures" / upstream
    table, predictions = tables / "nearest.json", tables / "nearest.predictions.csv"
    yield _plot(f"layers, {upstream}", ["layers", str(table)], folder / "layers.svg", (table,))
    for each in stores:
        task, done = each.task, (each.folder / "done.json",)
        where = f"{task.column}, {upstream}"
        stored = ["--store", str(each.folder)]
        yield _plot(
            f"embedding of {where}", ["embedding", *stored], folder / f"embedding_{task.name}.svg", done
        )
        yield _plot(f"codebook of {where}", ["codebook", *stored], folder / f"codebook_{task.name}.svg", done)
        argv = ["confusion", str(predictions), "--task", task.column, "--poolings", "AP", "VQ-LP"]
        yield _plot(f"confusion of {where}", argv, folder / f"confusion_{task.name}.svg", (predictions,))


def _plot(name: str, argv: Sequence[str], output: Path, inputs: tuple[Path, ...]) -> Step:
    words = ("plot", *argv, "--output", str(output), "--overwrite")
    return Step(f"figure: {name}", words, (output,), inputs, optional=True)


def _page(steps: Sequence[Step], output: Path) -> Step:
    """The page shows what the other steps have made."""
    argv = ("report", str(output), "--output", str(output / PAGE), "--overwrite")
    made = (path for step in steps for path in step.outputs if path.suffix in (".json", ".svg"))
    inputs = tuple(path for path in made if not path.name.endswith(".provenance.json"))  # which has the date
    return Step("the page", argv, (output / PAGE,), inputs, optional=True)
