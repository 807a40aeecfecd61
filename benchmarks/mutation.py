#!/usr/bin/env python3
"""Break lines on purpose, one at a time, and see whether a test fails: the share of such mutants that are killed.

A mutant is one change in one place of the code: a comparison or an arithmetic or boolean operator is another one, a
number is one more or one less, a condition is negated, a statement or a returned value is dropped. A sample of all
places, drawn with --seed, is tried in a copy of the tree, each with those tests of `TESTS` that run it, the quickest
first (`pytest -x`). A test that fails by itself without the change kills nothing. Texts with values, and
annotations, are left alone. A mutant that no test notices survives: either a test is missing, or the change means
nothing.

A number of a constant at the top of a file (`_FREE_BYTES = 2**26`) is a limit or a size that somebody chose. Whether it
is one more or one less is nobody's contract, but that there is one is: it becomes a thousand times as much, and a
thousandth.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "s3prl_vqpool"
ROOMS = ("pooling", "codes", "store", "trainer", "checkpoints")
#: Folders of tests that a mutant may meet.
TESTS = [f"tests/{name}" for name in (*ROOMS, "upstream_expert", "tables")]
#: What tests import that is not ours.
WARM = (
    *("torch", "torch.utils.data", "torch.testing", "torch._dynamo", "tensorboardX"),
    *("scipy.signal", "scipy.stats", "sklearn.cluster", "omegaconf", "transformers", "soundfile", "soxr"),
    *("pytest", "xdist", "hypothesis", "coverage"),
)
#: pytest's exit codes for tests that are not there.
UNKNOWN = (4, 5)
OTHER: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.MatMult: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """Change number ``k`` of node number ``node`` of a file, in words, its line, and the lines whose tests meet it."""

    path: Path
    node: int
    k: int
    line: int
    change: str
    met: range

    def text(self) -> str:
        """The file with this change."""
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        node = list(ast.walk(tree))[self.node]
        _, _, apply = list(changes(node, id(node) in _chosen(tree)))[self.k]
        apply(node)
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a Python file, in the order of its nodes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes, chosen, met = list(ast.walk(tree)), _chosen(tree), dict(_met(tree))
    quiet = {id(part) for node in nodes for part in (*_annotations(node), *_message(node))}
    quiet |= {id(part) for node in nodes if id(node) in chosen for part in list(ast.walk(node))[1:]}
    for number, node in enumerate(nodes):
        if id(node) not in quiet:
            for k, (change, at, _) in enumerate(changes(node, id(node) in chosen)):
                yield Mutant(path, number, k, at.lineno, change, met[id(at)])


def changes(node: Any, chosen: bool) -> Iterator[tuple[str, Any, Callable[[Any], None]]]:
    """What may be done to a node: in words, where, and to a copy of it. ``chosen`` numbers are those of `_chosen`."""
    if chosen:
        yield f"{ast.unparse(node)} times 1000", node, lambda it: _scale(it, ast.Mult())
        yield f"{ast.unparse(node)} by 1000", node, lambda it: _scale(it, ast.FloorDiv())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        yield _operator(node.ops[0]), node, lambda it: it.ops.__setitem__(0, OTHER[type(it.ops[0])]())
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OTHER:
        yield _operator(node.op), node, lambda it: setattr(it, "op", OTHER[type(it.op)]())
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{node.value!r} + 1", node, lambda it: setattr(it, "value", it.value + 1)
        yield f"{node.value!r} - 1", node, lambda it: setattr(it, "value", it.value - 1)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield "condition negated", node, lambda it: setattr(it, "test", ast.UnaryOp(ast.Not(), it.test))
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield "returns None", node, lambda it: setattr(it, "value", ast.Constant(None))
    for branch in ("body", "orelse"):
        body = getattr(node, branch, None)
        for k, each in enumerate(body if isinstance(body, list) else ()):
            if _droppable(each):
                drop = f"drops {ast.unparse(each).splitlines()[0][:60]}"
                yield drop, each, partial(_drop, branch, k)


def _drop(branch: str, k: int, node: ast.AST) -> None:
    getattr(node, branch)[k] = ast.Pass()


def _chosen(tree: ast.Module) -> set[int]:
    """The ids of numbers, and of arithmetic of numbers alone, in constants at the top of a file."""
    found: set[int] = set()
    waiting: list[Any] = [
        statement.value
        for statement in tree.body
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and _is_constant(statement)
    ]
    while waiting:
        node = waiting.pop()
        parts = list(ast.walk(node))
        numbers = [part.value for part in parts if isinstance(part, ast.Constant)]
        if isinstance(node, ast.expr) and all(
            isinstance(part, (ast.BinOp, ast.Constant, ast.operator)) for part in parts
        ):
            if all(type(number) is int and number for number in numbers):
                found.add(id(node))
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def _is_constant(statement: ast.Assign | ast.AnnAssign) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return statement.value is not None and all(isinstance(t, ast.Name) and t.id.isupper() for t in targets)


def _scale(number: Any, operator: ast.operator) -> None:
    """The number, or the arithmetic, becomes a thousand times or a thousandth of itself."""
    if isinstance(number, ast.Constant):
        value: Any = number.value
        number.value = value * 1000 if isinstance(operator, ast.Mult) else value // 1000
    else:
        within = ast.BinOp(number.left, number.op, number.right)
        number.left, number.op, number.right = within, operator, ast.Constant(1000)


def _met(node: ast.AST, lines: range = range(1, 10**6), called: bool = False) -> Iterator[tuple[int, range]]:
    """For the id of each node the lines whose tests meet it: of its statement, or, for what runs on import, of all
    that stands in the function, class or file.
    """
    yield id(node), lines
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            whole = range(child.lineno, (child.end_lineno or 0) + 1)
            yield from _met(child, whole, isinstance(child, ast.FunctionDef))
        elif isinstance(child, ast.stmt) and called:
            last = child.body[0].lineno - 1 if hasattr(child, "body") else child.end_lineno or 0
            yield from _met(child, range(child.lineno, max(last, child.lineno) + 1), True)
        else:
            yield from _met(child, lines, called)


def _operator(operator: ast.AST) -> str:
    return f"{type(operator).__name__} becomes {OTHER[type(operator)].__name__}"


def _droppable(statement: ast.stmt) -> bool:
    """A call, an assignment to a part, or a raise: what leaves a name undefined says so itself."""
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)  # a docstring
    whole = isinstance(statement, ast.Assign) and any(
        isinstance(t, (ast.Name, ast.Tuple)) for t in statement.targets
    )
    return isinstance(statement, (ast.Assign, ast.AugAssign, ast.Raise)) and not whole


def _message(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a text with values: how a message puts a number."""
    if isinstance(node, ast.JoinedStr):
        yield from ast.walk(node)


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        if getattr(node, name, None) is not None:
            yield from ast.walk(getattr(node, name))


class Covering:
    """A pytest plugin: notes which tests run a line of the package, and how long each takes, into a JSON file."""

    def __init__(self, tree: Path, file: Path) -> None:
        from coverage import Coverage

        self.file, self.seconds = file, defaultdict[str, float](float)
        self.coverage = Coverage(data_file=None, source=[str(tree / PACKAGE)])
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_runtest_logfinish(self) -> None:
        self.coverage.switch_context("")

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
        self.file.write_text(json.dumps({"lines": lines, "seconds": self.seconds}))


class Failed:
    """A pytest plugin: notes the test that failed in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.file.write_text(report.nodeid)


@dataclass(frozen=True)
class Covered:
    """Which tests run a line of a file, how long each takes, and whether it passes by itself, as far as is known."""

    lines: Mapping[str, Mapping[str, Sequence[str]]]
    seconds: Mapping[str, float]
    alone: dict[str, bool] = field(default_factory=dict)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that meet a mutant, the quickest first; none where only an import does."""
        lines = self.lines.get(str(mutant.path), {}).items()
        tests = {test for line, names in lines if int(line) in mutant.met for test in names if test}
        return sorted(tests, key=lambda test: (self.seconds.get(test, 0), test))


def measured(tree: Path, seconds: float) -> Covered:
    """Run the tests once; SystemExit if they do not pass as they are, or a file of them not without the others."""
    for each in (path for folder in TESTS for path in sorted((tree / folder).rglob("test_*.py"))):
        if forked(lambda each=each: run_tests(tree, ["--collect-only", str(each)]), seconds):  # type: ignore[misc]
            raise SystemExit(
                f"{each.relative_to(tree)}: cannot be run by itself, so it would kill every mutant."
            )
    file = tree / "covered.json"
    if forked(lambda: run_tests(tree, TESTS, [Covering(tree, file)]), seconds):
        raise SystemExit(f"{' '.join(TESTS)}: these tests do not pass without any change.")
    return Covered(**json.loads(file.read_text()))


def survives(mutant: Mutant, tree: Path, covered: Covered, seconds: float) -> bool:
    """Whether the tests pass in ``tree`` with the mutant in its place; a test that hangs has noticed it."""
    original, changed = mutant.path.read_text(encoding="utf-8"), mutant.text()
    tests, room, file = covered.of(mutant), [f"tests/{mutant.path.parent.name}"], tree / "failed"
    if tests:
        seconds = min(seconds, 60 + 5 * sum(covered.seconds.get(test, 0) for test in tests))

    def run(text: str, asked: Sequence[str]) -> int:
        mutant.path.write_text(text, encoding="utf-8")
        file.unlink(missing_ok=True)
        unsound = [f"--deselect={test}" for test, sound in covered.alone.items() if not sound]
        return forked(lambda: run_tests(tree, [*asked, *unsound], [Failed(file)]), seconds)

    try:
        while True:
            code = run(changed, tests or room)
            if code in UNKNOWN and tests:  # the change gave other names to tests
                code = run(changed, room)
            test = file.read_text() if file.exists() else ""
            if test and test not in covered.alone:
                covered.alone[test] = run(original, [test]) == 0
            if covered.alone.get(test, True):
                return code == 0
    finally:
        mutant.path.write_text(original, encoding="utf-8")


def run_tests(tree: Path, tests: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """Exit code of pytest in ``tree``, which says nothing. Changes this process: call it in a fork."""
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    os.chdir(tree)
    os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    import pytest

    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=list(plugins)))


def forked(work: Callable[[], int], seconds: float) -> int:
    """What ``work`` returns in a fork of this process; 1 where it hangs. What it started is ended with it."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(work())
    until, ended, status = time.monotonic() + seconds, 0, 0
    while not ended and time.monotonic() < until:
        time.sleep(0.05)
        ended, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
        return 1
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Print a line per mutant, and the share that was killed; 1 if it is below 95 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS, help="default: all of them")
    parser.add_argument("--mutants", type=int, default=300, help="how many are tried (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=int, default=600, help="most seconds of a test run (default: %(default)s)"
    )
    args = parser.parse_args()
    for name in WARM:  # once, not in every fork
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "demo", "*.egg-info", "result")
        shutil.copytree(ROOT, tree, ignore=ignored)
        if (ROOT.parent / "shared").is_dir():  # the golden files
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        files = [path for room in args.rooms for path in sorted((tree / PACKAGE / room).rglob("*.py"))]
        every = [mutant for path in files for mutant in mutants(path)]
        sample = random.Random(args.seed).sample(every, min(args.mutants, len(every)))
        print(f"{len(sample)} of {len(every):,} mutants of {len(files)} files", flush=True)
        covered = measured(tree, 10 * args.timeout)
        killed = 0
        for mutant in sample:
            survived = survives(mutant, tree, covered, args.timeout)
            killed += not survived
            where = f"{mutant.path.relative_to(tree)}:{mutant.line}"
            print(f"{'survived' if survived else 'killed  '} {where}: {mutant.change}", flush=True)
    for test in (test for test, sound in covered.alone.items() if not sound):
        print(f"fails by itself: {test}")
    print(f"killed {killed} of {len(sample)}: {killed / len(sample):.1%}")
    return int(killed < 0.95 * len(sample))


if __name__ == "__main__":
    sys.exit(main())
