"""Corpora, tiny checkpoints, and S3PRL's runner as a process of its own.

Run as a script, this file is the server behind `run`: it imports S3PRL once and forks for each command.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "run_downstream.py"
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

#: For this process too, before torch starts its threads: the tensors are tiny, and threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "HF_HUB_OFFLINE": "1",
}
SECONDS = 120


@dataclass(frozen=True)
class Ran:
    """What a run of the script left: exit code and output."""

    rc: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a mistake gives; the run must have ended so, without a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.rc == 2, self.report
        assert len(lines) == 1, self.report
        assert self.err.rstrip().endswith(lines[0]), self.report
        assert "Traceback" not in self.err + self.out, self.report
        return lines[0].removeprefix("error: ")

    @property
    def report(self) -> str:
        return f"exit code {self.rc}\n--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-6000:]}"

    def ok(self) -> Ran:
        assert self.rc == 0, self.report
        return self


Run = Callable[..., Ran]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tests against published numbers, and those in a browser, must not be missed quietly."""
    for reason, lost in (
        ("no golden files", "shared/golden is absent, so nothing was compared with the numbers of the paper's code, "
         "fairseq and Hugging Face"),
        ("the extra [superb] is not installed", "pip install s3prl-vqpool[superb] is missing, so s3prl_vqpool.problem "
         "was not tried"),
        ("no browser", "chromium or playwright is absent, so nobody has opened the page of vqpool report"),
    ):  # fmt: skip
        reports = terminalreporter.getreports("skipped")
        skipped = [each for each in reports if reason in str(each.longrepr)]
        if skipped:
            line = f"WARNING: {len(skipped)} tests were SKIPPED: {lost}."
            terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The models are tiny: more threads only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen]:
    """A process that has imported S3PRL and forks to run the script."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    yield process
    process.stdin.close()
    process.wait(SECONDS)


@pytest.fixture
def run(server: subprocess.Popen, tmp_path: Path) -> Run:
    """`run(*argv, cwd=..., env=...)`: run_downstream.py in a fresh process, by default in an empty folder."""
    default = tmp_path / "cwd"

    def run(*argv: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> Ran:
        cwd = cwd or default
        cwd.mkdir(exist_ok=True)
        out, err = tmp_path / "stdout.txt", tmp_path / "stderr.txt"
        request = {
            "argv": [str(SCRIPT), *map(str, argv)],
            "cwd": str(cwd),
            "env": env or {},
            "out": str(out),
            "err": str(err),
        }
        print(json.dumps(request), file=server.stdin, flush=True)
        answer = server.stdout.readline()
        assert answer, "the server of the runs has died"
        return Ran(int(answer), out.read_text(errors="replace"), err.read_text(errors="replace"))

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """`start(*argv, cwd=...)`: run_downstream.py in the background, as a user starts it; killed at the end."""
    started = []

    def start(*argv: object, cwd: Path) -> subprocess.Popen:
        cwd.mkdir(exist_ok=True)
        command = [sys.executable, str(SCRIPT), *map(str, argv)]
        with open(tmp_path / f"started{len(started)}.txt", "w") as log:
            process = subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def options() -> Callable[..., list[str]]:
    """`options(datarc, ..., total_steps=4)`: `-o` for datarc entries and for entries of the runner's section."""

    def options(
        *datarc: dict[str, object], modelrc: dict[str, object] | None = None, **runner: object
    ) -> list[str]:
        expert = "config.downstream_expert"
        entries = [f"{expert}.datarc.{key}={value}" for each in datarc for key, value in each.items()]
        entries += [f"{expert}.modelrc.{key}={value}" for key, value in (modelrc or {}).items()]
        entries += [f"config.runner.{key}={value}" for key, value in runner.items()]
        return ["-o", ",,".join(entries)]

    return options


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Any]:
    """`build(task, datarc, pooling=..., **arguments)`: one of our experts with its default config."""
    from s3prl_vqpool.runner import plugin

    def build(
        task: str, datarc: dict[str, Any], pooling: str = "VQ-LP", upstream_dim: int = 12, **arguments: Any
    ) -> Any:
        config = yaml.safe_load(plugin.default_config(f"vqpool_{task}").read_text())
        section = config["downstream_expert"]
        section["datarc"].update({"num_workers": 0, **datarc})
        section["modelrc"].update({"projector_dim": 8, "pooling": pooling, **arguments.pop("modelrc", {})})
        expert = importlib.import_module(f"s3prl.downstream.vqpool_{task}.expert").DownstreamExpert
        arguments = {"downstream_expert": section, "expdir": str(tmp_path), "seed": 1337, **arguments}
        return expert(upstream_dim, **arguments)

    return build


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The small embedded corpora: datarc entries by task."""
    from s3prl_vqpool.corpora.synthetic.record import synthesise

    return synthesise(tmp_path_factory.mktemp("synthetic"), size="small")


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The real speech beside the project: datarc entries by task; skips where it is absent."""
    from real_speech import datarc, lay_out

    return datarc(lay_out(tmp_path_factory.mktemp("real"), "ks", "sid", "ic", "er"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny wav2vec 2.0: `large` (LayerNorm: nothing depends on the batch) and `base` (GroupNorm over time)."""
    from tiny import BASE, LARGE, converted_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "large": converted_checkpoint(folder / "large.pt", LARGE),
        "base": converted_checkpoint(folder / "base.pt", BASE),
    }


def serve() -> None:
    """Fork for each request on stdin, run the script in the child, and answer with its exit code."""
    importlib.import_module("s3prl_vqpool.runner.command_line")
    importlib.import_module("s3prl.run_downstream")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            # not sys.exit: taking S3PRL's modules down takes longer than most of these runs
            os._exit(become(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def become(request: dict) -> int:
    """Run the script as this process's main program; its exit code."""
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for descriptor, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = request["argv"]
    sys.path[0] = str(ROOT)
    code: object = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as exit:
        code = exit.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


if __name__ == "__main__":
    serve()


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., multiprocessing.process.BaseProcess]]:
    """`elsewhere(manager)`: a process that has entered ``manager()``, and stays there."""
    context, started = multiprocessing.get_context("fork"), []

    def elsewhere(manager: Callable) -> multiprocessing.process.BaseProcess:
        entered = context.Event()

        def stay() -> None:
            with manager():
                entered.set()
                time.sleep(60)

        process = context.Process(target=stay)
        process.start()
        assert entered.wait(30)
        started.append(process)
        return process

    yield elsewhere
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def extracted(synthetic: dict, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`extracted(kind, task)`: `-u`, `-k` and a small corpus's store for mfcc or the tiny LARGE model."""
    from s3prl_vqpool import cli

    upstreams = {
        "mfcc": ["-u", "mfcc_vq"],
        "large": ["-u", "wav2vec2_vq_local", "-k", str(checkpoints["large"])],
    }
    made: dict[tuple[str, str], Path] = {}

    def extracted(kind: str, task: str) -> tuple[list[str], Path]:
        if (kind, task) not in made:
            folder = made[kind, task] = tmp_path_factory.mktemp("stores") / kind
            datarc = {"num_workers": 0, **synthetic[task]}
            options = ",,".join(
                f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items()
            )
            command = ["extract", *upstreams[kind], "-d", f"vqpool_{task}", "-o", options]
            assert cli.main([*command, "--device", "cpu", "--store", str(folder)]) == 0
        return upstreams[kind], made[kind, task]

    return extracted
