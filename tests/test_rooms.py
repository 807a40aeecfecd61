"""The rooms of the package: an import goes down the list, never up."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
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


def imported_modules(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports when it runs, also inside functions."""
    name, tree = module_name(path), ast.parse(path.read_text())
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            below = (f"{source}.{alias.name}" for alias in node.names)
            yield from ({each if each in modules else source for each in below} & modules.keys()) - {name}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    order = TopologicalSorter({name: imported_modules(path, modules) for name, path in modules.items()})
    order.prepare()  # raises CycleError, which names the circle
