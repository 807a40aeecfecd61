"""The rooms of the package: an import goes down the list, never up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "s3prl_vqpool"
#: The floors of docs/explanation/architecture.md, from the top. Rooms of one floor do not import each other.
FLOORS = (
    {"__main__"},
    {"cli", "problem"},
    {"report"},
    {"tables"},
    {"trainer"},
    {"store"},
    {"runner"},
    {"codes"},
    {"pooling", "corpora", "checkpoints"},
    {"files"},
    {"errors"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = sorted(
    path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
)


def imported_rooms(path: Path) -> Iterator[str]:
    """The other rooms that a file of the package imports, also inside functions."""
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = (node.module or "").split(".") if node.module else []
        if node.level:
            module = ["s3prl_vqpool", *inside[: len(inside) - node.level], *module]
        elif module[:1] != ["s3prl_vqpool"]:
            continue
        below = [module[1]] if len(module) > 1 else [alias.name for alias in node.names]
        yield from (room for room in below if room in FLOOR and room != inside[0])


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "__init__"])
def test_imports_go_down(room: str) -> None:
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else (PACKAGE / room).rglob("*.py")
    upward = [
        f"{file.name} imports {other}"
        for file in files
        for other in imported_rooms(file)
        if FLOOR[other] <= FLOOR[room]
    ]
    assert not upward
